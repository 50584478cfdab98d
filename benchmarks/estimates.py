"""Estimates against what is linked and run: SRAM, Flash and cycles of random CIFAR-10 candidates on two boards.

Weights are random, which changes neither sizes nor what a cycle model has to predict. Clusters are counted on
the host by the network's own C over the calibration images, the twin runs other images.
"""

import dataclasses
import sys

import numpy as np
import torch
from common import Figure, on_twin, random_candidates, show

from trec_dse import datasets
from trec_dse.codegen import network_calls
from trec_dse.errors import DoesNotFitError
from trec_dse.evaluate import cost_of, host_network, int8_images, untrained_graph
from trec_dse.graph import Int8Array, QuantizedGraph
from trec_dse.quantize import with_clusters
from trec_dse.resources import data_folder
from trec_dse.results import Cost
from trec_dse.target import Target, load_target

N_CANDIDATES, N_IMAGES = 30, 2
SIZE_GOAL = 2.0  # per cent


@dataclasses.dataclass(frozen=True)
class Row:
    """One candidate on one board. Errors in per cent, arena in bytes."""

    arena: int
    sram: float
    flash: float
    cycles: float


def calibrated(graph: QuantizedGraph, images: Int8Array) -> QuantizedGraph:
    """The graph with N_c as the network's own C counts it."""
    layers = [call.node for call in network_calls(graph) if call.kernel.counts_clusters]
    with host_network(graph) as network:
        counts = network.run(images).n_clusters
    return with_clusters(graph, {name: float(counts[:, i].mean()) for i, name in enumerate(layers)})


def compare(cost: Cost, graph: QuantizedGraph, images: Int8Array, target: Target) -> Row:
    """Link it, run it, and put the figures side by side."""
    with on_twin(graph, target) as (firmware, executor):
        cycles = float(np.mean([executor.infer(image).cycles for image in images]))
    return Row(
        arena=abs(cost.arena_bytes - firmware.arena_bytes),
        sram=100 * abs(cost.sram_bytes / firmware.sram_bytes - 1),
        flash=100 * abs(cost.flash_bytes / firmware.flash_bytes - 1),
        cycles=100 * abs(cost.cycles / cycles - 1),
    )


def figures(name: str, rows: list[Row]) -> list[Figure]:
    """Maximum and median of each error."""
    arena = max(row.arena for row in rows)
    result = [Figure(f"{name}: arena, largest error", arena, "B", 0, arena == 0)]
    for field, goal in (("sram", SIZE_GOAL), ("flash", SIZE_GOAL), ("cycles", None)):
        errors = [getattr(row, field) for row in rows]
        worst, median = max(errors), float(np.median(errors))
        result.append(
            Figure(f"{name}: {field}, largest error", worst, "%", goal, None if goal is None else worst <= goal)
        )
        result.append(Figure(f"{name}: {field}, median error", median, "%"))
    return [Figure(f"{name}: candidates", len(rows), "candidates"), *result]


def main() -> None:
    """Price, link and run everything."""
    torch.set_num_threads(1)
    dataset = datasets.placeholder("cifar10")
    drawn = [(c, untrained_graph(c, dataset)) for c in random_candidates("cifar10_cifarnet", N_CANDIDATES, seed=11)]
    found: list[Figure] = []
    for path in sorted(data_folder("targets").glob("*.toml")):
        target, rows = load_target(path), []
        for candidate, untrained in drawn:
            images = int8_images(untrained, dataset, dataset.test)
            graph = calibrated(untrained, images[N_IMAGES:])
            try:
                rows.append(compare(cost_of(graph, target), graph, images[:N_IMAGES], target))
            except DoesNotFitError as problem:
                print(f"{candidate.network_args} does not fit {target.name}: {problem}", file=sys.stderr)
        found += figures(target.name, rows)
    show(found)


if __name__ == "__main__":
    main()
