"""A board file of PlatformIO, read into a target: its facts over those of the nearest board that we know.

Such a file (a JSON per board, in the `boards` folder of PlatformIO's platforms) names the chip, its clock and its
memory sizes. It says nothing of Flash wait states, the oscillator or the pins of the serial port: they are the nearest
board's, and the written file says so line by line.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import get_args

from trec_dse.errors import TargetError
from trec_dse.target import Core, Region, Serial, Target

_LEAST_COMMON = len("stm32f4")  # less of a chip's name than its family, or all of it, is no kinship


@dataclass(frozen=True)
class BoardFile:
    """What a board file says.

    Attributes:
        cpu: the core, "" where the file leaves it out; flash_bytes, ram_bytes: what a program may fill.
        vid_pid: USB ids as "0483:374b"; empty where the file has none.
    """

    path: Path
    name: str
    vendor: str
    mcu: str
    cpu: str
    clock_hz: int
    flash_bytes: int
    ram_bytes: int
    vid_pid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """A target, the name of the board that lent it what the file lacks, and remarks for the reader."""

    target: Target
    nearest: str
    notes: tuple[str, ...]


def read_board(path: Path) -> BoardFile:
    """The board file at `path`; raises `TargetError` if it is none, naming what is missing or odd."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise TargetError(f"{path}: cannot be read: {problem.strerror}") from problem
    except ValueError as problem:
        raise TargetError(f"{path}: not valid JSON: {problem}") from problem
    if not isinstance(data, dict):
        raise TargetError(f"{path}: a board file is one JSON object with `build` and `upload`")
    clock = re.fullmatch(r"(\d+)[uUlL]*", _text(data, "build.f_cpu", path))
    if clock is None:
        raise TargetError(f"{path}: build.f_cpu is {_text(data, 'build.f_cpu', path)!r}; 180000000L would be a clock")
    cpu = _at(data, "build.cpu")
    return BoardFile(
        path=path,
        name=_text(data, "name", path),
        vendor=_text(data, "vendor", path),
        mcu=_text(data, "build.mcu", path).lower(),
        cpu=cpu if isinstance(cpu, str) else "",
        clock_hz=int(clock[1]),
        flash_bytes=_size(data, "upload.maximum_size", path),
        ram_bytes=_size(data, "upload.maximum_ram_size", path),
        vid_pid=_vid_pid(_at(data, "build.hwids")),
    )


def import_board(board: BoardFile, known: Sequence[Target]) -> Imported:
    """The target of a board file, over the board of `known` whose chip's name agrees longest.

    Raises `TargetError` for a core that no kernel is written for, a family without start-up code, and a clock above
    the one whose Flash wait states are known.
    """
    if board.cpu and board.cpu not in get_args(Core):
        raise TargetError(
            f"{board.path}: build.cpu is {board.cpu!r}; there are kernels for {', '.join(get_args(Core))}"
        )
    near = max(known, key=lambda target: (_common(board.mcu, target), target.name))
    if _common(board.mcu, near) < min(_LEAST_COMMON, len(near.mcu)):
        families = ", ".join(sorted({target.platform for target in known}))
        raise TargetError(f"{board.path}: no start-up code for build.mcu {board.mcu!r}; there is some for {families}")
    if board.cpu not in ("", near.core):
        raise TargetError(f"{board.path}: build.cpu is {board.cpu!r}, but the {near.platform} is a {near.core}")
    if board.clock_hz > near.clock_hz or board.clock_hz % 1_000_000:
        raise TargetError(
            f"{board.path}: build.f_cpu is {board.clock_hz} Hz; the Flash wait states of a {near.platform} are known "
            f"for whole MHz up to {near.clock_hz // 1_000_000}, those of {near.name}"
        )
    return _merged(board, near)


def to_toml(target: Target, remarks: Sequence[str]) -> str:
    """The text of a board file of ours that `load_target` reads back; `remarks` stand on top as comments."""
    lines = [f"# {remark}" for remark in remarks]
    plain = [field.name for field in fields(target) if not isinstance(getattr(target, field.name), Mapping)]
    tables = [name for name in plain if is_dataclass(getattr(target, name))]
    for name in plain:
        value = getattr(target, name)
        if name not in ("name", "regions", *tables) and value is not None:
            lines.append(f"{name} = {_value(value)}")
    for region in target.regions:
        lines += ["", "[[regions]]", *_entries(region)]
    for name in tables:
        lines += ["", f"[{name}]", *_entries(getattr(target, name))]
    lines += ["", "[timing]", *(f"{key} = {value}" for key, value in target.timing.items())]
    return "\n".join(lines) + "\n"


def _merged(board: BoardFile, near: Target) -> Imported:
    is_same_chip = _common(board.mcu, near) >= len(near.mcu) - 2  # but for package and temperature range
    same_clock = board.clock_hz == near.clock_hz
    ram_bytes = min(board.ram_bytes, near.sram_bytes) if is_same_chip else board.ram_bytes
    sizes = {near.flash_region: board.flash_bytes, near.ram_region: ram_bytes}
    regions = tuple(
        replace(region, size=sizes.get(region.name, region.size))
        for region in near.regions
        if is_same_chip or region.name in sizes
    )
    serial = replace(
        near.serial,
        clock_hz=near.serial.clock_hz * board.clock_hz // near.clock_hz,
        vid_pid=board.vid_pid or near.serial.vid_pid,
    )
    file = board.path.name
    notes = [
        f"{board.name} of {board.vendor}, from PlatformIO's {file} and, where that says nothing, from {near.name}.",
        f"from {file}: mcu, clock_hz, size of {near.flash_region} and {near.ram_region}"
        + (", vid_pid." if board.vid_pid else "."),
        f"from {near.name}: core, platform, origins, oscillator, serial port and pins, Flash and its timing.",
        f"compare with the board's manual: [oscillator], and [serial] {serial.usart}, {serial.tx}, {serial.rx}.",
    ]
    if ram_bytes != board.ram_bytes:
        notes.append(f"{near.ram_region} is {ram_bytes} bytes: {file} says {board.ram_bytes}, not all usable as it is.")
    if near.marker is not None:
        notes.append("no [marker]: which pin of the board is free, its file does not say.")
    if near.power is not None and not (is_same_chip and same_clock):
        notes.append(f"no [power]: the figure of {near.name} is for another chip or clock.")
    target = replace(
        near,
        name=board.path.stem,
        mcu=board.mcu.upper(),
        clock_hz=board.clock_hz,
        regions=regions,
        serial=serial,
        power=near.power if is_same_chip and same_clock else None,
        marker=None,
        sources=(
            f"PlatformIO, {file}: chip, clock, memory sizes",
            f"targets/{near.name}.toml: all else",
            *near.sources,
        ),
    )
    return Imported(target, near.name, tuple(notes))


def _common(mcu: str, target: Target) -> int:
    """How many characters the two chips' names have in common from the left."""
    pairs = zip(mcu, target.mcu.lower(), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _entries(item: Region | Serial) -> list[str]:
    return [f"{field.name} = {_value(getattr(item, field.name))}" for field in fields(item)]


def _value(value: object) -> str:
    """A TOML value; JSON's strings and arrays of strings are TOML's as well."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _at(data: Mapping[str, object], key: str) -> object:
    found: object = data
    for name in key.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(data: Mapping[str, object], key: str, path: Path) -> str:
    value = _at(data, key)
    if not isinstance(value, str) or not value:
        raise TargetError(f"{path}: {key} is {value!r}; a board file of PlatformIO has a text there")
    return value


def _size(data: Mapping[str, object], key: str, path: Path) -> int:
    value = _at(data, key)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0 or value % 1024:
        raise TargetError(f"{path}: {key} is {value!r}; it would be whole KiB, in bytes")
    return value


def _vid_pid(hwids: object) -> tuple[str, ...]:
    """[["0x2341", "0x005A"], ...] as ("2341:005a", ...)."""
    pairs = hwids if isinstance(hwids, list) else []
    return tuple(":".join(str(half).lower().removeprefix("0x") for half in pair) for pair in pairs if len(pair) == 2)
