"""What layers cost of whose weights most are zero: bytes of Flash and cycles, against the dense kernels.

    python benchmarks/pruned_weights.py

Random int8 weights at given shares of zeros, both kernels on the twins of an M4 and an M7, every answer the oracle's.
Bytes are those of all tables; a bitmap beside the values is reckoned, not built: it takes an eighth of a byte for
every weight and one for each that is left. What would not get smaller stays dense. JSON
lines on standard output, a table for docs/compression.md on standard error.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass

import numpy as np
import torch
from common import counted, linked, smooth_image

from trec_dse.codegen import constant_bytes
from trec_dse.graph import INPUT, Graph, Node, QuantizedGraph, Shape, Window
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import Compiler, find_target_compiler
from trec_dse.zeros import without_zeros

BOARDS = ("stm32f469i-disco", "nucleo-f746zg")
STACK_BYTES = 2048
LAYERS: dict[str, tuple[Shape, Conv2d | Dense]] = {
    "conv 14x14x64 -> 64 k5": ((14, 14, 64), Conv2d(64, Window((5, 5)), "relu")),
    "conv 16x16x96 -> 16 k1": ((16, 16, 96), Conv2d(16, Window((1, 1)), "relu")),
    "dense 1600 -> 384": ((1600,), Dense(384, "relu")),
}
ZEROS = (0.5, 0.75, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Row:
    """One layer with a share of its weights zero; pairs: dense, pruned, by board."""

    layer: str
    zeros: float
    dense_bytes: int
    pruned_bytes: int
    bitmap_bytes: int
    cycles: tuple[tuple[int, int], ...]


def network(shape: Shape, op: Conv2d | Dense, zeros: float) -> QuantizedGraph:
    """The layer alone, exactly that share of its weights zero."""
    random = np.random.default_rng(1)
    rows = (op.out_features,) if isinstance(op, Dense) else (op.out_channels, *op.window.kernel)
    weights = random.standard_normal((*rows, shape[-1]))
    flat = weights.reshape(-1)
    flat[np.abs(flat).argsort()[: round(zeros * flat.size)]] = 0.0
    graph = Graph(shape, (Node("layer", op, (INPUT,)),), {"layer": {"weights": weights, "bias": np.zeros(rows[0])}})
    return quantize(graph, torch.from_numpy(random.standard_normal((4, *shape))).float())


def cycles(graph: QuantizedGraph, target: Target, compiler: Compiler) -> int:
    """Of one inference that the twin answers as the oracle does."""
    image = smooth_image(graph.input_shape)
    with linked(graph, target, compiler, stack_bytes=STACK_BYTES) as firmware:
        answer = counted(firmware, target, image).answer
    if not np.array_equal(answer.output, graph.run(image)[graph.output].reshape(-1)):
        raise SystemExit(f"{target.name}: the twin does not answer as the oracle")
    return answer.cycles


def measured(name: str, zeros: float, targets: list[Target], compiler: Compiler) -> Row:
    """Both kernels on all boards."""
    shape, op = LAYERS[name]
    dense = network(shape, op, zeros)
    pruned = without_zeros(dense)
    sizes = [constant_bytes(graph)["layer"].tables for graph in (dense, pruned)]
    levels = dense.weights["layer"]["weights"]
    bitmap = sizes[0] - levels.size + -(-levels.size // 8) + int((levels != 0).sum())
    pairs = tuple((cycles(dense, board, compiler), cycles(pruned, board, compiler)) for board in targets)
    return Row(name, zeros, sizes[0], sizes[1], bitmap, pairs)


def main() -> None:
    """Every layer at every share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", help="gcc, zig or a program; the default is what a firmware is built with")
    compiler = find_target_compiler(parser.parse_args().compiler)
    targets = [load_target(data_folder("targets") / f"{name}.toml") for name in BOARDS]
    print(
        "| layer | zeros | dense, B | pruned | bitmap | M4: dense | pruned | over | M7: dense | pruned | over |",
        file=sys.stderr,
    )
    print("|---" * 11 + "|", file=sys.stderr)
    for name in LAYERS:
        for zeros in ZEROS:
            row = measured(name, zeros, targets, compiler)
            print(json.dumps(asdict(row)), flush=True)
            cells = [
                name,
                f"{100 * zeros:.0f} %",
                *(f"{n:,}" for n in (row.dense_bytes, row.pruned_bytes, row.bitmap_bytes)),
            ]
            for before, after in row.cycles:
                cells += [f"{before:,}", f"{after:,}", f"{after / before:.2f}"]
            print(f"| {' | '.join(cells)} |", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
