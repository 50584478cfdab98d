"""The nRF52840: clock, Flash controller, pins and the serial port without DMA, as its Product Specification has them.

Written down anew, not taken from the firmware, so that a slip there is found. What is not modelled does not exist.
"""

from collections.abc import Mapping

from trec_dse.errors import DeviceError
from trec_dse.target import Oscillator, Target, pin_place
from trec_dse.twin.checks import check_baud, check_core_clock
from trec_dse.twin.registers import Outputs, Registers, Wires
from trec_dse.twin.serial_port import PolledPort

PLATFORM = "nrf52"
CORE_HZ = 64_000_000
_UART = ("UART0", 0x4000_2000)
# What BAUDRATE's documented values really give, by the maker's register description.
_BAUDS = {
    0x0027_5000: 9_598,
    0x01D7_E000: 115_942,
    0x03AF_B000: 231_884,
    0x075F_7000: 470_588,
    0x0EBE_D000: 941_176,
    0x1000_0000: 1_000_000,
}


class Clock(Registers):
    """CLOCK: the crystal runs as soon as it is started, if there is one; the chip's own oscillator until then."""

    START, STATUS = 0x000, 0x40C
    _RUNS, _CRYSTAL = 1 << 16, 1 << 0

    def __init__(self, oscillator: Oscillator) -> None:
        super().__init__("CLOCK", 0x4000_0000, size=0x1000)
        self._oscillator = oscillator

    @property
    def is_exact(self) -> bool:
        """Whether the crystal drives the chip."""
        return bool(self.words.get(self.START))

    def read(self, offset: int) -> int:
        """HFCLKSTAT follows what was started; other registers as written."""
        if offset != self.STATUS:
            return super().read(offset)
        return self._RUNS | self._CRYSTAL * self.is_exact

    def write(self, offset: int, value: int) -> None:
        """Start the crystal. Raises `DeviceError` on a board without: the firmware would wait for ever."""
        if offset == self.START and (self._oscillator.kind, self._oscillator.hz) != ("crystal", 32_000_000):
            found = f"a {self._oscillator.kind} of {self._oscillator.hz} Hz"
            raise DeviceError(f"the firmware starts a crystal of 32000000 Hz and waits for it; the board has {found}")
        super().write(offset, value)


class Uart(PolledPort):
    """UART: events instead of status bits, cleared by writing 0; tasks start its two directions."""

    START_RX, START_TX, RECEIVED, SENT = 0x000, 0x008, 0x108, 0x11C
    ENABLE, PIN_TX, PIN_RX, RXD, TXD, BAUDRATE = 0x500, 0x50C, 0x514, 0x518, 0x51C, 0x524
    _ENABLED = 4

    def __init__(self, name: str, base: int, wires: Wires) -> None:
        at_reset = {self.PIN_TX: 0xFFFF_FFFF, self.PIN_RX: 0xFFFF_FFFF, self.BAUDRATE: 0x0400_0000}
        super().__init__(name, base, wires, size=0x1000, at_reset=at_reset)

    @property
    def is_on(self) -> bool:
        """Enabled, and both directions started."""
        return self.words.get(self.ENABLE) == self._ENABLED and all(map(self.words.get, (self.START_RX, self.START_TX)))

    def read(self, offset: int) -> int:
        """Events and received bytes; other registers as written."""
        if offset == self.RECEIVED:
            return int(self.has_byte())
        return self.take() if offset == self.RXD else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Bytes to send, which are gone at once, and the switches."""
        if offset == self.TXD:
            self.words[self.SENT] = int(self.is_on)
            self.send(value)
            return
        was_on = self.is_on
        super().write(offset, value)
        self.note_switch(was_on)


class Gpio(Outputs):
    """Both ports, 300h apart: writes to OUTSET and OUTCLR set and clear bits of OUT."""

    PORT_BYTES, OUT, OUTSET, OUTCLR, PIN_CNF = 0x300, 0x504, 0x508, 0x50C, 0x700

    def write(self, offset: int, value: int) -> None:
        """Levels, and what a pin is."""
        port = int(offset >= self.OUT + self.PORT_BYTES and not self._is_pin(0, offset))
        at = self.PORT_BYTES * port
        levels = self.words.get(at + self.OUT, 0)
        if offset == at + self.OUTSET:
            offset, value = at + self.OUT, levels | value
        elif offset == at + self.OUTCLR:
            offset, value = at + self.OUT, levels & ~value
        super().write(offset, value)
        driven = sum(1 << pin for pin in range(32) if self.bits(at + self.PIN_CNF + 4 * pin, 0, 1))
        self.note(port, driven, self.words.get(at + self.OUT, 0))

    def _is_pin(self, port: int, offset: int) -> bool:
        first = self.PORT_BYTES * port + self.PIN_CNF
        return first <= offset < first + 4 * 32


def make_peripherals(target: Target, wires: Wires) -> tuple[Registers, ...]:
    """All peripherals outside the core; the port reaches every pin. Raises `DeviceError` for a port without model."""
    if (target.serial.usart, target.serial.base) != _UART:
        raise DeviceError(f"{target.name}: no model of {target.serial.usart}; choose from {_UART[0]}")
    gpios = Gpio("GPIO", 0x5000_0000, wires, size=0x1000)
    nvmc = Registers("NVMC", 0x4001_E000, size=0x1000)
    return (Clock(target.oscillator), nvmc, Uart(*_UART, wires), gpios)


def check_serial_port(target: Target, devices: Mapping[str, Registers]) -> None:
    """Crystal, instruction cache, baud rate and pins against the target."""
    clock, uart, gpio = devices["CLOCK"], devices[target.serial.usart], devices["GPIO"]
    assert isinstance(clock, Clock) and isinstance(uart, Uart)
    check_core_clock(target, CORE_HZ)
    if not clock.is_exact:
        raise DeviceError(
            f"the firmware runs from the chip's own oscillator; {target.name} has a {target.oscillator.kind}"
            f" of {target.oscillator.hz} Hz"
        )
    if target.flash.accelerator == "code_cache" and not devices["NVMC"].bits(0x540, 0, 1):
        raise DeviceError("the firmware leaves the instruction cache off; set bit 0 of NVMC + 0x540")
    check_baud(target, _BAUDS.get(uart.words[Uart.BAUDRATE], 0))
    for pin, register, mode in ((target.serial.tx, Uart.PIN_TX, 1), (target.serial.rx, Uart.PIN_RX, 0)):
        port, number = pin_place(pin)
        configured = gpio.bits(0x300 * port + 0x700 + 4 * number, 0, 1)
        if uart.words[register] != port << 5 | number or configured != mode:
            raise DeviceError(
                f"the firmware does not lead {uart.name} to {pin}; it must be an {('in', 'out')[mode]}put"
            )
