"""What int8 and pruning cost in accuracy: every int8 accuracy is that of the C code over a whole test split.

    python benchmarks/compression.py --data-dir FOLDER
    python benchmarks/compression.py --data-dir FOLDER --parts cifar10
    python benchmarks/compression.py --data-dir FOLDER --parts mnist_sizes cifar10_sizes --out ROWS.jsonl
    python benchmarks/compression.py --parts --out benchmarks/data/compression_sizes.jsonl --plot PLOT.png

Test splits: 360 digits, 10,000 images each of MNIST and CIFAR-10. Training is cut to 10,000 images of MNIST, 5,000 for
its clustered network, and 5,000 of CIFAR-10. Digits are repeated with six seeds, for one of them is 0.28 points.
Training in int8 is three epochs more, so it is held against a float network that got these epochs too. The third form
walks down to a few hundredths of two networks (compression_sizes.py), the fourth draws what it found.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from common import Figure, show
from compression_sizes import N_VALIDATION, QAT_EPOCHS, SUBJECTS, Named, draw, figures, n_right, rows_of, table, walk
from torch import Tensor, nn

from trec_dse import datasets
from trec_dse.candidate import Candidate, PruningHeuristic, QuantizationRecipe, Recipe, TrecPolicy
from trec_dse.course import PRUNED_RATE, QAT_RATE, TREC_RATE, calibration_images
from trec_dse.datasets import Dataset
from trec_dse.graph import Graph, QuantizedGraph
from trec_dse.importance import Ranking
from trec_dse.lower import lower
from trec_dse.networks import build_model
from trec_dse.prune import fold_batch_norms, prune
from trec_dse.qat import QatNetwork
from trec_dse.quantize import calibrate, quantize, quantize_with
from trec_dse.train import accuracy, train
from trec_dse.trec.apply import apply_trec, conv_shapes
from trec_dse.trec.policy import resolve

PTQ_GOAL, QAT_GOAL = 0.5, 0.1  # percentage points below float
N_SEEDS = 6  # of the digits
HEURISTIC_SHARE = 0.75
SHORT = ["digits", "mnist", "heuristics"]
PARTS = [*SHORT, "cifar10", *SUBJECTS]
METHODS = {
    "PTQ min-max": QuantizationRecipe("minmax"),
    "PTQ percentile": QuantizationRecipe("percentile"),
    "PTQ MSE": QuantizationRecipe("mse"),
    "PTQ min-max, bias correction": QuantizationRecipe("minmax", bias_correction=True),
    "PTQ MSE, bias correction": QuantizationRecipe("mse", bias_correction=True),
    "QAT": QuantizationRecipe("mse", qat_epochs=QAT_EPOCHS),
}


@dataclass(frozen=True)
class Trained:
    """A float network on its test split, `accuracy` in per cent; `longer`: when it is trained on, as QAT does."""

    graph: Graph
    accuracy: float
    longer: float


@dataclass(frozen=True)
class Subject(Named):
    """What is compressed, step by step."""

    @property
    def recipe(self) -> Recipe:
        """The candidate's."""
        return self.candidate.recipe

    def learn(self, model: nn.Module, epochs: int, rate: float) -> None:
        """Train at that share of the recipe's learning rate."""
        train(model, self.dataset, self.recipe, epochs=epochs, learning_rate=rate * self.recipe.learning_rate)

    def dense(self) -> nn.Module:
        """The trained network before anything is done to it."""
        model = build_model(self.candidate, self.dataset.input_shape, self.dataset.n_classes)
        self.learn(model, self.recipe.epochs, 1.0)
        return model

    def finished(self, model: nn.Module, *, compare: bool = False) -> Trained:
        """Folded, clustered where the candidate says so, fine-tuned and lowered; trained on only to `compare`."""
        model, images = fold_batch_norms(model), self.calibration
        if self.candidate.trec is not None:
            configs = resolve(self.candidate.trec, conv_shapes(model, self.dataset.input_shape))
            model = apply_trec(model, configs, images)
        self.learn(model, self.recipe.trec_epochs, TREC_RATE)
        found, graph = self.on_float(model), lower(model.eval(), self.dataset.input_shape)
        self.learn(model, QAT_EPOCHS if compare else 0, QAT_RATE)
        return Trained(graph, found, self.on_float(model))

    def on_float(self, model: nn.Module) -> float:
        """Per cent of the test split that a torch network classifies correctly."""
        return 100 * accuracy(model, self.dataset, self.dataset.test)

    @property
    def calibration(self) -> Tensor:
        """Normalised training images (n, C, H, W)."""
        return calibration_images(self.dataset, self.recipe.n_calibration)

    def int8(self, graph: Graph, method: QuantizationRecipe) -> QuantizedGraph:
        """The int8 network by one of the methods."""
        images = self.calibration.permute(0, 2, 3, 1).contiguous()
        if not method.qat_epochs:
            return quantize(graph, images, method)
        network = QatNetwork(graph, calibrate(graph, images, method))
        self.learn(network, method.qat_epochs, QAT_RATE)
        return quantize_with(network.graph, network.ranges, images)

    def on_c(self, graph: QuantizedGraph) -> float:
        """Per cent of the test split that the network's own C classifies correctly."""
        return 100 * n_right(graph, self.dataset) / len(self.dataset.test)

    def ranking(self, heuristic: PruningHeuristic) -> Ranking:
        """That heuristic, with 256 training images to look at."""
        chosen = self.dataset.train.stratified(256, self.recipe.seed)
        images = self.dataset.normalise(chosen.images)
        return Ranking(heuristic, images, torch.from_numpy(chosen.labels.copy()), self.recipe.seed)


def quantization(name: str, subjects: list[Subject]) -> Iterator[Figure]:
    """Points that each method loses against float, mean over the subjects, which differ in their seed."""
    trained = [subject.finished(subject.dense(), compare=True) for subject in subjects]
    yield Figure(f"{name}: float", float(np.mean([each.accuracy for each in trained])), "%")
    yield Figure(f"{name}: float, trained on", float(np.mean([each.longer for each in trained])), "%")
    for method, recipe in METHODS.items():
        is_trained = recipe.qat_epochs > 0
        lost = [
            (each.longer if is_trained else each.accuracy) - subject.on_c(subject.int8(each.graph, recipe))
            for subject, each in zip(subjects, trained, strict=True)
        ]
        mean, goal = float(np.mean(lost)), QAT_GOAL if is_trained else PTQ_GOAL
        reference = "float trained on" if is_trained else "float"
        yield Figure(f"{name}: {method}, below {reference}", mean, "pp", goal, mean <= goal + 1e-9)


def heuristics(subject: Subject, dense: nn.Module) -> Iterator[Figure]:
    """Every heuristic at one share, right after the cut and after fine-tuning and int8."""
    shape = subject.dataset.input_shape
    for heuristic in get_args(PruningHeuristic):
        model = prune(dense, shape, {"*": HEURISTIC_SHARE}, ranking=subject.ranking(heuristic))
        name = f"{subject.name}, {HEURISTIC_SHARE:.0%} of the channels pruned by {heuristic}"
        yield Figure(f"{name}, not trained since: float accuracy", subject.on_float(model), "%")
        subject.learn(model, subject.recipe.fine_tune_epochs, PRUNED_RATE)
        graph = subject.finished(model).graph
        yield Figure(f"{name}, fine-tuned: int8 accuracy", subject.on_c(subject.int8(graph, METHODS["PTQ MSE"])), "%")


def digits(seed: int, trec: TrecPolicy | None) -> Subject:
    """A tiny network of two convolutions of 16 channels."""
    recipe = Recipe(epochs=15, fine_tune_epochs=4, trec_epochs=4, batch_size=32, seed=seed)
    candidate = Candidate("digits", "tiny", {"width": 16, "depth": 2}, trec, recipe=recipe)
    return Subject("digits, tiny", candidate, datasets.load("digits"))


def mnist(data_dir: Path | None, n_train: int = 10_000, trec: TrecPolicy | None = None) -> Subject:
    """LeNet-5."""
    recipe = Recipe(epochs=6, fine_tune_epochs=3, trec_epochs=1, n_train=n_train)
    candidate = Candidate("mnist", "lenet5", trec=trec, recipe=recipe)
    return Subject("MNIST, LeNet-5", candidate, _less_validation(datasets.load("mnist", data_dir)))


def cifar10(data_dir: Path | None) -> Subject:
    """A quarter of CifarNet's width."""
    recipe = Recipe(epochs=8, trec_epochs=1, n_train=5_000)
    candidate = Candidate("cifar10", "cifarnet", {"width": 0.25, "dropout": 0.0}, recipe=recipe)
    return Subject("CIFAR-10, CifarNet/4", candidate, _less_validation(datasets.load("cifar10", data_dir)))


def _less_validation(dataset: Dataset) -> Dataset:
    return replace(dataset, validation=dataset.validation.stratified(N_VALIDATION))


def part(name: str, options: argparse.Namespace) -> Iterator[Figure]:
    """The figures of one part."""
    data_dir: Path | None = options.data_dir
    clustered = TrecPolicy(5, 5)
    if name == "digits":
        yield from quantization("digits, tiny", [digits(seed, None) for seed in range(N_SEEDS)])
        yield from quantization("digits, tiny with TREC", [digits(seed, clustered) for seed in range(N_SEEDS)])
    elif name == "mnist":
        yield from quantization("MNIST, LeNet-5", [mnist(data_dir)])
        yield from quantization("MNIST, LeNet-5 with TREC", [mnist(data_dir, 5_000, clustered)])
    elif name == "cifar10":
        yield from quantization("CIFAR-10, CifarNet/4", [cifar10(data_dir)])
    elif name == "heuristics":
        for subject in (digits(0, None), mnist(data_dir)):
            yield from heuristics(subject, subject.dense())
    else:
        rows = walk(SUBJECTS[name](data_dir), options.out)
        print(table(rows), file=sys.stderr)
        yield from figures(rows)


def main() -> None:
    """Measure and print; the time of each part goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where mnist/ and cifar10/ lie; the cache if not given")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=SHORT, help=f"default: {' '.join(SHORT)}")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="lines of JSON, one per network of *_sizes, to go on from"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw what --out knows")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[Figure] = []
    for name in options.parts:
        start = time.monotonic()
        found += part(name, options)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    if options.plot is not None:
        draw(rows_of(options.out), options.plot)
    if found:
        show(found)


if __name__ == "__main__":
    main()
