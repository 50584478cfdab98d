"""ResNet-18 of three stages for CIFAR-10: how much each stage loses, which channels, when, and how it becomes int8.

Of 1.6 million weights. The variables of a published study of pruning and quantisation (Deutel et al.), whose objectives
were error, Flash, SRAM and FLOPs, twice the MACs; `LIMITS` are its limits. To search as they did, with 150 evaluations
that a Latin hypercube begins, for either of their boards (the other one is arduino-nano33-ble):

    trec-dse search cifar10_resnet_pruning --target raspberry-pi-pico --objectives error,flash,sram,macs \
        --trials 150 --reduction 1

Every parameter is suggested in every trial, used or not; what a candidate does not use is left out of it.
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

DATASET = "cifar10"
LIMITS = Limits(flash_bytes=1_000_000, sram_bytes=256_000, macs=500_000_000)
HEURISTICS = [name for name in get_args(PruningHeuristic) if name != "conductance"]  # which needs another package
CALIBRATIONS = [name for name in get_args(Calibration) if name != "own"]  # this network brings none
RECIPE = Recipe(epochs=40, fine_tune_epochs=8, trec_epochs=0, batch_size=128, learning_rate=0.1)
LAYERS = {  # whose outputs are added to each other's lose what the least of their shares says: one share for all
    "stage1": ("conv1", "stage1.block1.conv1", "stage1.block1.conv2", "stage1.block2.conv1", "stage1.block2.conv2"),
    **{
        stage: tuple(
            f"{stage}.{layer}"
            for layer in ("block1.conv1", "block1.conv2", "block1.shortcut", "block2.conv1", "block2.conv2")
        )
        for stage in ("stage2", "stage3")
    },
}


def suggest(trial: BaseTrial) -> Candidate:
    """The network with a share of channels removed from each stage, in int8 by calibration or by training."""
    shares = {stage: trial.suggest_float(stage, 0.0, 0.9375, step=0.0625) for stage in LAYERS}
    pruning = {layer: share for stage, share in shares.items() if share for layer in LAYERS[stage]}
    method, quantization = suggest_pruning(trial), suggest_quantization(trial)
    return Candidate(
        dataset=DATASET,
        network="resnet18",
        network_args={"width": 0.75, "stages": 3},
        pruning=pruning,
        recipe=replace(RECIPE, pruning=method if pruning else PruningRecipe(), quantization=quantization),
    )


def suggest_pruning(trial: BaseTrial) -> PruningRecipe:
    """All at once after the dense training, or step by step during it."""
    heuristic = cast(PruningHeuristic, trial.suggest_categorical("heuristic", HEURISTICS))
    schedule = cast(PruningSchedule, trial.suggest_categorical("schedule", get_args(PruningSchedule)))
    start, end = trial.suggest_int("start", 0, 20, step=4), trial.suggest_int("end", 24, 40, step=4)
    interval = trial.suggest_int("interval", 1, 4)
    if schedule == "one_shot":
        return PruningRecipe(heuristic)
    return PruningRecipe(heuristic, schedule, start, end, interval)


def suggest_quantization(trial: BaseTrial) -> QuantizationRecipe:
    """After training, or with four epochs of training in int8."""
    calibration = cast(Calibration, trial.suggest_categorical("calibration", CALIBRATIONS))
    qat_epochs = trial.suggest_categorical("qat_epochs", [0, 4])
    return QuantizationRecipe(calibration, qat_epochs=qat_epochs)
