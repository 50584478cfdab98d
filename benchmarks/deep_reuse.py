"""Deep reuse, the baseline of TREC: the same clustering by random hashes that nothing chose, over many seeds.

Trains the candidate's network once without TREC. Then, for every seed, each of its TREC layers gets Gaussian hash
vectors through the origin, fixed; with --epochs the rest of the network is fine-tuned around them. Prints what share of
the validation images is classified correctly: the mean, and the interval that holds 95 % of the seeds.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import Figure, show
from torch import Tensor, nn

from trec_dse.candidate import Candidate
from trec_dse.course import PRUNED_RATE, TREC_RATE, calibration_images
from trec_dse.datasets import Dataset
from trec_dse.errors import CandidateError
from trec_dse.evaluate import load_dataset
from trec_dse.networks import build_model
from trec_dse.prune import fold_batch_norms, prune
from trec_dse.search_space import load_candidate
from trec_dse.train import accuracy, train
from trec_dse.trec.apply import apply_trec, conv_shapes, draw_hashes, trec_layers
from trec_dse.trec.policy import resolve


def dense_network(candidate: Candidate, dataset: Dataset) -> nn.Module:
    """The candidate's network, trained, pruned and folded, before any convolution clusters."""
    recipe = candidate.recipe
    model = build_model(candidate, dataset.input_shape, dataset.n_classes)
    train(model, dataset, recipe, epochs=recipe.epochs, learning_rate=recipe.learning_rate)
    if candidate.pruning:
        model = prune(model, dataset.input_shape, candidate.pruning)
        rate = PRUNED_RATE * recipe.learning_rate
        train(model, dataset, recipe, epochs=recipe.fine_tune_epochs, learning_rate=rate)
    return fold_batch_norms(model)


def clusters_per_slice(model: nn.Module, images: Tensor) -> list[float]:
    """N_c of one slice in every TREC layer, mean over `images`."""
    with torch.no_grad():
        model.eval()(images)
    found = []
    for layer in trec_layers(model).values():
        assert layer.clusters_per_image is not None
        found.append(float(layer.clusters_per_image.float().mean()))
    return found


@dataclass(frozen=True)
class Baseline:
    """Accuracies in percent: one per seed, then those of the dense network and of hashes taken from data.

    Attributes:
        redundancy: r_t by layer, mean over seeds and images.
    """

    seeds: list[float]
    dense: float
    from_data: float
    redundancy: dict[str, float]


def measure(candidate: Candidate, dataset: Dataset, n_seeds: int, epochs: int) -> Baseline:
    """Train once, then cluster by `n_seeds` random hashes, fine-tuned around each for `epochs`."""
    recipe = candidate.recipe
    if candidate.trec is None:
        raise CandidateError("the candidate has no TREC policy; deep reuse needs its vector lengths and hash bits")
    dense = dense_network(candidate, dataset)
    shapes = conv_shapes(dense, dataset.input_shape)
    configs, images = resolve(candidate.trec, shapes), calibration_images(dataset, recipe.n_calibration)

    def tuned(model: nn.Module) -> float:
        train(model, dataset, recipe, epochs=epochs, learning_rate=TREC_RATE * recipe.learning_rate)
        return 100 * accuracy(model, dataset, dataset.validation)

    found, clusters = [], []
    for seed in range(n_seeds):
        model = apply_trec(dense, configs, images[:1], hash_gradient="none")
        draw_hashes(model, seed)
        found.append(tuned(model))
        clusters.append(clusters_per_slice(model, images))
    ratios = {
        name: float(1 - n / shapes[name].n_positions)
        for name, n in zip(trec_layers(model), np.mean(clusters, axis=0), strict=True)
    }
    from_data = tuned(apply_trec(dense, configs, images, hash_gradient="none"))
    return Baseline(found, 100 * accuracy(dense, dataset, dataset.validation), from_data, ratios)


def main() -> None:
    """Print the figures of one candidate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("candidate", help="a preset or the path of a candidate's .json")
    parser.add_argument("--seeds", type=int, default=150, help="default %(default)s")
    parser.add_argument("--epochs", type=int, default=0, help="of fine-tuning around each seed's hashes (default 0)")
    parser.add_argument("--n-train", type=int, default=None, help="training images instead of the candidate's number")
    parser.add_argument("--n-validation", type=int, default=1000, help="validation images (default %(default)s)")
    parser.add_argument("--data-dir", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    candidate = load_candidate(args.candidate)
    n_train = candidate.recipe.n_train if args.n_train is None else args.n_train
    recipe = replace(candidate.recipe, n_train=n_train, n_validation=args.n_validation)
    candidate = replace(candidate, recipe=recipe)
    result = measure(candidate, load_dataset(candidate, args.data_dir), args.seeds, args.epochs)
    low, high = np.percentile(result.seeds, [2.5, 97.5])
    figures = [
        Figure("dense", result.dense, "%"),
        Figure("hashes from data, not learned", result.from_data, "%"),
        Figure(f"deep reuse, mean of {args.seeds} seeds", float(np.mean(result.seeds)), "%"),
        Figure("deep reuse, 2.5th percentile", float(low), "%"),
        Figure("deep reuse, 97.5th percentile", float(high), "%"),
        Figure("deep reuse, worst seed", min(result.seeds), "%"),
        Figure("deep reuse, best seed", max(result.seeds), "%"),
    ]
    show(figures + [Figure(f"deep reuse, r_t of {name}", r_t, "") for name, r_t in result.redundancy.items()])


if __name__ == "__main__":
    main()
