"""The yardstick of `benchmarks/published_study.py`: boxes whose volumes are known, and a search of a few candidates."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from studies import TARGET, make_cost, make_evaluation

from trec_dse.results import EvaluateRequest, Evaluation
from trec_dse.search_space import load_search_space

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from published_study import SPACE, Trained, corner, figures, search, volume

MACS = make_cost(12.0, 60.0, latency_ms=8.0).macs / 1e6
HALF = make_evaluation(50.0, 12.0, flash_kib=60.0)
REFERENCE = [100.0, 120.0, 24.0, 2 * MACS]  # twice of each


def test_half_of_every_limit_dominates_a_sixteenth_of_the_box() -> None:
    assert volume([HALF], REFERENCE) == pytest.approx(1 / 16)
    assert volume([HALF, HALF], REFERENCE) == pytest.approx(1 / 16)


def test_two_that_trade_add_up_without_what_both_dominate() -> None:
    # a quarter of the error for three quarters of the Flash: 3/4 * 1/4 * 1/4, of which 1/2 * 1/4 * 1/4 is shared
    other = make_evaluation(25.0, 12.0, flash_kib=90.0)
    assert volume([HALF, other], REFERENCE) == pytest.approx(1 / 16 + 3 / 64 - 2 / 64)


def test_what_does_not_fit_or_reaches_the_corner_adds_nothing() -> None:
    assert volume([replace(HALF, violations={"flash": 0.1})], REFERENCE) == 0.0
    assert volume([make_evaluation(100.0, 12.0, flash_kib=60.0)], REFERENCE) == 0.0
    assert volume([], REFERENCE) == 0.0


def test_the_corner_is_that_of_the_spaces_limits() -> None:
    assert corner(load_search_space(str(SPACE))) == [100.0, 10_500 / 1024, 5_000 / 1024, 0.3]


def test_searches_are_compared_at_equal_numbers_of_evaluations() -> None:
    good = make_evaluation(25.0, 12.0, flash_kib=60.0)
    found = figures("x", [[HALF] * 4, [HALF, HALF, HALF, good, good]], REFERENCE)
    assert [figure.name for figure in found[:3]] == ["x: volume after 1", "x: volume after 2", "x: volume after 4"]
    assert found[2].value == pytest.approx((1 / 16 + 1 / 16 * 1.5) / 2)
    assert found[3].value == pytest.approx(1 / 32)


def test_a_search_trains_nothing_that_another_has_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def instead(request: EvaluateRequest, say: object) -> Evaluation:
        asked.append(request.candidate.key)
        return replace(HALF, candidate=request.candidate, limits=request.limits)

    monkeypatch.setattr("published_study.evaluate", instead)
    trained = Trained(tmp_path)
    first = search("random", 3, 4, TARGET, trained)
    again = search("random", 3, 4, TARGET, trained)
    assert [e.candidate.key for e in first] == [e.candidate.key for e in again] == asked
    assert first[0].limits == load_search_space(str(SPACE)).limits
