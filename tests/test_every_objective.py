"""What each objective owes the rest, whichever there are."""

import math

import pytest
from studies import make_evaluation, measured

from trec_dse import objectives


@pytest.fixture(params=objectives.names())
def objective(request: pytest.FixtureRequest) -> objectives.Objective:
    return objectives.get(request.param)


def test_it_is_found_by_the_name_of_its_function(objective: objectives.Objective) -> None:
    assert getattr(objectives, objective.name) is objective


def test_it_says_what_it_counts_and_in_which_unit(objective: objectives.Objective) -> None:
    assert objective.summary.endswith(".")
    assert objective.title == f"{objective.label} ({objective.unit})"
    assert objective.label and objective.unit


def test_its_value_is_finite_for_a_trained_candidate(objective: objectives.Objective) -> None:
    assert math.isfinite(objective.value(make_evaluation(4.0, 12.0)))


def test_its_measured_value_is_finite_or_absent(objective: objectives.Objective) -> None:
    reading = objective.measured(measured(make_evaluation(4.0, 12.0), 12.0, 60.0, 8.0))
    assert reading is None or math.isfinite(reading)


def test_its_loss_is_its_value_up_to_the_sign(objective: objectives.Objective) -> None:
    evaluation = make_evaluation(4.0, 12.0)
    assert abs(objective.loss(evaluation)) == abs(objective.value(evaluation))
