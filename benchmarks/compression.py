"""What int8 and pruning cost in accuracy: every int8 accuracy is that of the C code over a whole test split.

    python benchmarks/compression.py --data-dir FOLDER
    python benchmarks/compression.py --data-dir FOLDER --parts cifar10

Test splits: 360 digits, 10,000 images each of MNIST and CIFAR-10. Training is cut to 10,000 images of MNIST, 5,000 for
its clustered network, and 5,000 of CIFAR-10. Digits are repeated with six seeds, for one of them is 0.28 points.
Training in int8 is three epochs more, so it is held against a float network that got these epochs too.
"""

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from common import Figure, show
from torch import Tensor, nn
from torch.nn.utils.prune import l1_unstructured, remove

from trec_dse import datasets, plugins
from trec_dse.candidate import Candidate, PruningHeuristic, PruningRecipe, QuantizationRecipe, Recipe, TrecPolicy
from trec_dse.course import PRUNED_RATE, QAT_RATE, TREC_RATE, calibration_images
from trec_dse.datasets import Dataset
from trec_dse.errors import TargetError
from trec_dse.evaluate import cost_of, host_network, int8_images
from trec_dse.graph import Graph, IntArray, QuantizedGraph
from trec_dse.importance import Ranking
from trec_dse.lower import lower
from trec_dse.networks import build_model
from trec_dse.prune import GradualPruning, agp_progress, fold_batch_norms, prune
from trec_dse.qat import QatNetwork
from trec_dse.quantize import calibrate, quantize, quantize_with
from trec_dse.results import Cost
from trec_dse.target import load_target
from trec_dse.train import accuracy, train
from trec_dse.trec.apply import apply_trec, conv_shapes
from trec_dse.trec.policy import resolve

PTQ_GOAL, QAT_GOAL = 0.5, 0.1  # percentage points below float
N_SEEDS = 6  # of the digits
N_VALIDATION = 500  # images by which a training reports its progress; nothing is chosen by them
ZEROS = (0.5, 0.75, 0.9, 0.95, 0.98)  # of single weights
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
HEURISTIC_SHARE = 0.75
PARTS = ["digits", "mnist", "heuristics", "schedules", "weights", "cifar10"]
QAT_EPOCHS = 3
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
class Subject:
    """What is compressed: a candidate and its data."""

    name: str
    candidate: Candidate
    dataset: Dataset

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
        with host_network(graph) as network:
            outputs = network.run(int8_images(graph, self.dataset, self.dataset.test)).outputs
        return 100 * float((outputs.argmax(axis=1) == self.dataset.test.labels).mean())

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


def gradually(subject: Subject, share: float) -> tuple[nn.Module, GradualPruning]:
    """The network trained from scratch with the channels masked one after the other, the last two thirds through."""
    epochs = subject.recipe.epochs
    model = build_model(subject.candidate, subject.dataset.input_shape, subject.dataset.n_classes)
    gradual = GradualPruning(model, subject.dataset.input_shape, {"*": share}, ranking=subject.ranking("l2"))
    method = PruningRecipe(schedule="agp", start=epochs // 3)

    def mask(epoch: int, n_epochs: int, loss: float, accuracy: float) -> None:
        due = agp_progress(epoch, n_epochs, method)
        if due:
            gradual.mask(due)

    rate = subject.recipe.learning_rate
    train(model, subject.dataset, subject.recipe, epochs=epochs, learning_rate=rate, on_epoch=mask)
    gradual.release()
    return model, gradual


def sizes(name: str, cost: Cost, whole: Cost) -> Iterator[Figure]:
    """What is left of the weights, and what the board needs."""
    yield Figure(f"{name}: weights left", 100 * cost.weight_bytes / whole.weight_bytes, "%")
    yield Figure(f"{name}: Flash", cost.flash_bytes / 1024, "KiB")
    yield Figure(f"{name}: SRAM", cost.sram_bytes / 1024, "KiB")


def schedules(subject: Subject, dense: nn.Module) -> Iterator[Figure]:
    """Accuracy against size: one-shot and AGP, each after training and with training in int8."""
    target = load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))
    shape, whole, best = subject.dataset.input_shape, None, 0.0
    for share in SHARES:
        for schedule in ("one-shot", "AGP") if share else ("unpruned",):
            model, masked = (copy.deepcopy(dense), None) if schedule != "AGP" else gradually(subject, share)
            if share:
                known = () if masked is None else masked.masked
                model = prune(model, shape, {"*": share}, ranking=subject.ranking("l2"), masked=known)
                subject.learn(model, subject.recipe.fine_tune_epochs, PRUNED_RATE)
            graph = subject.finished(model).graph
            ptq = subject.int8(graph, METHODS["PTQ MSE"])
            found = {"PTQ": subject.on_c(ptq), "QAT": subject.on_c(subject.int8(graph, METHODS["QAT"]))}
            name = f"{subject.name}, {share:.0%} of the channels pruned"
            if schedule != "AGP":
                cost = cost_of(ptq, target)
                whole = whole or cost
                yield from sizes(name, cost, whole)
            best = best or found["PTQ"]
            for kind, value in found.items():
                yield Figure(f"{name}, {schedule}, {kind}: relative accuracy", 100 * value / best, "%")


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


def single_weights(subject: Subject, dense: nn.Module) -> Iterator[Figure]:
    """The smallest single weights of every layer set to 0, and trained on with these held; what the rest would take."""
    whole = subject.int8(lower(dense.eval(), subject.dataset.input_shape), METHODS["PTQ MSE"])
    best = subject.on_c(whole)
    n_weights = sum(each["weights"].size for each in whole.weights.values() if "weights" in each)
    for share in ZEROS:
        model = copy.deepcopy(dense)
        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for layer in layers:
            l1_unstructured(layer, "weight", amount=share)  # type: ignore[no-untyped-call]
        subject.learn(model, subject.recipe.fine_tune_epochs, PRUNED_RATE)
        for layer in layers:
            remove(layer, "weight")  # type: ignore[no-untyped-call]
        graph = subject.int8(lower(model.eval(), subject.dataset.input_shape), METHODS["PTQ MSE"])
        stored = sum(as_distances(each["weights"]) for each in graph.weights.values() if "weights" in each)
        name = f"{subject.name}, {share:.0%} of the single weights 0"
        yield Figure(f"{name}: bytes as value and distance, of all weights", 100 * stored / n_weights, "%")
        yield Figure(f"{name}: relative accuracy", 100 * subject.on_c(graph) / best, "%")


def as_distances(weights: IntArray) -> int:
    """Bytes of int8 weights stored as those that are not 0, each with its distance from the one before.

    A distance of more than 255 takes zeros on the way; two bytes per output channel say where it begins.
    """
    places = np.flatnonzero(weights.reshape(-1))
    gaps = np.diff(places, prepend=-1)
    return 2 * (len(places) + int(((gaps - 1) // 255).sum())) + 2 * len(weights)


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


def part(name: str, data_dir: Path | None) -> Iterator[Figure]:
    """The figures of one part."""
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
    elif name == "weights":
        subject = mnist(data_dir)
        yield from single_weights(subject, subject.dense())
    else:
        subject = mnist(data_dir)
        yield from schedules(subject, subject.dense())


def main() -> None:
    """Measure and print; the time of each part goes to standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where mnist/ and cifar10/ lie; the cache if not given")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:-1], help="all but cifar10 if not given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for name in options.parts:
        start = time.monotonic()
        figures += part(name, options.data_dir)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    show(figures)


if __name__ == "__main__":
    main()
