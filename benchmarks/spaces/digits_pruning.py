"""The variables of `search_spaces/cifar10_resnet_pruning.py` on a network for the 8x8 digits that trains in a second.

As in the study the whole network takes more Flash than the limit, and SRAM and MACs are far from theirs.
"""

from dataclasses import replace
from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import (
    Calibration,
    Candidate,
    PruningHeuristic,
    PruningRecipe,
    PruningSchedule,
    QuantizationRecipe,
    Recipe,
)
from trec_dse.results import Limits

DATASET = "digits"
LIMITS = Limits(flash_bytes=10_500, sram_bytes=5_000, macs=300_000)
HEURISTICS = [name for name in get_args(PruningHeuristic) if name != "conductance"]
CALIBRATIONS = [name for name in get_args(Calibration) if name != "own"]
LAYERS = ("conv1", "conv2", "conv3")
RECIPE = Recipe(epochs=5, fine_tune_epochs=1, trec_epochs=0, batch_size=64, learning_rate=0.05)


def suggest(trial: BaseTrial) -> Candidate:
    """Three convolutions with a share of channels removed from each, in int8 by calibration or by training."""
    shares = {layer: trial.suggest_float(layer, 0.0, 0.875, step=0.125) for layer in LAYERS}
    pruning = {layer: share for layer, share in shares.items() if share}
    heuristic = cast(PruningHeuristic, trial.suggest_categorical("heuristic", HEURISTICS))
    schedule = cast(PruningSchedule, trial.suggest_categorical("schedule", get_args(PruningSchedule)))
    start, end = trial.suggest_int("start", 0, 2), trial.suggest_int("end", 3, 5)
    calibration = cast(Calibration, trial.suggest_categorical("calibration", CALIBRATIONS))
    qat_epochs = trial.suggest_categorical("qat_epochs", [0, 1])
    steps = PruningRecipe(heuristic) if schedule == "one_shot" else PruningRecipe(heuristic, schedule, start, end)
    quantization = QuantizationRecipe(calibration, qat_epochs=qat_epochs)
    return Candidate(
        dataset=DATASET,
        network="tiny",
        network_args={"width": 16, "depth": 3},
        pruning=pruning,
        recipe=replace(RECIPE, pruning=steps if pruning else PruningRecipe(), quantization=quantization),
    )
