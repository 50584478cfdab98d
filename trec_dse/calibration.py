"""Measurements of boards, kept beyond the study that made them: one file per board, one JSON line per measurement.

Each line says in what context it was made. What was measured with another compiler, clock, memory or model of the twin,
or of kernels whose C text has changed since, stays in the file and is not used: `samples` takes only what belongs
together.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from trec_dse import codec
from trec_dse.errors import StudyError
from trec_dse.graph import Op, QuantizedGraph
from trec_dse.latency_fit import Sample
from trec_dse.ops import op_class
from trec_dse.ops._work import wide_share, work_of
from trec_dse.resources import calibration_folder, package_folder
from trec_dse.target import NOWHERE, Target
from trec_dse.toolchain import Compiler, target_flags

TWIN = "twin"
WHOLE = "network"  # label of a sample that is no single layer
_RUNTIME = ("arch", "common", "include")


@dataclass(frozen=True)
class Context:
    """What must agree for measurements to be of one kind.

    Attributes:
        board: "twin", or the serial number of the board's probe, or its port where it has none.
        hardware: hash of chip, clock, memory regions and Flash timing, as the board's file gives them.
        compiler: its name and version; flags: what the kernels were compiled with.
        model: hash of the twin's text; "" on a board.
    """

    target: str
    board: str
    clock_hz: int
    hardware: str
    compiler: str
    flags: str
    model: str


@dataclass(frozen=True)
class LayerRecord:
    """One node of a network as it was measured.

    Attributes:
        settings: the operator's fields, N_c as it was on the images among them; inputs: shapes.
        wide_share: share of the output channels that are rescaled by the longer way (ops/_work.py).
        code: hash of the C text that the kernel is compiled from.
        cycles: mean over the images; None where only the whole network was timed.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    inputs: tuple[tuple[int, ...], ...]
    wide_share: float
    code: str
    cycles: float | None = None


@dataclass(frozen=True)
class Record:
    """One measurement. `cycles`: mean per image; `network`: its key; `time`: when, in ISO 8601 and UTC."""

    context: Context
    network: str
    time: str
    n_images: int
    cycles: float
    layers: tuple[LayerRecord, ...]

    @property
    def is_by_layer(self) -> bool:
        """Whether every layer was timed."""
        return all(layer.cycles is not None for layer in self.layers)


def context_of(target: Target, compiler: Compiler, board: str = TWIN) -> Context:
    """The context of a measurement that is made now."""
    parts = [target.mcu, target.core, target.clock_hz, target.platform, target.flash_region, target.ram_region]
    parts += [] if target.place == NOWHERE else [target.place]
    memory = codec.unstructure((target.regions, target.oscillator, target.flash))
    return Context(
        target=target.name,
        board=board,
        clock_hz=target.clock_hz,
        hardware=_hash(json.dumps([*parts, memory]).encode()),
        compiler=f"{compiler.name} {compiler.version}",
        flags=" ".join(target_flags(compiler, target.core, target.optimize)),
        model=_twin_model() if board == TWIN else "",
    )


def layer_records(graph: QuantizedGraph, cycles: Mapping[str, float]) -> tuple[LayerRecord, ...]:
    """The nodes of a network, with N_c as the graph has it; `cycles` by node, where they are known."""
    shapes, records = graph.shapes, []
    for node in graph.nodes:
        inputs = tuple(shapes[name] for name in node.inputs)
        share = wide_share(graph.weights[node.name])
        settings, code = codec.unstructure(node.op), code_of(node.op.kind)
        records.append(LayerRecord(node.name, node.op.kind, settings, inputs, share, code, cycles.get(node.name)))
    return tuple(records)


def now() -> str:
    """The time of a measurement."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def code_of(kind: str) -> str:
    """Hash of all C text that an operator's kernel is compiled from; of what cores have in common, all of it."""
    folders = [package_folder("ops") / kind, *(package_folder("runtime") / name for name in _RUNTIME)]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in (".c", ".h")]
    return _hash(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files))


@cache
def _twin_model() -> str:
    """Hash of the text that says how the twin counts cycles."""
    files = [package_folder("twin") / name for name in ("decode.py", "hooks.c", "timing.py", "waits.py")]
    files += sorted(package_folder("twin").glob("cortex_*.py"))
    return _hash(b"\0".join(path.name.encode() + b"\0" + path.read_bytes() for path in files))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True)
class Store:
    """The measurements in a folder. Several processes may append and read at the same time."""

    folder: Path

    @classmethod
    def default(cls) -> "Store | None":
        """The user's store; None where nothing is to be kept."""
        folder = calibration_folder()
        return None if folder is None else cls(folder)

    def path(self, target: str) -> Path:
        """The file of a board."""
        return self.folder / f"{target}.jsonl"

    def append(self, record: Record) -> None:
        """Add one line, whole or not at all for whoever reads. Raises `StudyError` if the folder cannot be written."""
        path = self.path(record.context.target)
        line = json.dumps(codec.unstructure(record), separators=(",", ":")).encode() + b"\n"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                # a line that a crash tore stays what it is; the new one begins on a line of its own
                is_torn = size > 0 and file.read(1) != b"\n"
                file.write(b"\n" * is_torn + line)
                os.fsync(file.fileno())
        except OSError as problem:
            raise StudyError(
                f"{path}: the measurement cannot be kept: {problem.strerror}; make room, or set TREC_DSE_CALIBRATION "
                "to another folder, or to off"
            ) from problem

    def read(self, target: str) -> list[Record]:
        """All measurements of a board, oldest first; lines that are torn or of another version are left out."""
        path = self.path(target)
        if not path.is_file():
            return []
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as problem:
            raise StudyError(f"{path}: cannot be read: {problem.strerror}") from problem
        return [record for line in lines if (record := _parsed(line)) is not None]


def _parsed(line: str) -> Record | None:
    try:
        return codec.from_json(line, Record, "measurement", StudyError)
    except StudyError:
        return None


@dataclass(frozen=True)
class Chosen:
    """Measurements that belong together. `n_foreign`: others of this board's name that do not, and are not used."""

    records: tuple[Record, ...]
    n_foreign: int


def choose(records: Sequence[Record], context: Context) -> Chosen:
    """Those of exactly this context whose kernels are today's.

    Of several of one network one counts: the latest of those that timed its layers, or else the latest.
    """
    used = [record for record in records if record.context == context and _is_of_today(record)]
    latest = {record.network: record for record in sorted(used, key=lambda record: record.is_by_layer)}
    return Chosen(tuple(latest.values()), len(records) - len(used))


def _is_of_today(record: Record) -> bool:
    try:
        return all(layer.code == code_of(layer.kind) for layer in record.layers) and bool(samples([record]))
    except (StudyError, OSError):  # of an operator that has gone, or has other fields now
        return False


def samples(records: Sequence[Record]) -> list[Sample]:
    """A sample per layer where layers were timed, else one of the whole network."""
    found: list[Sample] = []
    for record in records:
        worked = [(layer, work_of(_op(layer), layer.inputs, layer.wide_share, worst=False)) for layer in record.layers]
        timed = [(layer, work, layer.cycles) for layer, work in worked if layer.cycles is not None]
        if record.is_by_layer:
            found += [Sample(work, cycles, record.network, layer.kind) for layer, work, cycles in timed]
        else:
            found.append(
                Sample(tuple(item for _, work in worked for item in work), record.cycles, record.network, WHOLE)
            )
    return found


def _op(layer: LayerRecord) -> Op:
    return codec.structure(layer.settings, op_class(layer.kind), f"layer {layer.name!r}", StudyError)
