"""How much a parameter explains, checked by hand."""

import numpy as np
import pytest
from studies import make_evaluation, make_study

from trec_dse import objectives
from trec_dse.influence import MOST_GROUPS, explained, groups, influence_data
from trec_dse.results import TrialRecord


def test_a_parameter_that_decides_everything_explains_everything() -> None:
    assert explained(["a", "a", "b", "b"], np.array([1.0, 1.0, 5.0, 5.0])) == 1.0


def test_a_parameter_that_does_nothing_explains_nothing() -> None:
    # both groups hold 1 and 5: SSB is 0, and what chance would give is taken off, so the share stops at 0
    assert explained(["a", "a", "b", "b"], np.array([1.0, 5.0, 1.0, 5.0])) == 0.0


def test_the_share_is_that_of_a_one_way_analysis_of_variance() -> None:
    # group means 1 and 4, mean 2.5: SSB = 4 x 1.5^2 = 9, SSW = 1 + 1 + 1 + 1 = 4 over 4 - 2, SST = 13
    y = np.array([0.0, 2.0, 3.0, 5.0])
    assert explained(["a", "a", "b", "b"], y) == pytest.approx((9 - 2) / 13)


def test_nothing_can_be_said_without_spread_or_with_a_group_per_value() -> None:
    assert explained(["a", "b", "b"], np.array([3.0, 3.0, 3.0])) is None
    assert explained(["a", "b", "c"], np.array([1.0, 2.0, 3.0])) is None
    assert explained([], np.array([])) is None


def test_few_values_are_groups_of_their_own_and_truth_values_are_no_numbers() -> None:
    assert groups([3, 1, 3]) == ["3", "1", "3"]
    assert groups([True, False, None]) == ["True", "False", "None"]


def test_many_numbers_are_cut_into_groups_of_equal_size() -> None:
    labels = groups([i / 7 for i in range(80)])
    assert [labels.count(i) for i in range(MOST_GROUPS)] == [10] * MOST_GROUPS
    assert labels == sorted(labels, key=str)


def records(settings: list[tuple[int, str, float]]) -> list[TrialRecord]:
    return [
        TrialRecord(i, "complete", {"width": width, "slices": slices, "same": 1}, make_evaluation(error, 10.0 + width))
        for i, (width, slices, error) in enumerate(settings)
    ]


def test_the_most_influential_parameter_comes_first_and_constant_ones_are_left_out() -> None:
    trials = records([(w, s, 10.0 * w + (s == "b")) for w in (1, 2, 3) for s in ("a", "b")])
    data = influence_data(trials, (objectives.error, objectives.sram))
    assert data.parameters == ("width", "slices")
    assert data.objectives == ("error", "sram")
    # ranks of the error 0..5: SST 17.5, within the three widths 3 x 0.5 over 6 - 3, so (16 - 2 x 0.5) / 17.5
    assert data.shares[0] == pytest.approx((15 / 17.5, 1.0))
    assert data.shares[1][1] == 0.0
    assert data.n_trials == 6


def test_equal_values_share_their_rank() -> None:
    trials = records([(1, "a", 2.0), (1, "a", 2.0), (1, "b", 4.0), (1, "b", 4.0)])
    # the doubles are the same network and count once: nothing is left to compare within a group
    assert influence_data(trials, (objectives.error,)).n_trials == 2
    different = records([(1, "a", 2.0), (2, "a", 2.0), (3, "b", 4.0), (4, "b", 4.0)])
    shares = dict(zip(*((d := influence_data(different, (objectives.error,))).parameters, d.shares), strict=True))
    assert shares["slices"] == (1.0,)


def test_untrained_failed_and_nameless_trials_are_left_out() -> None:
    data = influence_data(make_study().trials, objectives.DEFAULT)
    # 0 to 5, 8 and 11: 6 is trial 1 again, 7 was never trained, 9 failed, 10 runs
    assert data.n_trials == 8
    assert set(data.parameters) == {"hash_bits", "slice_policy", "pruning"}
    assert influence_data((), objectives.DEFAULT).parameters == ()
