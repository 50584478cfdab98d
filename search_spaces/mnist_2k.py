"""MNIST in about two kilobytes: how many channels and how many bits, all of it weights and activations together."""

from typing import cast, get_args

from optuna.trial import BaseTrial

from trec_dse.candidate import Bits, Candidate, QuantizationRecipe, Recipe, TrainingRecipe

DATASET = "mnist"
TRAINING = TrainingRecipe(optimizer="adamw", shift=1, rotation=7.0, zoom=0.07, elastic=0.4)
EPOCHS = 5


def suggest(trial: BaseTrial) -> Candidate:
    """Three convolutions of 3x3 and a dense layer behind an averaging, in 4 or 8 bits, trained for a short while."""
    channels = {
        name: trial.suggest_int(name, low, high)
        for name, low, high in (("first", 4, 8), ("second", 4, 12), ("third", 6, 16))
    }
    bits = cast(Bits, trial.suggest_categorical("bits", get_args(Bits)))
    return Candidate(DATASET, "mnist2k", network_args=channels, recipe=recipe(bits, EPOCHS))


def recipe(bits: Bits, epochs: int) -> Recipe:
    """`epochs` in floating point, as many with the rounding in place, and in 4 bits as many with the scales fixed."""
    frozen = epochs if bits == 4 else 0
    return Recipe(
        epochs=epochs,
        fine_tune_epochs=0,
        trec_epochs=0,
        batch_size=250,
        learning_rate=0.005,
        weight_decay=0.0,
        n_calibration=256,
        training=TRAINING,
        quantization=QuantizationRecipe("mse", qat_epochs=epochs, bits=bits, frozen_epochs=frozen),
    )
