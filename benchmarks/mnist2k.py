"""The network of 2 KB: every byte of it, its accuracy by the C code, and whether oracle, host and boards agree.

    mnist2k.py --data DIR [--network FOLDER] [--images N]

FOLDER is that of a trained network, `presets/mnist2k` where none is given. The C code answers all test images on this
machine, compared with the oracle, and the first N of them on the twins of a Cortex-M4 and of a Cortex-M0+.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from common import Figure, on_twin, show

from trec_dse import datasets
from trec_dse.codegen import constant_bytes, network_calls
from trec_dse.datasets import Dataset
from trec_dse.evaluate import host_network, int8_images
from trec_dse.graph import INPUT, IntArray, QuantizedGraph
from trec_dse.memory import plan_memory
from trec_dse.ops._in_place import Order, slack
from trec_dse.ops.cascade_u4 import CascadeU4
from trec_dse.resources import data_folder
from trec_dse.store import load_graph
from trec_dse.target import load_target

MOST_BYTES, LEAST_ACCURACY = 1947, 99.15
BOARDS = ("stm32f469i-disco", "nucleo-g0b1re")


def tables(graph: QuantizedGraph) -> dict[str, IntArray]:
    """Every constant array of the network by layer and member."""
    return {
        f"{call.node} {member}": value
        for call in network_calls(graph)
        for member, value in call.kernel.fields
        if isinstance(value, np.ndarray)
    }


def byte_table(graph: QuantizedGraph) -> list[Figure]:
    """What the network takes: topology are the layers' tables and the structs, activations the whole arena."""
    arrays = tables(graph)
    parts = {
        "weights": sum(a.nbytes for name, a in arrays.items() if name.endswith("weights")),
        "biases": sum(a.nbytes for name, a in arrays.items() if name.endswith("bias")),
        "topology": sum(a.nbytes for name, a in arrays.items() if name.endswith("layers"))
        + sum(item.structs for item in constant_bytes(graph).values()),
        "activations": plan_memory(graph).size,
    }
    total = sum(parts.values())
    figures = [Figure(f"bytes: {name}", value, "B") for name, value in parts.items()]
    return [*figures, Figure("bytes: all", total, "B", MOST_BYTES, total <= MOST_BYTES)]


def other_orders(graph: QuantizedGraph) -> list[Figure]:
    """What the activations would take with whole layers, one after another."""
    cascade = graph.nodes[0].op
    assert isinstance(cascade, CascadeU4)
    shapes = cascade.shapes(graph.input_shape)
    apart = [np.prod(before) + np.prod(after) for before, after in itertools.pairwise(shapes)]
    figures = [Figure("activations, a buffer for each layer", max(apart) / 2, "B")]
    orders: tuple[Order, ...] = ("row", "transpose", "herringbone")
    for order in orders:
        peak = [
            np.prod(before) + slack(layer.window, before, after[2], order, copied=not layer.out_channels)
            for layer, before, after in zip(cascade.layers, shapes, shapes[1:], strict=False)
        ]
        figures.append(Figure(f"activations, in place, {order}", max(peak) / 2, "B"))
    cascaded = cascade.scratch_bytes(graph.input_shape) + graph.bytes_of(INPUT)
    return [*figures, Figure("activations, pixel by pixel", cascaded, "B")]


def agreement(graph: QuantizedGraph, dataset: Dataset, n_images: int) -> list[Figure]:
    """Accuracy over all test images and answers that differ."""
    images = int8_images(graph, dataset, dataset.test)
    with host_network(graph) as network:
        host = network.run(images).outputs
    oracle = np.stack([graph.run(image)[graph.output] for image in images])
    accuracy = 100 * float((host.argmax(axis=1) == dataset.test.labels).mean())
    wrong = int((host != oracle).any(axis=1).sum())
    figures = [
        Figure(f"accuracy of the C code, {len(images)} test images", accuracy, "%", LEAST_ACCURACY, accuracy >= 99.15),
        Figure(f"oracle and host, {len(images)} images", wrong, "mismatches", 0, wrong == 0),
    ]
    for name in BOARDS:
        target = load_target(data_folder("targets") / f"{name}.toml")
        with on_twin(graph, target) as (firmware, executor):
            answers = [executor.infer(image) for image in images[:n_images]]
        outputs = np.stack([answer.output for answer in answers])
        wrong = int((outputs != host[:n_images]).any(axis=1).sum())
        figures += [
            Figure(f"{name} and host, {n_images} images", wrong, "mismatches", 0, wrong == 0),
            Figure(f"{name}: arena in the ELF", firmware.arena_bytes, "B"),
            Figure(f"{name}: cycles", float(np.mean([answer.cycles for answer in answers])), "cycles"),
            Figure(f"{name}: stack used", max(answer.stack_bytes for answer in answers), "B"),
        ]
    return figures


def main() -> None:
    """Bytes, then answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the data set (default: the cache)")
    parser.add_argument("--network", type=Path, default=data_folder("presets") / "mnist2k")
    parser.add_argument("--images", type=int, default=1000, help="on each twin")
    args = parser.parse_args()
    torch.set_num_threads(1)
    graph, dataset = load_graph(args.network), datasets.load("mnist", args.data)
    show(byte_table(graph) + other_orders(graph) + agreement(graph, dataset, args.images))


if __name__ == "__main__":
    main()
