"""What must hold on a real board when the serial port is switched on, said in words.

A wrong clock tree or a forgotten enable bit shows on a board as garbage, silence or a wrong latency; here it has
a name. Limits: STM32F469 data sheet (DS11189), STM32F746 data sheet (DS10916), and the manuals' RCC chapters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from trec_dse.errors import DeviceError
from trec_dse.target import Target
from trec_dse.twin.peripherals import HSI_HZ, Pwr, Rcc, Registers, Usart

BAUD_TOLERANCE = 0.025
_ALTERNATE = 2


@dataclass(frozen=True)
class _Limits:
    """The fastest clocks of a family, in Hz; `overdrive`: above it the core needs over-drive."""

    overdrive: int
    bus_1: int
    bus_2: int


_LIMITS = {
    "stm32f4": _Limits(168_000_000, 45_000_000, 90_000_000),
    "stm32f7": _Limits(180_000_000, 54_000_000, 108_000_000),
}
_VCO_INPUT_HZ, _VCO_OUTPUT_HZ = (950_000, 2_100_000), (100_000_000, 432_000_000)

# Pins that can carry the port, as (GPIO letter, pin of TX, pin of RX), and the alternate function that they need.
_PINS: Mapping[str, tuple[int, tuple[tuple[str, int, int], ...]]] = {
    "USART1": (7, (("A", 9, 10), ("B", 6, 7))),
    "USART2": (7, (("A", 2, 3), ("D", 5, 6))),
    "USART3": (7, (("B", 10, 11), ("C", 10, 11), ("D", 8, 9))),
    "USART6": (8, (("C", 6, 7), ("G", 14, 9))),
}


def check_serial_port(target: Target, devices: Mapping[str, Registers]) -> None:
    """Clocks, wait states, baud rate and pins against the target. `devices`: all peripherals by name."""
    rcc, pwr, usart = devices["RCC"], devices["PWR"], devices[target.serial.usart]
    assert isinstance(rcc, Rcc) and isinstance(pwr, Pwr) and isinstance(usart, Usart)
    _check_core_clock(target, rcc, pwr)
    wait_states = devices["FLASH"].words.get(0, 0) & 0xF
    if wait_states < target.flash.wait_states:
        raise DeviceError(
            f"the firmware sets {wait_states} Flash wait states; {target.clock_hz} Hz need {target.flash.wait_states}"
        )
    baud = usart.baud(_usart_hz(target, rcc))
    if abs(baud / target.serial.baud - 1) > BAUD_TOLERANCE:
        raise DeviceError(f"the firmware sets {usart.name} to {baud:.0f} baud; {target.name} says {target.serial.baud}")
    _check_pins(usart.name, devices)


def _check_core_clock(target: Target, rcc: Rcc, pwr: Pwr) -> None:
    limits = _LIMITS[target.platform]
    if round(rcc.core_hz) != target.clock_hz:
        raise DeviceError(
            f"the firmware runs the core at {rcc.core_hz:.0f} Hz; {target.name} says {target.clock_hz} Hz"
        )
    for what, hz, (least, most) in (
        ("the PLL's input", rcc.vco_input_hz, _VCO_INPUT_HZ),
        ("the PLL's oscillator", rcc.vco_hz, _VCO_OUTPUT_HZ),
        ("APB1", rcc.bus_hz(1), (0, limits.bus_1)),
        ("APB2", rcc.bus_hz(2), (0, limits.bus_2)),
    ):
        if rcc.uses_pll and not least <= hz <= most:
            raise DeviceError(f"the firmware runs {what} at {hz:.0f} Hz; {least} to {most} Hz are allowed")
    if rcc.core_hz > limits.overdrive and not pwr.is_overdriven:
        raise DeviceError(f"the firmware runs the core at {rcc.core_hz:.0f} Hz without over-drive; set ODEN and ODSWEN")


def _check_pins(name: str, devices: Mapping[str, Registers]) -> None:
    if name not in _PINS:
        return
    function, places = _PINS[name]
    for letter, *pins in places:
        if all(_pin_function(devices[f"GPIO{letter}"], pin) == function for pin in pins):
            return
    choices = " or ".join(f"P{letter}{tx}/P{letter}{rx}" for letter, tx, rx in places)
    raise DeviceError(f"the firmware leads {name} to no pins; {choices} must have alternate function {function}")


def _pin_function(port: Registers, pin: int) -> int | None:
    """The alternate function of a pin, None if it is in another mode (MODER at 0x00, AFRL and AFRH at 0x20)."""
    if port.words.get(0x00, 0) >> (2 * pin) & 3 != _ALTERNATE:
        return None
    return port.words.get(0x20 + 4 * (pin // 8), 0) >> (4 * (pin % 8)) & 0xF


def _usart_hz(target: Target, rcc: Rcc) -> float:
    """Clock in front of the baud divider. F7 can bypass the bus clock (RM0385, 5.3.26 RCC_DCKCFGR2)."""
    bus = 2 if target.serial.base >= 0x4001_0000 else 1
    if target.platform == "stm32f7":
        index = int(target.serial.usart[-1]) - 1
        choice = rcc.words.get(Rcc.DCKCFGR2, 0) >> (2 * index) & 3
        if choice:
            return (0.0, rcc.system_hz, HSI_HZ, 32_768.0)[choice]
    return rcc.bus_hz(bus)
