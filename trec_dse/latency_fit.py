"""Learn what work costs on a board: cycles are linear in the work of the kernels, and the board's file is the prior.

Two steps, both with an answer for few measurements as for many. All costs share a factor, by which the board is slower
or faster than its file says; then each cost is moved away from that as far as the measurements ask for it. Costs that
nothing measured exercises keep the common factor. Both are the most probable values under normally distributed errors,
measurements far off count less (Huber, "Robust Estimation of a Location Parameter", 1964), and no cost is negative.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from trec_dse.errors import TargetError
from trec_dse.graph import Work

Floats = npt.NDArray[np.float64]

NOISE = 0.03  # relative deviation that the linear model leaves in a layer or network
FACTOR_SPREAD, NETWORK_SPREAD = 0.1, 0.05  # of boards around their file; of networks around their board
COST_SPREAD, SMALLEST_SPREAD = 0.3, 0.01  # of a cost around its prior: relative, and in cycles
HUBER = 1.5  # deviations beyond which a measurement counts less
N_REWEIGHTINGS = 6


@dataclass(frozen=True)
class Sample:
    """Some work and the cycles that it took. `group`: of the network that it belongs to; splits keep groups whole."""

    work: tuple[Work, ...]
    cycles: float
    group: str
    label: str = ""


@dataclass(frozen=True)
class Errors:
    """How far estimates are from measurements. In per cent but for `rank`, the correlation of ranks (Spearman).

    Attributes:
        mean: mean absolute error; p95: its 95th percentile; bias: mean error with its sign.
        within_10: share of the samples that are off by at most 10 %.
    """

    n: int
    mean: float
    p95: float
    largest: float
    bias: float
    within_10: float
    rank: float


def refit(prior: Mapping[str, float], samples: Sequence[Sample]) -> dict[str, float]:
    """Costs by kind of work, those of `prior` moved by the samples; without samples, `prior`.

    Raises `TargetError` if the samples did work that the prior has no cost of.
    """
    if not samples:
        return dict(prior)
    factor = common_factor(predict(prior, samples), np.array([sample.cycles for sample in samples]))
    start = {kind: factor * cost for kind, cost in prior.items()}
    return fit_costs(samples, start, {kind: COST_SPREAD * cost + SMALLEST_SPREAD for kind, cost in start.items()})


def fit_costs(samples: Sequence[Sample], start: Mapping[str, float], spread: Mapping[str, float]) -> dict[str, float]:
    """The most probable costs, if they are spread around those to start with by so many cycles."""
    kinds = sorted(start)
    cycles = np.array([sample.cycles for sample in samples], dtype=np.float64)
    middle, width = (np.array([values[kind] for kind in kinds]) for values in (start, spread))
    rows, wanted = work_matrix(samples, kinds) / (NOISE * cycles[:, None]), np.full(len(cycles), 1 / NOISE)
    costs, weights = middle, np.ones(len(cycles))
    for _ in range(N_REWEIGHTINGS):
        stacked = np.vstack([rows * weights[:, None], np.diag(1 / width)])
        costs, _ = nnls(stacked, np.concatenate([wanted * weights, middle / width]))
        off = np.abs(rows @ costs - wanted)
        weights = np.sqrt(np.minimum(1.0, HUBER / np.maximum(off, 1e-9)))
    return {kind: float(cost) for kind, cost in zip(kinds, costs, strict=True)}


def common_factor(estimated: Floats, cycles: Floats) -> float:
    """By which the board is slower than its file says: the median over the samples, drawn towards 1."""
    logarithm = float(np.median(np.log(cycles / np.maximum(estimated, 1e-9))))
    doubt = (NETWORK_SPREAD / FACTOR_SPREAD) ** 2
    return math.exp(logarithm * len(cycles) / (len(cycles) + doubt))


def predict(costs: Mapping[str, float], samples: Sequence[Sample]) -> Floats:
    """Cycles of each sample."""
    kinds = sorted(costs)
    predicted: Floats = work_matrix(samples, kinds) @ np.array([costs[kind] for kind in kinds])
    return predicted


def work_matrix(samples: Sequence[Sample], kinds: Sequence[str]) -> Floats:
    """Amounts of work, (samples, kinds); TargetError for a kind of work that is not among `kinds`."""
    column = {kind: i for i, kind in enumerate(kinds)}
    matrix = np.zeros((len(samples), len(kinds)))
    for row, sample in zip(matrix, samples, strict=True):
        for item in sample.work:
            if item.kind not in column:
                raise TargetError(f"[timing] has no {item.kind}; benchmarks/timing.py fits it on the twin")
            row[column[item.kind]] += item.amount
    return matrix


def errors_of(estimated: Floats, measured: Floats) -> Errors:
    """The distribution of the relative errors."""
    relative = 100 * (np.asarray(estimated) / np.asarray(measured) - 1)
    size = np.abs(relative)
    return Errors(
        n=len(size),
        mean=float(size.mean()),
        p95=float(np.percentile(size, 95)),
        largest=float(size.max()),
        bias=float(relative.mean()),
        within_10=float((size <= 10).mean()),
        rank=_rank_correlation(estimated, measured),
    )


def held_out_errors(prior: Mapping[str, float], samples: Sequence[Sample], every: int = 4) -> dict[str, Errors]:
    """Errors on samples that the costs were not fitted on, by label and, under "", of all.

    Whole groups are held out, one in `every` of them in turn, so that every sample is predicted once.
    """
    groups = sorted({sample.group for sample in samples})
    estimated = np.zeros(len(samples))
    for turn in range(every):
        held = set(groups[turn::every])
        costs = refit(prior, [sample for sample in samples if sample.group not in held])
        places = [i for i, sample in enumerate(samples) if sample.group in held]
        if places:
            estimated[places] = predict(costs, [samples[i] for i in places])
    return errors_by_label(estimated, samples)


def errors_by_label(estimated: Floats, samples: Sequence[Sample]) -> dict[str, Errors]:
    """Errors of the samples of each label and, under "", of all."""
    measured = np.array([sample.cycles for sample in samples])
    labels = np.array([sample.label for sample in samples])
    by_label = {
        label: errors_of(estimated[labels == label], measured[labels == label]) for label in sorted(set(labels))
    }
    return {**{str(label): errors for label, errors in by_label.items()}, "": errors_of(estimated, measured)}


def _rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's: Pearson's of the ranks, equal values sharing the mean of theirs; 1 for a single sample."""
    ranks = [_ranks(np.asarray(values)) for values in (a, b)]
    deviations = [rank - rank.mean() for rank in ranks]
    size = math.sqrt(float((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    return float((deviations[0] * deviations[1]).sum()) / size if size else 1.0


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Floats = (last - (counts - 1) / 2)[inverse]
    return shared
