"""Where a network's time goes on its twin: cycles, instructions and stalls by layer and by function."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trec_dse.codegen import network_calls
from trec_dse.device import Int8Array
from trec_dse.graph import QuantizedGraph
from trec_dse.ops.sparse_conv2d import SparseConv2d
from trec_dse.quantize import count_rows, count_signatures, with_clusters
from trec_dse.target import Target
from trec_dse.twin.places import Profile, Tally


@dataclass(frozen=True)
class LayerProfile:
    """One node, mean over the images. `macs`: with N_c as it was; `functions`: what it spent in which, most first."""

    name: str
    op: str
    macs: int
    spent: Tally
    functions: Mapping[str, Tally]

    @property
    def cycles_per_mac(self) -> float | None:
        """Cycles for a multiply-accumulate; None for a layer that makes none."""
        return self.spent.cycles / self.macs if self.macs else None


@dataclass(frozen=True)
class NetworkProfile:
    """Mean over `n_images` inferences, caches as the inference before left them.

    Attributes:
        graph: with N_c as it was on these images; cycles: as the firmware itself reads its counter.
    """

    graph: QuantizedGraph
    n_images: int
    cycles: int
    layers: tuple[LayerProfile, ...]

    @property
    def total(self) -> Tally:
        """Of all layers."""
        return sum((layer.spent for layer in self.layers), Tally())

    @property
    def functions(self) -> dict[str, Tally]:
        """What each function took in all layers together, most first."""
        return _most_first(_summed(layer.functions for layer in self.layers))


def profile_network(graph: QuantizedGraph, elf: Path, target: Target, images: Sequence[Int8Array]) -> NetworkProfile:
    """Run int8 images on the twin, and the first of them once before, to warm its caches.

    Raises `DeviceError` if the firmware faults, `ToolchainError` if the emulator is not installed.
    """
    from trec_dse.twin.profile import profile  # noqa: PLC0415 - the emulator, which is optional

    calls = network_calls(graph)
    runs = profile(elf, target, [images[0], *images], len(calls))[1:]
    counted = _counted(graph, runs, images)
    shapes = counted.shapes
    layers = []
    for node in counted.nodes:
        steps = [run.steps[i] for run in runs for i, call in enumerate(calls) if call.node == node.name]
        functions = {name: _mean(tally, len(runs)) for name, tally in _summed(steps).items()}
        layers.append(
            LayerProfile(
                name=node.name,
                op=node.op.kind,
                macs=node.op.macs(*(shapes[name] for name in node.inputs)),
                spent=sum(functions.values(), Tally()),
                functions=_most_first(functions),
            )
        )
    cycles = round(np.mean([run.answer.cycles for run in runs]))
    return NetworkProfile(counted, len(runs), cycles, tuple(layers))


def _counted(graph: QuantizedGraph, runs: Sequence[Profile], images: Sequence[Int8Array]) -> QuantizedGraph:
    """The graph with the clusters and signatures, and the rows of sparse layers, that there really were."""
    names = [call.node for call in network_calls(graph) if call.kernel.counts_clusters]
    counts = np.mean([run.answer.n_clusters for run in runs], axis=0)
    graph = with_clusters(graph, dict(zip(names, map(float, counts), strict=True)))
    graph = count_signatures(graph, np.stack(list(images)))
    has_rows = any(isinstance(node.op, SparseConv2d) for node in graph.nodes)
    return count_rows(graph, np.stack(list(images))) if has_rows else graph


def _summed(parts: Iterable[Mapping[str, Tally]]) -> dict[str, Tally]:
    total: dict[str, Tally] = {}
    for part in parts:
        for name, tally in part.items():
            total[name] = total.get(name, Tally()) + tally
    return total


def _mean(tally: Tally, n: int) -> Tally:
    numbers = (tally.cycles, tally.n_instructions, tally.code_stalls, tally.data_stalls)
    return Tally(*(round(number / n) for number in numbers))


def _most_first(tallies: Mapping[str, Tally]) -> dict[str, Tally]:
    return dict(sorted(tallies.items(), key=lambda item: -item[1].cycles))
