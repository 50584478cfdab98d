"""How to compress a small network for the 8x8 digits: which channels go and when, and how float becomes int8.

What `digits_tiny` keeps fixed is searched here, on one network of two widths. Every parameter is suggested in every
trial, used or not; what a candidate does not use is left out of it, so that equal candidates have equal keys.
"""

from dataclasses import replace
from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import (
    Calibration,
    Candidate,
    PolicyScope,
    PruningHeuristic,
    PruningRecipe,
    PruningSchedule,
    QuantizationRecipe,
    Recipe,
    SlicePolicy,
    TrecPolicy,
)

DATASET = "digits"
N_CONVOLUTIONS = 2
CALIBRATIONS = [name for name in get_args(Calibration) if name != "own"]  # this network brings none
HEURISTICS = [name for name in get_args(PruningHeuristic) if name != "conductance"]  # which needs another package
RECIPE = Recipe(epochs=15, fine_tune_epochs=3, trec_epochs=3, batch_size=32, learning_rate=0.05)


def suggest(trial: BaseTrial) -> Candidate:
    """Two convolutions, dense or clustered, pruned or not, in int8 by calibration or by training."""
    width = trial.suggest_categorical("width", [16, 24])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = suggest_trec(trial)
    share = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5, 0.75])
    pruning = suggest_pruning(trial)
    return Candidate(
        dataset=DATASET,
        network="tiny",
        network_args={"width": width, "depth": N_CONVOLUTIONS},
        trec=trec if use_trec else None,
        pruning={"*": share} if share else {},
        recipe=replace(RECIPE, pruning=pruning if share else PruningRecipe(), quantization=suggest_quantization(trial)),
    )


def suggest_pruning(trial: BaseTrial) -> PruningRecipe:
    """All at once, or from the sixth epoch on."""
    heuristic = cast(PruningHeuristic, trial.suggest_categorical("heuristic", HEURISTICS))
    schedule = cast(PruningSchedule, trial.suggest_categorical("schedule", get_args(PruningSchedule)))
    return PruningRecipe(heuristic, schedule, start=5 if schedule == "agp" else 0)


def suggest_quantization(trial: BaseTrial) -> QuantizationRecipe:
    """Three calibrations, corrected or not, or three epochs of training from where they lead."""
    calibration = cast(Calibration, trial.suggest_categorical("calibration", CALIBRATIONS))
    bias_correction = trial.suggest_categorical("bias_correction", [False, True])
    qat_epochs = trial.suggest_categorical("qat_epochs", [0, 3])
    # training moves the biases anyway
    return QuantizationRecipe(calibration, bias_correction=bias_correction and not qat_epochs, qat_epochs=qat_epochs)


def suggest_trec(trial: BaseTrial) -> TrecPolicy:
    """How the convolutions cluster. 8x8 positions are at most 64 clusters, hence six hash bits."""
    slice_policy = cast(SlicePolicy, trial.suggest_categorical("slice_policy", get_args(SlicePolicy)))
    vector_length = trial.suggest_categorical("vector_length", [3, 9, 18, 36])
    scope = cast(PolicyScope, trial.suggest_categorical("scope", get_args(PolicyScope)))
    channel_groups = trial.suggest_categorical("channel_groups", [1, 2, 4, 8])
    n_kernel_reuse = trial.suggest_int("n_kernel_reuse", 0, N_CONVOLUTIONS)
    if n_kernel_reuse >= N_CONVOLUTIONS:  # no layer is left for another scope
        scope = "per_slice"
    return TrecPolicy(
        hash_bits_early=trial.suggest_int("hash_bits_early", 3, 6),
        hash_bits_late=trial.suggest_int("hash_bits_late", 3, 6),
        slice_policy=slice_policy,
        vector_length=vector_length if slice_policy == "custom" else 0,
        scope=scope,
        channel_groups=channel_groups if scope == "strip_shared" else 1,
        n_kernel_reuse=n_kernel_reuse,
    )
