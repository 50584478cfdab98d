"""CifarNet for CIFAR-10, the network of the TREC papers, from an eighth of its width to all of it.

The recipe is sized for a demonstration with 2,000 of the 45,000 training images (override `n_train`), which takes
seconds to minutes per trial on one core; its accuracies, below 50 %, only rank the candidates. For accuracies worth
reporting take all images, some 40 epochs and a GPU or patience. Every parameter is suggested in every trial, used or
not: the sampler then sees a space of one shape.
"""

from dataclasses import replace
from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import (
    Candidate,
    HashStart,
    KernelConfig,
    PolicyScope,
    Recipe,
    SlicePolicy,
    TrainingRecipe,
    TrecPolicy,
)

DATASET = "cifar10"
CONVOLUTIONS = ("conv1", "conv2")
MOST_CLUSTERS = 128
RECIPE = Recipe(
    epochs=12,
    fine_tune_epochs=3,
    trec_epochs=3,
    batch_size=64,
    learning_rate=0.05,
    n_validation=2000,
    # the dense network teaches the clustered one its layers: eight points on all images (docs/trec.md)
    training=TrainingRecipe(flip=True, shift=2, layer_distillation=10.0),
)


def suggest(trial: BaseTrial) -> Candidate:
    """CifarNet of some width, dense or clustered, pruned or not, its second convolution perhaps of low rank."""
    width = trial.suggest_categorical("width", [0.125, 0.25, 0.375, 0.5, 0.75, 1.0])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial)
    hash_start = cast(HashStart, trial.suggest_categorical("hash_start", ["principal", "levels"]))
    pruning = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5, 0.75])
    rank = trial.suggest_categorical("conv2_rank", [0, 4, 8, 12, 16, 24])  # 0: the kernels as they are
    if use_trec and trec.layers != ("conv1",):  # clusters and few channels at once: not here
        rank = 0
    return Candidate(
        dataset=DATASET,
        network="cifarnet",
        network_args={"width": width},
        trec=trec if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=replace(RECIPE, hash_start=hash_start) if use_trec else RECIPE,
        kernels={"conv2": KernelConfig("low_rank", rank=rank)} if rank else {},
    )


def suggest_trec(trial: BaseTrial) -> TrecPolicy:
    """Which convolutions cluster, and how: K is 75 in the first, 25 * channels in the second."""
    which = trial.suggest_categorical("layers", ["both", *CONVOLUTIONS])
    layers = CONVOLUTIONS if which == "both" else (which,)
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [5, 15, 25, 40, 80, 160])
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    channel_groups = trial.suggest_categorical("channel_groups", [1, 2, 4, 8])
    exact_directions = trial.suggest_int("exact_directions", 0, 2)
    n_kernel_reuse = min(len(layers), trial.suggest_int("n_kernel_reuse", 0, len(CONVOLUTIONS)))
    if n_kernel_reuse == len(layers):  # no layer is left for another scope
        scope = "per_slice"
    early, late = (trial.suggest_int(f"hash_bits_{half}", 2, 10) for half in ("early", "late"))
    return TrecPolicy(
        hash_bits_early=early,
        # the first half of the layers, rounded up, is early: a single layer has no late half
        hash_bits_late=late if which == "both" else early,
        slice_policy=slice_policy,
        vector_length=vector_length if slice_policy == "custom" else 0,
        scope=scope,
        n_kernel_reuse=n_kernel_reuse,
        max_clusters=MOST_CLUSTERS if max(early, late) > 7 else None,
        layers=None if which == "both" else layers,
        channel_groups=channel_groups if scope == "strip_shared" else 1,
        exact_directions=exact_directions if scope == "strip_shared" else 0,
    )
