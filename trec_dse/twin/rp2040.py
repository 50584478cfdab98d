"""The RP2040: how its boot ROM starts a program, resets, clocks, pins and the serial port, as its Datasheet has them.

Written down anew, not taken from the firmware, so that a slip there is found. What is not modelled does not exist.
"""

from collections.abc import Mapping

from trec_dse.errors import DeviceError
from trec_dse.rp2040_image import STAGE_BYTES, checksum
from trec_dse.target import Oscillator, Target, pin_place
from trec_dse.twin.checks import check_baud, check_core_clock
from trec_dse.twin.clocks import Speed, check_speeds
from trec_dse.twin.registers import Gate, Outputs, Registers, Start, Wires
from trec_dse.twin.serial_flash import SerialFlash, Ssi
from trec_dse.twin.serial_port import PolledPort

PLATFORM = "rp2040"
CORE_MOST_HZ, VCO_HZ = 133e6, (750e6, 1600e6)
_STAGE_AT = 0x2004_1F00
_RING_HZ = 6_500_000  # what it starts on, some
_PORTS = {"UART0": (0x4003_4000, 22), "UART1": (0x4003_8000, 23)}  # address, bit in RESETS
_PINS = {
    "UART0": {"tx": (0, 12, 16, 28), "rx": (1, 13, 17, 29)},
    "UART1": {"tx": (4, 8, 20, 24), "rx": (5, 9, 21, 25)},
}
_UART_FUNCTION = 2


def start_of(flash: bytes) -> Start:
    """What the boot ROM does with the Flash's first bytes; raises `DeviceError` where it would show its USB drive."""
    stage, found = flash[: STAGE_BYTES - 4], int.from_bytes(flash[STAGE_BYTES - 4 : STAGE_BYTES], "little")
    if checksum(stage) != found:
        raise DeviceError(
            f"the boot ROM starts nothing: the second boot stage's checksum is 0x{found:08x}, its bytes give"
            f" 0x{checksum(stage):08x}; run board/rp2040_image.py on the ELF"
        )
    return Start(stack=_STAGE_AT, address=_STAGE_AT, link=0, copied=((_STAGE_AT, flash[:STAGE_BYTES]),))


class Resets(Registers):
    """RESETS: blocks are held in reset until released, and what they hold is lost while they are."""

    RESET, DONE = 0x0, 0x8
    _ALL = 0x1FF_FFFF
    _RELEASED = 1 << 6 | 1 << 9 | 1 << 21  # by the boot ROM: IO_QSPI, PADS_QSPI, TIMER

    def __init__(self) -> None:
        super().__init__("RESETS", 0x4000_C000, at_reset={self.RESET: self._ALL & ~self._RELEASED})
        self.blocks: dict[int, Registers] = {}

    def read(self, offset: int) -> int:
        """A block is ready as soon as it is released."""
        return ~self.words[self.RESET] & self._ALL if offset == self.DONE else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Hold and release."""
        super().write(offset, value)
        for bit, block in self.blocks.items():
            if value >> bit & 1:
                block.reset()


class Xosc(Registers):
    """The crystal: stable as soon as it is enabled, if there is one."""

    CTRL, STATUS = 0x0, 0x4

    def __init__(self, oscillator: Oscillator) -> None:
        super().__init__("XOSC", 0x4002_4000)
        self._oscillator = oscillator

    @property
    def hz(self) -> int:
        """Its frequency, 0 while it is off."""
        return self._oscillator.hz if self.bits(self.CTRL, 12, 12) == 0xFAB else 0

    def read(self, offset: int) -> int:
        """Stable and enabled go together."""
        return (1 << 31 | 1 << 12) * (self.hz > 0) if offset == self.STATUS else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Enable it. Raises `DeviceError` on a board without: the firmware would wait for ever."""
        super().write(offset, value)
        if self.hz and self._oscillator.kind != "crystal":
            found = f"{self._oscillator.kind}, {self._oscillator.hz} Hz"
            raise DeviceError(f"the firmware waits for a crystal; the board's oscillator: {found}")


class Pll(Registers):
    """PLL_SYS; it locks at once."""

    CS, PWR, FBDIV, PRIM = 0x0, 0x4, 0x8, 0xC

    def __init__(self, xosc: Xosc) -> None:
        at_reset = {self.CS: 1, self.PWR: 0x2D, self.PRIM: 0x7_7000}
        super().__init__("PLL_SYS", 0x4002_8000, at_reset=at_reset, gate=Gate(Resets.RESET, 12, "RESETS", 0))
        self._xosc = xosc

    @property
    def input_hz(self) -> float:
        """The crystal divided by REFDIV."""
        return self._xosc.hz / max(1, self.bits(self.CS, 0, 6))

    @property
    def vco_hz(self) -> float:
        """Times FBDIV; 0 while it has no power."""
        return self.input_hz * self.bits(self.FBDIV, 0, 12) * (self.words[self.PWR] & (1 << 5 | 1) == 0)

    @property
    def hz(self) -> float:
        """Divided twice; 0 while the dividers have no power."""
        dividers = self.bits(self.PRIM, 16, 3) * self.bits(self.PRIM, 12, 3)
        return self.vco_hz / max(1, dividers) * (not self.bits(self.PWR, 3, 1))

    def read(self, offset: int) -> int:
        """LOCK follows the power."""
        word = super().read(offset)
        return word | (self.vco_hz > 0) << 31 if offset == self.CS else word


class Clocks(Registers):
    """CLOCKS: the reference, the core's and the peripherals' clock."""

    REF_CTRL, REF_SELECTED, SYS_CTRL, SYS_DIV, SYS_SELECTED, PERI_CTRL = 0x30, 0x38, 0x3C, 0x40, 0x44, 0x48

    def __init__(self, xosc: Xosc, pll: Pll) -> None:
        super().__init__("CLOCKS", 0x4000_8000, at_reset={self.SYS_DIV: 0x100})
        self._xosc, self._pll = xosc, pll

    @property
    def reference_hz(self) -> float:
        """Ring oscillator or crystal."""
        return {0: float(_RING_HZ), 2: float(self._xosc.hz)}.get(self.bits(self.REF_CTRL, 0, 2), 0.0)

    @property
    def core_hz(self) -> float:
        """The reference or, as auxiliary source 0, the PLL."""
        uses_pll = self.bits(self.SYS_CTRL, 0, 1)
        source = (self._pll.hz if self.bits(self.SYS_CTRL, 5, 3) == 0 else 0.0) if uses_pll else self.reference_hz
        return source * 256 / max(256, self.words[self.SYS_DIV])

    @property
    def peripheral_hz(self) -> float:
        """clk_peri, as far as it is made of the core's clock; 0 while it is off."""
        return self.core_hz * (self.bits(self.PERI_CTRL, 11, 1) and self.bits(self.PERI_CTRL, 5, 3) == 0)

    def read(self, offset: int) -> int:
        """Switches follow at once."""
        if offset == self.REF_SELECTED:
            return 1 << self.bits(self.REF_CTRL, 0, 2)
        return 1 << self.bits(self.SYS_CTRL, 0, 1) if offset == self.SYS_SELECTED else super().read(offset)


class Watchdog(Registers):
    """WATCHDOG: its tick drives the timer; its trigger resets what PSM.WDSEL says, by itself nothing."""

    CTRL, TICK = 0x00, 0x2C

    def __init__(self, psm: Registers, clocks: Clocks, wires: Wires) -> None:
        super().__init__("WATCHDOG", 0x4005_8000)
        self._psm, self._clocks, self._on_reset = psm, clocks, wires.on_reset

    @property
    def tick_hz(self) -> float:
        """Ticks a second; 0 while it is off."""
        return self._clocks.reference_hz / max(1, self.bits(self.TICK, 0, 9)) * self.bits(self.TICK, 9, 1)

    def write(self, offset: int, value: int) -> None:
        """Trigger a reset."""
        super().write(offset, value)
        if offset == self.CTRL and value >> 31:
            if not self._psm.words.get(0x8):
                raise DeviceError("the firmware triggers the watchdog, which resets nothing: PSM + 0x08 is 0")
            self._on_reset()


class Timer(Registers):
    """TIMER: microseconds, if the watchdog ticks once in each."""

    RAW_LOW = 0x28

    def __init__(self, watchdog: Watchdog, clocks: Clocks, wires: Wires) -> None:
        super().__init__("TIMER", 0x4005_4000, gate=Gate(Resets.RESET, 21, "RESETS", 0))
        self._watchdog, self._clocks, self._cycles = watchdog, clocks, wires.cycles
        self._since = 0

    def reset(self) -> None:
        """From 0."""
        super().reset()
        self._since = self._cycles()

    def read(self, offset: int) -> int:
        """The count, or a register as written."""
        if offset != self.RAW_LOW:
            return super().read(offset)
        passed = self._cycles() - self._since
        return int(passed * self._watchdog.tick_hz // max(1.0, self._clocks.core_hz)) & 0xFFFF_FFFF


class Uart(PolledPort):
    """A PL011."""

    DR, FR, IBRD, FBRD, LCR_H, CR = 0x00, 0x18, 0x24, 0x28, 0x2C, 0x30
    _ON, _NOTHING, _DRAINED = 1 << 9 | 1 << 8 | 1, 1 << 4, 1 << 7

    def __init__(self, name: str, wires: Wires) -> None:
        base, bit = _PORTS[name]
        gate = Gate(Resets.RESET, bit, "RESETS", 0)
        super().__init__(name, base, wires, at_reset={self.CR: 0x300}, gate=gate)

    @property
    def is_on(self) -> bool:
        """UARTEN, TXE and RXE are set."""
        return self.words[self.CR] & self._ON == self._ON

    def read(self, offset: int) -> int:
        """Flags and received bytes; other registers as written."""
        if offset == self.FR:
            return self._DRAINED | self._NOTHING * (not self.has_byte())
        return self.take() if offset == self.DR else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Bytes to send, and the switch."""
        if offset == self.DR:
            self.send(value)
            return
        was_on = self.is_on
        super().write(offset, value)
        self.note_switch(was_on)

    def baud(self, clock_hz: float) -> float:
        """Bits per second as programmed, in 64ths of a divider."""
        return 4 * clock_hz / max(1, self.bits(self.IBRD, 0, 16) * 64 + self.bits(self.FBRD, 0, 6))


class Sio(Outputs):
    """The core's own block: levels of the pins whose function is SIO, in registers that set and clear bits."""

    OUT, OUT_SET, OUT_CLR, OE, OE_SET, OE_CLR = 0x10, 0x14, 0x18, 0x20, 0x24, 0x28
    _FUNCTION, _N_PINS = 5, 30

    def __init__(self, io: Registers, wires: Wires) -> None:
        super().__init__("SIO", 0xD000_0000, wires)
        self._io = io

    def write(self, offset: int, value: int) -> None:
        """Levels and directions; a pin that is given to SIO later is seen at the next write."""
        for word, setting, clearing in ((self.OUT, self.OUT_SET, self.OUT_CLR), (self.OE, self.OE_SET, self.OE_CLR)):
            if offset == setting:
                offset, value = word, self.words.get(word, 0) | value
            elif offset == clearing:
                offset, value = word, self.words.get(word, 0) & ~value
        given = sum(1 << pin for pin in range(self._N_PINS) if self._io.bits(8 * pin + 4, 0, 5) == self._FUNCTION)
        driven = given & self.words.get(self.OE, 0)
        self.note(0, driven, self.words.get(self.OUT, 0))
        super().write(offset, value)
        self.note(0, driven, self.words.get(self.OUT, 0))


def make_peripherals(target: Target, wires: Wires) -> tuple[Registers, ...]:
    """All peripherals outside the core. Raises `DeviceError` for a port or a pin without model."""
    serial = target.serial
    if serial.usart not in _PINS:
        raise DeviceError(f"{target.name}: no model of {serial.usart}; choose from {', '.join(_PINS)}")
    for pin, numbers in ((serial.tx, _PINS[serial.usart]["tx"]), (serial.rx, _PINS[serial.usart]["rx"])):
        if pin_place(pin)[1] not in numbers:
            reach = ", ".join(f"GP{number}" for number in numbers)
            raise DeviceError(f"{target.name}: {serial.usart} reaches {reach}, not {pin}")
    resets, xosc, psm = Resets(), Xosc(target.oscillator), Registers("PSM", 0x4001_0000)
    pll = Pll(xosc)
    clocks = Clocks(xosc, pll)
    watchdog = Watchdog(psm, clocks, wires)
    timer, uart = Timer(watchdog, clocks, wires), Uart(serial.usart, wires)
    io = Registers("IO_BANK0", 0x4001_4000, gate=Gate(Resets.RESET, 5, "RESETS", 0))
    pads = Registers("PADS_BANK0", 0x4001_C000, gate=Gate(Resets.RESET, 8, "RESETS", 0))
    for device in (pll, timer, uart, io, pads):
        assert device.gate is not None
        resets.blocks[device.gate.bit] = device
    pads_qspi = Registers("PADS_QSPI", 0x4002_0000, at_reset={4 * i: 0x56 for i in range(1, 7)})
    sio = Sio(io, wires)
    return (resets, xosc, psm, pll, clocks, watchdog, timer, uart, io, pads, sio, pads_qspi, Ssi(SerialFlash()))


def flash_refusal(devices: Mapping[str, Registers]) -> str:
    """Why the Flash cannot be read as memory now; "" if it can."""
    ssi = devices["SSI"]
    assert isinstance(ssi, Ssi)
    return ssi.refusal()


def check_serial_port(target: Target, devices: Mapping[str, Registers]) -> None:
    """Clocks, timer, baud rate, frame and pins against the target."""
    clocks, pll, uart = devices["CLOCKS"], devices["PLL_SYS"], devices[target.serial.usart]
    watchdog = devices["WATCHDOG"]
    assert isinstance(clocks, Clocks) and isinstance(pll, Pll) and isinstance(uart, Uart)
    assert isinstance(watchdog, Watchdog)
    check_core_clock(target, clocks.core_hz)
    check_speeds(
        (
            Speed("the PLL's input", pll.input_hz, 5e6, 1e9),
            Speed("the PLL's oscillator", pll.vco_hz, *VCO_HZ),
            Speed("the core", clocks.core_hz, 0, CORE_MOST_HZ),
            Speed("the timer's tick", watchdog.tick_hz, 1e6, 1e6),
        )
    )
    check_baud(target, uart.baud(clocks.peripheral_hz))
    if uart.bits(Uart.LCR_H, 0, 8) != 0x70:
        raise DeviceError(f"the firmware leaves {uart.name} without 8 data bits, 1 stop bit, no parity and its FIFOs")
    for pin in (target.serial.tx, target.serial.rx):
        number = pin_place(pin)[1]
        if devices["IO_BANK0"].bits(8 * number + 4, 0, 5) != _UART_FUNCTION:
            raise DeviceError(
                f"the firmware does not lead {uart.name} to {pin}; it must have function {_UART_FUNCTION}"
            )
        if devices["PADS_BANK0"].bits(4 * number + 4, 6, 2) != 1:
            raise DeviceError(f"the firmware leaves the pad of {pin} without input, or its output disabled")
