"""Fit the cycle model of the boards on their twins: prints (or with --write stores) the [timing] table of every target.

Layers of random candidates and random small layers each run alone on the twin. Cycles are linear in the work
that the operators report, with non-negative costs; the fit minimises the relative error. With --op only the costs that
these operators alone have are fitted, on layers of theirs, and all others stay as the tables have them.
"""

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from common import Figure, on_twin, random_candidates, show, smooth_image
from scipy.optimize import nnls
from trec_kernels import TRAINED, layer_at

from trec_dse import datasets, plugins
from trec_dse.candidate import TrecConfig
from trec_dse.codegen import network_calls
from trec_dse.errors import DoesNotFitError, UnsupportedError
from trec_dse.evaluate import untrained_graph
from trec_dse.graph import (
    INPUT,
    Graph,
    Node,
    NodeQuantization,
    Quantization,
    QuantizedGraph,
    Window,
    Work,
    pack,
)
from trec_dse.ops._random import single
from trec_dse.ops.concat import Concat
from trec_dse.ops.sparse_conv2d import SparseConv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.quantize import count_rows, quantize, with_clusters
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target

HEADING = "# Cycles per unit of work of the kernels as zig compiles them: benchmarks/timing.py, on the twin."
N_OF_ONE = 16  # layers that are measured of a single operator
OVERHEAD = "network_call"  # what an inference costs besides its layers
CLUSTERED_INPUTS = [(28, 28, 1), (32, 32, 3), (16, 16, 16), (14, 14, 32), (8, 8, 32), (8, 8, 64), (6, 6, 48)]
CONCAT_INPUTS = [(16, 16, 16), (16, 16, 3), (8, 8, 64), (8, 8, 8), (4, 4, 96), (4, 4, 5), (1, 1, 64)]


def single_layers(seed: int) -> list[QuantizedGraph]:
    """Layers as they stand in candidates of the shipped spaces, each as a network of its own."""
    graphs: dict[str, QuantizedGraph] = {}
    for space, n in (("digits_tiny", 14), ("mnist_lenet5", 8), ("cifar10_cifarnet", 8)):
        for candidate in random_candidates(space, n, seed):
            whole = untrained_graph(candidate, datasets.placeholder(candidate.dataset))
            shapes = whole.shapes
            for node in whole.nodes:
                if len(node.inputs) > 1 or node.op.macs(shapes[node.inputs[0]]) > 3_000_000:
                    continue
                quantization = {INPUT: whole.quantization[node.inputs[0]], node.name: whole.quantization[node.name]}
                alone = dataclasses.replace(node, inputs=(INPUT,))
                shape = shapes[node.inputs[0]]
                graphs[f"{node.op}{shape}"] = QuantizedGraph(
                    shape, (alone,), {node.name: whole.weights[node.name]}, quantization
                )
    return list(graphs.values())


def random_layers(seed: int, n: int, kinds: Sequence[str] | None = None) -> list[QuantizedGraph]:
    """Small random networks around every operator, or those given."""
    graphs = []
    for kind in kinds or plugins.names("ops"):
        for i in range(n):
            random = np.random.default_rng([seed, i])
            graph: Graph = importlib.import_module(f"trec_dse.ops.{kind}.cases").random_graph(random)
            images = torch.from_numpy(random.standard_normal((2, *graph.input_shape))).float()
            graphs.append(quantize(graph, images))
    return graphs


def clustered_layers(kind: type[TrecConv2d | TrecStripConv2d], seed: int, n: int) -> list[QuantizedGraph]:
    """Convolutions as the shipped networks have them, on random strips or slices."""
    graphs = []
    for i in range(n):
        random = np.random.default_rng([seed, i])
        kernel = int(random.choice([1, 3, 5]))
        height, width, depth = map(int, random.choice(CLUSTERED_INPUTS if kernel > 1 else CLUSTERED_INPUTS[2:]))
        pixels = int(random.choice([1, kernel]))
        groups = depth // int(random.choice([d for d in (1, 2, 4, 8, 16, 32) if depth % d == 0])) if depth > 3 else 1
        length, bits = pixels * depth // groups, int(random.integers(2, 7))
        padding = int(random.integers(0, 2)) * (kernel // 2)
        out_channels = int(random.choice([6, 8, 16, 24, 32]))
        config = TrecConfig(bits, length, "strip_shared", None, int(groups))
        if kind is TrecConv2d:
            config = TrecConfig(bits, length if length > 1 else kernel * depth)
        op = kind(out_channels, Window((kernel, kernel), (1, 1), (padding, padding)), config, "relu")
        hashes = op.n_slices((height, width, depth))
        weights = {
            "weights": random.standard_normal((out_channels, kernel, kernel, depth)),
            "bias": random.standard_normal(out_channels),
            "hash": random.standard_normal((hashes, config.vector_length, bits)),
            "thresholds": random.standard_normal((hashes, bits)),
        }
        images = torch.from_numpy(random.standard_normal((2, height, width, depth))).float()
        graphs.append(quantize(single(op, (height, width, depth), weights), images))
    return graphs


def concat_layers() -> list[QuantizedGraph]:
    """Concatenations of an image with itself, as large as networks have them."""
    graphs, op = [], Concat()
    source, sink = Quantization(0.02, 3), Quantization(0.021, -128)
    for n, shape in itertools.product((2, 3), CONCAT_INPUTS):
        node = Node("concat", op, (INPUT,) * n)
        integers = op.quantize({}, NodeQuantization((source,) * n, sink))
        graphs.append(QuantizedGraph(shape, (node,), {"concat": integers}, {INPUT: source, "concat": sink}))
    return graphs


def measure(graph: QuantizedGraph, target: Target) -> tuple[list[Work], int]:
    """The work of one inference, with the clusters that it really had, and the twin's cycles."""
    with on_twin(graph, target) as (_, executor):
        image = smooth_image(graph.input_shape)
        answer = executor.infer(image if graph.quantization[INPUT].bits == 8 else pack(image // 16 + 8))
    layers = [call.node for call in network_calls(graph) if call.kernel.counts_clusters]
    counted = with_clusters(graph, {n: float(c) for n, c in zip(layers, answer.n_clusters, strict=True)})
    if any(isinstance(node.op, SparseConv2d) for node in graph.nodes):
        counted = count_rows(counted, image[None])
    return work_of(counted), answer.cycles


def work_of(graph: QuantizedGraph) -> list[Work]:
    """All the work of one inference."""
    shapes = graph.shapes
    items = [Work(OVERHEAD, 1.0)]
    for node in graph.nodes:
        items += node.op.work(*(shapes[name] for name in node.inputs), worst=False)
    return items


@dataclasses.dataclass(frozen=True)
class Fit:
    """Costs by kind of work, and the relative errors on layers that were not used for fitting."""

    costs: dict[str, float]
    held_out: npt.NDArray[np.float64]


def fit(rows: list[tuple[list[Work], int]], known: Mapping[str, float]) -> Fit:
    """Non-negative least squares of the relative error; every fourth row is held out. `known` costs stay."""
    kinds = sorted({item.kind for work, _ in rows for item in work} - set(known))
    matrix, explained = np.zeros((len(rows), len(kinds))), np.zeros(len(rows))
    for i, (work, _) in enumerate(rows):
        for item in work:
            if item.kind in known:
                explained[i] += known[item.kind] * item.amount
            else:
                matrix[i, kinds.index(item.kind)] += item.amount
    cycles = np.array([c for _, c in rows], dtype=float)
    rest = 1 - explained / cycles
    held = np.arange(len(rows)) % 4 == 0
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
    own, shared = ({item.kind for g in random_layers(1, 12, kinds) for item in work_of(g)} for kinds in (ops, others))
    return {kind: cost for kind, cost in target.timing.items() if kind not in own - shared}


def main() -> None:
    """Fit all boards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="store the tables in targets/*.toml")
    parser.add_argument("--target", action="append", help="only this board; may be given several times")
    parser.add_argument("--op", action="append", help="only what this operator costs; may be given several times")
    args = parser.parse_args()
    torch.set_num_threads(1)
    graphs = random_layers(1, N_OF_ONE, args.op) if args.op else single_layers(seed=1) + random_layers(seed=1, n=12)
    for kind in (TrecConv2d, TrecStripConv2d):
        if not args.op or kind.kind in args.op:
            graphs += clustered_layers(kind, seed=1, n=24 if kind is TrecConv2d else 32)
    if TrecConv2d.kind in (args.op or ()):  # vectors as long as these are rare among the others
        graphs += [layer_at(trained)[1] for trained in TRAINED if trained.scope == "per_slice"]
    if not args.op or Concat.kind in args.op:
        graphs += concat_layers()
    figures = []
    for path in sorted(data_folder("targets").glob("*.toml")):
        target = load_target(path)
        if args.target is not None and target.name not in args.target:
            continue
        rows = []
        for graph in graphs:
            with contextlib.suppress(UnsupportedError, DoesNotFitError):
                rows.append(measure(graph, target))
        known = kept_costs(target, args.op) if args.op else {}
        result = fit(rows, known)
        errors = 100 * np.abs(result.held_out)
        figures += [
            Figure(f"{target.name}: layers measured", len(rows), "layers"),
            Figure(f"{target.name}: held-out layers, mean error", float(errors.mean()), "%"),
            Figure(f"{target.name}: held-out layers, 95th percentile", float(np.percentile(errors, 95)), "%"),
        ]
        if args.write:
            store(path, dict(sorted({**known, **result.costs}.items())), keep_heading=bool(args.op))
        print(target.name, result.costs, file=sys.stderr, flush=True)
    show(figures)


if __name__ == "__main__":
    main()
