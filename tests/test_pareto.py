"""Fronts, ranks, crowding and volumes, against sums on paper and against counting."""

import numpy as np
import numpy.typing as npt
import pytest
from studies import make_evaluation, make_trials, measured

from trec_dse import objectives
from trec_dse.errors import InputError
from trec_dse.pareto import (
    candidates,
    crowding,
    front,
    hypervolume,
    losses,
    non_dominated,
    ranks,
    running_hypervolume,
)
from trec_dse.results import TrialRecord

PLANE = (objectives.error, objectives.sram)


def points(*rows: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)


def test_a_row_that_is_worse_in_one_column_and_better_in_none_is_dominated() -> None:
    assert non_dominated(points((1, 3), (2, 2), (3, 1), (2, 3))).tolist() == [True, True, True, False]


def test_equal_rows_are_all_kept() -> None:
    assert non_dominated(points((1, 1), (1, 1), (2, 2))).tolist() == [True, True, False]


def test_a_row_with_an_unknown_value_is_never_on_the_front_and_dominates_nothing() -> None:
    assert non_dominated(points((np.nan, 0), (5, 5))).tolist() == [False, True]


def test_non_dominated_agrees_with_comparing_all_pairs() -> None:
    y = np.random.default_rng(3).integers(0, 6, size=(120, 3)).astype(np.float64)
    by_pairs = [not any((b <= a).all() and (b < a).any() for b in y) for a in y]
    assert non_dominated(y).tolist() == by_pairs


def test_no_points_have_an_empty_front() -> None:
    assert non_dominated(np.empty((0, 2))).tolist() == []


def test_a_flat_list_of_points_is_refused() -> None:
    with pytest.raises(InputError, match="1 dimensions"):
        non_dominated(np.array([1.0, 2.0]))


def test_ranks_peel_front_after_front_and_put_unknown_rows_last() -> None:
    y = points((1, 3), (2, 2), (3, 1), (2, 3), (3, 3), (np.nan, 0))
    assert ranks(y).tolist() == [0, 0, 0, 1, 2, 3]


def test_crowding_adds_the_gaps_between_neighbours_as_shares_of_the_span() -> None:
    # columns span 4 and 8; the second row has neighbours (0, 8) and (4, 0), the whole span of both
    assert crowding(points((0, 8), (1, 2), (4, 0))).tolist() == [np.inf, 2.0, np.inf]


def test_crowding_ignores_a_column_in_which_all_rows_are_equal() -> None:
    # only the first column counts: (3 - 0) / 4 and (4 - 1) / 4
    y = points((0, 5), (1, 5), (3, 5), (4, 5))
    assert crowding(y).tolist() == [np.inf, 0.75, 0.75, np.inf]


def test_hypervolume_in_one_dimension_is_the_distance_of_the_best_point() -> None:
    assert hypervolume(points((3,), (2,)), np.array([10.0])) == 8.0


def test_hypervolume_in_two_dimensions_is_a_staircase() -> None:
    # slabs along SRAM: (20-10)(12-8) + (20-4)(24-12) + (20-2)(48-24) + (20-1)(64-48) = 40 + 192 + 432 + 304
    y = points((10, 8), (4, 12), (2, 24), (1, 48))
    assert hypervolume(y, np.array([20.0, 64.0])) == 968.0


def test_hypervolume_in_three_dimensions_counts_shared_boxes_once() -> None:
    # two 2 x 2 x 1 slabs that share a 1 x 2 x 1 piece, 4 + 4 - 2
    assert hypervolume(points((0, 0, 1), (1, 0, 0)), np.array([2.0, 2.0, 2.0])) == 6.0


def test_hypervolume_in_four_dimensions_equals_the_share_of_grid_cells_dominated() -> None:
    rng = np.random.default_rng(5)
    y = rng.integers(0, 6, size=(40, 4)).astype(np.float64)
    cells = np.indices((6, 6, 6, 6)).reshape(4, -1).T  # lower corners of unit cells
    covered = (y[:, None, :] <= cells[None]).all(axis=2).any(axis=0).sum()
    assert hypervolume(y, np.full(4, 6.0)) == pytest.approx(covered)


def test_points_at_or_beyond_the_reference_count_nothing() -> None:
    assert hypervolume(points((2, 1), (3, 0), (np.nan, 1)), np.array([2.0, 2.0])) == 0.0
    assert hypervolume(np.empty((0, 2)), np.array([2.0, 2.0])) == 0.0


def test_a_reference_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(3,\); the points need \(2,\)"):
        hypervolume(points((1, 1)), np.ones(3))


def test_running_hypervolume_grows_with_each_point_that_adds_something() -> None:
    # 1 x 1 box, nothing for a dominated point, then the 2 x 2 box swallows the first
    y = points((1, 1), (1.5, 1.5), (0, 0), (np.nan, 0))
    assert running_hypervolume(y, np.array([2.0, 2.0])).tolist() == [1.0, 1.0, 4.0, 4.0]


def test_running_hypervolume_ends_at_the_hypervolume_of_all() -> None:
    y = np.random.default_rng(7).random((150, 4))
    running = running_hypervolume(y, np.ones(4))
    assert running[-1] == pytest.approx(hypervolume(y, np.ones(4)))
    assert (np.diff(running) >= 0).all()


def test_losses_have_a_row_per_evaluation_and_a_column_per_objective() -> None:
    y = losses([make_evaluation(4.0, 12.0), make_evaluation(None, 96.0)], PLANE)
    np.testing.assert_allclose(y, [[4.0, 12.0], [np.nan, 96.0]])
    assert losses([], PLANE).shape == (0, 2)


def test_the_front_of_a_study_holds_feasible_complete_trials_best_first() -> None:
    # trial 6 is the same network as trial 1, measured; trial 8 would dominate but does not fit Flash
    assert [record.number for record in front(make_trials(), PLANE)] == [3, 2, 6, 0]


def test_more_objectives_keep_more_trials() -> None:
    # trial 5 needs 30 KiB against 24, but 18 ms against 20
    numbers = [record.number for record in front(make_trials(), (*PLANE, objectives.latency))]
    assert numbers == [3, 2, 5, 6, 0]


def test_of_equal_networks_the_measured_one_stands_for_both() -> None:
    same = make_evaluation(4.0, 12.0, key="same")
    records = [
        TrialRecord(0, "complete", {}, same),
        TrialRecord(1, "complete", {}, measured(same, 12.0, 60.0, 8.0)),
        TrialRecord(2, "complete", {}, measured(same, 12.0, 60.0, 8.0)),
    ]
    assert [record.number for record, _ in candidates(records)] == [1]


def test_a_complete_trial_that_breaks_a_limit_is_no_candidate() -> None:
    assert candidates([TrialRecord(0, "complete", {}, make_evaluation(1.0, 65.0))]) == []


def test_a_study_without_trials_has_an_empty_front() -> None:
    assert front([], PLANE) == []
