"""Which candidates are trained on: successive halving over epochs for several objectives, without waiting for anyone.

Every candidate starts untrained; rungs that train take a share of the epochs of its recipe. Whenever a worker is free,
the best of those that wait on a rung goes on to the next, as long as no more than one in `reduction` of all that
reached the rung have done so (asynchronous successive halving: Li et al., MLSys 2020). The best is of the lowest
non-dominated rank; among equals, the one that adds most to the hypervolume of its front. Nobody goes on who would still
be dominated by what is finished if it came to half of the error that is expected of it; that share of the epochs is
saved. What waits is not lost: it can still go on when later results make it one of the best.

The lowest rung trains nothing: there the error is foreseen (foresight.py). From there, one in `PRICED` goes on: the one
that is expected to add most to the front (prospects.py) for the epochs that it still takes (lineage.py). Losses are
what `Objective.loss` gives: less is better. Candidates go by their keys, content hashes.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from trec_dse.candidate import Recipe
from trec_dse.foresight import UNSURE
from trec_dse.lineage import Lineage, Trained
from trec_dse.pareto import Floats, crowding, hypervolume, non_dominated, ranks
from trec_dse.prospects import Outlook, expected_gains, joined
from trec_dse.results import Evaluation, TrialRecord
from trec_dse.settings import REDUCTION

N_RUNGS = 5  # untrained, a 27th, a ninth, a third and all of the epochs
UNTRAINED = 0
PRICED = 20  # candidates that are looked at untrained for each that is trained, while new ones come
_N_MORE = 1  # so many more are trained at first, to foresee by
TOLERANCE = 1e-5  # share of the volume around the front below which a candidate is not worth a whole training
PROMISING = 0.5  # share of its expected error at which a candidate must matter to go on
_MAX_WAITING = 300  # a rung remembers so many that wait; those beyond the best have no prospect
_MAX_GAINS = 100  # so many rows are compared in one decision, which then takes a tenth of a second at most
_MARGIN = 1.1  # the reference point lies a tenth of the range beyond the worst
_FLOOR = 0.5  # percent: errors are compared as logarithms, and less than this matters little
_WORTH = 2  # a rung must cost at least so many times what the one below it does
_MOST_WASTED = 0.05  # share of a whole training that the branch of a rung may cost


@dataclass(frozen=True)
class Place:
    """A rung of a recipe: `epochs` of its dense training. `index` counts so that the last is always `N_RUNGS` - 1."""

    index: int
    epochs: int

    @property
    def is_last(self) -> bool:
        """Whether all of the recipe has been trained."""
        return self.index == N_RUNGS - 1


def places(recipe: Recipe, reduction: int = REDUCTION) -> tuple[Place, ...]:
    """The rungs of a recipe: untrained, then a 27th, a ninth, a third and all of its epochs, if `reduction` is 3.

    Behind its dense epochs each rung trains the later phases for at least an epoch, of a network that is judged and
    left: a branch. A rung whose branch costs more than a twentieth of the whole training tells too little for that, and
    is left out, as is one that would hardly cost less than the next: 27 epochs with none behind them give (0, 1, 3, 9,
    27); 90 with 10 + 10 give (0, 3, 10, 90), for the branch of 30 would cost 6; 15 with 3 + 3 give (0, 15). Gradual
    pruning is part of the dense training and depends on how long that is, so it has no rungs between; `reduction` 1
    leaves the last rung only.
    """
    last = Place(N_RUNGS - 1, recipe.epochs)
    if reduction == 1:
        return (last,)
    found = [last]
    is_divisible = recipe.pruning.schedule != "agp" and recipe.epochs > 1
    for index in reversed(range(1, N_RUNGS - 1 if is_divisible else 0)):
        epochs = max(1, int(recipe.epochs / reduction ** (N_RUNGS - 1 - index) + 0.5))
        total = total_epochs(recipe, epochs)
        is_cheap = total - epochs <= _MOST_WASTED * total_epochs(recipe, recipe.epochs)
        if is_cheap and total_epochs(recipe, found[0].epochs) >= _WORTH * total:
            found.insert(0, Place(index, epochs))
    return (Place(UNTRAINED, 0), *found)


def total_epochs(recipe: Recipe, epochs: int) -> int:
    """Epochs of all phases when the dense training is judged after `epochs`."""
    short = recipe.shortened(epochs)
    whole_numbers = short.quantization.qat_epochs + short.quantization.frozen_epochs
    return epochs + short.fine_tune_epochs + short.trec_epochs + whole_numbers


@dataclass
class _Rung:
    waiting: dict[str, Floats] = field(default_factory=dict)
    # the non-dominated ones of those that have gone on: what the waiting ones are compared with
    gone: Floats = field(default_factory=lambda: np.empty((0, 0)))
    n_reached: int = 0
    n_gone: int = 0


class RungBook:
    """Who reached which rung with which losses, and who is next. One of `reduction` goes on; 1: there are no rungs.

    `error`: the column of the losses that more training changes, in percent; None if there is none.
    """

    def __init__(self, reduction: int = REDUCTION, error: int | None = None) -> None:
        self.reduction, self._error = reduction, error
        # of each candidate its errors on rungs; of each rung by what factors errors fell from there to the end
        self._errors: dict[str, dict[int, float]] = {}
        self._falls: tuple[list[float], ...] = tuple([] for _ in range(N_RUNGS))
        self._rungs = tuple(_Rung() for _ in range(N_RUNGS - 1))
        # the newest losses of each candidate, and whether it is finished or given up
        self._latest: dict[str, Floats] = {}
        self._closed: set[str] = set()
        # the non-dominated ones of those that are trained to the end
        self._finished: Floats = np.empty((0, 0))
        # who is being trained on; how unsure the errors are that are foreseen; what each descends from
        self._away: set[str] = set()
        self._spreads: dict[str, float] = {}
        self._lines: dict[str, Lineage] = {}
        self._trained = Trained()

    def enter(self, key: str, rung: int, losses: Floats, line: Lineage | None = None) -> None:
        """`key`, which descends from `line`, has reached `rung` with `losses`."""
        self._latest[key] = losses
        self._away.discard(key)
        self._lines[key] = line or Lineage(key, key, key, 1, 0, 0)
        if rung > UNTRAINED:
            self._trained.note(self._lines[key], float(self.reduction) ** (rung - N_RUNGS + 1))
        self._note_error(key, rung, losses)
        if rung == N_RUNGS - 1:
            self._closed.add(key)
            self._finished = _front(self._finished, losses)
            return
        reached = self._rungs[rung]
        reached.waiting[key] = losses
        reached.n_reached += 1
        if len(reached.waiting) > 2 * _MAX_WAITING:
            order = _order(np.array(list(reached.waiting.values())), reached.gone)
            kept = [list(reached.waiting)[i] for i in order[:_MAX_WAITING]]
            reached.waiting = {name: reached.waiting[name] for name in kept}

    def leave(self, key: str, rung: int) -> None:
        """`key` goes on from `rung`."""
        left = self._rungs[rung]
        self._away.add(key)
        losses = left.waiting.pop(key, None)
        left.n_gone += 1
        if losses is not None:
            left.gone = _front(left.gone, losses)

    def revise(self, foresee: Callable[[list[str]], tuple[Floats, Floats]], keys: list[str] | None = None) -> None:
        """Judge those anew that wait untrained, or of them only `keys`.

        `foresee` gives of keys the losses, (n_keys, n_objectives), and the spreads of their errors' logarithms.
        """
        waiting = self._rungs[UNTRAINED].waiting
        chosen = [key for key in waiting if keys is None or key in keys]
        if not chosen:
            return
        for key, losses, spread in zip(chosen, *foresee(chosen), strict=True):
            waiting[key] = self._latest[key] = losses
            self._spreads[key] = float(spread)

    def close(self, key: str) -> None:
        """`key` is not to be trained on, because that failed."""
        self._closed.add(key)
        self._away.discard(key)
        for rung in self._rungs:
            rung.waiting.pop(key, None)

    def next(self) -> tuple[str, int] | None:
        """The candidate that goes on now and the rung that it leaves, the highest rung first; None if none may."""
        for index in reversed(range(1, N_RUNGS - 1)):
            rung = self._rungs[index]
            if rung.waiting and rung.n_gone < rung.n_reached // self.reduction:
                keys = self._promising(index)
                if keys:
                    best = _order(np.array([rung.waiting[key] for key in keys]), rung.gone)[0]
                    return keys[best], index
        priced = self._rungs[UNTRAINED]
        n_due = priced.n_reached // PRICED + _N_MORE if priced.n_reached >= PRICED else 0
        return self._worthiest(dict.fromkeys(priced.waiting, UNTRAINED)) if priced.n_gone < n_due else None

    def _promising(self, index: int) -> list[str]:
        """Who waits on a rung and may end up where nothing that is finished dominates it."""
        keys = list(self._rungs[index].waiting)
        finished = self._finished
        if not len(finished):
            return keys
        best = self._expected(keys, [index] * len(keys), PROMISING)
        return [key for key, row in zip(keys, best, strict=True) if not (finished <= row).all(axis=1).any()]

    def next_to_finish(self) -> tuple[str, int] | None:
        """The candidate that is most worth being trained on, and its rung; None once none is.

        It goes on to the next rung only, so that one that disappoints there costs no more.
        """
        return self._worthiest({key: index for index, rung in enumerate(self._rungs) for key in rung.waiting})

    def _worthiest(self, rung_of: dict[str, int]) -> tuple[str, int] | None:
        """Of the candidates that wait, on these rungs, the one that is expected to add most for each epoch left.

        Those that are being trained count as if they had shown what is expected of them. A network that is known from
        another candidate adds nothing.
        """
        keys = [key for key in rung_of if not self._trained.knows(self._lines[key])]
        if not keys:
            return None
        finished = [self._outlook(self._away_rows(), np.zeros(len(self._away)))]
        if len(self._finished):
            finished.append(self._outlook(self._finished, np.zeros(len(self._finished))))
        rungs = [rung_of[key] for key in keys]
        spreads = np.array([self._spread(key, rung) for key, rung in zip(keys, rungs, strict=True)])
        gains = expected_gains(self._outlook(self._expected(keys, rungs, 1.0), spreads), joined(finished))
        lines = [self._lines[key] for key in keys]
        # for as many epochs as a whole training takes
        worth = gains * np.array([line.whole / self._trained.left(line) for line in lines])
        rates = worth / np.array([line.whole for line in lines])
        best = int(np.argmax(rates))
        return (keys[best], rung_of[keys[best]]) if worth[best] > TOLERANCE else None

    def _away_rows(self) -> Floats:
        n_objectives = len(next(iter(self._latest.values())))
        return np.array([self._latest[key] for key in self._away]).reshape(len(self._away), n_objectives)

    def _outlook(self, rows: Floats, spreads: Floats) -> Outlook:
        if self._error is None:
            return Outlook(rows, np.zeros(len(rows)), np.zeros(len(rows)))
        return Outlook(np.delete(rows, self._error, axis=1), rows[:, self._error], spreads)

    def _spread(self, key: str, rung: int) -> float:
        """How unsure the logarithm of a candidate's last error is: as foreseen, or as errors fell from its rung."""
        if rung == UNTRAINED:
            return self._spreads.get(key, UNSURE)
        falls = np.array([0.0, *self._falls[rung]])
        # one that fell by nothing, and two that missed the mean by what is expected of the unknown
        return float(np.sqrt((((falls - falls.mean()) ** 2).sum() + 2 * UNSURE**2) / (len(falls) + 1)))

    def at_the_end(self, key: str, rung: int) -> float:
        """The error, in percent, that a candidate on a rung that trains is expected to show in the end."""
        assert self._error is not None
        return float(self._expected([key], [rung], 1.0)[0, self._error])

    def _note_error(self, key: str, rung: int, losses: Floats) -> None:
        if self._error is None or rung == UNTRAINED:
            return
        errors = self._errors.setdefault(key, {})
        errors[rung] = float(losses[self._error])
        if rung == N_RUNGS - 1:
            for earlier, error in errors.items():
                self._falls[earlier].append(math.log((errors[rung] + _FLOOR) / (error + _FLOOR)))

    def _expected(self, keys: list[str], rungs: list[int], share: float) -> Floats:
        """The losses of `keys` once they are trained to the end and come to `share` of the error that is expected.

        Shape (n_keys, n_objectives).
        """
        y = np.array([self._latest[key] for key in keys], dtype=np.float64)
        if self._error is not None and keys:
            fall = [math.exp(min(0.0, sum(each) / len(each))) if each else 1.0 for each in self._falls]
            # what is foreseen is the error in the end
            fall[UNTRAINED] = 1.0
            column = y[:, self._error]
            fallen = share * _fallen(column, fall, rungs)
            y[:, self._error] = np.where([key in self._closed for key in keys], column, fallen)
        return y


def _front(front: Floats, losses: Floats) -> Floats:
    """The non-dominated ones of `front` and one more row."""
    rows = np.vstack([front, losses]) if len(front) else losses[np.newaxis]
    return np.asarray(rows[non_dominated(rows)], dtype=np.float64)


def _fallen(errors: Floats, fall: list[float], rungs: list[int]) -> Floats:
    return np.asarray((errors + _FLOOR) * np.array(fall)[rungs] - _FLOOR, dtype=np.float64)


def _order(waiting: Floats, gone: Floats) -> list[int]:
    """Rows of `waiting`, best first: by rank among all, in the first front by what they add to those that are gone."""
    rank = ranks(np.vstack([waiting, gone]) if len(gone) else waiting)[: len(waiting)]
    members = np.flatnonzero(rank == rank.min())
    gain = np.zeros(len(waiting))
    gain[members] = _gains(waiting[members], gone)
    return sorted(range(len(waiting)), key=lambda i: (rank[i], -gain[i]))


def _gains(rows: Floats, taken: Floats) -> Floats:
    """What each row would add to the hypervolume of `taken`, as a share of the box around all of them.

    Of many rows only the least crowded are considered; the others add 0.
    """
    gains = np.zeros(len(rows))
    if not len(rows):
        return gains
    everyone = np.vstack([rows, taken]) if len(taken) else rows
    low, span = everyone.min(axis=0), np.ptp(everyone, axis=0)
    span = np.where(span > 0, span, 1.0)
    reference = np.full(rows.shape[1], _MARGIN)
    chosen = np.argsort(-crowding(rows), kind="stable")[:_MAX_GAINS]
    for i in chosen:
        row = (rows[i] - low) / span
        gains[i] = np.prod(reference - row)
        if len(taken):
            gains[i] -= hypervolume(np.maximum((taken - low) / span, row), reference)
    return np.asarray(gains / _MARGIN ** rows.shape[1], dtype=np.float64)


@dataclass(frozen=True)
class RungCorrelation:
    """How well `lower` dense epochs foretell the order after `upper`: Spearman's rho over the `n` that reached both."""

    lower: int
    upper: int
    n: int
    rho: float


def judged(trials: Iterable[TrialRecord]) -> list[Evaluation]:
    """The evaluations of a study's trials, one per candidate."""
    found = {trial.evaluation.candidate.key: trial.evaluation for trial in trials if trial.evaluation is not None}
    return list(found.values())


def name_of(epochs: int) -> str:
    """A rung for people."""
    return "untrained" if epochs == 0 else "1 epoch" if epochs == 1 else f"{epochs} epochs"


def correlations(evaluations: Iterable[Evaluation]) -> tuple[RungCorrelation, ...]:
    """For each pair of neighbouring rungs that at least three candidates reached and that did not all tie.

    Only the better candidates go on, so rho over them is lower than it would be over all.
    """
    pairs: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for evaluation in {evaluation.key: evaluation for evaluation in evaluations}.values():
        for lower, upper in zip(evaluation.rungs, evaluation.rungs[1:], strict=False):
            pairs.setdefault((lower.epochs, upper.epochs), []).append((lower.error, upper.error))
    found = []
    for (lower_epochs, upper_epochs), errors in sorted(pairs.items()):
        rho = spearman(*np.array(errors).T)
        if len(errors) >= 3 and np.isfinite(rho):
            found.append(RungCorrelation(lower_epochs, upper_epochs, len(errors), rho))
    return tuple(found)


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation, tied values sharing their mean rank; NaN if either side has one value only."""
    first, second = _mean_ranks(a), _mean_ranks(b)
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale else float("nan")


def _mean_ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)
