"""A part of `digits_tiny` small enough to be tabulated whole: what benchmarks of the search replay."""

from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, PolicyScope, Recipe, SlicePolicy, TrecPolicy

DATASET = "digits"
RECIPE = Recipe(epochs=15, fine_tune_epochs=3, trec_epochs=3, batch_size=32, learning_rate=0.05)


def suggest(trial: BaseTrial) -> Candidate:
    """Nine networks, pruned or not, dense or clustered in up to 72 ways."""
    width = trial.suggest_categorical("width", [4, 8, 16])
    depth = trial.suggest_int("depth", 1, 3)
    pruning = trial.suggest_categorical("pruning", [0.0, 0.5])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    hash_bits = trial.suggest_int("hash_bits", 3, 6)
    slices = cast(SlicePolicy, trial.suggest_categorical("slice_policy", ["kernel_row", "channels", "whole"]))
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    n_kernel_reuse = trial.suggest_int("n_kernel_reuse", 0, 1)
    if n_kernel_reuse >= depth:  # no layer is left for another scope
        scope = "per_slice"
    return Candidate(
        dataset=DATASET,
        network="tiny",
        network_args={"width": width, "depth": depth, "kernel_size": 3},
        trec=TrecPolicy(hash_bits, hash_bits, slices, 0, scope, n_kernel_reuse) if use_trec else None,
        pruning={"*": pruning} if pruning else {},
        recipe=RECIPE,
    )
