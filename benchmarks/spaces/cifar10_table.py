"""Narrow CifarNets for a part of CIFAR-10, few enough to be tabulated whole: what benchmarks of the search replay.

Clustering is that by strips only, which is what saves cycles in networks this narrow.
"""

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, Recipe, TrainingRecipe, TrecPolicy

DATASET = "cifar10"
RECIPE = Recipe(
    epochs=15,
    fine_tune_epochs=3,
    trec_epochs=3,
    batch_size=64,
    learning_rate=0.05,
    n_train=1500,
    n_validation=1000,
    n_calibration=32,
    training=TrainingRecipe(flip=True),
)


def suggest(trial: BaseTrial) -> Candidate:
    """Three networks, pruned in eight ways or not, dense or clustered in eight ways."""
    width = trial.suggest_categorical("width", [0.125, 0.25, 0.375])
    of_convolutions = trial.suggest_categorical("pruned_convolutions", [0.0, 0.25, 0.5])
    of_dense = trial.suggest_categorical("pruned_dense", [0.0, 0.5, 0.75])
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    hash_bits = trial.suggest_categorical("hash_bits", [2, 3, 4, 6])
    layers = trial.suggest_categorical("layers", ["both", "conv1"])
    trec = TrecPolicy(hash_bits, hash_bits, scope="strip_shared", layers=None if layers == "both" else (layers,))
    return Candidate(
        dataset=DATASET,
        network="cifarnet",
        network_args={"width": width, "dropout": 0.2},
        trec=trec if use_trec else None,
        pruning={"*": of_convolutions, "fc1": of_dense, "fc2": of_dense} if of_convolutions or of_dense else {},
        recipe=RECIPE,
    )
