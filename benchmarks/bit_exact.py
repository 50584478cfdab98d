"""Oracle, host build and board twin on 1,000 random images for a TREC candidate of each shipped space, two boards.

A mismatch is an image on which any byte of any two of the three answers differs.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from common import Figure, random_candidates, show

from trec_dse import datasets
from trec_dse.codegen import generate, kernel_sources
from trec_dse.evaluate import host_network, untrained_graph
from trec_dse.executors import twin
from trec_dse.firmware import build_firmware, write_export
from trec_dse.graph import Int8Array, QuantizedGraph
from trec_dse.memory import plan_memory
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target

BUILD_ID = "0123456789abcdef"
N_IMAGES = 1000
SPACES = ("digits_tiny", "mnist_lenet5", "cifar10_cifarnet")


def on_twin(graph: QuantizedGraph, images: Int8Array, target: Target) -> Int8Array:
    """The twin's answers (n, outputs)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "firmware"
        files = {**generate(graph, plan_memory(graph), BUILD_ID), "manifest.json": f'{{"build_id": "{BUILD_ID}"}}'}
        write_export(folder, target, files, kernel_sources(graph))
        firmware = build_firmware(folder, target)
        with twin.open(firmware.elf, target, build_id=BUILD_ID) as executor:
            return np.stack([executor.infer(image).output for image in images])


def main() -> None:
    """Run all three on all images."""
    torch.set_num_threads(1)
    figures = []
    for space in SPACES:
        candidate = next(c for c in random_candidates(space, 20, seed=5) if c.trec is not None)
        graph = untrained_graph(candidate, datasets.placeholder(candidate.dataset))
        images = np.random.default_rng(1).integers(-128, 128, (N_IMAGES, *graph.input_shape)).astype(np.int8)
        oracle = np.stack([graph.run(image)[graph.output].reshape(-1) for image in images])
        with host_network(graph) as network:
            host = network.run(images).outputs
        for path in sorted(data_folder("targets").glob("*.toml")):
            target = load_target(path)
            device = on_twin(graph, images, target)
            wrong = int(((oracle != host) | (host != device)).any(axis=1).sum())
            figures.append(Figure(f"{space} on {target.name}: {N_IMAGES} images", wrong, "mismatches", 0, wrong == 0))
    show(figures)


if __name__ == "__main__":
    main()
