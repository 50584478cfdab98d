"""The registers that start-up code and the serial port of an STM32F4 or F7 touch, as small models.

Register names and offsets: RM0386 (STM32F469) and RM0385 (STM32F746), chapters RCC, PWR, FLASH, GPIO and USART.
What is not modelled does not exist here: touching it stops the firmware with a message.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trec_dse.errors import DeviceError
from trec_dse.target import Target
from trec_dse.twin.lines import Line

HSI_HZ = 16_000_000
HSE_HZ = 8_000_000  # both boards: crystal or the probe's clock output


@dataclass(frozen=True)
class Gate:
    """The bit that clocks a peripheral; `offset` of its register in the RCC."""

    offset: int
    bit: int


class Registers:
    """Words that read back what was written; models override what has a meaning.

    Attributes:
        gate: without this clock a real peripheral ignores every access; None: it always has one.
    """

    def __init__(
        self,
        name: str,
        base: int,
        *,
        size: int = 0x400,
        at_reset: Mapping[int, int] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.name = name
        self.base = base
        self.size = size
        self.gate = gate
        self._at_reset = dict(at_reset or {})
        self.words = dict(self._at_reset)

    def reset(self) -> None:
        """Back to the values after a reset."""
        self.words = dict(self._at_reset)

    def read(self, offset: int) -> int:
        """The word at `offset`, a multiple of 4."""
        return self.words.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Store a word at `offset`, a multiple of 4."""
        self.words[offset] = value


class Rcc(Registers):
    """Oscillators and the PLL are ready as soon as they are switched on; the clock switch follows at once."""

    CR, PLLCFGR, CFGR, CSR, DCKCFGR2 = 0x00, 0x04, 0x08, 0x74, 0x90
    _ON_BITS = (1 << 0) | (1 << 16) | (1 << 24) | (1 << 26) | (1 << 28)

    def __init__(self) -> None:
        super().__init__("RCC", 0x4002_3800, at_reset={self.CR: 0x81, self.PLLCFGR: 0x2400_3010})

    def read(self, offset: int) -> int:
        """The word, with ready and status bits that follow their enable bits."""
        word = super().read(offset)
        if offset == self.CR:
            return word & ~(self._ON_BITS << 1) | (word & self._ON_BITS) << 1
        if offset == self.CFGR:
            return word & ~0xC | (word & 0x3) << 2
        if offset == self.CSR:
            return word & ~0x2 | (word & 0x1) << 1
        return word

    @property
    def system_hz(self) -> float:
        """SYSCLK as programmed."""
        choice = self.words.get(self.CFGR, 0) & 3
        if choice < 2:
            return (HSI_HZ, HSE_HZ)[choice]
        return self.vco_hz / (2 * (self.words[self.PLLCFGR] >> 16 & 3) + 2)

    @property
    def uses_pll(self) -> bool:
        """Whether the PLL drives the core."""
        return self.words.get(self.CFGR, 0) & 3 == 2

    @property
    def vco_input_hz(self) -> float:
        """What the PLL multiplies."""
        pll = self.words[self.PLLCFGR]
        return (HSE_HZ if pll >> 22 & 1 else HSI_HZ) / max(1, pll & 0x3F)

    @property
    def vco_hz(self) -> float:
        """What the PLL makes of it."""
        return self.vco_input_hz * (self.words[self.PLLCFGR] >> 6 & 0x1FF)

    @property
    def core_hz(self) -> float:
        """HCLK as programmed."""
        prescaler = self.words.get(self.CFGR, 0) >> 4 & 0xF
        return self.system_hz / (1 if prescaler < 8 else (2, 4, 8, 16, 64, 128, 256, 512)[prescaler - 8])

    def bus_hz(self, bus: int) -> float:
        """PCLK1 or PCLK2 as programmed."""
        prescaler = self.words.get(self.CFGR, 0) >> (10 if bus == 1 else 13) & 0x7
        return self.core_hz / (1 if prescaler < 4 else 2 << (prescaler - 4))


class Pwr(Registers):
    """Voltage scaling and over-drive are ready as soon as they are asked for."""

    CR, CSR = 0x00, 0x04
    _OVERDRIVE, _VOS_READY = (1 << 16) | (1 << 17), 1 << 14

    def __init__(self) -> None:
        super().__init__("PWR", 0x4000_7000, at_reset={self.CR: 0xC000}, gate=Gate(0x40, 28))

    def read(self, offset: int) -> int:
        """The word, with ready bits that follow their enable bits."""
        if offset == self.CSR:
            return super().read(offset) | self._VOS_READY | self.words.get(self.CR, 0) & self._OVERDRIVE
        return super().read(offset)

    @property
    def is_overdriven(self) -> bool:
        """Whether over-drive is on and switched to."""
        return self.words.get(self.CR, 0) & self._OVERDRIVE == self._OVERDRIVE


@dataclass(frozen=True)
class UsartLayout:
    """Offsets that differ between the families. `enable_bits`: UE, RE and TE of CR1."""

    status: int
    receive: int
    transmit: int
    divider: int
    control: int
    enable_bits: int


_USART_GATES = {
    "USART1": Gate(0x44, 4),
    "USART2": Gate(0x40, 17),
    "USART3": Gate(0x40, 18),
    "UART4": Gate(0x40, 19),
    "UART5": Gate(0x40, 20),
    "USART6": Gate(0x44, 5),
}
_GPIO_LETTERS = "ABCDEFGHIJK"
F4_USART = UsartLayout(0x00, 0x04, 0x04, 0x08, 0x0C, (1 << 13) | (1 << 2) | (1 << 3))
F7_USART = UsartLayout(0x1C, 0x24, 0x28, 0x0C, 0x00, (1 << 0) | (1 << 2) | (1 << 3))


class Usart(Registers):
    """A polled serial port. While the firmware only waits for a byte, the whole twin sleeps.

    A core looks many times before the next byte is there, so the first look at the status never shows one; the
    second waits for it. This makes the cycle count independent of when the host's bytes arrive. A firmware that
    sends finds room at its first look.

    `on_enable` is called when it is switched on; `on_closed` when the line will never bring another byte.
    """

    _RECEIVED, _COMPLETE, _EMPTY = 1 << 5, 1 << 6, 1 << 7
    _READY_FLAGS = (1 << 21) | (1 << 22)  # TEACK and REACK, which only the F7 has

    def __init__(
        self,
        target: Target,
        layout: UsartLayout,
        line: Line,
        on_enable: Callable[[], None],
        on_closed: Callable[[], None],
    ) -> None:
        super().__init__(target.serial.usart, target.serial.base, gate=_USART_GATES[target.serial.usart])
        self.layout = layout
        self._line = line
        self._on_enable = on_enable
        self._on_closed = on_closed
        self._n_looks = 0

    def reset(self) -> None:
        """Switched off."""
        super().reset()
        self._n_looks = 0

    def read(self, offset: int) -> int:
        """Status and received bytes; other registers as written."""
        if offset == self.layout.status:
            return self._status()
        if offset == self.layout.receive:
            self._n_looks = 0
            return self._line.received.popleft() if self._is_on and self._line.received else 0
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Bytes to send, and the switch."""
        if offset == self.layout.transmit:
            self._n_looks = 0
            if self._is_on:
                self._line.send(value & 0xFF)
            return
        was_on = self._is_on
        super().write(offset, value)
        if self._is_on and not was_on:
            self._line.discard()
            self._on_enable()

    def baud(self, clock_hz: float) -> float:
        """Bits per second as programmed, at 16- or 8-fold oversampling."""
        divider = self.words.get(self.layout.divider, 0)
        if self.words.get(self.layout.control, 0) >> 15 & 1:
            divider = (divider >> 4) * 8 + (divider & 7)
        return clock_hz / max(1, divider)

    @property
    def _is_on(self) -> bool:
        wanted = self.layout.enable_bits
        return self.words.get(self.layout.control, 0) & wanted == wanted

    def _status(self) -> int:
        if not self._is_on:
            return self._EMPTY | self._COMPLETE
        self._n_looks += 1
        if self._n_looks < 2:
            return self._EMPTY | self._COMPLETE | self._READY_FLAGS
        if not self._line.received and not self._line.wait():
            self._on_closed()
        has_byte = self._RECEIVED if self._line.received else 0
        return self._EMPTY | self._COMPLETE | self._READY_FLAGS | has_byte


def make_peripherals(
    target: Target, line: Line, on_enable: Callable[[], None], on_closed: Callable[[], None]
) -> tuple[Registers, ...]:
    """All peripherals outside the core. Raises `DeviceError` for a family or a port without model."""
    if target.platform not in ("stm32f4", "stm32f7"):
        raise DeviceError(f"{target.name}: the twin has no model of {target.platform}; it knows stm32f4 and stm32f7")
    if target.serial.usart not in _USART_GATES:
        raise DeviceError(f"{target.name}: no model of {target.serial.usart}; choose from {', '.join(_USART_GATES)}")
    layout = F7_USART if target.platform == "stm32f7" else F4_USART
    usart = Usart(target, layout, line, on_enable, on_closed)
    syscfg = Registers("SYSCFG", 0x4001_3800, gate=Gate(0x44, 14))
    flash = Registers("FLASH", 0x4002_3C00)
    return (Rcc(), flash, Pwr(), syscfg, usart, *(_gpio(index) for index in range(len(_GPIO_LETTERS))))


def _gpio(index: int) -> Registers:
    """A port; after a reset the debug pins of A and B are already in use (MODER, OSPEEDR, PUPDR)."""
    at_reset = {0: (0xA800_0000, 0x0C00_0000, 0x6400_0000), 1: (0x280, 0xC0, 0x100)}.get(index, (0, 0, 0))
    words = dict(zip((0x00, 0x08, 0x0C), at_reset, strict=True))
    return Registers(f"GPIO{_GPIO_LETTERS[index]}", 0x4002_0000 + 0x400 * index, at_reset=words, gate=Gate(0x30, index))
