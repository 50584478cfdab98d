"""Which parameters of a search move which objectives: a first look, from the trials that there are."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trec_dse.objectives import Objective
from trec_dse.results import Evaluation, TrialRecord

MOST_GROUPS = 8  # a number with more values than this is cut into as many groups of about equal size

Floats = npt.NDArray[np.float64]
Setting = int | float | str | bool | None


@dataclass(frozen=True)
class InfluenceData:
    """Share of an objective's spread that a parameter explains by itself.

    Attributes:
        parameters: those that differ between the trials; objectives: in the order asked for.
        shares: per parameter, one share in 0..1 per objective; None where the objective has one value only.
        n_trials: trained trials that were looked at, one per network.
    """

    parameters: tuple[str, ...]
    objectives: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    n_trials: int


def influence_data(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> InfluenceData:
    """How much of each objective every parameter explains, the most influential parameter first.

    Objectives enter as ranks, so that one extreme network counts no more than its neighbour. What parameters do only
    together is not seen, and a sampler that prefers some values blurs the rest: a first look and no proof.
    """
    rows = _networks(records)
    names = tuple(dict.fromkeys(name for record, _ in rows for name in record.params))
    settings = {name: [record.params.get(name) for record, _ in rows] for name in names}
    varying = [name for name in names if len(set(settings[name])) > 1]
    ranked = [_ranks([objective.loss(evaluation) for _, evaluation in rows]) for objective in objectives]
    shares = {name: tuple(explained(groups(settings[name]), y) for y in ranked) for name in varying}
    order = sorted(varying, key=lambda name: -sum(share or 0.0 for share in shares[name]))
    labels = tuple(objective.name for objective in objectives)
    return InfluenceData(tuple(order), labels, tuple(shares[name] for name in order), len(rows))


def explained(labels: Sequence[Hashable], y: Floats) -> float | None:
    """Epsilon squared of a one-way analysis of variance, at least 0: (SSB - (k - 1) MSW) / SST.

    Unlike the plain share SSB / SST it is 0 on average for a parameter that does nothing. None without any spread,
    or with as many groups as values.
    """
    members = {label: y[[i for i, each in enumerate(labels) if each == label]] for label in dict.fromkeys(labels)}
    total = float(np.square(y - y.mean()).sum()) if len(y) else 0.0
    if total == 0 or len(members) >= len(y):
        return None
    within = sum(float(np.square(each - each.mean()).sum()) for each in members.values())
    mean_within = within / (len(y) - len(members))
    return max(0.0, (total - within - (len(members) - 1) * mean_within) / total)


def groups(settings: Sequence[Setting]) -> list[Hashable]:
    """A label for each setting: itself, or for numbers of many values the part of the sorted values it falls in."""
    distinct = set(settings)
    are_numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in distinct)
    if not are_numbers or len(distinct) <= MOST_GROUPS:
        return [str(each) for each in settings]
    values = np.array(settings, dtype=np.float64)
    borders = np.quantile(values, np.arange(1, MOST_GROUPS) / MOST_GROUPS)
    return [int(place) for place in np.searchsorted(borders, values, side="right")]


def _networks(records: Sequence[TrialRecord]) -> list[tuple[TrialRecord, Evaluation]]:
    """Trained trials with parameters, the first of every network."""
    first: dict[str, tuple[TrialRecord, Evaluation]] = {}
    for record in records:
        evaluation = record.evaluation
        if evaluation is not None and evaluation.int8_accuracy is not None and record.params:
            first.setdefault(evaluation.key, (record, evaluation))
    return list(first.values())


def _ranks(values: Sequence[float]) -> Floats:
    """Rank of each value from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.array(values, dtype=np.float64), return_inverse=True, return_counts=True)
    means = np.cumsum(counts) - (counts + 1) / 2
    return np.asarray(means[inverse], dtype=np.float64)
