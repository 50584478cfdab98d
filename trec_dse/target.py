"""Boards as strict data: one TOML file each, an unknown key is an error."""

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trec_dse import codec
from trec_dse.errors import TargetError

Core = Literal["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7"]


@dataclass(frozen=True)
class Region:
    """A contiguous piece of the address space; `size` in bytes."""

    name: str
    kind: Literal["flash", "ram"]
    origin: int
    size: int


@dataclass(frozen=True)
class Serial:
    """How the host talks to the board.

    Attributes:
        usart: the peripheral's name; base: its address; clock_hz: the clock that its baud divider sees.
        vid_pid: USB ids of the probe's virtual port, as "0483:374b".
    """

    usart: str
    base: int
    clock_hz: int
    baud: int = 921_600
    vid_pid: tuple[str, ...] = ()


@dataclass(frozen=True)
class FlashTiming:
    """Flash wait states at `clock_hz`, and the accelerator in front of it."""

    wait_states: int
    accelerator: Literal["none", "art", "cache"]


@dataclass(frozen=True)
class Target:
    """A board: what the linker, the planner, the cycle model and the port need to know.

    Attributes:
        platform: folder in `runtime/platform/` that holds its start-up code and port.
        flash_region, ram_region: where code and data are linked; their sizes are the board's limits.
        timing: cycles per unit of work of each kernel, as `cost.py` names them; fitted on the twin.
        sources: where the figures come from.
    """

    name: str
    mcu: str
    core: Core
    clock_hz: int
    platform: str
    flash_region: str
    ram_region: str
    regions: tuple[Region, ...]
    serial: Serial
    flash: FlashTiming
    timing: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def region(self, name: str) -> Region:
        """The region of that name."""
        for region in self.regions:
            if region.name == name:
                return region
        raise TargetError(f"{self.name}: no region named {name!r}; it has {', '.join(r.name for r in self.regions)}")

    @property
    def flash_bytes(self) -> int:
        """Flash that a firmware may fill."""
        return self.region(self.flash_region).size

    @property
    def sram_bytes(self) -> int:
        """SRAM that a firmware may fill."""
        return self.region(self.ram_region).size


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
    """Linked regions exist and are of the right kind; no two regions overlap; all lie below 4 GiB."""
    for name, kind in ((target.flash_region, "flash"), (target.ram_region, "ram")):
        if target.region(name).kind != kind:
            raise TargetError(f"{path}: region {name!r} is linked as {kind} but is of kind {target.region(name).kind}")
    ordered = sorted(target.regions, key=lambda region: region.origin)
    for region in ordered:
        if region.size <= 0 or region.origin < 0 or region.origin + region.size > 2**32:
            raise TargetError(f"{path}: region {region.name!r} leaves the 32-bit address space")
    for left, right in itertools.pairwise(ordered):
        if left.origin + left.size > right.origin:
            raise TargetError(f"{path}: regions {left.name!r} and {right.name!r} overlap")
