"""SqueezeNet for CIFAR-10 in its three forms, from a quarter of its width to all of it.

Up to 30 convolutions: their hash bits follow from two numbers, one for the first half of those that cluster and one for
the second. Where clustering cannot pay, as in the last fire with its 16 positions, a layer stays dense. A trial takes
minutes with 2,000 training images (override `n_train`) and hours with all of them on a CPU. Every parameter is
suggested in every trial, used or not: the sampler then sees a space of one shape.
"""

from dataclasses import replace
from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, HashStart, PolicyScope, Recipe, SlicePolicy, TrainingRecipe, TrecPolicy

DATASET = "cifar10"
MOST_CLUSTERS = 128
TRAINING = TrainingRecipe(flip=True, shift=2, layer_distillation=10.0)  # taught by the dense network
RECIPE = Recipe(epochs=30, fine_tune_epochs=6, trec_epochs=6, batch_size=64, learning_rate=0.05, training=TRAINING)


def suggest(trial: BaseTrial) -> Candidate:
    """SqueezeNet of some form and width, dense or clustered, pruned or not."""
    bypass = trial.suggest_categorical("bypass", ["none", "identity", "complex"])
    width = trial.suggest_categorical("width", [0.25, 0.375, 0.5, 0.75, 1.0])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial)
    hash_start = cast(HashStart, trial.suggest_categorical("hash_start", ["principal", "levels"]))
    pruning = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5])
    network = {"none": "squeezenet", "identity": "squeezenet_bypass", "complex": "squeezenet_complex_bypass"}[bypass]
    return Candidate(
        dataset=DATASET,
        network=network,
        network_args={"width": width},
        trec=trec if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=replace(RECIPE, hash_start=hash_start) if use_trec else RECIPE,
    )


def suggest_trec(trial: BaseTrial) -> TrecPolicy:
    """How the convolutions cluster that can gain by it: K is 27 in the stem, then C or 9 C."""
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [8, 16, 32, 64, 144, 288])
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    channel_groups = trial.suggest_categorical("channel_groups", [1, 2, 4, 8])
    exact_directions = trial.suggest_int("exact_directions", 0, 2)
    return TrecPolicy(
        hash_bits_early=trial.suggest_int("hash_bits_early", 2, 8),
        hash_bits_late=trial.suggest_int("hash_bits_late", 2, 7),
        slice_policy=slice_policy,
        vector_length=vector_length if slice_policy == "custom" else 0,
        scope=scope,
        channel_groups=channel_groups if scope == "strip_shared" else 1,
        exact_directions=exact_directions if scope == "strip_shared" else 0,
        n_kernel_reuse=trial.suggest_categorical("n_kernel_reuse", [0, 1, 2, 5, 10]),
        max_clusters=MOST_CLUSTERS,
        only_where_it_pays=True,
    )
