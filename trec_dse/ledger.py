"""What a search knows of its candidates: which trial stands for each, how far it is trained, what the sampler is told.

A candidate is one trial, told when it is first judged. What it shows after more training is told as a further trial of
the same parameters; both read the one evaluation on disk. Everything here is made anew from the study's trials.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from trec_dse import storage
from trec_dse.errors import StudyError
from trec_dse.foresight import Features, Foresight, features
from trec_dse.lineage import Lineage, lineage
from trec_dse.objectives import Objective
from trec_dse.pareto import Floats
from trec_dse.results import Evaluation
from trec_dse.rungs import UNTRAINED, Place, RungBook, places

Params = dict[str, int | float | str | bool | None]
_PERCENT = 100


@dataclass(frozen=True)
class Owner:
    """The trial that stands for a candidate, and what its parameters were drawn from."""

    number: int
    params: Params
    distributions: dict[str, BaseDistribution]


@dataclass
class Ledger:
    """The candidates of `study`.

    Attributes:
        owners: by the candidate's key; book: who waits on which rung; epochs: trained so far, for all of them.
        counted: trials that are neither duplicates nor interrupted, when the ledger was opened.
    """

    study: optuna.Study
    objectives: Sequence[Objective]
    reduction: int
    owners: dict[str, Owner] = field(default_factory=dict)
    epochs: int = 0
    counted: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.foresight = Foresight()
        self._is_reading = True
        self._latest: dict[str, Floats] = {}
        self._told_epochs: dict[str, int] = {}
        names = [objective.name for objective in self.objectives]
        self._error = names.index("error") if "error" in names else None
        self.book = RungBook(self.reduction, self._error)
        self._read()

    def first_place(self, steps: tuple[Place, ...]) -> Place:
        """Where a new candidate starts: untrained, if there are rungs."""
        return steps[0]

    def values(self, evaluation: Evaluation) -> list[float]:
        """What the objectives say; of an untrained candidate the error that is foreseen."""
        values = [objective.value(evaluation) for objective in self.objectives]
        if evaluation.fidelity == 0 and self._error is not None and self.foresight.is_ready:
            key = evaluation.candidate.key
            self.foresight.note(key, features(evaluation))
            values[self._error] = _PERCENT * self.foresight.error(key)
        return values

    def tell(self, trial: Trial, evaluation: Evaluation, key: str) -> int | None:
        """Tell the sampler; returns the number of the trial that stood for the candidate before, if one did.

        A trial that cannot fit tells only by how much, which TPE learns from as well. Raises StudyError, and tells
        nothing, if the candidate fits but an objective has no value.
        """
        values = self.values(evaluation)
        is_valued = all(math.isfinite(value) for value in values)
        if evaluation.is_feasible and not is_valued:
            raise StudyError(f"the evaluation fits but has no value for every objective: {values}")
        for name, violation in evaluation.violations.items():
            trial.set_constraint(name, violation)
        owner = self.owners.get(key)
        for name, attribute in noted(evaluation, self.reduction).items():
            # what was trained for the candidate counts once
            trial.set_user_attr(name, 0 if owner is not None and name == storage.EPOCHS else attribute)
        if owner is not None:
            trial.set_user_attr(storage.DUPLICATE_OF, owner.number)
        if is_valued:
            self.study.tell(trial, values)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)
        if owner is not None:
            return owner.number
        self.owners[key] = Owner(trial.number, dict(trial.params), dict(trial.distributions))
        self._enter(key, evaluation, values)
        return None

    def tell_again(self, key: str, left: int, evaluation: Evaluation) -> None:
        """Tell what a candidate shows after more training than on rung `left`."""
        owner, values = self.owners[key], self.values(evaluation)
        attributes = {
            **noted(evaluation, self.reduction),
            storage.KEY: key,
            storage.EPOCHS: evaluation.trained_epochs - self._told_epochs.get(key, 0),
            storage.DUPLICATE_OF: owner.number,
            storage.PROMOTED: left,
        }
        told = create_trial(
            state=TrialState.COMPLETE,
            values=values,
            params=owner.params,
            distributions=owner.distributions,
            user_attrs=attributes,
            constraints=dict(evaluation.violations),
        )
        self.study.add_trial(told)
        self._enter(key, evaluation, values)

    def place(self, evaluation: Evaluation) -> Place:
        """The rung that an evaluation stands for."""
        return place(evaluation, self.reduction)

    def _enter(self, key: str, evaluation: Evaluation, values: Sequence[float]) -> None:
        """Note that a candidate has reached a rung."""
        self.epochs += evaluation.trained_epochs - self._told_epochs.get(key, 0)
        self._told_epochs[key] = evaluation.trained_epochs
        # what does not fit reaches none
        if evaluation.is_feasible and self.reduction > 1:
            line = lineage(evaluation.candidate, evaluation.key)
            self._note(key, self.place(evaluation).index, values, (features(evaluation), line))

    def _note(self, key: str, rung: int, values: Sequence[float], known: tuple[Features, Lineage]) -> None:
        signs = [-1.0 if objective.direction == "maximize" else 1.0 for objective in self.objectives]
        losses = np.array(values) * np.array(signs)
        self._latest[key] = losses
        self.foresight.note(key, known[0])
        self.book.enter(key, rung, losses, known[1])
        if self._error is None:
            return
        if rung != UNTRAINED:
            self.foresight.learn(key, self.book.at_the_end(key, rung) / _PERCENT)
        if self.foresight.is_ready and not self._is_reading:
            # what was trained says something of all that wait, what is new untrained only of itself
            self.book.revise(self._foreseen, [key] if rung == UNTRAINED else None)

    def _foreseen(self, keys: list[str]) -> tuple[Floats, Floats]:
        """The losses of untrained candidates, their errors as foreseen now, and how unsure these are."""
        losses = np.array([self._latest[key] for key in keys])
        errors, spreads = self.foresight.foresee(keys)
        losses[:, cast("int", self._error)] = _PERCENT * errors
        return losses, spreads

    def _read(self) -> None:
        """Take in the trials that the study holds."""
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(storage.RETRY_OF) for trial in trials}
        counted = set()
        for trial in trials:
            if not trial.state.is_finished() or trial.number in retried:
                continue
            if storage.DUPLICATE_OF not in trial.user_attrs:
                counted.add(trial.number)
            if trial.state != TrialState.FAIL:
                self._read_trial(trial)
        self.counted = frozenset(counted)
        self._is_reading = False
        if self.foresight.is_ready and self._error is not None:
            self.book.revise(self._foreseen)

    def _read_trial(self, trial: FrozenTrial) -> None:
        known = trial.user_attrs
        key, epochs = str(known[storage.KEY]), int(known.get(storage.EPOCHS, 0))
        self.epochs += epochs
        self._told_epochs[key] = self._told_epochs.get(key, 0) + epochs
        if storage.DUPLICATE_OF not in known:
            self.owners[key] = Owner(trial.number, dict(trial.params), dict(trial.distributions))
        elif storage.PROMOTED not in known:
            return
        if trial.state == TrialState.COMPLETE and storage.RUNG in known and self.reduction > 1:
            if storage.PROMOTED in known:
                self.book.leave(key, int(known[storage.PROMOTED]))
            # what an older release noted has no lineage: its parents are taken to be its own
            line = Lineage(*known.get(storage.LINEAGE, (key, key, key, 1, 0, 0)))
            self._note(key, int(known[storage.RUNG]), trial.values, (_read_features(known), line))


def place(evaluation: Evaluation, reduction: int) -> Place:
    """The rung that an evaluation stands for."""
    steps = places(evaluation.candidate.recipe, reduction)
    if evaluation.fidelity == 1 or not evaluation.rungs:
        return steps[-1]
    return max((step for step in steps if step.epochs <= evaluation.rungs[-1].epochs), key=lambda step: step.index)


def _read_features(attributes: dict[str, Any]) -> Features:
    # an older release noted no choices
    return Features(np.array(attributes[storage.FEATURES]), dict(attributes.get(storage.CHOICES, {})))


def noted(evaluation: Evaluation, reduction: int) -> dict[str, str | int | float | list[Any] | dict[str, Any]]:
    """What a trial notes of its evaluation, so that a search that goes on needs no file to know where it stood."""
    found: dict[str, str | int | float | list[Any] | dict[str, Any]] = {
        "effective_key": evaluation.key,
        "macs": evaluation.estimated.macs,
        storage.EPOCHS: evaluation.trained_epochs,
    }
    if reduction > 1:
        found[storage.FIDELITY] = evaluation.fidelity
        found[storage.RUNG] = place(evaluation, reduction).index
        known = features(evaluation)
        found[storage.FEATURES] = known.sizes.tolist()
        found[storage.CHOICES] = dict(known.choices)
        found[storage.LINEAGE] = list(astuple(lineage(evaluation.candidate, evaluation.key)))
    return found
