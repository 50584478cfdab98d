"""LeNet-5 for MNIST: how narrow, how clustered and how far pruned may it be?

Every parameter is suggested in every trial, used or not: the sampler then sees a space of one shape. What a
candidate does not use is left out of it, so that equal candidates have equal keys and are evaluated once.
"""

from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, PolicyScope, Recipe, SlicePolicy, TrecPolicy

DATASET = "mnist"
N_CONVOLUTIONS = 2
RECIPE = Recipe(epochs=6, fine_tune_epochs=2, trec_epochs=2, batch_size=64, learning_rate=0.05)


def suggest(trial: BaseTrial) -> Candidate:
    """LeNet-5 of half to double width, dense or clustered, pruned or not."""
    width = trial.suggest_categorical("width", [0.5, 0.75, 1.0, 1.5, 2.0])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial)
    pruning = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5, 0.75])
    return Candidate(
        dataset=DATASET,
        network="lenet5",
        network_args={"width": width},
        trec=trec if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=RECIPE,
    )


def suggest_trec(trial: BaseTrial) -> TrecPolicy:
    """How both convolutions cluster: K is 25 in the first, 25 * channels in the second."""
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [5, 10, 15, 25, 30, 50])
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    channel_groups = trial.suggest_categorical("channel_groups", [1, 2, 4, 8])
    n_kernel_reuse = trial.suggest_int("n_kernel_reuse", 0, N_CONVOLUTIONS)
    if n_kernel_reuse >= N_CONVOLUTIONS:  # no layer is left for another scope
        scope = "per_slice"
    return TrecPolicy(
        hash_bits_early=trial.suggest_int("hash_bits_early", 2, 6),
        hash_bits_late=trial.suggest_int("hash_bits_late", 2, 6),
        slice_policy=slice_policy,
        vector_length=vector_length if slice_policy == "custom" else 0,
        scope=scope,
        n_kernel_reuse=n_kernel_reuse,
        channel_groups=channel_groups if scope == "strip_shared" else 1,
    )
