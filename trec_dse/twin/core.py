"""The registers inside a Cortex-M that firmware touches: cycle counter, SysTick, system control.

Addresses and bits: ARMv7-M Architecture Reference Manual, chapters B3.2, B3.3 and C1.8. ARMv6-M has no cycle counter.
"""

from collections.abc import Callable
from dataclasses import dataclass

from trec_dse.target import Target
from trec_dse.twin.registers import Registers

_MASK = 0xFFFF_FFFF
_CPUID = {
    "cortex-m0plus": 0x410C_C601,
    "cortex-m3": 0x412F_C230,
    "cortex-m4": 0x410F_C241,
    "cortex-m7": 0x411F_C271,
}
# A data cache has 4 ways of 32-byte lines (ARMv7-M, B4.8.3 CCSIDR).
_WAYS, _LINE_BYTES = 4, 32
_UNLOCK_KEY = 0xC5AC_CE55


@dataclass(frozen=True)
class Clock:
    """Time in the twin: `raw` modelled cycles since power-on, and how many core cycles a thousand of them are."""

    raw: Callable[[], int]
    permille: int

    def cycles(self) -> int:
        """Core cycles since power-on."""
        return self.raw() * self.permille // 1000


class Dwt(Registers):
    """The cycle counter; it answers modelled core cycles, which advance block by block.

    On an M7 it must be unlocked first, as on the chip. What passes between two reads is rounded by itself, so that
    equal work gives equal counts whatever came before.
    """

    CTRL, CYCCNT, LAR, LSR = 0x000, 0x004, 0xFB0, 0xFB4

    def __init__(self, target: Target, clock: Clock, is_traced: Callable[[], bool]) -> None:
        super().__init__("DWT", 0xE000_1000, size=0x1000, at_reset={self.CTRL: 0x4000_0000})
        self._has_lock = target.core == "cortex-m7"
        self._clock = clock
        self._is_traced = is_traced
        self._counted = 0
        self._since = 0
        self._is_locked = self._has_lock

    def reset(self) -> None:
        """Off, zero and locked."""
        super().reset()
        self._counted = 0
        self._is_locked = self._has_lock

    def read(self, offset: int) -> int:
        """The count, or a register as written."""
        if offset == self.CYCCNT:
            self._catch_up()
            return self._counted & _MASK
        if offset == self.LSR:
            return self._has_lock | self._is_locked << 1
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Set the count or switch it on; ignored while locked or while DEMCR.TRCENA is off."""
        if offset == self.LAR:
            self._is_locked = self._has_lock and value != _UNLOCK_KEY
            return
        if self._is_locked or not self._is_traced():
            return
        self._catch_up()
        if offset == self.CYCCNT:
            self._counted = value
        else:
            super().write(offset, value)

    def _catch_up(self) -> None:
        raw = self._clock.raw()
        if self.words[self.CTRL] & 1:
            self._counted += (raw - self._since) * self._clock.permille // 1000
        self._since = raw


class SystemControl(Registers):
    """SysTick, NVIC, SCB, MPU, FPU and cache maintenance: one page. Interrupts are never raised."""

    SYST_CSR, SYST_RVR, SYST_CVR = 0x010, 0x014, 0x018
    CPUID, AIRCR, CLIDR, CTR, CCSIDR, DEMCR = 0xD00, 0xD0C, 0xD78, 0xD7C, 0xD80, 0xDFC
    _VECTKEY, _SYSRESETREQ, _TRCENA = 0x05FA, 1 << 2, 1 << 24

    def __init__(self, target: Target, clock: Clock, on_reset: Callable[[], None]) -> None:
        n_sets = target.flash.data_bytes // (_WAYS * _LINE_BYTES) if target.core == "cortex-m7" else 1
        at_reset = {
            self.CPUID: _CPUID[target.core],
            self.CLIDR: 0x0900_0003,
            self.CTR: 0x8303_C003,
            self.CCSIDR: n_sets - 1 << 13 | _WAYS - 1 << 3 | 1,
        }
        super().__init__("SCS", 0xE000_E000, size=0x1000, at_reset=at_reset)
        self._cycles = clock.cycles
        self._on_reset = on_reset
        self._ticks_since = 0

    def is_traced(self) -> bool:
        """Whether DEMCR.TRCENA lets the DWT work."""
        return bool(self.words.get(self.DEMCR, 0) & self._TRCENA)

    def read(self, offset: int) -> int:
        """SysTick counts down with the core; other registers as written."""
        if offset == self.SYST_CVR:
            period = (self.words.get(self.SYST_RVR, 0) & 0xFF_FFFF) + 1
            is_on = self.words.get(self.SYST_CSR, 0) & 1
            return (period - (self._cycles() - self._ticks_since)) % period if is_on else 0
        if offset == self.AIRCR:
            return 0xFA05_0000 | super().read(offset) & 0x700
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """A reset request takes effect after this instruction."""
        if offset == self.AIRCR:
            if value >> 16 == self._VECTKEY and value & self._SYSRESETREQ:
                self._on_reset()
        elif offset in (self.CPUID, self.CLIDR, self.CTR, self.CCSIDR):
            return
        elif offset in (self.SYST_CVR, self.SYST_CSR):
            self._ticks_since = self._cycles()
        super().write(offset, value)


def make_core(target: Target, clock: Clock, on_reset: Callable[[], None]) -> tuple[Registers, ...]:
    """The core's own registers."""
    control = SystemControl(target, clock, on_reset)
    return (control,) if target.core == "cortex-m0plus" else (control, Dwt(target, clock, control.is_traced))
