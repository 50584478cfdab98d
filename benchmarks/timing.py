"""Fit the cycle model of the boards on their twins: prints (or with --write stores) the [timing] table of every target.

The networks are those of `trec-dse calibrate`, what is measured already is taken from its store (TREC_DSE_CALIBRATION),
and what is measured here is added to it. Cycles are linear in the work that the operators report, costs are not
negative, and those of a table are far from believed. With --op only the costs that these operators alone have are
fitted, on layers of theirs, and all others stay as the tables have them; with --work only these costs, on the networks
of a single layer that do this work.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import Figure, show
from trec_kernels import TRAINED, Trained, layer_at

from trec_dse import calibration, plugins
from trec_dse.calibrate import measure_set
from trec_dse.calibration import Store, context_of, samples
from trec_dse.designed import Design, asked_of, designs, random_layer, smooth_image
from trec_dse.graph import Int8Array, QuantizedGraph
from trec_dse.latency_fit import Sample, errors_of, fit_costs, predict, refit
from trec_dse.ops._work import work_of
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.resources import calibration_folder, data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import find_target_compiler

HEADING = "# Cycles per unit of work of the kernels as zig compiles them: benchmarks/timing.py, on the twin."
SPREAD, NEW = (
    3.0,
    10.0,
)  # of costs around a table, as a multiple of them; what a cost without one begins with, in cycles
HELD_OUT = 4  # every fourth network


def long_vectors() -> Iterator[Design]:
    """Layers with vectors as long as trained networks have them, which are rare among the others."""

    def make(trained: Trained) -> tuple[QuantizedGraph, list[Int8Array]]:
        graph = layer_at(trained)[1]
        return graph, asked_of(graph, [smooth_image(graph.input_shape)])

    for i, trained in enumerate(TRAINED):
        if trained.scope == "per_slice":
            yield Design(f"trained {i}", partial(make, trained))


def chosen(ops: Sequence[str] | None) -> list[Design]:
    """The designed set; of some operators alone, their own networks of a single layer."""
    every = [*designs(), *long_vectors()]
    if not ops:
        return every
    single = [design for design in every if design.name.removeprefix("clustered ").split()[0] in ops]
    return single + (list(long_vectors()) if TrecConv2d.kind in ops else [])


def doing(every: Sequence[Design], kinds: Sequence[str]) -> list[Design]:
    """The networks of a single layer that do work of these kinds."""
    found = []
    for design in every:
        graph = design.make()[0]
        shapes = graph.shapes
        works = [work_of(node.op, [shapes[n] for n in node.inputs], 1.0, worst=False) for node in graph.nodes]
        if len(works) == 1 and any(item.kind in kinds and item.amount for item in works[0]):
            found.append(design)
    return found


def measure(set_of_designs: Sequence[Design], target: Target, store: Store) -> list[Sample]:
    """A sample for every layer of the networks that fit the board."""
    measure_set(target, store, lambda done, of, what: None, set_of_designs)
    names = {design.name for design in set_of_designs}
    records = calibration.choose(store.read(target.name), context_of(target, find_target_compiler())).records
    return samples([record for record in records if record.network in names])


def fit(found: Sequence[Sample], table: Mapping[str, float], fixed: set[str] | None) -> dict[str, float]:
    """The costs in `table` and of all work in the samples, those of the `fixed` kinds as the table has them.

    Without `fixed`, the table is another board's, and believed as far as `latency_fit.refit` believes a board's file.
    """
    if fixed is None:
        return {kind: round(cost, 4) for kind, cost in sorted(refit(table, found).items())}
    kinds = {item.kind for sample in found for item in sample.work} | set(table)
    start = {kind: table.get(kind, NEW) for kind in kinds}
    spread = {kind: 1e-6 if kind in fixed else SPREAD * cost + 1 for kind, cost in start.items()}
    return {kind: round(cost, 4) for kind, cost in sorted(fit_costs(found, start, spread).items())}


def store(path: Path, costs: dict[str, float], *, keep_heading: bool) -> None:
    """Replace the [timing] table of a target file, comments elsewhere kept."""
    before = path.read_text()
    text = re.sub(r"\n# Cycles per unit of work.*?(?=\n\[(?!timing)|\Z)", "", before, flags=re.DOTALL)
    heading = re.search(r"^# Cycles per unit of work.*$", before, flags=re.MULTILINE) if keep_heading else None
    lines = ["", HEADING if heading is None else heading[0], "[timing]"]
    lines += [f"{kind} = {cost}" for kind, cost in costs.items()]
    path.write_text(text.rstrip() + "\n" + "\n".join(lines) + "\n")


def shared_work(ops: Sequence[str]) -> set[str]:
    """Kinds of work that other operators do, whether or not these ones do it too."""
    return {item for kind in plugins.names("ops") if kind not in ops for item in kinds_of_work(kind)}


def kinds_of_work(kind: str) -> set[str]:
    """All work that random layers of an operator do."""
    found = set()
    for graph in (random_layer(kind, 1, i) for i in range(12)):
        shapes = graph.shapes
        for node in graph.nodes:
            found |= {item.kind for item in work_of(node.op, [shapes[n] for n in node.inputs], 1.0, worst=False)}
    return found


def main() -> None:
    """Fit all boards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the tables in targets/*.toml")
    parser.add_argument("--target", action="append", help="only this board; may be given several times")
    parser.add_argument("--op", action="append", help="only what this operator costs; may be given several times")
    parser.add_argument("--work", action="append", metavar="KIND", help="only what this work costs; several times")
    parser.add_argument("--like", metavar="BOARD", help="begin with this board's table instead of the board's own")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="measure one in N networks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = calibration_folder()
    if folder is None:
        parser.error("TREC_DSE_CALIBRATION is off; measurements have to be kept somewhere")
    set_of_designs, figures = chosen(args.op)[:: args.every], []
    fixed = None if args.like else shared_work(args.op or plugins.names("ops"))
    if args.work:
        set_of_designs = doing(set_of_designs, args.work)
    like = None if args.like is None else load_target(data_folder("targets") / f"{args.like}.toml")
    for path in sorted(data_folder("targets").glob("*.toml")):
        target = load_target(path)
        if args.target is not None and target.name not in args.target:
            continue
        table = target.timing if like is None else like.timing
        if args.work:
            fixed = set(table) - set(args.work)
        found = measure(set_of_designs, target, Store(folder))
        held = set(sorted({sample.group for sample in found})[::HELD_OUT])
        unseen = [sample for sample in found if sample.group in held]
        costs = fit([sample for sample in found if sample.group not in held], table, fixed)
        errors = errors_of(predict(costs, unseen), np.array([sample.cycles for sample in unseen]))
        figures += [
            Figure(f"{target.name}: layers measured", len(found), "layers"),
            Figure(f"{target.name}: held-out layers, mean error", errors.mean, "%"),
            Figure(f"{target.name}: held-out layers, 95th percentile", errors.p95, "%"),
        ]
        if args.write:
            store(path, fit(found, table, fixed), keep_heading=bool(args.op or args.work))
    show(figures)


if __name__ == "__main__":
    main()
