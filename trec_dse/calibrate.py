"""Learn a board's cycle costs: measure the designed set on its twin, refit, and say how good the refit is.

Measurements go to the store and stay there; a run that was cut off goes on where it stopped. What is learned becomes
part of the `Target` that a search is started with, so it is written down in the study and cannot change under it.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from trec_dse import calibration, codec
from trec_dse.calibration import TWIN, Chosen, Context, Record, Store, context_of, layer_records, now, samples
from trec_dse.codegen import generate, kernel_sources
from trec_dse.designed import Design, designs
from trec_dse.device import Firmware
from trec_dse.durable import write_text
from trec_dse.errors import DoesNotFitError, InputError, UnsupportedError
from trec_dse.evaluate import placement_of, stack_of
from trec_dse.firmware import build_firmware, write_export
from trec_dse.graph import QuantizedGraph
from trec_dse.latency_fit import Errors, errors_by_label, held_out_errors, predict, refit
from trec_dse.memory import plan_memory
from trec_dse.profiling import NetworkProfile, profile_network
from trec_dse.target import Calibration, Target
from trec_dse.toolchain import Compiler, find_target_compiler

BUILD_ID = "0123456789abcdef"
AUTO = "auto"
N_TO_JUDGE = 8  # networks that are needed before some of them can be held out
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Report:
    """How well the costs of a board predict what was measured; `NAME.errors.json` in the store.

    Attributes:
        errors: on samples that were held out, by operator and, under "", of all.
        before: the same samples as the board's own file predicts them.
        n_foreign: measurements of the board's name that are of another context, and were left out.
    """

    context: Context
    calibration: Calibration
    errors: dict[str, Errors]
    before: dict[str, Errors]
    n_foreign: int


@contextmanager
def linked(
    graph: QuantizedGraph, target: Target, compiler: Compiler | None = None, *, stack_bytes: int | None = None
) -> Iterator[Firmware]:
    """The firmware of a network, in a folder that goes when the block ends; `stack_bytes` if not what is estimated."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "firmware"
        manifest = {"manifest.json": json.dumps({"build_id": BUILD_ID})}
        placed = placement_of(graph, target).tables
        files = {**generate(graph, plan_memory(graph), BUILD_ID, placed), **manifest}
        reserved = stack_of(graph, target) if stack_bytes is None else stack_bytes
        write_export(folder, target, files, kernel_sources(graph), stack_bytes=reserved)
        yield build_firmware(folder, target, compiler)


def measure_design(design: Design, context: Context, target: Target, compiler: Compiler) -> Record | None:
    """Build a network of the set and profile it on the twin; None if it does not fit the board."""
    graph, images = design.make()
    try:
        with linked(graph, target, compiler) as firmware:
            return profile_record(profile_network(graph, firmware.elf, target, images), context, design.name)
    except (DoesNotFitError, UnsupportedError):
        return None


def profile_record(found: NetworkProfile, context: Context, network: str) -> Record:
    """A profile as a measurement to keep."""
    cycles = {layer.name: float(layer.spent.cycles) for layer in found.layers}
    return Record(context, network, now(), found.n_images, float(found.cycles), layer_records(found.graph, cycles))


def measure_set(target: Target, store: Store, tell: Tell, wanted: Iterable[Design] | None = None) -> None:
    """Measure what of the designed set has no measurement of today's context yet. `tell`: done, of how many, what."""
    compiler = find_target_compiler()
    context = context_of(target, compiler)
    known = {record.network for record in calibration.choose(store.read(target.name), context).records}
    every = list(designs() if wanted is None else wanted)
    for number, design in enumerate(every, start=1):
        if design.name not in known:
            record = measure_design(design, context, target, compiler)
            if record is not None:
                store.append(record)
        tell(number, len(every), design.name)


def judge(target: Target, store: Store, board: str = AUTO) -> Report:
    """Refit, and predict each measurement from costs that were fitted without its network.

    Raises `InputError` where too few were measured to hold any out.
    """
    context, chosen = measurements(target, store, board)
    n = len(chosen.records)
    if n < N_TO_JUDGE:
        raise InputError(
            f"{n} networks were measured on {target.name}; at least {N_TO_JUDGE} are needed to judge a fit"
        )
    found = samples(chosen.records)
    errors = held_out_errors(target.timing, found)
    before = errors_by_label(predict(target.timing, found), found)
    return Report(
        context, _note(context, chosen, refit(target.timing, found), errors[""]), errors, before, chosen.n_foreign
    )


def write_report(report: Report, store: Store) -> Path:
    """Keep the distribution of the errors beside the measurements; returns where."""
    path = store.folder / f"{report.context.target}.errors.json"
    write_text(path, codec.to_json(report))
    return path


def measurements(target: Target, store: Store, board: str = AUTO) -> tuple[Context, Chosen]:
    """What was measured on a board with today's compiler, memory and kernels.

    `board`: its id, "twin", or "auto" for the board that was measured last, or else the twin.
    """
    records, compiler = store.read(target.name), find_target_compiler()
    ids = [record.context.board for record in reversed(records) if record.context.board != TWIN]
    for name in [*dict.fromkeys(ids), TWIN] if board == AUTO else [board]:
        context = context_of(target, compiler, name)
        chosen = calibration.choose(records, context)
        if chosen.records:
            break
    return context, chosen


def calibrated(target: Target, store: Store | None, board: str = AUTO) -> Target:
    """`target` with costs learned from the measurements of a board, and a note of what they were.

    Raises `InputError` if nothing was measured that belongs to today's board file, compiler and kernels.
    """
    if store is None:
        raise InputError("TREC_DSE_CALIBRATION is off, so no measurement is kept that one could learn from")
    context, chosen = measurements(target, store, board)
    if not chosen.records:
        others = f"; {chosen.n_foreign} of another compiler, clock or release are left out" if chosen.n_foreign else ""
        raise InputError(
            f"{store.path(target.name)}: no measurement to learn from{others}; "
            f"run trec-dse calibrate --target {target.name}, or validate an export on the board"
        )
    found = samples(chosen.records)
    errors = held_out_errors(target.timing, found)[""] if len(chosen.records) >= N_TO_JUDGE else None
    costs = refit(target.timing, found)
    return replace(target, timing=costs, calibration=_note(context, chosen, costs, errors))


def _note(context: Context, chosen: Chosen, costs: dict[str, float], errors: Errors | None) -> Calibration:
    key = hashlib.sha256(json.dumps(sorted(costs.items())).encode()).hexdigest()[:8]
    n_samples = len(samples(chosen.records))
    mean, p95 = (None, None) if errors is None else (round(errors.mean, 3), round(errors.p95, 3))
    return Calibration(context.board, key, len(chosen.records), n_samples, mean, p95)
