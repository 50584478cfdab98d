"""What training a candidate is expected to add to the front; volumes are worked out by hand, points are drawn."""

import numpy as np
import pytest

from trec_dse.pareto import Floats
from trec_dse.prospects import Outlook, expected_gains, joined

NEARLY = pytest.approx  # 2,048 points of the costs: a few percent off


def outlook(*rows: tuple[float, ...], spread: float = 0.0) -> Outlook:
    """Rows of an error and costs."""
    table = np.array(rows, dtype=np.float64)
    return Outlook(table[:, 1:], table[:, 0], np.full(len(table), spread))


NONE = Outlook(np.empty((0, 1)), np.empty(0), np.empty(0))


def gains(candidates: Outlook, finished: Outlook) -> Floats:
    return expected_gains(candidates, finished)


def test_a_known_error_adds_the_box_that_is_left_to_it() -> None:
    finished = outlook((20, 1), (10, 100))
    # as a logarithm 10 lies half way: 5 points less over half of the costs, of 1.1 * 20 + 0.5 over all and a tenth more
    assert gains(outlook((15, 10)), finished) == NEARLY([0.5 * 5 / (1.1 * 22.5)], rel=0.05)


def test_who_is_dominated_and_known_adds_nothing() -> None:
    assert gains(outlook((21, 10), (20, 1)), outlook((20, 1), (10, 100))).tolist() == [0.0, 0.0]


def test_what_is_cheaper_than_all_adds_whatever_its_error_leaves() -> None:
    # only what costs less than 1 is new: a half of the costs, 22.5 - 20 high
    assert gains(outlook((20, 0.01)), outlook((20, 1), (10, 100))) == NEARLY([0.5 * 2.5 / (1.1 * 22.5)], rel=0.05)


def test_an_error_above_all_that_is_finished_counts_where_nothing_else_is_as_cheap() -> None:
    # half of the costs, and the box is as high as the worst that is expected: 1.1 * 40 + 0.5, less 40
    assert gains(outlook((40, 0.01)), outlook((20, 1), (10, 100))) == NEARLY([0.5 * 4.5 / (1.1 * 44.5)], rel=0.05)


def test_who_is_unsure_may_add_where_he_is_not_expected_to() -> None:
    finished = outlook((20, 1), (20, 100))
    surely, perhaps = gains(outlook((21, 10)), finished), gains(outlook((21, 10), spread=0.5), finished)
    assert surely[0] == 0 < perhaps[0]
    # the expected improvement on b of a lognormal error, (b + f) * N(d) - m * exp(s^2 / 2) * N(d - s), by hand:
    # d = ln(20.5 / 21.5) / 0.5 = -0.0953; 20.5 * 0.4620 - 21.5 * 1.1331 * 0.2758 = 2.75
    assert perhaps[0] == NEARLY(0.6 * 2.75 / (1.1 * 22.5), rel=0.1)


def test_without_an_error_only_costs_count() -> None:
    rows = np.array([[0.0, 1.0], [1.0, 0.0], [0.25, 0.25], [0.5, 0.5]])
    nothing = np.zeros(4)
    new = Outlook(rows[:3], nothing[:3], nothing[:3])
    found = gains(new, Outlook(rows[3:], nothing[3:], nothing[3:]))
    # up to 1.1: 0.85 * 0.85 less 0.6 * 0.6, of 1.1 * 1.1; of each corner what lies beyond 1, less what is there already
    assert found == NEARLY(np.array([0.1 * 0.5, 0.1 * 0.5, 0.7225 - 0.36]) / 1.21, abs=0.02)


def test_before_anything_is_finished_the_best_is_worth_most() -> None:
    found = gains(outlook((30, 1), (30, 100), (10, 100)), NONE)
    assert found[0] > found[1]
    assert found.min() >= 0


def test_outlooks_are_joined_in_their_order() -> None:
    both = joined([outlook((1, 2)), outlook((3, 4), spread=0.5)])
    assert both.errors.tolist() == [1, 3]
    assert both.costs.tolist() == [[2], [4]]
    assert both.spreads.tolist() == [0, 0.5]


def test_errors_are_drawn_around_their_median_and_never_below_none() -> None:
    drawn = outlook((9.5, 1), (0.0, 1), spread=0.7).samples()
    assert drawn[0, 4] == pytest.approx(9.5)
    # 10 * exp(0.7) - 0.5 lies above, 10 * exp(-0.7) - 0.5 as far below
    assert (drawn[0] < 9.4).sum() == (drawn[0] > 9.6).sum() == 4
    assert drawn.min() == 0
