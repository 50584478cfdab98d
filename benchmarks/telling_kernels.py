"""Whether it matters which kernels are reused as hashes: the first of a layer, or the most telling ones.

LeNet-5 on 3,000 images of MNIST, a dense network per seed. From it both choices for every number of bits, at once and
after fine-tuning; the int8 networks' own C classifies all 10,000 test images. The order of the kernels is all that
differs, so what counts is the difference within a seed. Seven minutes on one core.

    python benchmarks/telling_kernels.py --data-dir FOLDER --seeds 5
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import Figure, show
from deep_reuse import dense_network
from torch import nn

from trec_dse import datasets
from trec_dse.candidate import Candidate, Recipe, TrecPolicy
from trec_dse.course import TREC_RATE, calibration_images
from trec_dse.datasets import Dataset
from trec_dse.evaluate import host_network, int8_images
from trec_dse.lower import lower
from trec_dse.quantize import quantize
from trec_dse.reuse import telling_kernels_first
from trec_dse.train import train
from trec_dse.trec.apply import apply_trec, conv_shapes
from trec_dse.trec.policy import resolve

BITS, EPOCHS = (2, 3, 4), (0, 2)
CHOICES = ("first", "telling")
RECIPE = Recipe(epochs=5, batch_size=32, n_train=3000, n_validation=500)


@dataclass(frozen=True)
class Row:
    """What one network gets right. `accuracy`: per cent of the test images; dense where `bits` is 0."""

    seed: int
    bits: int
    choice: str
    epochs: int
    accuracy: float


def classified(model: nn.Module, dataset: Dataset) -> float:
    """Per cent of the test images that the int8 network's C code gets right."""
    images = calibration_images(dataset, RECIPE.n_calibration)
    graph = quantize(lower(model.eval(), dataset.input_shape), images.permute(0, 2, 3, 1).contiguous())
    with host_network(graph) as network:
        found = network.run(int8_images(graph, dataset, dataset.test)).outputs.argmax(axis=1)
    return 100 * float((found == dataset.test.labels).mean())


def rows_of(seed: int, dataset: Dataset) -> Iterator[Row]:
    """The dense network of a seed, and everything that is made of it."""
    recipe = replace(RECIPE, seed=seed)
    dense = dense_network(Candidate("mnist", "lenet5", recipe=recipe), dataset)
    images = calibration_images(dataset, recipe.n_calibration)
    yield Row(seed, 0, "dense", 0, classified(dense, dataset))
    for bits in BITS:
        configs = resolve(TrecPolicy(bits, bits, n_kernel_reuse=2), conv_shapes(dense, dataset.input_shape))
        for choice in CHOICES:
            ordered = dense if choice == "first" else telling_kernels_first(dense, configs, images)
            for epochs in EPOCHS:
                model = apply_trec(ordered, configs, images)
                train(model, dataset, recipe, epochs=epochs, learning_rate=TREC_RATE * recipe.learning_rate)
                yield Row(seed, bits, choice, epochs, classified(model, dataset))


def summary(rows: list[Row]) -> Iterator[Figure]:
    """Means over the seeds, and the mean difference with its standard error."""
    yield Figure("dense", float(np.mean([row.accuracy for row in rows if row.bits == 0])), "%")
    for bits in BITS:
        for epochs in EPOCHS:
            first, telling = (
                np.array([r.accuracy for r in rows if (r.bits, r.choice, r.epochs) == (bits, choice, epochs)])
                for choice in CHOICES
            )
            title, gain = f"H={bits}, {epochs} epochs", telling - first
            error = float(gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else float("nan")
            yield Figure(f"{title}: first", float(first.mean()), "%")
            yield Figure(f"{title}: telling", float(telling.mean()), "%")
            yield Figure(f"{title}: gain", float(gain.mean()), "points")
            yield Figure(f"{title}: standard error of the gain", error, "points")
            yield Figure(f"{title}: seeds that gain", int((gain > 0).sum()), f"of {len(gain)}")


def main() -> None:
    """Train, cluster, classify."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where MNIST lies; the default is the user's cache")
    parser.add_argument("--seeds", type=int, default=5, help="default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = datasets.load("mnist", args.data_dir)
    dataset = replace(dataset, validation=dataset.validation.stratified(RECIPE.n_validation))
    rows = []
    for seed in range(args.seeds):
        for row in rows_of(seed, dataset):
            print(row, flush=True)
            rows.append(row)
    show(list(summary(rows)))


if __name__ == "__main__":
    main()
