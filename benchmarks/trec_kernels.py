"""Cycles of CifarNet's convolutions as TREC layers at the redundancy of trained networks, beside CMSIS-NN v7's.

The weights are random. The thresholds of the hash are moved together until clusters on a smooth image are about as many
as in the network that was trained (CIFAR-10, full width, mean of five seeds), so that cycles are those of its layers.
"""

import argparse
import math
import sys
from dataclasses import dataclass

import numpy as np
from common import Figure, show, smooth_image
from kernels import BOARDS, Layer, load_layers, measure, peer_layers, with_room

from trec_dse.candidate import HashScope, TrecConfig
from trec_dse.graph import INPUT, Node, NodeQuantization, Op, Quantization, QuantizedGraph, Window
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.resources import data_folder
from trec_dse.target import load_target
from trec_dse.toolchain import find_target_compiler

SHIFTS = (-0.7, -0.5, -0.3, 0.0, 0.4, 1.0, 2.0)  # of all thresholds, in deviations of a projection
PLACES = {"conv1": "cifarnet 32x32x3->64 k5 valid", "conv2": "cifarnet 14x14x64->64 k5 valid"}


@dataclass(frozen=True)
class Trained:
    """A layer of a trained network: which convolution, its clustering and its redundancy ratio."""

    place: str
    bits: int
    length: int
    redundancy: float
    scope: HashScope = "per_slice"
    groups: int = 1


TRAINED = (
    Trained("conv1", 5, 15, 0.977),
    Trained("conv1", 6, 15, 0.963),
    Trained("conv1", 6, 3, 0.986),
    Trained("conv1", 6, 15, 0.957, "strip_shared"),
    Trained("conv2", 5, 320, 0.844),
    Trained("conv2", 6, 320, 0.764),
    Trained("conv2", 5, 16, 0.796, "strip_shared", 4),
)


def layer_of(trained: Trained, shift: float) -> tuple[Layer, QuantizedGraph, float]:
    """The layer alone, and its redundancy ratio on a smooth image."""
    peer = peer_layers()[PLACES[trained.place]]
    is_strips = trained.scope == "strip_shared"
    config = TrecConfig(trained.bits, trained.length, trained.scope, None, trained.groups)
    window, shape = Window((5, 5)), peer.shape
    op: Op = (TrecStripConv2d if is_strips else TrecConv2d)(64, window, config, "relu")
    assert isinstance(op, TrecConv2d | TrecStripConv2d)
    random, n = np.random.default_rng(0), op.n_slices(shape)
    weights = {
        "weights": random.normal(size=(64, 5, 5, shape[2])),
        "bias": random.normal(size=64),
        "hash": random.normal(size=(n, trained.length, trained.bits)) / np.sqrt(trained.length),
        "thresholds": np.full((n, trained.bits), shift),
    }
    source, sink = Quantization(0.02, 3), Quantization(0.02 * 5 * np.sqrt(shape[2]), -128)
    quantization = NodeQuantization((source,), sink)
    integers = op.quantize(weights, quantization)
    graph = QuantizedGraph(shape, (Node("layer", op, (INPUT,)),), {"layer": integers}, {INPUT: source, "layer": sink})
    vectors = n * (op.n_strips(shape) if isinstance(op, TrecStripConv2d) else op.n_positions(shape))
    found = 1 - op.count(smooth_image(shape), integers, quantization) / vectors
    name = f"cifarnet {trained.place} {trained.scope} H={trained.bits} L={trained.length} g={trained.groups}"
    return Layer(name, op, shape, peer.peer, peer.peer_scratch), graph, found


def layer_at(trained: Trained) -> tuple[Layer, QuantizedGraph, float]:
    """The layer whose redundancy ratio on a smooth image is nearest to the trained one's."""
    return min((layer_of(trained, shift) for shift in SHIFTS), key=lambda one: abs(one[2] - trained.redundancy))


def share_at(layer: Layer, bits: int) -> float:
    """What a convolution keeps of its multiplications where all signatures of H bits occur: H / M to hash, and
    min(2^H, N) / N for the centroids, which is 1 - r_t at its least. It stays dense where that is more than all."""
    *place, channels = layer.op.output_shape(layer.shape)
    positions = math.prod(place)
    clusters: int = min(1 << bits, positions)
    return min(1.0, bits / channels + clusters / positions)


def show_bounds(bits: int) -> None:
    """The share of every convolution in the table, and what is left of each network, counted in CMSIS-NN's cycles."""
    figures, left = [], dict[str, list[float]]()
    for layer in load_layers():
        if isinstance(layer.op, Conv2d):
            share = share_at(layer, bits)
            figures.append(Figure(f"{layer.name} H={bits}: share of multiplications", share, ""))
            for core, cycles in layer.peer.items():
                total = left.setdefault(f"{layer.name.split()[0]} {core}", [0.0, 0.0])
                total[0], total[1] = total[0] + cycles, total[1] + share * cycles
    figures += [Figure(f"{name} H={bits}: fewer by", a / b, "x") for name, (a, b) in left.items()]
    show(figures)


def main() -> None:
    """Measure every trained layer on the two boards of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="layers whose name contains this")
    parser.add_argument("--bound", type=int, metavar="H", help="measure nothing: what N leaves of layers with H bits")
    args = parser.parse_args()
    if args.bound is not None:
        show_bounds(args.bound)
        return
    compiler, figures = find_target_compiler(None), []
    for trained in TRAINED:
        layer, graph, found = layer_at(trained)
        if args.only not in layer.name:
            continue
        for board in BOARDS:
            target = with_room(load_target(data_folder("targets") / f"{board}.toml"))
            measured = measure(layer, target, compiler, graph)
            peer = layer.peer[target.core] / measured.cycles
            name = f"{target.core} {layer.name} r_t={found:.3f} (trained {trained.redundancy:.3f})"
            print(f"{name}: {measured.cycles:,} {peer:.2f} x faster", file=sys.stderr, flush=True)
            figures += [
                Figure(f"{name}: cycles", measured.cycles, "cycles"),
                Figure(f"{name}: scratch", measured.scratch_bytes, "bytes"),
                Figure(f"{name}: times faster than CMSIS-NN", peer, "x", 5.0, peer >= 5)
                if "conv1" in name
                else Figure(f"{name}: times faster than CMSIS-NN", peer, "x"),
            ]
    show(figures)


if __name__ == "__main__":
    main()
