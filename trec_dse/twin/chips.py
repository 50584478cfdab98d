"""One door to the makers' chips: their peripherals, how they start a program, and what must hold for the port."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trec_dse.errors import DeviceError
from trec_dse.target import Target
from trec_dse.twin import checks, nrf52, rp2040, stm32
from trec_dse.twin.registers import Registers, Start, Wires


@dataclass(frozen=True)
class _Maker:
    """How the platforms of a maker are modelled.

    Attributes:
        make: all peripherals outside the core; raises `DeviceError` for a port or a pin without model.
        check: raises `DeviceError` if the port that was just switched on would not work on the board.
        start: from the first bytes of the program's Flash to where the core begins.
        refusal: why the Flash cannot be read now; None where it always can.
    """

    make: Callable[[Target, Wires], tuple[Registers, ...]]
    check: Callable[[Target, Mapping[str, Registers]], None]
    start: Callable[[bytes], Start]
    refusal: Callable[[Mapping[str, Registers]], str] | None = None


def _from_vectors(flash: bytes) -> Start:
    """Stack and start from the vector table, as the core or a bootloader takes them."""
    return Start(stack=int.from_bytes(flash[0:4], "little"), address=int.from_bytes(flash[4:8], "little"))


_STM32 = _Maker(stm32.make_peripherals, checks.check_serial_port, _from_vectors)
_MAKERS: Mapping[str, _Maker] = {
    **dict.fromkeys(stm32.FAMILIES, _STM32),
    nrf52.PLATFORM: _Maker(nrf52.make_peripherals, nrf52.check_serial_port, _from_vectors),
    rp2040.PLATFORM: _Maker(rp2040.make_peripherals, rp2040.check_serial_port, rp2040.start_of, rp2040.flash_refusal),
}


def make_peripherals(target: Target, wires: Wires) -> tuple[Registers, ...]:
    """All peripherals outside the core. Raises `DeviceError` for a platform, a port or a pin without model."""
    return _maker(target).make(target, wires)


def check_serial_port(target: Target, devices: Mapping[str, Registers]) -> None:
    """Clocks, baud rate and pins against the target, when the port is switched on. `devices`: by name."""
    _maker(target).check(target, devices)


def start_of(target: Target, flash: bytes) -> Start:
    """Where the core begins. `flash`: what the program's Flash begins with, at least 256 bytes."""
    return _maker(target).start(flash)


def hides_flash(target: Target) -> bool:
    """Whether the program has to set something up before its Flash can be read."""
    return _maker(target).refusal is not None


def flash_refusal(target: Target, devices: Mapping[str, Registers]) -> str:
    """Why the Flash cannot be read now; "" if it can."""
    refusal = _maker(target).refusal
    return "" if refusal is None else refusal(devices)


def _maker(target: Target) -> _Maker:
    if target.platform not in _MAKERS:
        raise DeviceError(
            f"{target.name}: the twin has no model of {target.platform}; it knows {', '.join(sorted(_MAKERS))}"
        )
    return _MAKERS[target.platform]
