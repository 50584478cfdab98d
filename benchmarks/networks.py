"""Whole networks on the STM32F469 by the cost model: cycles, SRAM and Flash, dense and clustered, beside CMSIS-NN v7.

    python benchmarks/networks.py --network zfnet_cifar

CMSIS-NN's cycles of a network are those of its layers in data/cmsis_nn_v7.csv; a layer that the table lacks is taken at
the cycles per MAC of the row with as large a kernel whose MACs are nearest, and how much of the sum was measured is
printed. Sums of two tensors, which it has not been measured for, cost it nothing here.

Clustered CifarNets are shown at the r_t that trained ones have (the accuracy study). Of the other networks none was
trained to the end: they are shown at the most clusters there can be, min(2^H, N) in each slice or group, which is the
bound that one image sets on r_t, and at half of them, which is where CifarNet's trained layers are. "At best" is one
cluster each. The model's own error is that of benchmarks/estimates.py.
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
from trec_dse.results import Cost
from trec_dse.target import Target, load_target

BOARD, CORE = "stm32f469i-disco", "cortex-m4"
# Times faster than CMSIS-NN's dense network; None where the papers have no such network.
GOALS: dict[str, float | None] = {
    "cifarnet": 3.0,
    "squeezenet": 5.0,
    "squeezenet_bypass": None,
    "squeezenet_complex_bypass": 3.7,
    "zfnet_cifar": 4.4,
    "resnet18": None,
    "resnet34": 3.1,
}
HALF = 0.5  # of the most clusters: what trained CifarNets have
ALL = 1000  # more layers than any network has


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
# What every other network is shown with. Nothing is clustered where the most clusters would make it slower.
OTHER_FORMS = {
    "slices of a kernel row, H=5 and 4": TrecPolicy(5, 4, only_where_it_pays=True),
    "the same, kernels reused": TrecPolicy(5, 4, only_where_it_pays=True, n_kernel_reuse=ALL),
    "strips of a kernel row, H=5 and 4": TrecPolicy(5, 4, scope="strip_shared", only_where_it_pays=True),
    "strips of a kernel row, H=4 and 3": TrecPolicy(4, 3, scope="strip_shared", only_where_it_pays=True),
}


def network(name: str, policy: TrecPolicy | None, target: Target) -> QuantizedGraph:
    """The int8 network without training: cycles do not depend on what the weights are."""
    return untrained_graph(Candidate("cifar10", name, trec=policy), placeholder("cifar10"), target)


def forms_of(name: str) -> list[Form]:
    """The clustered forms that a network is shown in."""
    own = [form for form in FORMS if form.network == name]
    return own or [Form(name, title, policy) for title, policy in OTHER_FORMS.items()]


def at(graph: QuantizedGraph, redundancy: Mapping[str, float] | None, share: float = 1.0) -> QuantizedGraph:
    """The network with that r_t in its layers, or `share` of the most clusters where it has none; None: one each."""
    clusters, shapes = {}, graph.shapes
    for node in graph.nodes:
        if isinstance(node.op, TrecConv2d | TrecStripConv2d):
            shape = shapes[node.inputs[0]]
            n, cap, rows = node.op.n_slices(shape), node.op.cap(shape), node.op.n_positions(shape)
            least = cap / rows * share
            kept = 1.0 if redundancy is None else min(cap, (1 - redundancy.get(node.name, 1 - least)) * rows)
            clusters[node.name] = n * max(1.0, kept)
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


@dataclass(frozen=True)
class Peer:
    """CMSIS-NN's cycles of a dense network. `measured`: how many of them its own table has."""

    cycles: float
    measured: float


def peer_cycles(graph: QuantizedGraph) -> Peer:
    """Of the network's convolutions, dense layers and poolings."""
    rows = [_Row(layer.op, layer.shape, layer.peer[CORE]) for layer in load_layers()]
    found = [_peer(node.op, graph.shapes[node.inputs[0]], rows) for node in graph.nodes]
    return Peer(sum(one.cycles for one in found), sum(one.measured for one in found))


def _peer(op: Op, shape: Shape, rows: list[_Row]) -> Peer:
    kind = next((k for k in (Conv2d, Dense, MaxPool2d, AvgPool2d) if isinstance(op, k)), None)
    if kind is None:  # concatenations, which CMSIS-NN leaves to who calls it, and sums
        return Peer(0.0, 0.0)
    alike = [row for row in rows if isinstance(row.op, kind) and _kernel(row.op) == _kernel(op)]
    if not alike:
        alike = [row for row in rows if isinstance(row.op, kind)]
    size = op.macs(shape) or math.prod(shape)
    nearest = min(alike, key=lambda row: abs(math.log((row.macs or math.prod(row.shape)) / size)))
    cycles = nearest.cycles * size / (nearest.macs or math.prod(nearest.shape))
    is_there = any(row.shape == shape and row.macs == op.macs(shape) for row in alike)
    return Peer(cycles, cycles if is_there else 0.0)


def _kernel(op: Op) -> tuple[int, ...]:
    return op.window.kernel if isinstance(op, Conv2d) else ()


def form_figures(form: Form, target: Target, peer: float, goal: float | None) -> list[Figure]:
    """Cycles and bytes of one clustered network, and how much faster than CMSIS-NN's dense one it is."""
    title, graph = f"{form.network}: {form.name}", network(form.network, form.policy, target)
    costs = {"at best": cost_of(at(graph, None), target)}
    if not form.redundancy:
        costs["at half the most clusters"] = cost_of(at(graph, {}, HALF), target)
    costs["trained" if form.redundancy else "at the bound"] = cost_of(at(graph, form.redundancy), target)
    found = []
    for where, cost in costs.items():
        times = peer / cost.cycles
        found.append(Figure(f"{title}, {where}", cost.cycles / 1e6, "Mcycles"))
        wanted = goal if where != "at best" else None
        met = None if wanted is None else times >= wanted
        found.append(Figure(f"{title}, {where}: CMSIS-NN over it", times, "x", wanted, met))
    return [*found, *byte_figures(title, cost, target)]


def byte_figures(title: str, cost: Cost, target: Target) -> list[Figure]:
    """SRAM and Flash, within what the board has."""
    sizes = (("SRAM", cost.sram_bytes, target.sram_bytes), ("Flash", cost.flash_bytes, target.flash_bytes))
    return [Figure(f"{title}: {name}", n / 1024, "KiB", most / 1024, n <= most) for name, n, most in sizes]


def main() -> None:
    """Price the networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=GOALS, help="only this one; may be given several times")
    target = load_target(data_folder("targets") / f"{BOARD}.toml")
    for name in parser.parse_args().network or GOALS:
        dense = network(name, None, target)
        peer, cost = peer_cycles(dense), cost_of(dense, target)
        found = [
            Figure(f"{name}: CMSIS-NN v7, dense", peer.cycles / 1e6, "Mcycles"),
            Figure(f"{name}: of these in its table", 100 * peer.measured / peer.cycles, "%"),
            Figure(f"{name}: MACs", cost.macs / 1e6, "million"),
            Figure(f"{name}: dense", cost.cycles / 1e6, "Mcycles"),
            Figure(f"{name}: dense: CMSIS-NN over it", peer.cycles / cost.cycles, "x"),
            *byte_figures(f"{name}: dense", cost, target),
        ]
        for form in forms_of(name):
            found += form_figures(form, target, peer.cycles, GOALS[name])
        show(found)


if __name__ == "__main__":
    main()
