"""Non-dominated points: which trials are worth looking at, and how good a set of them is.

Arrays hold losses, shape (n_points, n_objectives): less is better in every column.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from trec_dse.errors import InputError
from trec_dse.objectives import Objective
from trec_dse.results import Evaluation, TrialRecord

Floats = npt.NDArray[np.float64]


def non_dominated(y: Floats) -> npt.NDArray[np.bool_]:
    """Mask of the rows that no other row dominates. Equal rows are all kept; a row with a NaN never is.

    Row a dominates row b when a <= b in every column and a < b in at least one.
    """
    y = _matrix(y)
    kept = np.logical_not(np.isnan(y).any(axis=1))
    # rows with small sums first: they dominate most, and a dominated row needs no turn of its own
    for i in np.argsort(y.sum(axis=1), kind="stable"):
        if kept[i]:
            kept &= ~((y[i] <= y).all(axis=1) & (y[i] < y).any(axis=1))
    return kept


def ranks(y: Floats) -> npt.NDArray[np.int64]:
    """Front number of each row: 0 is the non-dominated front, 1 the front once those are gone, and so on.

    Rows with a NaN share the rank after the last.
    """
    y = _matrix(y)
    result = np.zeros(len(y), dtype=np.int64)
    left = np.flatnonzero(~np.isnan(y).any(axis=1))
    rank = 0
    while left.size:
        on_front = non_dominated(y[left])
        result[left[on_front]] = rank
        left = left[~on_front]
        rank += 1
    result[np.isnan(y).any(axis=1)] = rank
    return result


def crowding(y: Floats) -> Floats:
    """Crowding distance of each row among the rows given (Deb et al. 2002); infinite at both ends of a column.

    The rows should be one front. A column in which all rows are equal adds nothing.
    """
    y = _matrix(y)
    distance = np.zeros(len(y))
    for column in y.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if len(order) else 0.0
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
            distance[order[[0, -1]]] = np.inf
    return distance


def hypervolume(y: Floats, reference: Floats) -> float:
    """Volume dominated by the rows and bounded by `reference`, exactly.

    Rows that are not below the reference in every column count nothing, nor does a row with a NaN.
    """
    y, reference = _matrix(y), np.asarray(reference, dtype=np.float64)
    if reference.shape != (y.shape[1],):
        raise InputError(f"the reference point has shape {reference.shape}; the points need ({y.shape[1]},)")
    inside = y[(y < reference).all(axis=1)]
    # three columns are swept at once, so fewer are filled up with sides of length one
    missing = max(0, 3 - len(reference))
    front = np.pad(np.unique(inside[non_dominated(inside)], axis=0), ((0, 0), (0, missing)))
    return _volume(front, np.pad(reference, (0, missing), constant_values=1.0))


def running_hypervolume(y: Floats, reference: Floats) -> Floats:
    """Hypervolume of the first 1, 2, ... n rows; a row adds the part of its box that earlier rows left over."""
    y, reference = _matrix(y), np.asarray(reference, dtype=np.float64)
    result = np.zeros(len(y))
    front = np.empty((0, y.shape[1]))
    total = 0.0
    for i, row in enumerate(y):
        is_new = bool((row < reference).all()) and not (front <= row).all(axis=1).any()
        if is_new:
            total += float(np.prod(reference - row)) - hypervolume(np.maximum(front, row), reference)
            front = np.vstack([front[~(row <= front).all(axis=1)], row])
        result[i] = total
    return result


def losses(evaluations: Iterable[Evaluation], objectives: Sequence[Objective]) -> Floats:
    """Loss matrix (n_evaluations, n_objectives); NaN where a value is not known."""
    rows = [[objective.loss(evaluation) for objective in objectives] for evaluation in evaluations]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))


def candidates(records: Iterable[TrialRecord]) -> list[tuple[TrialRecord, Evaluation]]:
    """Complete, feasible trials by number, one per network; of equal networks a measured one, else the first."""
    best: dict[str, tuple[TrialRecord, Evaluation]] = {}
    for record in sorted(records, key=lambda record: record.number):
        evaluation = record.evaluation
        if record.state != "complete" or evaluation is None or not evaluation.is_feasible:
            continue
        known = best.get(evaluation.key)
        if known is None or (known[1].measured is None and evaluation.measured is not None):
            best[evaluation.key] = (record, evaluation)
    return sorted(best.values(), key=lambda pair: pair[0].number)


def front(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The non-dominated feasible trials, ordered by the first objective, best first. Each network appears once."""
    pairs = candidates(records)
    y = losses((evaluation for _, evaluation in pairs), objectives)
    on_front = np.flatnonzero(non_dominated(y))
    ordered = sorted(on_front, key=lambda i: (*y[i], pairs[i][0].number))
    return [pairs[i][0] for i in ordered]


def _matrix(y: Floats) -> Floats:
    y = np.asarray(y, dtype=np.float64)
    if y.ndim != 2:
        raise InputError(f"points have {y.ndim} dimensions; they need shape (n_points, n_objectives)")
    return y


def _volume(front: Floats, reference: Floats) -> float:
    """Volume of at least three columns, all rows below the reference: sum of slabs along the last column."""
    if not len(front):
        return 0.0
    front = front[np.argsort(front[:, -1], kind="stable")]
    thickness = np.diff(np.append(front[:, -1], reference[-1]))
    if len(reference) == 3:
        return float(_areas(front[:, :2], reference[:2]) @ thickness)
    # within a slab only the rows at or before it count, and without the last column many of them are dominated
    total = 0.0
    for i in np.flatnonzero(thickness):
        slab = front[: i + 1, :-1]
        total += float(thickness[i]) * _volume(slab[non_dominated(slab)], reference[:-1])
    return total


def _areas(points: Floats, reference: Floats) -> Floats:
    """Area dominated by the first 1, 2, ... n of `points`, shape (n, 2)."""
    x = np.sort(points[:, 0])
    widths = np.diff(np.append(x, reference[0]))
    reaches = np.where(points[:, :1] <= x, points[:, 1:], reference[1])  # (point, strip of x)
    lowest = np.minimum.accumulate(reaches, axis=0)
    return np.asarray((reference[1] - lowest) @ widths, dtype=np.float64)
