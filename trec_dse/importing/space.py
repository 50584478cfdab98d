"""The search space that an import writes beside the network: fine-tune, prune and cluster it from its own weights."""

from collections.abc import Sequence

from trec_dse.candidate import Candidate

_TEXT = '''\
"""How to make an imported network smaller: which channels go, where computation is reused, how it becomes int8.

Every trial starts from the weights that were imported. Change what you like: this file is yours.
"""

from typing import cast

from optuna.trial import BaseTrial

from trec_dse.candidate import Candidate, QuantizationRecipe, Recipe, SlicePolicy, TrecPolicy

DATASET = {dataset!r}
NETWORK_ARGS: dict[str, int | float | str | bool] = {arguments!r}
CONVOLUTIONS = {convolutions!r}  # those that can reuse computation


def suggest(trial: BaseTrial) -> Candidate:
    """The network pruned evenly or not at all, dense or clustered."""
    share = trial.suggest_categorical("pruning", [0.0, 0.25, 0.5])
    use_trec = trial.suggest_categorical("use_trec", [False, True]) if CONVOLUTIONS else False
    early, late = trial.suggest_int("hash_bits_early", 2, 6), trial.suggest_int("hash_bits_late", 2, 6)
    slices = cast(SlicePolicy, trial.suggest_categorical("slice_policy", ["kernel_row", "channels", "whole"]))
    reuse = trial.suggest_int("n_kernel_reuse", 0, len(CONVOLUTIONS))
    qat_epochs = trial.suggest_categorical("qat_epochs", [0, 2])
    return Candidate(
        dataset=DATASET,
        network="imported",
        network_args=NETWORK_ARGS,
        trec=TrecPolicy(early, late, slices, n_kernel_reuse=reuse, only_where_it_pays=True) if use_trec else None,
        pruning={{"*": share}} if share else {{}},
        recipe=Recipe(
            epochs=3,
            fine_tune_epochs=4 if share else 0,
            trec_epochs=3 if use_trec else 0,
            learning_rate=0.01,
            quantization=QuantizationRecipe(qat_epochs=qat_epochs),
        ),
    )
'''


def space_text(candidate: Candidate, convolutions: Sequence[str]) -> str:
    """Python text of the space; what comes from the model appears in it as literals only."""
    arguments = dict(candidate.network_args)
    return _TEXT.format(dataset=candidate.dataset, arguments=arguments, convolutions=tuple(convolutions))
