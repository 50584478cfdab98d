"""A study as one flat table, a row per trial."""

import math
from collections.abc import Sequence

import pandas as pd

from trec_dse import objectives as registry
from trec_dse.objectives import Objective
from trec_dse.pareto import front
from trec_dse.results import Evaluation, StudyRecord, TrialRecord

Cell = int | float | str | bool | None


def table(study: StudyRecord, objectives: Sequence[Objective] = registry.DEFAULT) -> pd.DataFrame:
    """A row per trial, by number: state, whether it is on the front of `objectives`, every objective estimated and
    measured with its unit in the heading, accuracies as shares, mismatches, and each parameter as `param.<name>`.

    What is not known is NaN or None.
    """
    best = {record.number for record in front(study.trials, objectives)}
    ordered = sorted(study.trials, key=lambda record: record.number)
    return pd.DataFrame([_row(record, record.number in best) for record in ordered])


def _row(record: TrialRecord, is_on_front: bool) -> dict[str, Cell]:
    row: dict[str, Cell] = {"trial": record.number, "state": record.state, "front": is_on_front}
    row.update(_values(record.evaluation))
    row.update({f"param.{name}": value for name, value in record.params.items()})
    row["message"] = record.message
    return row


def _values(evaluation: Evaluation | None) -> dict[str, Cell]:
    """The columns that every trial has, so that a study whose first trial failed has the same ones."""
    cells: dict[str, Cell] = {}
    for name in registry.names():
        objective = registry.get(name)
        cells[objective.title] = math.nan if evaluation is None else objective.value(evaluation)
        if objective.reading is not None:
            cells[f"{objective.label} measured ({objective.unit})"] = _or_nan(
                None if evaluation is None else objective.measured(evaluation)
            )
    measurement = None if evaluation is None else evaluation.measured
    cells["float accuracy"] = _or_nan(None if evaluation is None else evaluation.float_accuracy)
    cells["int8 accuracy"] = _or_nan(None if evaluation is None else evaluation.int8_accuracy)
    cells["test accuracy"] = _or_nan(None if evaluation is None else evaluation.test_accuracy)
    cells["mismatches"] = _or_nan(None if measurement is None else measurement.n_mismatches)
    cells["seconds"] = _or_nan(None if evaluation is None else evaluation.seconds)
    cells["key"] = "" if evaluation is None else evaluation.key
    return cells


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
