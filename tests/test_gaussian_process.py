"""A Gaussian process of known shape, worked out by hand, and the shape that is likeliest."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from trec_dse.gaussian_process import Shape, _unlikelihood, likeliest, observed

# no trend: covariances are 1 (the level) and the variance times exp(-d^2 / 2)
PLAIN = Shape(np.array([1.0]), variance=2.0, noise=0.5, slope=0.0, n_trend=0)


def test_covariance_is_the_level_the_trend_and_what_is_near() -> None:
    shape = Shape(np.array([0.5, 0.0]), variance=2.0, noise=0.5, slope=0.25, n_trend=1)
    a, b = np.array([[2.0, 7.0]]), np.array([[4.0, -7.0]])
    # 1 + 0.25 * 2 * 4 + 2 * exp(-0.5 * 0.5 * 2^2); the second feature has no weight and no trend
    assert shape.covariance(a, b) == pytest.approx(np.array([[3 + 2 * np.exp(-1)]]))
    # 2 + 0.25 * 2^2 + 1 + 0.5
    assert shape.variances(a) == pytest.approx([4.5])


def test_one_observation_is_believed_as_far_as_its_noise_allows() -> None:
    process = observed(PLAIN, np.array([[0.0]]), np.array([1.0]))
    mean, deviation = process.predict(np.array([[0.0], [1e9]]))
    # 3 / 3.5 at the point itself; far away only the level is shared: 1 / 3.5
    assert mean == pytest.approx([3 / 3.5, 1 / 3.5])
    assert deviation**2 == pytest.approx([3.5 - 9 / 3.5, 3.5 - 1 / 3.5])


def test_far_from_all_the_trend_goes_on() -> None:
    rising = Shape(np.array([1.0]), variance=1e-6, noise=1e-6, slope=1.0, n_trend=1)
    process = observed(rising, np.array([[-1.0], [1.0]]), np.array([-2.0, 2.0]))
    assert process.predict(np.array([[5.0]]))[0] == pytest.approx([10.0], rel=1e-3)


def test_what_varies_along_one_feature_gives_that_one_the_weight() -> None:
    chance = np.random.default_rng(0)
    points = chance.normal(size=(60, 2))
    y = np.sign(points[:, 0]) + 0.05 * chance.normal(size=60)
    shape = likeliest(points, y - y.mean(), np.full(2, 0.05), n_trend=0)
    assert shape.weights[0] > 20 * shape.weights[1]


def test_few_points_leave_the_priors_nearly_alone() -> None:
    shape = likeliest(np.zeros((3, 2)), np.zeros(3), np.array([0.05, 0.03]), n_trend=1)
    assert shape.weights == pytest.approx([0.05, 0.03])
    assert 0.1 < shape.slope / 0.1 <= 1.01


def test_the_derivatives_are_those_of_finite_differences() -> None:
    chance = np.random.default_rng(2)
    points, y = chance.normal(size=(9, 3)), chance.normal(size=9)
    squares, trend = (points[:, np.newaxis] - points) ** 2, points[:, :2] @ points[:, :2].T
    at = np.log([0.3, 0.1, 0.05, 0.7, 0.1, 0.2])
    off = check_grad(
        lambda t: _unlikelihood(np.exp(t), squares, trend, y)[0],
        lambda t: _unlikelihood(np.exp(t), squares, trend, y)[1],
        at,
    )
    assert off < 1e-4  # differences forward are as inexact as that on some processors; a wrong term is off by 0.1
