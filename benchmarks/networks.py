"""Whole networks on the STM32F469 by the cost model: cycles, SRAM and Flash, dense and clustered, beside CMSIS-NN v7.

    python benchmarks/networks.py

CMSIS-NN's cycles of a network are those of its layers in data/cmsis_nn_v7.csv; a layer that the table lacks is taken at
the cycles per MAC of the row with as large a kernel whose MACs are nearest. Clustered CifarNets are shown at the r_t
that trained ones have (the accuracy study), or, where none is given, at the most clusters there can be, min(2^H, N)
each slice or group; "at best" is one cluster each. The model's own error is that of benchmarks/estimates.py.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from common import Figure, show
from kernels import load_layers

from trec_dse.candidate import Candidate, TrecConfig, TrecPolicy
from trec_dse.datasets import placeholder
from trec_dse.evaluate import cost_of, untrained_graph
from trec_dse.graph import Op, QuantizedGraph, Shape
from trec_dse.ops.avg_pool2d import AvgPool2d
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.quantize import with_clusters
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target

BOARD, CORE = "stm32f469i-disco", "cortex-m4"
GOALS = {"cifarnet": 3.0, "squeezenet": 5.0}  # times faster than CMSIS-NN's dense network


@dataclass(frozen=True)
class Form:
    """A clustered network. `redundancy`: r_t by layer, where it is known."""

    network: str
    name: str
    policy: TrecPolicy
    redundancy: Mapping[str, float] = field(default_factory=dict)


def strips(bits: int, length: int, groups: int) -> TrecConfig:
    """Strips with a hash for each of the groups of channels."""
    return TrecConfig(bits, length, "strip_shared", channel_groups=groups)


def by_layer(configs: dict[str, TrecConfig]) -> TrecPolicy:
    """These layers only."""
    return TrecPolicy(5, 5, layers=(), layer_configs=configs)


_ROWS, _COARSE = {"conv1": 0.976, "conv2": 0.837}, strips(5, 16, 4)
FORMS = [
    Form("cifarnet", "slices of a kernel row, H=5", TrecPolicy(5, 5), _ROWS),
    Form("cifarnet", "the same, kernels reused", TrecPolicy(5, 5, n_kernel_reuse=2), _ROWS),
    Form("cifarnet", "strips of 16 in conv2", by_layer({"conv2": _COARSE}), {"conv2": 0.765}),
    Form(
        "cifarnet",
        "strips of 15 and 16",
        by_layer({"conv1": strips(6, 15, 1), "conv2": _COARSE}),
        {"conv1": 0.958, "conv2": 0.797},
    ),
    Form(
        "cifarnet",
        "strips of 15 and 64",
        by_layer({"conv1": strips(6, 15, 1), "conv2": strips(6, 64, 1)}),
        {"conv1": 0.962, "conv2": 0.619},
    ),
    Form("squeezenet", "slices of a kernel row, H=5 and 4", TrecPolicy(5, 4)),
    Form("squeezenet", "strips of a kernel row, H=5 and 4", TrecPolicy(5, 4, scope="strip_shared")),
    Form("squeezenet", "strips of a kernel row, H=4 and 3", TrecPolicy(4, 3, scope="strip_shared")),
    Form(
        "squeezenet",
        "strips of a pixel, H=5 and 4",
        TrecPolicy(5, 4, slice_policy="channels", scope="strip_shared", only_where_it_pays=True),
    ),
]


def network(name: str, policy: TrecPolicy | None, target: Target) -> QuantizedGraph:
    """The int8 network without training: cycles do not depend on what the weights are."""
    return untrained_graph(Candidate("cifar10", name, trec=policy), placeholder("cifar10"), target)


def at(graph: QuantizedGraph, redundancy: Mapping[str, float] | None) -> QuantizedGraph:
    """The network with that r_t in its layers; where it is not given, the most clusters; if None, one each."""
    clusters, shapes = {}, graph.shapes
    for node in graph.nodes:
        if isinstance(node.op, TrecConv2d | TrecStripConv2d):
            shape = shapes[node.inputs[0]]
            n, cap = node.op.n_slices(shape), node.op.cap(shape)
            kept = cap if redundancy is None else (1 - redundancy.get(node.name, 0.0)) * node.op.n_positions(shape)
            clusters[node.name] = n * (1.0 if redundancy is None else min(cap, kept))
    return with_clusters(graph, clusters)


@dataclass(frozen=True)
class _Row:
    """A layer of CMSIS-NN's table."""

    op: Op
    shape: Shape
    cycles: int

    @property
    def macs(self) -> int:
        return self.op.macs(self.shape)


def peer_cycles(graph: QuantizedGraph) -> float:
    """CMSIS-NN's cycles of the dense network: of its convolutions, dense layers and poolings."""
    rows = [_Row(layer.op, layer.shape, layer.peer[CORE]) for layer in load_layers()]
    shapes = graph.shapes
    return sum(_peer(node.op, shapes[node.inputs[0]], rows) for node in graph.nodes)


def _peer(op: Op, shape: Shape, rows: list[_Row]) -> float:
    kind = next((k for k in (Conv2d, Dense, MaxPool2d, AvgPool2d) if isinstance(op, k)), None)
    if kind is None:  # concatenations, which CMSIS-NN leaves to who calls it
        return 0.0
    alike = [row for row in rows if isinstance(row.op, kind) and _kernel(row.op) == _kernel(op)]
    if not alike:
        alike = [row for row in rows if isinstance(row.op, kind)]
    size = op.macs(shape) or math.prod(shape)
    nearest = min(alike, key=lambda row: abs(math.log((row.macs or math.prod(row.shape)) / size)))
    return nearest.cycles * size / (nearest.macs or math.prod(nearest.shape))


def _kernel(op: Op) -> tuple[int, ...]:
    return op.window.kernel if isinstance(op, Conv2d) else ()


def main() -> None:
    """Price the networks."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    target = load_target(data_folder("targets") / f"{BOARD}.toml")
    found = []
    for name, goal in GOALS.items():
        dense = network(name, None, target)
        peer, cost = peer_cycles(dense), cost_of(dense, target)
        found.append(Figure(f"{name}: CMSIS-NN v7, dense", peer / 1e6, "Mcycles"))
        for form in (None, *(form for form in FORMS if form.network == name)):
            title = f"{name}: {'dense' if form is None else form.name}"
            if form is not None:
                graph = network(name, form.policy, target)
                cost = cost_of(at(graph, form.redundancy), target)
                best = cost_of(at(graph, None), target)
                found.append(Figure(f"{title}, at best", best.cycles / 1e6, "Mcycles"))
            found += [
                Figure(title, cost.cycles / 1e6, "Mcycles"),
                Figure(
                    f"{title}: CMSIS-NN's cycles over these", peer / cost.cycles, "x", goal, peer / cost.cycles >= goal
                ),
                Figure(f"{title}: SRAM", cost.sram_bytes / 1024, "KiB"),
                Figure(f"{title}: Flash", cost.flash_bytes / 1024, "KiB"),
            ]
    show(found)


if __name__ == "__main__":
    main()
