"""What it is expected to add to the front to train a candidate to the end: hypervolume, under the error foreseen.

All but the error is known before training. So the hypervolume is integrated over points of the other objectives: what
is finished promises each point an error, the least of those that cost no more; a candidate improves on that where it
costs no more itself, by as much as its error turns out less. The error is foreseen as a logarithm with a spread, hence
the improvement is averaged over quantiles of it: expected hypervolume improvement (Emmerich et al. 2006).

Costs count as logarithms, for twice as much is twice as much anywhere; one that may be zero or less counts as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trec_dse.pareto import Floats

FLOOR = 0.5  # percent: errors are compared as logarithms, and less than this matters little
_N_POINTS = 2048
_BEYOND = 1.1  # the box ends a tenth beyond the dearest, or that would add nothing
_MARGIN = 1.1  # the worst error that counts, as a multiple of the worst that is finished or expected
# means of nine equal parts of a normal distribution, nearly
_QUANTILES = np.array([-1.7, -1.1, -0.67, -0.32, 0.0, 0.32, 0.67, 1.1, 1.7])


@dataclass(frozen=True)
class Outlook:
    """What is expected of candidates once they are trained.

    Attributes:
        costs: (n, k), the objectives other than the error; errors: (n,), in percent, their medians.
        spreads: (n,), the standard deviations of their logarithms; 0 for what is known.
    """

    costs: Floats
    errors: Floats
    spreads: Floats

    def samples(self) -> Floats:
        """Equally likely errors, (n, 9)."""
        logarithms = np.log(self.errors + FLOOR)[:, np.newaxis] + self.spreads[:, np.newaxis] * _QUANTILES
        return np.asarray(np.maximum(np.exp(logarithms) - FLOOR, 0.0), dtype=np.float64)


def expected_gains(candidates: Outlook, finished: Outlook) -> Floats:
    """What each candidate alone would add to what is finished, (n,), as a share of the box around all of them."""
    costs = _scaled(np.vstack([candidates.costs, finished.costs]))
    n = len(candidates.costs)
    points = _BEYOND * np.random.default_rng(0).random((_N_POINTS, costs.shape[1]))
    reaches = np.array([(row <= points).all(axis=1) for row in costs])
    worst = _MARGIN * float(np.concatenate([finished.errors, candidates.errors]).max()) + FLOOR
    promised = np.full(_N_POINTS, worst)
    for reached, error in zip(reaches[n:], finished.errors, strict=True):
        promised[reached] = np.minimum(promised[reached], error)
    gains = [
        np.maximum(promised[reached][:, np.newaxis] - errors, 0.0).mean(axis=1).sum()
        for reached, errors in zip(reaches[:n], candidates.samples(), strict=True)
    ]
    return np.array(gains) / (_N_POINTS * worst)


def joined(outlooks: Sequence[Outlook]) -> Outlook:
    """All of them, one after the other."""
    return Outlook(
        np.vstack([each.costs for each in outlooks]),
        np.concatenate([each.errors for each in outlooks]),
        np.concatenate([each.spreads for each in outlooks]),
    )


def _scaled(costs: Floats) -> Floats:
    """Each column as 0 to 1."""
    columns = [np.log(column) if (column > 0).all() else column for column in costs.T]
    logarithms = np.array(columns).reshape(costs.shape[1], len(costs)).T
    low, span = logarithms.min(axis=0), np.ptp(logarithms, axis=0)
    return np.asarray((logarithms - low) / np.where(span > 0, span, 1.0), dtype=np.float64)
