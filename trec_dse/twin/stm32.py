"""The STM32 families as tables: which registers start-up code touches, where they are, which pins reach a port.

Addresses, enable bits and values after a reset: the manuals named in `clocks.py`, chapters RCC, PWR, FLASH, GPIO and
USART; alternate functions: the tables of the data sheets that the board files name. They are written down here anew,
not taken from the firmware's headers or from the board files, so that a slip there is found. What is not modelled
does not exist: touching it stops the firmware with a message.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trec_dse.errors import DeviceError
from trec_dse.target import Target
from trec_dse.twin.clocks import ClocksF2F4F7, ClocksF3, ClocksG0, ClocksH7, ClocksL4, ClockTree, Limits
from trec_dse.twin.registers import Following, Gate, Outputs, Registers, Timer, Wires
from trec_dse.twin.serial_port import NEW_USART, OLD_USART, Usart, UsartLayout

_LETTERS = "ABCDEFGHIJK"
_MHZ = 1_000_000


@dataclass(frozen=True)
class Port:
    """A serial port: its address, its clock gate, and the alternate function of each pin that it can reach."""

    base: int
    gate: Gate
    pins: Mapping[str, int]


@dataclass(frozen=True)
class Family:
    """A family's map.

    Attributes:
        gpio: port A's address; the others follow 0x400 bytes apart. gpio_gate: port A's; the others follow bit by bit.
        flash: address of FLASH_ACR's block; latency_bits: width of its wait states.
        boost: (peripheral, offset, mask, value): what must be set above `limits.overdrive`, and its name.
        supply: GPIO letter -> (peripheral, offset, bit) without which its pins are dead.
        extras: what else start-up code touches.
    """

    rcc: int
    clocks: Callable[..., ClockTree]
    limits: Limits
    layout: UsartLayout
    gpio: int
    gpio_gate: Gate
    flash: int
    latency_bits: int
    ports: Mapping[str, Port]
    extras: Callable[[Wires], tuple[Registers, ...]]
    boost: tuple[str, int, int, int] = ("", 0, 0, 0)
    boost_name: str = ""
    supply: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)


def _pins(function: int, *names: str) -> dict[str, int]:
    return dict.fromkeys(names, function)


_USART1_PINS = _pins(7, "PA9", "PA10", "PB6", "PB7")
_USART2_PINS = _pins(7, "PA2", "PA3", "PD5", "PD6")
_USART3_PINS = _pins(7, "PB10", "PB11", "PC10", "PC11", "PD8", "PD9")
_F247_PORTS = {
    "USART1": Port(0x4001_1000, Gate(0x44, 4), _USART1_PINS),
    "USART2": Port(0x4000_4400, Gate(0x40, 17), _USART2_PINS),
    "USART3": Port(0x4000_4800, Gate(0x40, 18), _USART3_PINS),
    "USART6": Port(0x4001_1400, Gate(0x44, 5), _pins(8, "PC6", "PC7", "PG14", "PG9")),
}


def _extras_f2_f4_f7(_: Wires) -> tuple[Registers, ...]:
    """PWR: CSR's VOSRDY follows VOS, over-drive follows ODEN and ODSWEN."""
    follows = {0x04: ((14, 0x00, 14), (16, 0x00, 16), (17, 0x00, 17))}
    pwr = Following("PWR", 0x4000_7000, follows, at_reset={0x00: 0xC000}, gate=Gate(0x40, 28))
    return (pwr, Registers("SYSCFG", 0x4001_3800, gate=Gate(0x44, 14)))


def _extras_f3(_: Wires) -> tuple[Registers, ...]:
    return (Registers("PWR", 0x4000_7000, gate=Gate(0x1C, 28)),)


def _extras_l4(_: Wires) -> tuple[Registers, ...]:
    """PWR in range 1; SR2's VOSF stays 0: the voltage is there."""
    at_reset = {0x00: 0x200, 0x80: 1 << 8}
    return (Registers("PWR", 0x4000_7000, at_reset=at_reset, gate=Gate(0x58, 28)),)


def _extras_g0(wires: Wires) -> tuple[Registers, ...]:
    pwr = Registers("PWR", 0x4000_7000, at_reset={0x00: 0x208}, gate=Gate(0x3C, 28))
    return (pwr, Timer(0x4000_0000, Gate(0x3C, 0), wires))


def _extras_h7(_: Wires) -> tuple[Registers, ...]:
    """PWR: the voltage is ready once the supply was confirmed (ACTVOSRDY) and scaled (VOSRDY). A revision V chip."""
    follows = {0x04: ((13, 0x0C, 2),), 0x18: ((13, 0x18, 14),)}
    pwr = Following("PWR", 0x5802_4800, follows, at_reset={0x0C: 0x6, 0x18: 0x4000})
    return (pwr, Registers("DBGMCU", 0x5C00_1000, at_reset={0x00: 0x2003_6450}))


def _f247(limits: Limits, layout: UsartLayout, *, has_overdrive: bool) -> Family:
    return Family(
        rcc=0x4002_3800,
        clocks=ClocksF2F4F7,
        limits=limits,
        layout=layout,
        gpio=0x4002_0000,
        gpio_gate=Gate(0x30, 0),
        flash=0x4002_3C00,
        latency_bits=4,
        ports=_F247_PORTS,
        extras=_extras_f2_f4_f7,
        boost=("PWR", 0x00, 3 << 16, 3 << 16) if has_overdrive else ("", 0, 0, 0),
        boost_name="over-drive; set ODEN and ODSWEN",
    )


def _limits(core: int, buses: tuple[int, int], vco: tuple[int, int], overdrive: int = 0) -> Limits:
    """All in MHz; the input of an F2's, F4's or F7's PLL is 0.95 to 2.1 MHz."""
    low, high = (speed * _MHZ for speed in vco)
    bus_1, bus_2 = (speed * _MHZ for speed in buses)
    return Limits(core * _MHZ, bus_1, bus_2, (0.95 * _MHZ, 2.1 * _MHZ), (low, high), overdrive * _MHZ)


FAMILIES: Mapping[str, Family] = {
    "stm32f2": _f247(_limits(120, (30, 60), (192, 432)), OLD_USART, has_overdrive=False),
    "stm32f4": _f247(_limits(180, (45, 90), (100, 432), 168), OLD_USART, has_overdrive=True),
    "stm32f7": _f247(_limits(216, (54, 108), (100, 432), 180), NEW_USART, has_overdrive=True),
    "stm32f3": Family(
        rcc=0x4002_1000,
        clocks=ClocksF3,
        limits=Limits(72e6, 36e6, 72e6, (1e6, 24e6), (16e6, 72e6)),
        layout=NEW_USART,
        gpio=0x4800_0000,
        gpio_gate=Gate(0x14, 17),
        flash=0x4002_2000,
        latency_bits=3,
        ports={
            "USART2": Port(0x4000_4400, Gate(0x1C, 17), _USART2_PINS),
            "USART3": Port(0x4000_4800, Gate(0x1C, 18), _USART3_PINS),
        },
        extras=_extras_f3,
    ),
    "stm32l4": Family(
        rcc=0x4002_1000,
        clocks=ClocksL4,
        limits=Limits(120e6, 120e6, 120e6, (2.66e6, 8e6), (64e6, 344e6), 80e6),
        layout=NEW_USART,
        gpio=0x4800_0000,
        gpio_gate=Gate(0x4C, 0),
        flash=0x4002_2000,
        latency_bits=4,
        ports={
            "USART2": Port(0x4000_4400, Gate(0x58, 17), _USART2_PINS),
            "LPUART1": Port(
                0x4000_8000, Gate(0x5C, 0), _pins(8, "PA2", "PA3", "PB11", "PB10", "PC1", "PC0", "PG7", "PG8")
            ),
        },
        extras=_extras_l4,
        boost=("PWR", 0x80, 1 << 8, 0),
        boost_name="boost mode; clear R1MODE",
        supply={"G": ("PWR", 0x04, 9)},
    ),
    "stm32g0": Family(
        rcc=0x4002_1000,
        clocks=ClocksG0,
        limits=Limits(64e6, 64e6, 64e6, (2.66e6, 16e6), (96e6, 344e6)),
        layout=NEW_USART,
        gpio=0x5000_0000,
        gpio_gate=Gate(0x34, 0),
        flash=0x4002_2000,
        latency_bits=3,
        ports={"USART2": Port(0x4000_4400, Gate(0x3C, 17), _pins(1, "PA2", "PA3", "PA14", "PA15"))},
        extras=_extras_g0,
    ),
    "stm32h7": Family(
        rcc=0x5802_4400,
        clocks=ClocksH7,
        limits=Limits(400e6, 100e6, 100e6, (1e6, 16e6), (192e6, 836e6), 300e6),
        layout=NEW_USART,
        gpio=0x5802_0000,
        gpio_gate=Gate(0xE0, 0),
        flash=0x5200_2000,
        latency_bits=4,
        ports={
            "USART2": Port(0x4000_4400, Gate(0xE8, 17), _USART2_PINS),
            "USART3": Port(0x4000_4800, Gate(0xE8, 18), _USART3_PINS),
        },
        extras=_extras_h7,
        boost=("PWR", 0x18, 3 << 14, 3 << 14),
        boost_name="voltage scale 1; set both bits VOS",
    ),
}


class Gpio(Outputs):
    """A port: what is written to BSRR sets and clears bits of ODR, the setting half first."""

    MODER, ODR, BSRR = 0x00, 0x14, 0x18

    def __init__(self, index: int, base: int, wires: Wires, moder: int, gate: Gate) -> None:
        super().__init__(f"GPIO{_LETTERS[index]}", base, wires, at_reset={self.MODER: moder}, gate=gate)
        self._index = index

    def write(self, offset: int, value: int) -> None:
        """Modes, functions and levels."""
        if offset == self.BSRR:
            offset, value = self.ODR, (self.bits(self.ODR, 0, 16) & ~(value >> 16)) | value & 0xFFFF
        super().write(offset, value)
        driven = sum(1 << pin for pin in range(16) if self.bits(self.MODER, 2 * pin, 2) == 1)
        self.note(self._index, driven, self.bits(self.ODR, 0, 16))


def make_peripherals(target: Target, wires: Wires) -> tuple[Registers, ...]:
    """All peripherals outside the core. Raises `DeviceError` for a port or a pin without model."""
    family, serial = FAMILIES[target.platform], target.serial
    if serial.usart not in family.ports:
        raise DeviceError(f"{target.name}: no model of {serial.usart}; choose from {', '.join(family.ports)}")
    port = family.ports[serial.usart]
    for pin in (serial.tx, serial.rx):
        if pin not in port.pins:
            raise DeviceError(f"{target.name}: {serial.usart} reaches {', '.join(port.pins)}, not {pin}")
    usart = Usart(serial.usart, port.base, port.gate, family.layout, wires)
    rcc = family.clocks(family.rcc, target.oscillator, family.limits)
    gpios = tuple(_gpio(family, index, wires) for index in range(len(_LETTERS)))
    return (rcc, Registers("FLASH", family.flash), usart, *family.extras(wires), *gpios)


def _gpio(family: Family, index: int, wires: Wires) -> Registers:
    """A port; after a reset the debug pins of A and B are in use, on some families the other pins are analog."""
    debug = {0: 0xA800_0000, 1: 0x280}.get(index, 0)
    is_analog = family.clocks in (ClocksL4, ClocksG0, ClocksH7)
    # a debug pin's field is 2 (alternate) where the others are 3 (analog)
    moder = (0xFFFF_FFFF & ~(debug >> 1)) if is_analog else debug
    gate = Gate(family.gpio_gate.offset, family.gpio_gate.bit + index)
    return Gpio(index, family.gpio + 0x400 * index, wires, moder, gate)
