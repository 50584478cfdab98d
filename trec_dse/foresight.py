"""What error an untrained candidate will show in the end, judged from those that were trained: a Gaussian process.

Nothing of the search space enters, only what every candidate has before training: its sizes, its work, and what
clustering changes in its logits (`evaluate.clustering_error`). With the error comes how sure it is, which grows with
the distance from all that was trained. Width and noise of the process are those of a small grid under which what was
seen is likeliest (Rasmussen and Williams 2006, chapters 2 and 5).
"""

from dataclasses import dataclass

import numpy as np

from trec_dse.pareto import Floats
from trec_dse.results import Evaluation

UNSURE = 0.5  # standard deviation of the logarithm of an error of which hardly anything is known
_N_FITTED = 3  # of fewer only the mean is taken
_MOST = 400  # the newest; the equations of so many are solved in a tenth of a second
_WIDTHS = (0.5, 1.0, 1.5, 2.5)  # of the kernel, in standard deviations of a feature
_NOISES = (0.02, 0.1, 0.3)  # variances, as shares of the kernel's
_PRIOR, _PRIOR_VARIANCE = 2.0, 0.05  # so many errors are taken to have been seen to vary so much, or as all do
_FLOOR = 0.005  # errors are compared as logarithms; half a percent more or less than none means little


def features(evaluation: Evaluation) -> Floats:
    """What is known without training, as logarithms: SRAM, Flash, latency, MACs without and with TREC, its error."""
    cost = evaluation.estimated
    error = evaluation.rungs[0].error if evaluation.rungs and evaluation.rungs[0].epochs == 0 else 0.0
    sizes = (cost.sram_bytes, cost.flash_bytes, cost.cycles, cost.dense_macs, cost.macs, 1000 * error)
    return np.log1p(np.array(sizes, dtype=np.float64))


@dataclass(frozen=True)
class _Process:
    """A fitted process: `points` (n, 6) as standard deviations, `weights` (n,), the Cholesky factor of its matrix."""

    points: Floats
    width: float
    noise: float
    factor: Floats
    weights: Floats
    variance: float
    likelihood: float


class Foresight:
    """Learns (features, error) of candidates and predicts the errors of others."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Floats, float]] = {}
        self._mean: Floats = np.zeros(0)
        self._scale: Floats = np.ones(0)
        self._level = 0.0
        self._process: _Process | None = None
        self._is_fitted = False

    @property
    def is_ready(self) -> bool:
        """Whether anything has been trained to judge by."""
        return bool(self._seen)

    def learn(self, key: str, x: Floats, error: float) -> None:
        """Take in a trained candidate, or what one is expected to show that is trained further."""
        self._seen.pop(key, None)
        self._seen[key] = (x, error)
        self._is_fitted = False

    def _fit(self) -> None:
        self._is_fitted = True
        newest = list(self._seen.values())[-_MOST:]
        x = np.array([row for row, _ in newest])
        y = np.log(np.array([each for _, each in newest]) + _FLOOR)
        self._level = float(y.mean())
        self._mean, self._scale = np.asarray(x.mean(axis=0)), np.asarray(x.std(axis=0))
        # what all have in common tells nothing
        self._scale[self._scale < 1e-9] = 1.0
        points = np.asarray((x - self._mean) / self._scale, dtype=np.float64)
        self._process = _likeliest(points, y - self._level) if len(y) >= _N_FITTED else None

    def foresee(self, x: Floats) -> tuple[Floats, Floats]:
        """Of candidates of features `x` (n, 6): the errors expected, as shares of the images, (n,), and spreads (n,).

        A spread is the standard deviation of the error's logarithm, and the error expected the median.
        """
        if not self._is_fitted:
            self._fit()
        x, process = np.atleast_2d(x), self._process
        logarithm, spread = np.full(len(x), self._level), np.full(len(x), UNSURE)
        if process is not None:
            kernel = _kernel(_distances((x - self._mean) / self._scale, process.points), process.width)
            logarithm = self._level + kernel @ process.weights
            known = (np.linalg.solve(process.factor, kernel.T) ** 2).sum(axis=0)
            spread = np.sqrt(process.variance * np.maximum(1 + process.noise - known, 1e-6))
        return np.asarray(np.clip(np.exp(logarithm) - _FLOOR, 0.0, 1.0), dtype=np.float64), np.asarray(spread)

    def error(self, x: Floats) -> Floats:
        """The errors alone."""
        return self.foresee(x)[0]


def _likeliest(points: Floats, y: Floats) -> _Process:
    distances = _distances(points, points)
    fits = (_fitted(points, _kernel(distances, width), y, width, noise) for width in _WIDTHS for noise in _NOISES)
    return max(fits, key=lambda process: process.likelihood)


def _fitted(points: Floats, kernel: Floats, y: Floats, width: float, noise: float) -> _Process:
    """The process of one width and noise, its variance the likeliest; `y` are deviations from their mean."""
    factor = np.asarray(np.linalg.cholesky(kernel + noise * np.eye(len(y))), dtype=np.float64)
    white = np.linalg.solve(factor, y)
    n = len(y) + _PRIOR
    variance = float(white @ white + _PRIOR * max(float(y.var()), _PRIOR_VARIANCE)) / n
    likelihood = -0.5 * n * float(np.log(variance)) - float(np.log(np.diag(factor)).sum())
    weights = np.linalg.solve(factor.T, white)
    return _Process(points, width, noise, factor, np.asarray(weights, dtype=np.float64), variance, likelihood)


def _distances(a: Floats, b: Floats) -> Floats:
    """Mean squares along the features, (len(a), len(b))."""
    return np.asarray(((a[:, np.newaxis] - b[np.newaxis]) ** 2).mean(axis=2), dtype=np.float64)


def _kernel(distances: Floats, width: float) -> Floats:
    return np.asarray(np.exp(-distances / (2 * width**2)), dtype=np.float64)
