"""Cycles of single layers on the boards' twins, beside those of CMSIS-NN v7 (data/cmsis_nn_v7.csv).

Every layer of that table runs dense; with --trec its convolutions run once more as TREC layers, whose clusters are
those of a smooth random image. Ratios are cycles over CMSIS-NN's, so less is better.

    python benchmarks/kernels.py --out benchmarks/data/kernels.csv          # what is in the file is not run again
    python benchmarks/kernels.py --out benchmarks/data/kernels.csv --table  # the file as a table of the documentation

The whole list takes several minutes. Delete the file after a change of a kernel or of the compiler.
"""

import argparse
import csv
import dataclasses
import itertools
import math
import re
import sys
from pathlib import Path

import numpy as np
from common import Figure, counted, linked, show, smooth_image

from trec_dse.candidate import TrecConfig
from trec_dse.graph import INPUT, Node, NodeQuantization, Op, Quantization, QuantizedGraph, Shape, Window
from trec_dse.ops.avg_pool2d import AvgPool2d
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import Compiler, find_target_compiler

PEER = Path(__file__).with_name("data") / "cmsis_nn_v7.csv"
HASH_BITS = 4
BOARDS = ("stm32f469i-disco", "stm32f746g-disco")  # whose twins CMSIS-NN was measured on
# Goals: cycles over CMSIS-NN's, for every layer and for the geometric mean by core.
WORST_RATIO = 1.0
MEAN_RATIO = {"cortex-m4": 0.65, "cortex-m7": 0.8}
TREC_RATIO = 1 / 5
MANY_POSITIONS = 256  # the TREC goal is for layers with at least so many

_CONVOLUTION = re.compile(r"(\d+)x(\d+)x(\d+)->(\d+) k(\d)( s2)?( pad1)?( valid)?")
_DENSE = re.compile(r"fc (\d+)->(\d+)")
FIELDS = ("cycles", "n_clusters", "scratch_bytes", "n_instructions")
_POOL = re.compile(r"(maxpool2x2s2|avgpool global) (\d+)x(\d+)x(\d+)")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One row of the table. `peer`: CMSIS-NN's cycles by core."""

    name: str
    op: Op
    shape: Shape
    peer: dict[str, int]
    peer_scratch: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the twin said of one layer."""

    cycles: int
    n_clusters: int
    scratch_bytes: int
    n_instructions: int


def parse(text: str) -> tuple[Op, Shape]:
    """The operator and its input's shape from the table's notation, such as "16x16x32->64 k3 s2 pad1"."""
    if match := _CONVOLUTION.fullmatch(text):
        height, width, channels, out, kernel = map(int, match.groups()[:5])
        stride, padding = (2 if match[6] else 1), (1 if match[7] else 0)
        window = Window((kernel, kernel), (stride, stride), (padding, padding))
        return Conv2d(out, window), (height, width, channels)
    if match := _DENSE.fullmatch(text):
        return Dense(int(match[2])), (int(match[1]),)
    match = _POOL.fullmatch(text)
    assert match is not None, text
    shape = (int(match[2]), int(match[3]), int(match[4]))
    if match[1] == "maxpool2x2s2":
        return MaxPool2d(Window((2, 2), (2, 2))), shape
    return AvgPool2d(Window(shape[:2], shape[:2])), shape


def load_layers() -> list[Layer]:
    """All rows of the table."""
    lines = [line for line in PEER.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    layers = []
    for row in csv.DictReader(lines):
        op, shape = parse(row["layer"])
        peer = {core: int(row[core]) for core in MEAN_RATIO}
        layers.append(Layer(f"{row['network']} {row['layer']}", op, shape, peer, int(row["scratch_bytes"])))
    return layers


def peer_layers() -> dict[str, Layer]:
    """The rows by name."""
    return {layer.name: layer for layer in load_layers()}


def trec_form(layer: Layer) -> Layer | None:
    """The layer as a TREC convolution whose vectors are one row of the kernel; None if it is no convolution."""
    if not isinstance(layer.op, Conv2d):
        return None
    length = layer.op.window.kernel[1] * layer.shape[2]
    op = TrecConv2d(layer.op.out_channels, layer.op.window, TrecConfig(HASH_BITS, length, "per_slice", None))
    return dataclasses.replace(layer, name=f"{layer.name} TREC H={HASH_BITS} L={length}", op=op)


def network(layer: Layer) -> QuantizedGraph:
    """The layer alone, with random weights."""
    random, op = np.random.default_rng(0), layer.op
    weights: dict[str, np.ndarray] = {}
    if isinstance(op, Conv2d | TrecConv2d | TrecStripConv2d):
        weights = {
            "weights": random.normal(size=(op.out_channels, *op.window.kernel, layer.shape[2])),
            "bias": random.normal(size=op.out_channels),
        }
    if isinstance(op, TrecConv2d | TrecStripConv2d):
        n, length, bits = op.n_slices(layer.shape), op.config.vector_length, op.config.hash_bits
        weights["hash"] = random.normal(size=(n, length, bits)) / math.sqrt(length)
        weights["thresholds"] = np.zeros((n, bits))
    if isinstance(op, Dense):
        weights = {
            "weights": random.normal(size=(op.out_features, layer.shape[0])),
            "bias": random.normal(size=op.out_features),
        }
    source = Quantization(0.02, 3)
    # the output's spread follows from the input's and from the length of the sums
    sink = source if op.keeps_quantization else Quantization(0.02 * math.sqrt(math.prod(layer.shape[-1:]) * 9), -2)
    node = Node("layer", op, (INPUT,))
    integers = op.quantize(weights, NodeQuantization((source,), sink))
    return QuantizedGraph(layer.shape, (node,), {"layer": integers}, {INPUT: source, "layer": sink})


def with_room(target: Target) -> Target:
    """The board with four times its Flash: the largest layer's weights exceed what is there."""
    regions = tuple(
        dataclasses.replace(region, size=4 * region.size) if region.name == target.flash_region else region
        for region in target.regions
    )
    return dataclasses.replace(target, regions=regions)


def measure(layer: Layer, target: Target, compiler: Compiler, graph: QuantizedGraph | None = None) -> Measured:
    """One inference on the twin; its output is compared with the oracle's. `graph`: the layer, if not random."""
    graph = network(layer) if graph is None else graph
    image = smooth_image(graph.input_shape)
    with linked(graph, target, compiler) as firmware:
        found = counted(firmware, target, image)
    answer = found.answer
    expected = graph.run(image)[graph.output]
    if not np.array_equal(answer.output.reshape(-1), expected.reshape(-1)):
        raise SystemExit(f"{layer.name} on {target.name}: the twin's integers are not the oracle's")
    scratch = layer.op.scratch_bytes(layer.shape)
    return Measured(answer.cycles, sum(answer.n_clusters), scratch, found.n_instructions)


class Kept:
    """Layers measured earlier, in a file of one line each."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.is_file() else []
        self.rows = {
            (row["core"], row["layer"]): Measured(*(int(row[n]) for n in FIELDS)) for row in csv.DictReader(lines)
        }

    def measure(self, layer: Layer, target: Target, compiler: Compiler) -> Measured:
        """What the file says of the layer, or the twin, whose answer is added to the file."""
        key = (target.core, layer.name)
        if key not in self.rows:
            self.rows[key] = measure(layer, target, compiler)
            if self._path is not None:
                self._write()
        return self.rows[key]

    def _write(self) -> None:
        assert self._path is not None
        with self._path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("core", "layer", *FIELDS))
            writer.writerows((*key, *dataclasses.astuple(found)) for key, found in sorted(self.rows.items()))


def print_table(kept: Kept) -> None:
    """Cycles, instructions and ratio to CMSIS-NN of every layer on both cores, in Markdown."""
    print("| layer | " + " | ".join(f"{core}: Mcycles | M instructions | over CMSIS-NN" for core in MEAN_RATIO) + " |")
    print("|---" * (1 + 3 * len(MEAN_RATIO)) + "|")
    for layer in load_layers():
        cells = []
        for core in MEAN_RATIO:
            found = kept.rows.get((core, layer.name))
            if found is None:
                cells += ["", "", ""]
                continue
            ratio = found.cycles / layer.peer[core]
            cells += [f"{found.cycles / 1e6:.3f}", f"{found.n_instructions / 1e6:.3f}", f"{ratio:.3f}"]
        print(f"| {layer.name} | {' | '.join(cells)} |")


def ratio_figures(layer: Layer, found: Measured, target: Target) -> list[Figure]:
    """Cycles, and their ratio to CMSIS-NN's."""
    ratio = found.cycles / layer.peer[target.core]
    goal: float | None = WORST_RATIO
    positions = math.prod(layer.op.output_shape(layer.shape)[:2])
    name = f"{target.core} {layer.name}"
    if isinstance(layer.op, TrecConv2d):
        goal = TREC_RATIO if positions >= MANY_POSITIONS else None
        kept = found.n_clusters / (positions * layer.op.n_slices(layer.shape))
        name += f" r_t={1 - kept:.3f}"
    macs = math.prod(layer.op.output_shape(layer.shape)) * dense_length(layer)
    print(
        f"{name}: {found.cycles:,} cycles{f', {found.cycles / macs:.3f} per dense MAC' if macs else ''};"
        f" scratch {found.scratch_bytes:,} B, CMSIS-NN {layer.peer_scratch:,} B; {ratio:.3f} x CMSIS-NN",
        file=sys.stderr,
        flush=True,
    )
    return [
        Figure(f"{name}: cycles", found.cycles, "cycles"),
        Figure(f"{name}: instructions", found.n_instructions, "instructions"),
        Figure(f"{name}: ratio", ratio, "x", goal, None if goal is None else ratio <= goal),
    ]


def dense_length(layer: Layer) -> int:
    """MACs of one output value of the layer in its dense form; 0 for pooling."""
    if isinstance(layer.op, Conv2d | TrecConv2d):
        return layer.op.row_length(layer.shape)
    return layer.shape[0] if isinstance(layer.op, Dense) else 0


def geometric_mean(ratios: list[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def main() -> None:
    """Measure every layer on the two boards of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="layers whose name contains this")
    parser.add_argument("--trec", action="store_true", help="convolutions as TREC layers as well")
    parser.add_argument("--compiler", help="gcc, zig or a program; the default is what a firmware is built with")
    parser.add_argument("--out", type=Path, help="a .csv to keep results in; what is in it is not measured again")
    parser.add_argument("--table", action="store_true", help="print what --out holds as a table, and measure nothing")
    args = parser.parse_args()
    kept = Kept(args.out)
    if args.table:
        print_table(kept)
        return
    compiler = find_target_compiler(args.compiler)
    layers = [layer for layer in load_layers() if args.only in layer.name]
    targets = [with_room(load_target(data_folder("targets") / f"{name}.toml")) for name in BOARDS]
    figures: list[Figure] = []
    for target, is_trec in itertools.product(targets, (False, True) if args.trec else (False,)):
        ratios = []
        chosen = [form for layer in layers if (form := trec_form(layer) if is_trec else layer)]
        for layer in chosen:
            found = kept.measure(layer, target, compiler)
            figures += ratio_figures(layer, found, target)
            ratios.append(found.cycles / layer.peer[target.core])
        if ratios:
            title = f"{target.core} {'TREC' if is_trec else 'dense'}: geometric mean over {len(ratios)} layers"
            goal = None if is_trec else MEAN_RATIO[target.core]
            mean = geometric_mean(ratios)
            figures.append(Figure(title, mean, "x", goal, None if goal is None else mean <= goal))
    show(figures)


if __name__ == "__main__":
    main()
