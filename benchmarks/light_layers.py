"""Cycles of layers that multiply little, on the twin of a board of each core: depthwise convolutions and sums.

The shapes are those of MLPerf Tiny's networks: DS-CNN, MobileNet v1 at a quarter of its width, ResNet-8. Weights are
random, the image is smooth, and every output is compared with the oracle's.

    python benchmarks/light_layers.py
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
from common import Figure, show
from kernels import Layer, measure, with_room

from trec_dse.graph import INPUT, Node, NodeQuantization, Op, Quantization, QuantizedGraph, Shape, Window
from trec_dse.ops.add import Add
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.resources import data_folder
from trec_dse.target import load_target
from trec_dse.toolchain import find_target_compiler

BOARDS = ("stm32f469i-disco", "nucleo-f746zg", "nucleo-f207zg", "nucleo-g0b1re")
DEPTHWISE = {
    "DS-CNN 25x5x64": ((25, 5, 64), 1),
    "MobileNet 48x48x8": ((48, 48, 8), 1),
    "MobileNet 48x48x16 stride 2": ((48, 48, 16), 2),
    "MobileNet 6x6x128": ((6, 6, 128), 1),
}
SUMS: dict[str, Shape] = {"ResNet-8 32x32x16": (32, 32, 16), "ResNet-8 8x8x64": (8, 8, 64)}
SOURCE, SINK = Quantization(0.02, 3), Quantization(0.03, -128)


def graph_of(op: Op, shape: Shape) -> QuantizedGraph:
    """The layer alone; a sum is that of the image and itself."""
    random = np.random.default_rng(0)
    inputs = (INPUT, INPUT) if isinstance(op, Add) else (INPUT,)
    weights = {"weights": random.normal(size=(3, 3, shape[2])), "bias": random.normal(size=shape[2])}
    quantization = NodeQuantization(tuple(SOURCE for _ in inputs), SINK)
    integers = op.quantize({} if isinstance(op, Add) else weights, quantization)
    return QuantizedGraph(shape, (Node("layer", op, inputs),), {"layer": integers}, {INPUT: SOURCE, "layer": SINK})


def layers() -> Iterator[Layer]:
    """All of them; CMSIS-NN was measured on none."""
    for name, (shape, stride) in DEPTHWISE.items():
        op = DepthwiseConv2d(Window((3, 3), (stride, stride), (1, 1)), "relu")
        yield Layer(f"depthwise {name}", op, shape, {}, 0)
    for name, size in SUMS.items():
        yield Layer(f"sum {name}", Add("relu"), size, {}, 0)


def main() -> None:
    """Measure."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    compiler, figures = find_target_compiler(None), []
    for layer in layers():
        graph = graph_of(layer.op, layer.shape)
        outputs = math.prod(graph.shapes["layer"])
        for board in BOARDS:
            target = with_room(load_target(data_folder("targets") / f"{board}.toml"))
            cycles = measure(layer, target, compiler, graph).cycles
            figures.append(Figure(f"{target.core}: {layer.name}: an output", cycles / outputs, "cycles"))
    show(figures)


if __name__ == "__main__":
    main()
