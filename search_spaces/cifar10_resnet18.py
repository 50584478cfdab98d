"""ResNet-18 for CIFAR-10, from an eighth to half of its width; more than that no microcontroller's Flash takes.

Where clustering cannot pay, as in the last stage with its 16 positions, a layer stays dense. This is a space for a GPU
or for patience. Every parameter is suggested in every trial, used or not: the sampler then sees a space of one shape.
"""

from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, KernelConfig, PolicyScope, Recipe, SlicePolicy, TrecPolicy

DATASET = "cifar10"
RECIPE = Recipe(epochs=40, fine_tune_epochs=8, trec_epochs=8, batch_size=128, learning_rate=0.1)


def suggest(trial: BaseTrial) -> Candidate:
    """ResNet-18 of some width, dense or clustered, pruned or not; dense ones perhaps of low rank."""
    width = trial.suggest_categorical("width", [0.125, 0.1875, 0.25, 0.375, 0.5])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial)
    pruning = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5, 0.75])
    rank = trial.suggest_categorical("rank", [0, 4, 8, 16, 32])  # 0: the kernels as they are
    return Candidate(
        dataset=DATASET,
        network="resnet18",
        network_args={"width": width},
        trec=trec if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=RECIPE,
        kernels={"*": KernelConfig("low_rank", rank=rank)} if rank and not use_trec else {},
    )


def suggest_trec(trial: BaseTrial) -> TrecPolicy:
    """How the twenty convolutions cluster: K is 27, then 9 C, and C in the three shortcuts."""
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [16, 32, 48, 96, 144, 288])
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    channel_groups = trial.suggest_categorical("channel_groups", [1, 2, 4, 8])
    exact_directions = trial.suggest_int("exact_directions", 0, 2)
    return TrecPolicy(
        hash_bits_early=trial.suggest_int("hash_bits_early", 2, 6),
        hash_bits_late=trial.suggest_int("hash_bits_late", 2, 5),
        slice_policy=slice_policy,
        vector_length=vector_length if slice_policy == "custom" else 0,
        scope=scope,
        channel_groups=channel_groups if scope == "strip_shared" else 1,
        exact_directions=exact_directions if scope == "strip_shared" else 0,
        n_kernel_reuse=trial.suggest_categorical("n_kernel_reuse", [0, 1, 2, 5, 10]),
        only_where_it_pays=True,
    )
