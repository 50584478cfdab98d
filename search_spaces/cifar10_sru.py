"""Simple recurrent units (SRU) for CIFAR-10 read as 96 steps of 32 numbers, as in the TREC journal paper's SRU row.

The products of all steps with all gates are one matrix product per layer, which candidates may cluster. Its rows are
the 96 steps, so more than 6 hash bits cannot pay. The recipe is sized for a demonstration with 2,000 of the 45,000
training images (override `n_train`), minutes per trial on one core; its accuracies, about 35 %, only rank the
candidates. Every parameter is suggested in every trial, used or not: the sampler then sees a space of one shape.
"""

from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, PolicyScope, Recipe, SlicePolicy, TrainingRecipe, TrecPolicy

DATASET = "cifar10"
MOST_LAYERS = 2
RECIPE = Recipe(
    epochs=8,
    fine_tune_epochs=2,
    trec_epochs=3,
    batch_size=64,
    learning_rate=0.004,
    weight_decay=0.01,
    n_train=2000,
    n_validation=1000,
    training=TrainingRecipe(optimizer="adamw"),
)


def suggest(trial: BaseTrial) -> Candidate:
    """One or two layers of some width, dense or clustered, pruned or not."""
    layers = trial.suggest_int("layers", 1, MOST_LAYERS)
    width = trial.suggest_categorical("width", [32, 64, 96, 128, 256])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial, layers)
    pruning = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5])
    return Candidate(
        dataset=DATASET,
        network="sru",
        network_args={"width": width, "layers": layers},
        trec=trec if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=RECIPE,
    )


def suggest_trec(trial: BaseTrial, layers: int) -> TrecPolicy:
    """How the products cluster: K is 32 in the first layer, the units of the layer before in the second."""
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [8, 16, 32])
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    channel_groups = trial.suggest_categorical("channel_groups", [1, 2, 4, 8])
    n_kernel_reuse = trial.suggest_int("n_kernel_reuse", 0, MOST_LAYERS)
    if n_kernel_reuse >= layers:  # no layer is left for another scope
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
