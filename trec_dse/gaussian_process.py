"""A Gaussian process over few points of many features: a trend in some of them, and what deviates from it in any.

Every feature has a weight of its own, which says how far the process varies along it; weights, variances and noise are
the likeliest ones under lognormal priors (automatic relevance determination: Rasmussen and Williams 2006, sections 2.3
and 5.4). The priors hold them where there is little to learn from: a few points leave a gentle trend.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from trec_dse.pareto import Floats

_VARIANCE, _NOISE, _SLOPE = 0.2, 0.02, 0.1  # prior medians, for observations of variance 1
_WEIGHT_SPREAD, _SPREAD = 0.87, 0.58  # standard deviations of the priors' logarithms
_LEVEL = 1.0  # variance of what all points have in common
_JITTER = 1e-8
_N_STEPS = 60
_BOUND = 8.0  # of a logarithm around its prior's


@dataclass(frozen=True)
class Shape:
    """What a process is like.

    Attributes:
        weights: (k,), of the squared distance along each feature; variance: of the deviations; noise: of observations;
        slope: variance of the trend's slope along each of the first `n_trend` features.
    """

    weights: Floats
    variance: float
    noise: float
    slope: float
    n_trend: int

    def covariance(self, a: Floats, b: Floats) -> Floats:
        """Between points (n, k) and (m, k), noise apart, (n, m)."""
        scaled_a, scaled_b = a * np.sqrt(self.weights), b * np.sqrt(self.weights)
        squares = (scaled_a**2).sum(axis=1)[:, np.newaxis] + (scaled_b**2).sum(axis=1) - 2 * scaled_a @ scaled_b.T
        trend = a[:, : self.n_trend] @ b[:, : self.n_trend].T
        found = self.variance * np.exp(-0.5 * np.maximum(squares, 0.0)) + self.slope * trend + _LEVEL
        return np.asarray(found, dtype=np.float64)

    def variances(self, a: Floats) -> Floats:
        """Of single observations at points (n, k), before anything was observed."""
        trend = self.slope * (a[:, : self.n_trend] ** 2).sum(axis=1)
        return np.asarray(self.variance + trend + _LEVEL + self.noise, dtype=np.float64)


@dataclass(frozen=True)
class Process:
    """A process and what it has observed: `points` (n, k), and of their matrix the Cholesky factor and the solution."""

    shape: Shape
    points: Floats
    factor: Floats
    solution: Floats

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, (n,) each, of one more observation at each of the points (n, k)."""
        between = self.shape.covariance(points, self.points)
        known = (solve_triangular(self.factor, between.T, lower=True) ** 2).sum(axis=0)
        left = np.maximum(self.shape.variances(points) - known, 1e-4)
        return np.asarray(between @ self.solution), np.asarray(np.sqrt(left))


def observed(shape: Shape, points: Floats, y: Floats) -> Process:
    """The process that has seen `y` (n,) at `points` (n, k)."""
    factor = np.linalg.cholesky(shape.covariance(points, points) + (shape.noise + _JITTER) * np.eye(len(y)))
    return Process(shape, points, np.asarray(factor), np.asarray(cho_solve((factor, True), y), dtype=np.float64))


def likeliest(points: Floats, y: Floats, weights: Floats, n_trend: int) -> Shape:
    """The shape under which `y` (n,), of mean 0 and variance about 1, is likeliest at `points` (n, k).

    `weights` (k,) are the medians of their priors; the trend goes along the first `n_trend` features.
    """
    k = points.shape[1]
    start = np.log(np.concatenate([weights, [_VARIANCE, _NOISE, _SLOPE]]))
    spreads = np.concatenate([np.full(k, _WEIGHT_SPREAD), np.full(3, _SPREAD)])
    squares = (points[:, np.newaxis] - points[np.newaxis]) ** 2
    trend = points[:, :n_trend] @ points[:, :n_trend].T

    def unlikelihood(logarithms: Floats) -> tuple[float, Floats]:
        found, slope = _unlikelihood(np.exp(logarithms), squares, trend, y)
        off = (logarithms - start) / spreads
        return found + 0.5 * float(off @ off), slope + off / spreads

    bounds = [(each - _BOUND, each + _BOUND) for each in start]
    fit = minimize(unlikelihood, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _N_STEPS})
    found = np.exp(fit.x)
    return Shape(found[:k], float(found[k]), float(found[k + 1]), float(found[k + 2]), n_trend)


def _unlikelihood(numbers: Floats, squares: Floats, trend: Floats, y: Floats) -> tuple[float, Floats]:
    """Minus the logarithm of the likelihood of `y`, up to a constant, and its derivatives by the numbers' logarithms.

    `numbers` are weights, variance, noise and slope; squares: (n, n, k), squared distances along each feature.
    """
    n, k = len(y), squares.shape[2]
    weights, (variance, noise, slope) = numbers[:k], numbers[k:]
    near = variance * np.exp(-0.5 * (squares @ weights))
    factor = np.linalg.cholesky(near + slope * trend + _LEVEL + (noise + _JITTER) * np.eye(n))
    inverse = cho_solve((factor, True), np.eye(n))
    solution = inverse @ y
    # the derivative of the unlikelihood by each entry of the matrix
    by_entry = 0.5 * (inverse - np.outer(solution, solution))
    by_near = by_entry * near
    by_weights = -0.5 * weights * np.tensordot(by_near, squares, axes=([0, 1], [0, 1]))
    rest = [by_near.sum(), noise * np.trace(by_entry), slope * (by_entry * trend).sum()]
    value = 0.5 * float(y @ solution) + float(np.log(np.diag(factor)).sum())
    return value, np.concatenate([by_weights, rest])
