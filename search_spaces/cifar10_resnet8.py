"""The residual network of MLPerf Tiny for CIFAR-10, from half to double its width.

Where clustering cannot pay a layer stays dense. A trial takes minutes with 2,000 training images (override `n_train`),
and an hour or so with all of them on a CPU. Every parameter is suggested in every trial, used or not: the sampler then
sees a space of one shape.
"""

from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, KernelConfig, PolicyScope, Recipe, SlicePolicy, TrecPolicy

DATASET = "cifar10"
RECIPE = Recipe(epochs=30, fine_tune_epochs=6, trec_epochs=6, batch_size=64, learning_rate=0.05)


def suggest(trial: BaseTrial) -> Candidate:
    """ResNet-8 of some width, dense or clustered, pruned or not; dense ones perhaps of low rank."""
    width = trial.suggest_categorical("width", [0.5, 0.75, 1.0, 1.5, 2.0])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial)
    pruning = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5])
    rank = trial.suggest_categorical("rank", [0, 4, 8, 16, 32])  # 0: the kernels as they are
    return Candidate(
        dataset=DATASET,
        network="resnet8",
        network_args={"width": width},
        trec=trec if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=RECIPE,
        kernels={"*": KernelConfig("low_rank", rank=rank)} if rank and not use_trec else {},
    )


def suggest_trec(trial: BaseTrial) -> TrecPolicy:
    """How the nine convolutions cluster: K is 27, then 9 C, and C in the two shortcuts."""
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [8, 16, 24, 48, 72, 96])
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
        n_kernel_reuse=trial.suggest_int("n_kernel_reuse", 0, 4),
        only_where_it_pays=True,
    )
