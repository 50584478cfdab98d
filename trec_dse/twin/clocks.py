"""Clock trees of the STM32 families: what was programmed, as frequencies, and which of them are out of bounds.

Registers: chapter RCC of RM0033 (F2), RM0386 (F4), RM0385 (F7), RM0316 (F3), RM0432 (L4+), RM0444 (G0), RM0433 (H7).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trec_dse.errors import DeviceError
from trec_dse.target import Oscillator
from trec_dse.twin.registers import Registers


@dataclass(frozen=True)
class Speed:
    """A clock as programmed and the least and most that it may be, in Hz."""

    what: str
    hz: float
    least: float
    most: float


def check_speeds(speeds: Iterable[Speed]) -> None:
    """Raises `DeviceError` for the first that is out of its bounds."""
    for speed in speeds:
        if not speed.least <= speed.hz <= speed.most:
            raise DeviceError(
                f"the firmware runs {speed.what} at {speed.hz:.0f} Hz; {speed.least:.0f} to {speed.most:.0f} Hz"
                " are allowed"
            )


@dataclass(frozen=True)
class Limits:
    """The fastest clocks of a family, in Hz; `overdrive`: above it the core needs a further step, 0: there is none."""

    core: float
    bus_1: float
    bus_2: float
    vco_input: tuple[float, float]
    vco: tuple[float, float]
    overdrive: float = 0.0


def _power_of_two(code: int, first: int) -> int:
    """Prescaler code -> divider: below `first` it divides by 1, then by 2, 4, 8, 16 and so on."""
    return 1 if code < first else 2 << (code - first)


def _bus_divider(code: int) -> int:
    """AHB prescaler of all families: 1, then 2, 4, 8, 16, 64, 128, 256, 512."""
    return 1 if code < 8 else (2, 4, 8, 16, 64, 128, 256, 512)[code - 8]


class ClockTree(Registers):
    """Oscillators and the PLL are ready as soon as they are switched on; the clock switch follows at once.

    An external oscillator starts only as the board's is wired: a crystal without, a clock signal with the bypass.
    """

    CR = 0x00
    CFGR = 0x08
    CR_AT_RESET = 0x0
    READY: tuple[tuple[int, int], ...] = ()  # (enable bit, ready bit) of CR
    HSE_ON, HSE_READY, HSE_BYPASS = 16, 17, 18
    SWITCH_BITS = 2  # the status follows behind that many bits
    PLL_CHOICE = 2
    HSI_HZ = 16_000_000

    def __init__(self, base: int, oscillator: Oscillator, limits: Limits) -> None:
        super().__init__("RCC", base, at_reset={self.CR: self.CR_AT_RESET, **self.more_at_reset()})
        self.oscillator = oscillator
        self.limits = limits

    @staticmethod
    def more_at_reset() -> dict[int, int]:
        """Words besides CR that are not 0 after a reset."""
        return {}

    def read(self, offset: int) -> int:
        """The word, with ready and status bits that follow their enable bits."""
        word = super().read(offset)
        if offset == self.CR:
            for enable, ready in self.READY:
                word = word & ~(1 << ready) | (word >> enable & 1) << ready
            starts = word >> self.HSE_ON & 1 and self._hse_is_wired_as(bool(word >> self.HSE_BYPASS & 1))
            return word & ~(1 << self.HSE_READY) | int(starts) << self.HSE_READY
        if offset == self.CFGR:
            mask = (1 << self.SWITCH_BITS) - 1
            return word & ~(mask << self.SWITCH_BITS) | (word & mask) << self.SWITCH_BITS
        return word

    @property
    def uses_pll(self) -> bool:
        """Whether the PLL drives the core."""
        return self.bits(self.CFGR, 0, self.SWITCH_BITS) == self.PLL_CHOICE

    @property
    def uses_board_clock(self) -> bool:
        """Whether the PLL takes its input from the board, where the board has any."""
        return self.oscillator.kind == "internal" or self.pll_takes_hse

    @property
    def pll_takes_hse(self) -> bool:
        """Whether the external oscillator is chosen as the PLL's source."""
        raise NotImplementedError

    @property
    def vco_input_hz(self) -> float:
        """What the PLL multiplies."""
        raise NotImplementedError

    @property
    def vco_hz(self) -> float:
        """What the PLL makes of it."""
        raise NotImplementedError

    @property
    def system_hz(self) -> float:
        """SYSCLK as programmed."""
        raise NotImplementedError

    @property
    def core_hz(self) -> float:
        """HCLK as programmed."""
        return self.system_hz / _bus_divider(self.bits(self.CFGR, 4, 4))

    def bus_hz(self, bus: int) -> float:
        """PCLK1 or PCLK2 as programmed."""
        raise NotImplementedError

    def usart_hz(self, usart: str) -> float:
        """The clock in front of a port's baud divider."""
        return self.bus_hz(2 if usart in ("USART1", "USART6") else 1)

    def speeds(self) -> Sequence[Speed]:
        """All clocks that have bounds; none while the PLL is not used."""
        if not self.uses_pll:
            return ()
        return (
            Speed("the PLL's input", self.vco_input_hz, *self.limits.vco_input),
            Speed("the PLL's oscillator", self.vco_hz, *self.limits.vco),
            Speed("the core", self.core_hz, 0, self.limits.core),
            Speed("APB1", self.bus_hz(1), 0, self.limits.bus_1),
            Speed("APB2", self.bus_hz(2), 0, self.limits.bus_2),
        )

    def _hse_is_wired_as(self, is_bypassed: bool) -> bool:
        return self.oscillator.kind == ("clock" if is_bypassed else "crystal")

    def _source_hz(self) -> float:
        return self.oscillator.hz if self.pll_takes_hse else self.HSI_HZ


class ClocksF2F4F7(ClockTree):
    """RM0033, RM0386, RM0385."""

    PLLCFGR, DCKCFGR2 = 0x04, 0x90
    CR_AT_RESET = 0x81
    READY = ((0, 1), (24, 25), (26, 27), (28, 29))

    @staticmethod
    def more_at_reset() -> dict[int, int]:
        """PLLCFGR."""
        return {0x04: 0x2400_3010}

    @property
    def pll_takes_hse(self) -> bool:
        """PLLSRC."""
        return bool(self.bits(self.PLLCFGR, 22, 1))

    @property
    def vco_input_hz(self) -> float:
        """The source divided by PLLM."""
        return self._source_hz() / max(1, self.bits(self.PLLCFGR, 0, 6))

    @property
    def vco_hz(self) -> float:
        """Times PLLN."""
        return self.vco_input_hz * self.bits(self.PLLCFGR, 6, 9)

    @property
    def system_hz(self) -> float:
        """HSI, HSE or the PLL divided by PLLP."""
        choice = self.bits(self.CFGR, 0, 2)
        if choice < 2:
            return (self.HSI_HZ, self.oscillator.hz)[choice]
        return self.vco_hz / (2 * self.bits(self.PLLCFGR, 16, 2) + 2)

    def bus_hz(self, bus: int) -> float:
        """PPRE1 at bit 10, PPRE2 at bit 13."""
        return self.core_hz / _power_of_two(self.bits(self.CFGR, 10 if bus == 1 else 13, 3), 4)

    def usart_hz(self, usart: str) -> float:
        """The F7 can bypass the bus clock (RM0385, 5.3.26 RCC_DCKCFGR2); elsewhere that word is never written."""
        choice = self.bits(self.DCKCFGR2, 2 * (int(usart[-1]) - 1), 2)
        if choice:
            return (0.0, self.system_hz, self.HSI_HZ, 32_768.0)[choice]
        return super().usart_hz(usart)


class ClocksF3(ClockTree):
    """RM0316: the multiplier is part of CFGR."""

    CFGR, CFGR2 = 0x04, 0x2C
    CR_AT_RESET = 0x83
    READY = ((0, 1), (24, 25))
    HSI_HZ = 8_000_000

    @property
    def pll_takes_hse(self) -> bool:
        """PLLSRC is 2."""
        return self.bits(self.CFGR, 15, 2) == 2

    @property
    def vco_input_hz(self) -> float:
        """The source divided by PREDIV; choice 0 is HSI / 2."""
        return self._source_hz() / (self.bits(self.CFGR2, 0, 4) + 1 if self.bits(self.CFGR, 15, 2) else 2)

    @property
    def vco_hz(self) -> float:
        """Times PLLMUL, 2 to 16."""
        return self.vco_input_hz * min(16, self.bits(self.CFGR, 18, 4) + 2)

    @property
    def system_hz(self) -> float:
        """HSI, HSE or the PLL."""
        choice = self.bits(self.CFGR, 0, 2)
        return (self.HSI_HZ, self.oscillator.hz)[choice] if choice < 2 else self.vco_hz

    def bus_hz(self, bus: int) -> float:
        """PPRE1 at bit 8, PPRE2 at bit 11."""
        return self.core_hz / _power_of_two(self.bits(self.CFGR, 8 if bus == 1 else 11, 3), 4)


class ClocksL4(ClockTree):
    """RM0432: starts on a multi-speed oscillator of 4 MHz."""

    PLLCFGR = 0x0C
    CR_AT_RESET = 0x63
    READY = ((0, 1), (8, 10), (24, 25))
    PLL_CHOICE = 3
    _MSI_HZ = 4_000_000

    @staticmethod
    def more_at_reset() -> dict[int, int]:
        """PLLCFGR."""
        return {0x0C: 0x1000}

    @property
    def pll_takes_hse(self) -> bool:
        """PLLSRC is 3; 2 is HSI16."""
        return self.bits(self.PLLCFGR, 0, 2) == 3

    @property
    def vco_input_hz(self) -> float:
        """The source divided by PLLM + 1."""
        source = {0: 0.0, 1: float(self._MSI_HZ)}.get(self.bits(self.PLLCFGR, 0, 2), float(self._source_hz()))
        return source / (self.bits(self.PLLCFGR, 4, 4) + 1)

    @property
    def vco_hz(self) -> float:
        """Times PLLN."""
        return self.vco_input_hz * self.bits(self.PLLCFGR, 8, 7)

    @property
    def system_hz(self) -> float:
        """MSI, HSI16, HSE or the PLL's output R, if it is let out."""
        choice = self.bits(self.CFGR, 0, 2)
        if choice < 3:
            return (self._MSI_HZ, self.HSI_HZ, self.oscillator.hz)[choice]
        return self.vco_hz / (2 * self.bits(self.PLLCFGR, 25, 2) + 2) * self.bits(self.PLLCFGR, 24, 1)

    def bus_hz(self, bus: int) -> float:
        """PPRE1 at bit 8, PPRE2 at bit 11."""
        return self.core_hz / _power_of_two(self.bits(self.CFGR, 8 if bus == 1 else 11, 3), 4)


class ClocksG0(ClockTree):
    """RM0444: one bus."""

    PLLCFGR = 0x0C
    CR_AT_RESET = 0x500
    READY = ((8, 10), (24, 25))
    SWITCH_BITS = 3

    @staticmethod
    def more_at_reset() -> dict[int, int]:
        """PLLCFGR."""
        return {0x0C: 0x1000}

    @property
    def pll_takes_hse(self) -> bool:
        """PLLSRC is 3; 2 is HSI16."""
        return self.bits(self.PLLCFGR, 0, 2) == 3

    @property
    def vco_input_hz(self) -> float:
        """The source divided by PLLM + 1."""
        return self._source_hz() / (self.bits(self.PLLCFGR, 4, 3) + 1) * (self.bits(self.PLLCFGR, 0, 2) >= 2)

    @property
    def vco_hz(self) -> float:
        """Times PLLN."""
        return self.vco_input_hz * self.bits(self.PLLCFGR, 8, 7)

    @property
    def system_hz(self) -> float:
        """HSI16, HSE or the PLL's output R, if it is let out."""
        choice = self.bits(self.CFGR, 0, 3)
        if choice < 2:
            return (self.HSI_HZ, self.oscillator.hz)[choice]
        return self.vco_hz / (self.bits(self.PLLCFGR, 29, 3) + 1) * self.bits(self.PLLCFGR, 28, 1)

    @property
    def core_hz(self) -> float:
        """HPRE at bit 8."""
        return self.system_hz / _bus_divider(self.bits(self.CFGR, 8, 4))

    def bus_hz(self, bus: int) -> float:
        """PPRE at bit 12 is for both."""
        return self.core_hz / _power_of_two(self.bits(self.CFGR, 12, 3), 4)


class ClocksH7(ClockTree):
    """RM0433: the core has a prescaler, the buses have another, the peripherals a third."""

    CFGR, D1CFGR, D2CFGR, PLLCKSELR, PLLCFGR, PLL1DIVR, D2CCIP2R = 0x10, 0x18, 0x1C, 0x28, 0x2C, 0x30, 0x54
    CR_AT_RESET = 0x25
    READY = ((0, 2), (24, 25))
    SWITCH_BITS = 3
    PLL_CHOICE = 3
    HSI_HZ = 64_000_000
    AXI_MOST_HZ = 200_000_000

    @staticmethod
    def more_at_reset() -> dict[int, int]:
        """PLLCKSELR, PLLCFGR and PLL1DIVR."""
        return {0x28: 0x0202_0200, 0x2C: 0x01FF_0000, 0x30: 0x0101_0280}

    @property
    def pll_takes_hse(self) -> bool:
        """PLLSRC is 2."""
        return self.bits(self.PLLCKSELR, 0, 2) == 2

    @property
    def vco_input_hz(self) -> float:
        """The source divided by DIVM1."""
        return self._source_hz() / max(1, self.bits(self.PLLCKSELR, 4, 6))

    @property
    def vco_hz(self) -> float:
        """Times N1 + 1."""
        return self.vco_input_hz * (self.bits(self.PLL1DIVR, 0, 9) + 1)

    @property
    def system_hz(self) -> float:
        """HSI, CSI, HSE or the PLL's output P, if it is let out."""
        choice = self.bits(self.CFGR, 0, 3)
        if choice < 3:
            return (self.HSI_HZ, 4_000_000, self.oscillator.hz)[choice]
        return self.vco_hz / (self.bits(self.PLL1DIVR, 9, 7) + 1) * self.bits(self.PLLCFGR, 16, 1)

    @property
    def core_hz(self) -> float:
        """D1CPRE."""
        return self.system_hz / _bus_divider(self.bits(self.D1CFGR, 8, 4))

    @property
    def axi_hz(self) -> float:
        """HPRE."""
        return self.core_hz / _bus_divider(self.bits(self.D1CFGR, 0, 4))

    def bus_hz(self, bus: int) -> float:
        """D2PPRE1 and D2PPRE2."""
        return self.axi_hz / _power_of_two(self.bits(self.D2CFGR, 4 if bus == 1 else 8, 3), 4)

    def speeds(self) -> Sequence[Speed]:
        """The AXI bus has a bound of its own."""
        found = super().speeds()
        return (*found, Speed("the AXI bus", self.axi_hz, 0, self.AXI_MOST_HZ)) if found else ()
