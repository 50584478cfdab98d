"""Errors of the latency model on layers and whole networks that it was not fitted on, one board per core.

Candidates of shipped search spaces, none of which is in the designed set that the boards' tables are fitted on, are
built, run and profiled on the twin. A layer's estimate takes the clusters that there were on these images; a whole
network's is that of a search, which knows the clusters of other images only. What was measured stays in the file, and
is measured anew only where the table, the compiler, a kernel or the twin has changed; --table measures nothing.
"""

import argparse
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from common import Figure, linked, random_candidates, show

from trec_dse import codec, datasets, designed
from trec_dse.calibration import context_of, layer_records
from trec_dse.candidate import Candidate
from trec_dse.cost import cycles_of
from trec_dse.errors import DoesNotFitError, InputError
from trec_dse.evaluate import cost_of, int8_images, untrained_graph
from trec_dse.graph import Int8Array, QuantizedGraph
from trec_dse.latency_fit import Errors, errors_of
from trec_dse.ops._work import wide_share, work_of
from trec_dse.profiling import profile_network
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import find_target_compiler

BOARDS = ("stm32f469i-disco", "stm32f746g-disco", "nucleo-f207zg", "nucleo-g0b1re")
SPACES = {
    "cifar10_cifarnet": 14,
    "mnist_lenet5": 8,
    "digits_tiny": 6,
    "cifar10_resnet8": 5,
    "cifar10_squeezenet": 2,
}
SEED = 101
N_IMAGES, MOST_MACS = 2, 15_000_000
DATA = Path(__file__).parent / "data" / "latency_model.jsonl"
MEAN_GOAL, WITHIN_GOAL, RANK_GOAL = 5.0, 0.95, 0.99


@dataclasses.dataclass(frozen=True)
class Layer:
    """Estimated and measured cycles of one layer."""

    op: str
    estimated: float
    measured: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One candidate on one board. `state`: hash of all that the figures follow from; `whole`: of the network."""

    board: str
    candidate: str
    state: str
    layers: tuple[Layer, ...]
    whole: Layer


def held_out() -> Iterator[tuple[str, Candidate, QuantizedGraph]]:
    """Candidates that are not in the designed set, and not so large that a slow core takes minutes for them."""
    for space, n in SPACES.items():
        seen = {c.key for c in random_candidates(space, designed.SPACES.get(space, 0), seed=1)}
        n_found = 0
        for candidate in random_candidates(space, 4 * n, SEED):
            if candidate.key in seen or n_found == n:
                continue
            graph = untrained_graph(candidate, datasets.placeholder(candidate.dataset))
            shapes = graph.shapes
            if sum(node.op.macs(*(shapes[source] for source in node.inputs)) for node in graph.nodes) <= MOST_MACS:
                n_found += 1
                yield f"{space} {candidate.key[:8]}", candidate, graph


def measure(name: str, graph: QuantizedGraph, images: Int8Array, target: Target, state: str) -> Row:
    """Estimate it, build it, profile it. Raises `DoesNotFitError` where the board is too small."""
    with linked(graph, target) as firmware:
        found = profile_network(graph, firmware.elf, target, list(images))
    shapes, layers = found.graph.shapes, []
    for node, measured in zip(found.graph.nodes, found.layers, strict=True):
        inputs = [shapes[source] for source in node.inputs]
        work = work_of(node.op, inputs, wide_share(graph.weights[node.name]), worst=False)
        estimated = round(cycles_of(work, target.timing, target.name), 1)
        layers.append(Layer(node.op.kind, estimated, measured.spent.cycles))
    whole = Layer("network", cost_of(graph, target).cycles, found.cycles)
    return Row(target.name, name, state, tuple(layers), whole)


def state_of(graph: QuantizedGraph, target: Target) -> str:
    """Hash of what the figures follow from: the estimate, the context, the layers and the text of their kernels."""
    context = context_of(target, find_target_compiler())
    text = json.dumps(codec.unstructure((context, layer_records(graph, {}), cost_of(graph, target).layers)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> dict[tuple[str, str], Row]:
    """What was measured, by board and candidate; of several the last."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [codec.from_json(line, Row, str(path), InputError) for line in lines]
    return {(row.board, row.candidate): row for row in rows}


def measure_all(path: Path, boards: Sequence[str]) -> None:
    """Measure what is missing or of another state; every row is written as soon as it is known."""
    known = read(path)
    targets = [load_target(data_folder("targets") / f"{board}.toml") for board in boards]
    names = set()
    for name, candidate, graph in held_out():
        names.add(name)
        dataset = datasets.placeholder(candidate.dataset)  # of which the graph has counted clusters on training images
        images = int8_images(graph, dataset, dataset.test)[:N_IMAGES]
        for target in targets:
            board = target.name
            state, old = state_of(graph, target), known.get((board, name))
            if old is not None and old.state == state:
                continue
            try:
                row = measure(name, graph, images, target, state)
            except DoesNotFitError as problem:
                print(f"{name} does not fit {board}: {problem}", file=sys.stderr)
                continue
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(codec.unstructure(row), separators=(",", ":")) + "\n")
            error = 100 * (row.whole.estimated / row.whole.measured - 1)
            print(f"{board} {name}: {row.whole.measured:,} cycles, {error:+.1f} %", file=sys.stderr, flush=True)
    found = [row for row in read(path).values() if row.candidate in names]
    newest = sorted(found, key=lambda row: (row.board, row.candidate))
    path.write_text("".join(json.dumps(codec.unstructure(row), separators=(",", ":")) + "\n" for row in newest))


def errors(layers: Sequence[Layer]) -> Errors:
    """How far the estimates are from the measurements."""
    return errors_of(np.array([layer.estimated for layer in layers]), np.array([layer.measured for layer in layers]))


def figures(name: str, layers: Sequence[Layer], least: int) -> list[Figure]:
    """What the goals are about."""
    e = errors(layers)
    return [
        Figure(f"{name}", e.n, "", least, e.n >= least),
        Figure(f"{name}: mean absolute error", e.mean, "%", MEAN_GOAL, e.mean <= MEAN_GOAL),
        Figure(f"{name}: within 10 %", e.within_10, "", WITHIN_GOAL, e.within_10 >= WITHIN_GOAL),
        Figure(f"{name}: rank correlation", e.rank, "", RANK_GOAL, e.rank >= RANK_GOAL),
        Figure(f"{name}: largest error", e.largest, "%"),
    ]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", help="only this board; may be given several times")
    parser.add_argument("--table", action="store_true", help="only read what was measured")
    parser.add_argument("--data", type=Path, default=DATA, help="default %(default)s")
    parser.add_argument("--ops", action="store_true", help="by operator as well")
    args = parser.parse_args()
    torch.set_num_threads(1)
    boards = args.target or BOARDS
    if not args.table:
        measure_all(args.data, boards)
    rows, found = read(args.data), []
    for board in boards:
        of_board = [row for row in rows.values() if row.board == board]
        layers = [layer for row in of_board for layer in row.layers]
        core = load_target(data_folder("targets") / f"{board}.toml").core
        found += figures(f"{core} ({board}): layers", layers, 200)
        found += figures(f"{core} ({board}): networks", [row.whole for row in of_board], 30)
        for op in sorted({layer.op for layer in layers}) if args.ops else ():
            e = errors([layer for layer in layers if layer.op == op])
            found.append(Figure(f"{core}: {op} ({e.n}): mean absolute error", e.mean, "%"))
    show(found)


if __name__ == "__main__":
    main()
