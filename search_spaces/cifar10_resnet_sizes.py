"""ResNet-18 and -34 for CIFAR-10, pruned to many sizes: what accuracy a byte and a multiplication buy.

Nothing clusters here. A search trains each of the four dense networks once; every size of it is pruned from there and
fine-tuned. To sweep the whole space rather than to search it:

    trec-dse search cifar10_resnet_sizes --target nucleo-h743zi --objectives error,sram,flash,macs \
        --sampler qmc --reduction 1 --trials 64
"""

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, Recipe

DATASET = "cifar10"
RECIPE = Recipe(epochs=40, fine_tune_epochs=8, trec_epochs=0, batch_size=128, learning_rate=0.1)


def suggest(trial: BaseTrial) -> Candidate:
    """One of two depths and two widths, and one of 16 shares of channels that go."""
    network = trial.suggest_categorical("network", ["resnet18", "resnet34"])
    width = trial.suggest_categorical("width", [0.25, 0.5])
    pruning = trial.suggest_float("pruning", 0.0, 0.9375, step=0.0625)
    return Candidate(
        dataset=DATASET,
        network=network,
        network_args={"width": width},
        pruning={"*": pruning} if pruning else {},
        recipe=RECIPE,
    )
