"""What untrained candidates are expected to show."""

from dataclasses import replace

import numpy as np
import pytest
from studies import make_evaluation

from trec_dse.foresight import N_NEEDED, Foresight, features
from trec_dse.pareto import Floats
from trec_dse.results import RungResult


def point(size: float, clustering: float) -> Floats:
    return np.array([size, size, size, size, size, clustering])


def taught(n: int) -> Foresight:
    """Errors fall with the size and rise with what clustering changes."""
    foresight, chance = Foresight(), np.random.default_rng(0)
    for size, clustering in chance.random((n, 2)):
        foresight.learn(point(size, clustering), 0.2 * np.exp(clustering - size))
    return foresight


def test_it_says_nothing_before_a_dozen_are_trained() -> None:
    assert not taught(N_NEEDED - 1).is_ready
    assert taught(N_NEEDED).is_ready


def test_larger_networks_and_gentler_clustering_promise_less_error() -> None:
    errors = taught(40).error(np.array([point(0.9, 0.1), point(0.5, 0.5), point(0.1, 0.9)]))
    assert errors == pytest.approx([0.2 * np.exp(-0.8), 0.2, 0.2 * np.exp(0.8)], rel=0.15)


def test_an_error_is_a_share() -> None:
    foresight = Foresight()
    for number in range(N_NEEDED):
        foresight.learn(point(number, 0), 1.0 if number % 2 else 0.0)
    errors = foresight.error(np.array([point(number, 0) for number in range(-3, 20)]))
    assert ((errors >= 0) & (errors <= 1)).all()


def test_equations_are_solved_anew_when_a_tenth_more_is_known() -> None:
    foresight = Foresight()
    due = [foresight.learn(point(number, number % 3), 0.1) for number in range(40)]
    assert [number + 1 for number, is_due in enumerate(due) if is_due] == [12, 14, 16, 18, 20, 22, 25, 28, 31, 35, 39]


def test_equal_candidates_are_expected_to_show_the_same() -> None:
    foresight = Foresight()
    for _ in range(N_NEEDED):
        foresight.learn(point(1, 1), 0.3)
    assert foresight.error(point(1, 1)) == pytest.approx([0.3])


def test_features_are_logarithms_of_sizes_work_and_the_untrained_error() -> None:
    evaluation = replace(make_evaluation(10.0, 8.0, 40.0, 8.0), rungs=(RungResult(0, 0.5, 0), RungResult(1, 0.2, 1)))
    # 8 KiB, 40 KiB, 8 ms at 100 MHz, 250,000 and 156,640 MACs, a half
    expected = np.log1p([8192, 40960, 800_000, 250_000, 156_640, 500])
    assert features(evaluation) == pytest.approx(expected)
    assert features(replace(evaluation, rungs=()))[-1] == 0
