"""Small networks for the handwritten 8x8 digits that come with scikit-learn: a first search in minutes on a laptop.

Every parameter is suggested in every trial, used or not: the sampler then sees a space of one shape. What a
candidate does not use is left out of it, so that equal candidates have equal keys and are evaluated once.
"""

from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, PolicyScope, Recipe, SlicePolicy, TrecPolicy

DATASET = "digits"
RECIPE = Recipe(epochs=15, fine_tune_epochs=3, trec_epochs=3, batch_size=32, learning_rate=0.05)


def suggest(trial: BaseTrial) -> Candidate:
    """A stack of one to three convolutions, dense or clustered, pruned or not."""
    width = trial.suggest_int("width", 4, 24, step=4)
    depth = trial.suggest_int("depth", 1, 3)
    kernel_size = trial.suggest_categorical("kernel_size", [3, 5])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial, depth)
    pruning = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5])
    return Candidate(
        dataset=DATASET,
        network="tiny",
        network_args={"width": width, "depth": depth, "kernel_size": kernel_size},
        trec=trec if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=RECIPE,
    )


def suggest_trec(trial: BaseTrial, depth: int) -> TrecPolicy:
    """How the convolutions cluster. 8x8 positions are at most 64 clusters, hence six hash bits."""
    early = trial.suggest_int("hash_bits_early", 2, 6)
    late = trial.suggest_int("hash_bits_late", 2, 6)
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [3, 6, 9, 12, 18, 36])
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    channel_groups = trial.suggest_categorical("channel_groups", [1, 2, 4, 8])
    n_kernel_reuse = trial.suggest_int("n_kernel_reuse", 0, 3)
    if n_kernel_reuse >= depth:  # no layer is left for another scope
        scope = "per_slice"
    return TrecPolicy(
        hash_bits_early=early,
        # the first half of the layers, rounded up, is early: a single layer has no late half
        hash_bits_late=late if depth > 1 else early,
        slice_policy=slice_policy,
        vector_length=vector_length if slice_policy == "custom" else 0,
        scope=scope,
        n_kernel_reuse=min(n_kernel_reuse, depth),
        channel_groups=channel_groups if scope == "strip_shared" else 1,
    )
