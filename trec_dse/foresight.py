"""What error an untrained candidate will show in the end, judged from those that were trained: a Gaussian process.

It sees what every candidate has before training: its sizes, its work, what clustering changes in its logits
(`evaluate.clustering_error`), and the choices that it stands for. Errors follow a trend in the sizes, on which larger
is better, and deviate from it by any of them. With the error comes how sure it is.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from trec_dse.candidate import Candidate, Recipe, plain_data
from trec_dse.codec import unstructure
from trec_dse.gaussian_process import Process, likeliest, observed
from trec_dse.pareto import Floats
from trec_dse.results import Evaluation

UNSURE = 0.5  # standard deviation of the logarithm of an error of which hardly anything is known
_N_FITTED = 3  # of fewer only the mean is taken
_MOST, _MOST_SHAPING = 400, 150  # the newest that are judged by, and that say what the process is like
_MOST_NOTED = 1000  # the newest by whose features all are scaled
_SIZE_WEIGHT, _CHOICE_WEIGHT = 0.05, 0.03  # of a standard deviation of a feature, before anything is learnt
_PRIOR, _PRIOR_VARIANCE = 2.0, 0.05  # so many errors are taken to have been seen to vary so much, or as all do
_FLOOR = 0.005  # errors are compared as logarithms; half a percent more or less than none means little

Choices = Mapping[str, float | str]


@dataclass(frozen=True)
class Features:
    """What is known of a candidate without training.

    Attributes:
        sizes: logarithms, (6,), of SRAM, Flash, latency, MACs without and with TREC, and of its untrained error.
        choices: what it is made of, by name, as `choices_of` gives it.
    """

    sizes: Floats
    choices: Choices


def features(evaluation: Evaluation) -> Features:
    """Of a candidate that was priced, trained or not."""
    cost = evaluation.estimated
    error = evaluation.rungs[0].error if evaluation.rungs and evaluation.rungs[0].epochs == 0 else 0.0
    sizes = (cost.sram_bytes, cost.flash_bytes, cost.cycles, cost.dense_macs, cost.macs, 1000 * error)
    return Features(np.log1p(np.array(sizes, dtype=np.float64)), choices_of(evaluation.candidate))


def choices_of(candidate: Candidate) -> dict[str, float | str]:
    """All fields of a candidate by their dotted names, those of the recipe that hold their default left out."""
    data = plain_data(candidate)
    recipe = {name: value for name, value in _leaves("recipe", data.pop("recipe")) if _USUAL.get(name) != value}
    return {**dict(_leaves("", data)), **recipe}


def _leaves(name: str, data: object) -> Iterable[tuple[str, float | str]]:
    """Numbers as they are, all else that is no mapping as JSON; nothing of None."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), value)
    elif isinstance(data, int | float):
        yield name, float(data)
    elif data is not None:
        yield name, json.dumps(data)


_USUAL = dict(_leaves("recipe", unstructure(Recipe())))


@dataclass(frozen=True)
class _Columns:
    """How choices become numbers: one column for each number, and one for each value of anything else."""

    numbers: tuple[str, ...]
    values: tuple[tuple[str, str], ...]

    def row(self, choices: Choices) -> Floats:
        """NaN for a number that the candidate does not have."""
        found = [choices.get(name, np.nan) for name in self.numbers]
        numbers = [value if isinstance(value, float) else np.nan for value in found]
        return np.array([*numbers, *(float(choices.get(name) == value) for name, value in self.values)])


def _columns(noted: Iterable[Choices]) -> _Columns:
    leaves = {leaf for choices in noted for leaf in choices.items()}
    numbers = {name for name, value in leaves if isinstance(value, float)}
    values = {(name, value) for name, value in leaves if isinstance(value, str)}
    return _Columns(tuple(sorted(numbers)), tuple(sorted(values)))


@dataclass(frozen=True)
class _Scale:
    """Features as standard deviations of those that were noted; a number that is missing counts as their mean.

    Whether it is missing is a feature of its own. `kept`: columns that differ, each once.
    """

    columns: _Columns
    mean: Floats
    deviation: Floats
    kept: tuple[int, ...]

    def points(self, rows: Iterable[Features]) -> Floats:
        """Points (n, k), the sizes first."""
        x = np.array([_raw(self.columns, row) for row in rows])[:, list(self.kept)]
        scaled = (x - self.mean) / self.deviation
        return np.asarray(np.where(np.isnan(scaled), 0.0, scaled), dtype=np.float64)


def _raw(columns: _Columns, row: Features) -> Floats:
    choices = columns.row(row.choices)
    missing = np.isnan(choices[: len(columns.numbers)])
    return np.concatenate([row.sizes, choices, missing])


def _scale(rows: list[Features]) -> _Scale:
    columns = _columns(row.choices for row in rows)
    x = np.array([_raw(columns, row) for row in rows])
    mean, deviation = np.nanmean(x, axis=0), np.nanstd(x, axis=0)
    # what all have in common tells nothing, but the sizes stay
    n_sizes = len(rows[0].sizes)
    scaled = np.where(np.isnan(x), 0.0, (x - mean) / np.where(deviation < 1e-9, 1.0, deviation))
    _, first = np.unique(np.round(scaled[:, n_sizes:], 9), axis=1, return_index=True)
    differing = [n_sizes + int(i) for i in sorted(first) if deviation[n_sizes + i] >= 1e-9]
    kept = (*range(n_sizes), *differing)
    deviation[deviation < 1e-9] = 1.0
    return _Scale(columns, mean[list(kept)], deviation[list(kept)], kept)


class Foresight:
    """Learns the errors of candidates that it was shown, and predicts those of others."""

    def __init__(self) -> None:
        self._noted: dict[str, Features] = {}
        self._seen: dict[str, float] = {}
        self._level, self._spread = 0.0, UNSURE
        self._scale: _Scale | None = None
        self._process: Process | None = None
        self._is_fitted = False

    @property
    def is_ready(self) -> bool:
        """Whether anything has been trained to judge by."""
        return bool(self._seen)

    def note(self, key: str, known: Features) -> None:
        """Take in a candidate that was priced."""
        self._noted[key] = known

    def learn(self, key: str, error: float) -> None:
        """Take in what a candidate that was noted showed, or what one is expected to show that is trained further."""
        self._seen.pop(key, None)
        self._seen[key] = error
        self._is_fitted = False

    def foresee(self, keys: list[str]) -> tuple[Floats, Floats]:
        """Of candidates that were noted: the errors expected, as shares of the images, (n,), and spreads (n,).

        A spread is the standard deviation of the error's logarithm, and the error expected the median.
        """
        if not self._is_fitted:
            self._fit()
        logarithm, spread = np.full(len(keys), self._level), np.full(len(keys), UNSURE)
        if self._process is not None and self._scale is not None:
            means, deviations = self._process.predict(self._scale.points(self._noted[key] for key in keys))
            logarithm, spread = self._level + self._spread * means, self._spread * deviations
        return np.asarray(np.clip(np.exp(logarithm) - _FLOOR, 0.0, 1.0), dtype=np.float64), np.asarray(spread)

    def error(self, key: str) -> float:
        """The error alone, of one."""
        return float(self.foresee([key])[0][0])

    def _fit(self) -> None:
        self._is_fitted, self._process = True, None
        newest = list(self._seen)[-_MOST:]
        y = np.log(np.array([self._seen[key] for key in newest]) + _FLOOR)
        self._level = float(y.mean())
        if len(y) < _N_FITTED:
            return
        off = y - self._level
        prior = _PRIOR * max(float(y.var()), _PRIOR_VARIANCE)
        self._spread = float(np.sqrt((off @ off + prior) / (len(y) + _PRIOR)))
        noted = {key: self._noted[key] for key in [*list(self._noted)[-_MOST_NOTED:], *newest]}
        self._scale = _scale(list(noted.values()))
        points, off = self._scale.points(self._noted[key] for key in newest), off / self._spread
        n_sizes = len(self._noted[newest[0]].sizes)
        weights = np.full(points.shape[1], _CHOICE_WEIGHT)
        weights[:n_sizes] = _SIZE_WEIGHT
        shape = likeliest(points[-_MOST_SHAPING:], off[-_MOST_SHAPING:], weights, n_sizes)
        self._process = observed(shape, points, off)
