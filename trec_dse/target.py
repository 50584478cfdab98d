"""Boards as strict data: one TOML file each, an unknown key is an error."""

import itertools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trec_dse import codec
from trec_dse.errors import TargetError

Optimize = Literal["speed", "size"]
NOWHERE, ANYWHERE = "none", "auto"  # of `Target.place`, beside the names of regions
_BEHIND_NULL = 32
Core = Literal["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7"]


@dataclass(frozen=True)
class Region:
    """A contiguous piece of the address space; `size` in bytes."""

    name: str
    kind: Literal["flash", "ram"]
    origin: int
    size: int

    @property
    def first(self) -> int:
        """Where an object may begin: not at 0, which is C's null pointer."""
        return self.origin or _BEHIND_NULL

    @property
    def room(self) -> int:
        """Bytes from there to the end."""
        return self.origin + self.size - self.first


@dataclass(frozen=True)
class Serial:
    """How the host talks to the board.

    Attributes:
        usart: the peripheral's name; base: its address; clock_hz: the clock that its baud divider sees.
        tx, rx: the pins that lead to the debug probe, as the chip's maker writes them: "PB10", "P1.03", "GP1".
        pin_function: the alternate function that connects them with the peripheral; 0 where pins are routed freely.
        vid_pid: USB ids of the probe's virtual port, as "0483:374b".
    """

    usart: str
    base: int
    clock_hz: int
    tx: str
    rx: str
    pin_function: int = 0
    baud: int = 921_600
    vid_pid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Oscillator:
    """What the core clock is made from: a crystal or a clock signal on the board, or the chip's own oscillator."""

    kind: Literal["crystal", "clock", "internal"]
    hz: int


@dataclass(frozen=True)
class FlashTiming:
    """Flash wait states at `clock_hz`, and what hides them.

    Attributes:
        accelerator: "none"; "prefetch": the next line is read ahead; "art": ST's line memories; "cache": the core's;
            "code_cache": the chip's, for instructions; "serial": one for all in front of a serial Flash, where
            `wait_states` is what a missed word costs.
        code_bytes, data_bytes: what the accelerator or the caches hold; 0 without them.
    """

    wait_states: int
    accelerator: Literal["none", "prefetch", "art", "cache", "code_cache", "serial"]
    code_bytes: int = 0
    data_bytes: int = 0


@dataclass(frozen=True)
class Power:
    """What the chip draws while it computes at the target's `clock_hz` out of Flash, its peripherals idle.

    Attributes:
        run_ma: supply current in mA; volts: of the supply on the board; source: where `run_ma` stands.
    """

    run_ma: float
    volts: float
    source: str

    @property
    def run_mw(self) -> float:
        """Milliwatts while it computes."""
        return self.run_ma * self.volts


@dataclass(frozen=True)
class Marker:
    """The pin by which a firmware that was exported for it tells an instrument when the network runs.

    Attributes:
        pin: free on the board, and better none with a LED, whose current would be measured too.
    """

    pin: str


@dataclass(frozen=True)
class Calibration:
    """What a target's timing was learned from, beyond its file.

    Attributes:
        board: "twin", or the board's id; key: hash of the costs; n_networks, n_samples: measurements behind them.
        mean_error, p95_error: of measurements that were held out, in per cent; None where there were too few.
    """

    board: str
    key: str
    n_networks: int
    n_samples: int
    mean_error: float | None = None
    p95_error: float | None = None

    @property
    def summary(self) -> str:
        """All of it in words."""
        text = f"{self.n_samples} measurements of {self.n_networks} networks on {self.board} ({self.key})"
        if self.mean_error is None or self.p95_error is None:
            return f"{text}, too few to tell their error"
        return f"{text}; held-out error {self.mean_error:.1f} % on average, {self.p95_error:.1f} % for 95 in 100"


@dataclass(frozen=True)
class Target:
    """A board: what the linker, the planner, the cycle model and the port need to know.

    Attributes:
        platform: folder in `runtime/platform/` that holds its start-up code and port.
        flash_region, ram_region: where code and data are linked; their sizes are the board's limits.
        timing: cycles per unit of work of each kernel, as `cost.py` names them; fitted on the twin.
        optimize: what its firmware is compiled for: few cycles, or little code. Not of the board: who exports chooses.
        place: the RAM that start-up copies tables of the network into, "none", or "auto" for the largest beside
            `ram_region`. Not of the board either.
        power: what it draws; None where no figure for this chip at this clock is at hand, and then nothing has energy.
        marker: what tells an instrument when the network runs; None where the file names no pin.
        sources: where the figures come from.
        calibration: what `timing` was learned from; None where it is the file's own.
    """

    name: str
    mcu: str
    core: Core
    clock_hz: int
    platform: str
    flash_region: str
    ram_region: str
    regions: tuple[Region, ...]
    oscillator: Oscillator
    serial: Serial
    flash: FlashTiming
    timing: Mapping[str, float] = field(default_factory=dict)
    power: Power | None = None
    marker: Marker | None = None
    sources: tuple[str, ...] = ()
    calibration: Calibration | None = None
    optimize: Optimize = "speed"
    place: str = NOWHERE

    def region(self, name: str) -> Region:
        """The region of that name."""
        for region in self.regions:
            if region.name == name:
                return region
        raise TargetError(f"{self.name}: no region named {name!r}; it has {', '.join(r.name for r in self.regions)}")

    @property
    def placed_region(self) -> Region | None:
        """The RAM that tables are copied into; None if they stay in Flash. Raises TargetError if there is none such."""
        if self.place == NOWHERE:
            return None
        ram = [region for region in self.regions if region.kind == "ram"]
        others = [region for region in ram if region.name != self.ram_region]
        if self.place == ANYWHERE and others:
            return max(others, key=lambda region: region.size)
        found = next((region for region in ram if region.name == self.place), None)
        if found is None:
            asked = "RAM beside " + self.ram_region if self.place == ANYWHERE else f"RAM named {self.place!r}"
            raise TargetError(f"{self.name}: no {asked} to place tables in; it has {', '.join(r.name for r in ram)}")
        return found

    @property
    def flash_bytes(self) -> int:
        """Flash that a firmware may fill."""
        return self.region(self.flash_region).size

    @property
    def sram_bytes(self) -> int:
        """SRAM that a firmware may fill."""
        return self.region(self.ram_region).size


def pin_place(name: str) -> tuple[int, int]:
    """Port and number of a pin: "PB10" and "P1.10" are (1, 10), "GP10" is (0, 10). Raises `TargetError` otherwise."""
    letter = re.fullmatch(r"P([A-K])(\d{1,2})", name)
    number = re.fullmatch(r"P([01])\.(\d{2})", name)
    if letter and int(letter[2]) < 16:
        return ord(letter[1]) - ord("A"), int(letter[2])
    if number and int(number[2]) < 32:
        return int(number[1]), int(number[2])
    plain = re.fullmatch(r"GP(0|[1-9]\d?)", name)
    if plain and int(plain[1]) < 30:
        return 0, int(plain[1])
    raise TargetError(f"{name!r} is no pin; PB10, P1.03 or GP1 would be")


def load_target(path: Path) -> Target:
    """The board described by a TOML file; its name is the file's."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise TargetError(f"{path}: cannot be read: {problem.strerror}") from problem
    except tomllib.TOMLDecodeError as problem:
        raise TargetError(f"{path}: not valid TOML: {problem}") from problem
    target = codec.structure({"name": path.stem, **data}, Target, str(path), TargetError)
    _check(target, path)
    return target


def _check(target: Target, path: Path) -> None:
    """Linked regions exist and are of the right kind; pins are pins; regions overlap nowhere and lie below 4 GiB."""
    for name, kind in ((target.flash_region, "flash"), (target.ram_region, "ram")):
        if target.region(name).kind != kind:
            raise TargetError(f"{path}: region {name!r} is linked as {kind} but is of kind {target.region(name).kind}")
    _check_pins(target, path)
    if target.power is not None and not (0 < target.power.run_ma < 1000 and 1 <= target.power.volts <= 5.5):
        raise TargetError(f"{path}: power: run_ma is in mA, volts in V; {target.power} is no microcontroller's")
    ordered = sorted(target.regions, key=lambda region: region.origin)
    for region in ordered:
        if region.size <= 0 or region.origin < 0 or region.origin + region.size > 2**32:
            raise TargetError(f"{path}: region {region.name!r} leaves the 32-bit address space")
    for left, right in itertools.pairwise(ordered):
        if left.origin + left.size > right.origin:
            raise TargetError(f"{path}: regions {left.name!r} and {right.name!r} overlap")


def _check_pins(target: Target, path: Path) -> None:
    """Pins are pins, and none serves twice."""
    pins = {"serial: tx": target.serial.tx, "serial: rx": target.serial.rx}
    if target.marker is not None:
        pins["marker"] = target.marker.pin
    places: dict[tuple[int, int], str] = {}
    for name, pin in pins.items():
        try:
            place = pin_place(pin)
        except TargetError as problem:
            raise TargetError(f"{path}: {name}: {problem}") from problem
        if place in places:
            raise TargetError(f"{path}: {name}: {pin} is also {places[place]}; a pin can serve once")
        places[place] = name
