"""Oracle, host build and board twin on 1,000 random images for a TREC candidate of each shipped space, two boards.

A mismatch is an image on which any byte of any two of the three answers differs.
"""

import numpy as np
import torch
from common import Figure, on_twin, random_candidates, show

from trec_dse import datasets
from trec_dse.evaluate import host_network, untrained_graph
from trec_dse.resources import data_folder
from trec_dse.target import load_target

N_IMAGES = 1000
SPACES = ("digits_tiny", "mnist_lenet5", "cifar10_cifarnet")


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
            with on_twin(graph, target) as (_, executor):
                device = np.stack([executor.infer(image).output for image in images])
            wrong = int(((oracle != host) | (host != device)).any(axis=1).sum())
            figures.append(Figure(f"{space} on {target.name}: {N_IMAGES} images", wrong, "mismatches", 0, wrong == 0))
    show(figures)


if __name__ == "__main__":
    main()
