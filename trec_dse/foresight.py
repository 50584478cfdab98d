"""What error an untrained candidate will show, judged from those that were trained: kernel ridge regression.

Nothing of the search space enters, only what every candidate has before training: its sizes, its work, and what
clustering changes in its logits (`evaluate.clustering_error`). So it needs a dozen trained candidates, and no more.
"""

import numpy as np

from trec_dse.pareto import Floats
from trec_dse.results import Evaluation

N_NEEDED = 12
_MOST = 400  # the newest; the equations of so many are solved in a few hundredths of a second
_RIDGE = 0.1
_WIDTH = 1.5  # of the kernel, in standard deviations of a feature
_FLOOR = 0.005  # errors are compared as logarithms; half a percent more or less than none means little


def features(evaluation: Evaluation) -> Floats:
    """What is known without training, as logarithms: SRAM, Flash, latency, MACs without and with TREC, its error."""
    cost = evaluation.estimated
    error = evaluation.rungs[0].error if evaluation.rungs and evaluation.rungs[0].epochs == 0 else 0.0
    sizes = (cost.sram_bytes, cost.flash_bytes, cost.cycles, cost.dense_macs, cost.macs, 1000 * error)
    return np.log1p(np.array(sizes, dtype=np.float64))


class Foresight:
    """Learns (features, error after the first rung that trains) and predicts that error."""

    def __init__(self) -> None:
        self._seen: list[tuple[Floats, float]] = []
        self._n_fitted = 0
        self._mean: Floats = np.zeros(0)
        self._scale: Floats = np.ones(0)
        self._points: Floats = np.zeros((0, 0))
        self._weights: Floats = np.zeros(0)
        self._level = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether enough has been trained to judge by."""
        return len(self._seen) >= N_NEEDED

    def learn(self, x: Floats, error: float) -> bool:
        """Take in a trained candidate; True when what was predicted before should be predicted anew."""
        self._seen.append((x, error))
        if not self.is_ready or len(self._seen) < 1.1 * self._n_fitted:
            return False
        self._fit()
        return True

    def error(self, x: Floats) -> Floats:
        """The errors, as shares of the images, that candidates of features `x` (n, 6) are expected to show."""
        kernel = _kernel((np.atleast_2d(x) - self._mean) / self._scale, self._points)
        logarithm = self._level + kernel @ self._weights
        return np.asarray(np.clip(np.exp(logarithm) - _FLOOR, 0.0, 1.0), dtype=np.float64)

    def _fit(self) -> None:
        self._n_fitted = len(self._seen)
        x = np.array([features for features, _ in self._seen[-_MOST:]])
        y = np.log(np.array([error for _, error in self._seen[-_MOST:]]) + _FLOOR)
        self._mean, self._level = np.asarray(x.mean(axis=0), dtype=np.float64), float(y.mean())
        self._scale = np.asarray(x.std(axis=0), dtype=np.float64)
        # what all have in common tells nothing
        self._scale[self._scale < 1e-9] = 1.0
        self._points = np.asarray((x - self._mean) / self._scale, dtype=np.float64)
        matrix = _kernel(self._points, self._points) + _RIDGE * np.eye(len(y))
        self._weights = np.asarray(np.linalg.solve(matrix, y - self._level), dtype=np.float64)


def _kernel(a: Floats, b: Floats) -> Floats:
    """Gaussian, of the mean square distance along the features."""
    distance = ((a[:, np.newaxis] - b[np.newaxis]) ** 2).mean(axis=2)
    return np.asarray(np.exp(-distance / (2 * _WIDTH**2)), dtype=np.float64)
