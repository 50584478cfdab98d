"""Cycles of the same layers on the twin of a board of each core.

Convolutions are SqueezeNet's, the dense layer and the clustered ones CifarNet's, depthwise layers and sums those of
MLPerf Tiny's networks (DS-CNN, MobileNet v1 at a quarter of its width, ResNet-8). Weights are random, the image is
smooth, and every output is compared with the oracle's.

    python benchmarks/cores.py
"""

import argparse
import math
from collections.abc import Iterator

import numpy as np
from common import Figure, show
from kernels import Layer, load_layers, measure, network, with_room
from trec_kernels import TRAINED, layer_at

from trec_dse.graph import INPUT, Node, NodeQuantization, Op, Quantization, QuantizedGraph, Shape, Window
from trec_dse.ops.add import Add
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.resources import data_folder
from trec_dse.target import load_target
from trec_dse.toolchain import find_target_compiler

BOARDS = ("stm32f469i-disco", "nucleo-f746zg", "nucleo-f207zg", "nucleo-g0b1re")
PRODUCTS = ("squeezenet 16x16x16->64 k3 pad1", "squeezenet 16x16x16->64 k1", "cifarnet fc 384->192")
DEPTHWISE = {
    "DS-CNN 25x5x64": ((25, 5, 64), 1),
    "MobileNet 48x48x8": ((48, 48, 8), 1),
    "MobileNet 48x48x16 stride 2": ((48, 48, 16), 2),
    "MobileNet 6x6x128": ((6, 6, 128), 1),
}
SUMS: dict[str, Shape] = {"ResNet-8 32x32x16": (32, 32, 16), "ResNet-8 8x8x64": (8, 8, 64)}
SOURCE, SINK = Quantization(0.02, 3), Quantization(0.03, -128)


def alone(op: Op, shape: Shape) -> QuantizedGraph:
    """A depthwise layer or a sum; the latter is that of the image and itself."""
    random = np.random.default_rng(0)
    inputs = (INPUT, INPUT) if isinstance(op, Add) else (INPUT,)
    weights = {"weights": random.normal(size=(3, 3, shape[2])), "bias": random.normal(size=shape[2])}
    quantization = NodeQuantization(tuple(SOURCE for _ in inputs), SINK)
    integers = op.quantize({} if isinstance(op, Add) else weights, quantization)
    return QuantizedGraph(shape, (Node("layer", op, inputs),), {"layer": integers}, {INPUT: SOURCE, "layer": SINK})


def layers() -> Iterator[tuple[Layer, QuantizedGraph]]:
    """All of them."""
    for layer in load_layers():
        if layer.name in PRODUCTS:
            yield layer, network(layer)
    for trained in TRAINED:
        if trained.place == "conv1" and trained.length > 3:
            yield layer_at(trained)[:2]
    for name, (shape, stride) in DEPTHWISE.items():
        op = DepthwiseConv2d(Window((3, 3), (stride, stride), (1, 1)), "relu")
        yield Layer(f"depthwise {name}", op, shape, {}, 0), alone(op, shape)
    for name, size in SUMS.items():
        yield Layer(f"sum {name}", Add("relu"), size, {}, 0), alone(Add("relu"), size)


def main() -> None:
    """Measure."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    compiler, figures = find_target_compiler(None), []
    for layer, graph in layers():
        outputs = math.prod(graph.shapes[graph.output])
        for board in BOARDS:
            target = with_room(load_target(data_folder("targets") / f"{board}.toml"))
            cycles = measure(layer, target, compiler, graph).cycles
            figures += [
                Figure(f"{target.core}: {layer.name}", cycles / 1e6, "Mcycles"),
                Figure(f"{target.core}: {layer.name}: an output", cycles / outputs, "cycles"),
            ]
    show(figures)


if __name__ == "__main__":
    main()
