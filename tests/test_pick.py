"""Picking one trial of the study made by hand; numbers are those of `studies.py`."""

import numpy as np
import pytest
from studies import make_evaluation, make_trials, measured

from trec_dse import objectives
from trec_dse.errors import InputError, NothingFitsError
from trec_dse.pick import Budgets, knee, parse_bytes, parse_ms, parse_pp, pick
from trec_dse.results import TrialRecord

PLANE = (objectives.error, objectives.sram)


def test_the_knee_is_furthest_below_the_line_between_the_ends_in_log_space() -> None:
    # scaled to 0..1: (10, 8) -> (1, 0), (4, 12) -> (.602, .226), (2, 24) -> (.301, .613), (1, 48) -> (0, 1)
    # sums 1, .828, .914, 1
    assert knee(np.array([[10.0, 8.0], [4.0, 12.0], [2.0, 24.0], [1.0, 48.0]])) == 1


def test_the_knee_of_a_front_with_a_perfect_network_is_finite() -> None:
    # error 0 counts as 5/1000 = .005 pp: scaled errors 1, log(.105/.005)/log(5.005/.005) = .441, 0;
    # scaled SRAM 0, log(1.1)/log(2) = .138, 1
    assert knee(np.array([[5.0, 10.0], [0.1, 11.0], [0.0, 20.0]])) == 1


def test_a_column_in_which_all_are_equal_does_not_move_the_knee() -> None:
    assert knee(np.array([[10.0, 8.0, 3.0], [4.0, 12.0, 3.0], [1.0, 48.0, 3.0]])) == 1


def test_an_empty_front_has_no_knee() -> None:
    with pytest.raises(InputError, match="no knee"):
        knee(np.empty((0, 2)))


def test_without_budgets_the_knee_is_picked() -> None:
    choice = pick(make_trials(), Budgets(), PLANE)
    assert choice.record.number == 6
    assert choice.reason == "trial 6: the knee between Error and SRAM of 7 trials"


def test_three_costs_together_weigh_as_much_as_the_error() -> None:
    # costs of trial 1: log ratios .226 of SRAM, .307 of Flash, .252 of latency, mean .262; with error .602: .864
    # trial 2: .301 + (.613 + .614 + .569) / 3 = .900; trials 0 and 3: 1
    assert pick(make_trials(), Budgets()).record.number == 6


def test_with_a_memory_budget_the_most_accurate_network_that_fits_is_picked() -> None:
    choice = pick(make_trials(), Budgets(sram_bytes=32 * 1024), PLANE)
    assert choice.record.number == 2
    assert choice.reason == "trial 2: the most accurate of 6 trials within SRAM <= 32 KiB"


def test_equal_accuracy_is_settled_by_sram() -> None:
    # trials 2 and 5 both have 2 pp error; 24 KiB against 30
    assert pick(make_trials(), Budgets(latency_ms=20.0), PLANE).record.number == 2


def test_a_latency_budget_excludes_what_is_too_slow() -> None:
    assert pick(make_trials(), Budgets(latency_ms=19.0), PLANE).record.number == 5


def test_a_measured_latency_counts_before_the_estimate() -> None:
    # trial 3 is estimated at 40 ms and measured at 44
    assert pick(make_trials(), Budgets(latency_ms=42.0), PLANE).record.number == 2
    assert pick(make_trials(), Budgets(latency_ms=44.0), PLANE).record.number == 3


def test_the_accuracy_loss_is_counted_from_the_best_feasible_trial() -> None:
    # the best feasible trial has 1 pp; within 1 pp of it: trials 2, 3 and 5
    choice = pick(make_trials(), Budgets(max_loss_pp=1.0), (objectives.sram, objectives.error))
    assert "of 3 trials within accuracy loss <= 1 pp" in choice.reason
    assert choice.record.number == 2  # both ends of a front of two are equally good knees: the smaller one is first


def test_the_preference_can_be_asked_for() -> None:
    budgets = Budgets(sram_bytes=50 * 1024)
    assert pick(make_trials(), budgets, PLANE, prefer="knee").record.number == 6
    assert pick(make_trials(), budgets, PLANE, prefer="accuracy").record.number == 3
    assert pick(make_trials(), Budgets(), PLANE, prefer="accuracy").record.number == 3


def test_a_single_fitting_trial_needs_no_preference() -> None:
    choice = pick(make_trials(), Budgets(sram_bytes=8 * 1024), PLANE)
    assert choice.reason == "trial 0: the only one within SRAM <= 8 KiB"


def test_when_nothing_fits_the_nearest_trial_and_what_it_lacks_are_named() -> None:
    with pytest.raises(NothingFitsError) as caught:
        pick(make_trials(), Budgets(sram_bytes=6 * 1024, flash_bytes=38 * 1024), PLANE)
    assert str(caught.value) == (
        "none of 7 trials has SRAM <= 6 KiB, Flash <= 38 KiB; nearest is trial 0: "
        "SRAM 8 KiB, 2 too much; Flash 40 KiB, 2 too much"
    )


def test_an_infeasible_trial_is_never_picked_however_accurate() -> None:
    assert pick(make_trials(), Budgets(), PLANE, prefer="accuracy").record.number == 3


def test_a_study_without_feasible_trials_says_what_it_has_instead() -> None:
    records = [r for r in make_trials() if r.state != "complete"]
    with pytest.raises(NothingFitsError, match=r"of 4 trials none .*\(2 infeasible, 1 failed, 1 running\)"):
        pick(records, Budgets(), PLANE)


def test_an_empty_study_says_so() -> None:
    with pytest.raises(NothingFitsError, match="the study has none yet"):
        pick([], Budgets())


def test_a_measured_network_that_outgrew_its_estimate_is_not_within_the_budget() -> None:
    grown = measured(make_evaluation(4.0, 12.0), sram_kib=13.0, flash_kib=60.0, latency_ms=8.0)
    with pytest.raises(NothingFitsError, match="SRAM 13 KiB, 1 too much"):
        pick([TrialRecord(0, "complete", {}, grown)], Budgets(sram_bytes=12 * 1024))


@pytest.mark.parametrize(
    ("text", "size"),
    [("65536", 65536), ("64k", 65536), ("64KiB", 65536), (" 64 kib ", 65536), ("0.5MiB", 524288), ("100B", 100)],
)
def test_sizes_are_read_in_binary_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("64kB", "write KiB"),
        ("many", "is not a size such as 64KiB"),
        ("-5", "is not a size"),
        ("64ms", "unknown unit 'ms'"),
        ("0", "at least 1"),
        ("0.3B", "whole number of bytes"),
        ("", "is not a size"),
        ("nan", "is not a size"),
    ],
)
def test_a_size_that_cannot_be_meant_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_bytes(text)


@pytest.mark.parametrize(("text", "ms"), [("100ms", 100.0), ("100", 100.0), ("0.1s", 100.0), ("250us", 0.25)])
def test_times_are_read_in_milliseconds(text: str, ms: float) -> None:
    assert parse_ms(text) == ms


@pytest.mark.parametrize(("text", "complaint"), [("0ms", "above 0"), ("5m", "unknown unit 'm'"), ("fast", "a time")])
def test_a_time_that_cannot_be_meant_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_ms(text)


@pytest.mark.parametrize(("text", "points"), [("1pp", 1.0), ("0.5", 0.5), ("0pp", 0.0)])
def test_accuracy_losses_are_read_in_percentage_points(text: str, points: float) -> None:
    assert parse_pp(text) == points


@pytest.mark.parametrize(("text", "complaint"), [("1%", "write 1pp"), ("101", "at most 100pp"), ("1ms", "unknown")])
def test_an_accuracy_loss_that_cannot_be_meant_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        parse_pp(text)
