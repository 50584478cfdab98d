"""What must hold on a real board when the serial port is switched on, said in words.

A wrong clock tree or a forgotten enable bit shows on a board as garbage, silence or a wrong latency; here it has
a name. Limits: the tables of `stm32.py`.
"""

from collections.abc import Mapping

from trec_dse.errors import DeviceError
from trec_dse.target import Target, pin_place
from trec_dse.twin.clocks import ClockTree, check_speeds
from trec_dse.twin.registers import Registers
from trec_dse.twin.serial_port import Usart
from trec_dse.twin.stm32 import FAMILIES, Family

BAUD_TOLERANCE = 0.025
_ALTERNATE = 2


def check_serial_port(target: Target, devices: Mapping[str, Registers]) -> None:
    """Clocks, wait states, baud rate and pins against the target. `devices`: all peripherals by name."""
    family = FAMILIES[target.platform]
    rcc, usart = devices["RCC"], devices[target.serial.usart]
    assert isinstance(rcc, ClockTree) and isinstance(usart, Usart)
    _check_clocks(target, rcc)
    _check_boost(family, rcc, devices)
    wait_states = devices["FLASH"].bits(0, 0, family.latency_bits)
    if wait_states < target.flash.wait_states:
        raise DeviceError(
            f"the firmware sets {wait_states} Flash wait states; {target.clock_hz} Hz need {target.flash.wait_states}"
        )
    check_baud(target, usart.baud(rcc.usart_hz(usart.name)))
    for pin in (target.serial.tx, target.serial.rx):
        _check_pin(pin, usart.name, family, devices)


def check_core_clock(target: Target, hz: float) -> None:
    """The core's clock as programmed against the target's."""
    if round(hz) != target.clock_hz:
        raise DeviceError(f"the firmware runs the core at {hz:.0f} Hz; {target.name} says {target.clock_hz} Hz")


def check_baud(target: Target, baud: float) -> None:
    """The port's bits per second as programmed against the target's."""
    serial = target.serial
    if abs(baud / serial.baud - 1) > BAUD_TOLERANCE:
        raise DeviceError(f"the firmware sets {serial.usart} to {baud:.0f} baud; {target.name} says {serial.baud}")


def _check_clocks(target: Target, rcc: ClockTree) -> None:
    check_core_clock(target, rcc.core_hz)
    check_speeds(rcc.speeds())
    if rcc.uses_pll and not rcc.uses_board_clock:
        raise DeviceError(
            f"the firmware runs from the chip's own oscillator; {target.name} has a {target.oscillator.kind}"
            f" of {target.oscillator.hz} Hz"
        )


def _check_boost(family: Family, rcc: ClockTree, devices: Mapping[str, Registers]) -> None:
    name, offset, mask, value = family.boost
    if name and rcc.core_hz > family.limits.overdrive and devices[name].words.get(offset, 0) & mask != value:
        raise DeviceError(f"the firmware runs the core at {rcc.core_hz:.0f} Hz without {family.boost_name}")


def _check_pin(pin: str, usart: str, family: Family, devices: Mapping[str, Registers]) -> None:
    port, number = pin_place(pin)
    letter = "ABCDEFGHIJK"[port]
    if letter in family.supply:
        name, offset, bit = family.supply[letter]
        if not devices[name].bits(offset, bit, 1):
            raise DeviceError(f"the firmware leaves {pin} without supply; set bit {bit} of {name} + 0x{offset:02x}")
    wanted = family.ports[usart].pins[pin]
    if _pin_function(devices[f"GPIO{letter}"], number) != wanted:
        raise DeviceError(f"the firmware does not lead {usart} to {pin}; it must have alternate function {wanted}")


def _pin_function(port: Registers, pin: int) -> int | None:
    """The alternate function of a pin, None if it is in another mode (MODER at 0x00, AFRL and AFRH at 0x20)."""
    if port.bits(0x00, 2 * pin, 2) != _ALTERNATE:
        return None
    return port.bits(0x20 + 4 * (pin // 8), 4 * (pin % 8), 4)
