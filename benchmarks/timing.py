"""Fit the cycle model of the boards on their twins: prints (or with --write stores) the [timing] table of every target.

The networks are those of `trec-dse calibrate`, and so is the profile that tells each layer's cycles. Cycles are linear
in the work that the operators report, with non-negative costs; the fit minimises the relative error. With --op only the
costs that these operators alone have are fitted, on layers of theirs, and all others stay as the tables have them.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from common import Figure, show
from scipy.optimize import nnls
from trec_kernels import TRAINED, Trained, layer_at

from trec_dse import plugins
from trec_dse.calibrate import measure_design
from trec_dse.calibration import context_of, samples
from trec_dse.designed import Design, asked_of, designs, random_layer, smooth_image
from trec_dse.graph import Int8Array, QuantizedGraph
from trec_dse.latency_fit import Sample
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import find_target_compiler

HEADING = "# Cycles per unit of work of the kernels as zig compiles them: benchmarks/timing.py, on the twin."


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


def measure(designs_: Sequence[Design], target: Target) -> list[Sample]:
    """A sample for every layer of the networks that fit the board."""
    compiler = find_target_compiler()
    context = context_of(target, compiler)
    records = (measure_design(design, context, target, compiler) for design in designs_)
    return samples([record for record in records if record is not None])


@dataclasses.dataclass(frozen=True)
class Fit:
    """Costs by kind of work, and the relative errors on layers that were not used for fitting."""

    costs: dict[str, float]
    held_out: npt.NDArray[np.float64]


def fit(found: Sequence[Sample], known: Mapping[str, float]) -> Fit:
    """Non-negative least squares of the relative error; every fourth network is held out. `known` costs stay."""
    kinds = sorted({item.kind for sample in found for item in sample.work} - set(known))
    matrix, explained = np.zeros((len(found), len(kinds))), np.zeros(len(found))
    for i, sample in enumerate(found):
        for item in sample.work:
            if item.kind in known:
                explained[i] += known[item.kind] * item.amount
            else:
                matrix[i, kinds.index(item.kind)] += item.amount
    cycles = np.array([sample.cycles for sample in found])
    rest = 1 - explained / cycles
    groups = sorted({sample.group for sample in found})
    held = np.isin([sample.group for sample in found], groups[::4])
    costs, _ = nnls(matrix[~held] / cycles[~held, None], rest[~held])
    errors = (matrix[held] @ costs) / cycles[held] - rest[held]
    final, _ = nnls(matrix / cycles[:, None], rest)
    return Fit({kind: round(float(c), 4) for kind, c in zip(kinds, final, strict=True)}, errors)


def store(path: Path, costs: dict[str, float], *, keep_heading: bool) -> None:
    """Replace the [timing] table of a target file, comments elsewhere kept."""
    before = path.read_text()
    text = re.sub(r"\n# Cycles per unit of work.*?(?=\n\[(?!timing)|\Z)", "", before, flags=re.DOTALL)
    heading = re.search(r"^# Cycles per unit of work.*$", before, flags=re.MULTILINE) if keep_heading else None
    lines = ["", HEADING if heading is None else heading[0], "[timing]"]
    lines += [f"{kind} = {cost}" for kind, cost in costs.items()]
    path.write_text(text.rstrip() + "\n" + "\n".join(lines) + "\n")


def kept_costs(target: Target, ops: Sequence[str]) -> dict[str, float]:
    """The board's costs but for those of work that only these operators do."""
    others = [kind for kind in plugins.names("ops") if kind not in ops]
    own, shared = ({item for kind in kinds for item in kinds_of_work(kind)} for kinds in (ops, others))
    return {kind: cost for kind, cost in target.timing.items() if kind not in own - shared}


def kinds_of_work(kind: str) -> set[str]:
    """All work that random layers of an operator do."""
    found = set()
    for graph in (random_layer(kind, 1, i) for i in range(12)):
        shapes = graph.shapes
        for node in graph.nodes:
            found |= {item.kind for item in node.op.work(*(shapes[name] for name in node.inputs), worst=False)}
    return found


def main() -> None:
    """Fit all boards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the tables in targets/*.toml")
    parser.add_argument("--target", action="append", help="only this board; may be given several times")
    parser.add_argument("--op", action="append", help="only what this operator costs; may be given several times")
    args = parser.parse_args()
    torch.set_num_threads(1)
    set_of_designs, figures = chosen(args.op), []
    for path in sorted(data_folder("targets").glob("*.toml")):
        target = load_target(path)
        if args.target is not None and target.name not in args.target:
            continue
        found = measure(set_of_designs, target)
        known = kept_costs(target, args.op) if args.op else {}
        result = fit(found, known)
        errors = 100 * np.abs(result.held_out)
        figures += [
            Figure(f"{target.name}: layers measured", len(found), "layers"),
            Figure(f"{target.name}: held-out layers, mean error", float(errors.mean()), "%"),
            Figure(f"{target.name}: held-out layers, 95th percentile", float(np.percentile(errors, 95)), "%"),
        ]
        if args.write:
            store(path, dict(sorted({**known, **result.costs}.items())), keep_heading=bool(args.op))
        print(target.name, result.costs, file=sys.stderr, flush=True)
    show(figures)


if __name__ == "__main__":
    main()
