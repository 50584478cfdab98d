"""What untrained candidates are expected to show."""

from dataclasses import replace

import numpy as np
import pytest
from studies import make_evaluation

from trec_dse.foresight import UNSURE, Foresight, features
from trec_dse.pareto import Floats
from trec_dse.results import RungResult


def point(size: float, clustering: float) -> Floats:
    return np.array([size, size, size, size, size, clustering])


def taught(n: int) -> Foresight:
    """Errors fall with the size and rise with what clustering changes."""
    foresight, chance = Foresight(), np.random.default_rng(0)
    for number, (size, clustering) in enumerate(chance.random((n, 2))):
        foresight.learn(str(number), point(size, clustering), 0.2 * np.exp(clustering - size))
    return foresight


def test_of_less_than_three_only_the_mean_is_taken() -> None:
    assert not taught(0).is_ready
    foresight = Foresight()
    foresight.learn("a", point(1, 1), 0.095)
    foresight.learn("b", point(2, 1), 0.395)
    assert foresight.is_ready
    errors, spreads = foresight.foresee(np.array([point(1, 1), point(9, 9)]))
    # of 10 % and 40 %, half a percent added, the geometric mean is 20 %
    assert errors == pytest.approx([0.195, 0.195])
    assert spreads.tolist() == [UNSURE, UNSURE]


def test_it_is_less_sure_far_from_what_was_trained() -> None:
    _, spreads = taught(30).foresee(np.array([point(0.5, 0.5), point(3, 0.5), point(30, 0.5)]))
    assert spreads[0] < spreads[1] <= spreads[2]
    assert spreads[0] < 0.2


def test_spreads_are_about_as_large_as_what_it_is_off() -> None:
    chance, foresight = np.random.default_rng(1), Foresight()
    points = chance.random((90, 2))
    truth = 0.3 * np.exp(points[:, 1] - points[:, 0] + chance.normal(0, 0.2, 90))
    for number in range(60):
        foresight.learn(str(number), point(*points[number]), truth[number])
    errors, spreads = foresight.foresee(np.array([point(*pair) for pair in points[60:]]))
    off = np.log(errors + 0.005) - np.log(truth[60:] + 0.005)
    assert 0.6 < float(np.sqrt((off**2).mean())) / float(spreads.mean()) < 1.5


def test_what_is_trained_further_replaces_what_it_showed_before() -> None:
    foresight = Foresight()
    foresight.learn("a", point(1, 1), 0.4)
    foresight.learn("a", point(1, 1), 0.2)
    assert foresight.error(point(1, 1)) == pytest.approx([0.2])


def test_larger_networks_and_gentler_clustering_promise_less_error() -> None:
    errors = taught(40).error(np.array([point(0.9, 0.1), point(0.5, 0.5), point(0.1, 0.9)]))
    assert errors == pytest.approx([0.2 * np.exp(-0.8), 0.2, 0.2 * np.exp(0.8)], rel=0.15)


def test_an_error_is_a_share() -> None:
    foresight = Foresight()
    for number in range(12):
        foresight.learn(str(number), point(number, 0), 1.0 if number % 2 else 0.0)
    errors = foresight.error(np.array([point(number, 0) for number in range(-3, 20)]))
    assert ((errors >= 0) & (errors <= 1)).all()


def test_equal_candidates_are_expected_to_show_the_same() -> None:
    foresight = Foresight()
    for number in range(12):
        foresight.learn(str(number), point(1, 1), 0.3)
    assert foresight.error(point(1, 1)) == pytest.approx([0.3])


def test_features_are_logarithms_of_sizes_work_and_the_untrained_error() -> None:
    evaluation = replace(make_evaluation(10.0, 8.0, 40.0, 8.0), rungs=(RungResult(0, 0.5, 0), RungResult(1, 0.2, 1)))
    # 8 KiB, 40 KiB, 8 ms at 100 MHz, 250,000 and 156,640 MACs, a half
    expected = np.log1p([8192, 40960, 800_000, 250_000, 156_640, 500])
    assert features(evaluation) == pytest.approx(expected)
    assert features(replace(evaluation, rungs=()))[-1] == 0
