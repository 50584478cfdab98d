"""What the report page knows: every number it shows, as plain data for its script.

Numbers that are not known are None, so that the JSON holds no NaN.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trec_dse import codec
from trec_dse import objectives as registry
from trec_dse.candidate import Candidate
from trec_dse.errors import NothingFitsError
from trec_dse.objectives import Objective
from trec_dse.pareto import front
from trec_dse.pick import Budgets, pick
from trec_dse.plots import ArenaData, Part, arena_data, board_limit, flash_data, hypervolume_data
from trec_dse.results import Evaluation, LayerCost, Measurement, StudyRecord, TrialRecord


@dataclass(frozen=True)
class Axis:
    """An objective as the page offers it; `limit` is the board's, in the same unit."""

    name: str
    label: str
    unit: str
    direction: str
    summary: str
    limit: float | None


@dataclass(frozen=True)
class Memory:
    """Where the bytes of a candidate go, as estimated."""

    weights: int
    code: int
    arena: int
    static: int
    stack: int


@dataclass(frozen=True)
class Detail:
    """What the card of one candidate shows beyond its objectives. Accuracies are shares."""

    candidate: Candidate
    key: str
    dense_macs: int
    memory: Memory
    flash: tuple[Part, ...]
    arena: ArenaData
    layers: tuple[LayerCost, ...]
    measured: Measurement | None
    float_accuracy: float | None
    int8_accuracy: float | None
    test_accuracy: float | None
    violations: Mapping[str, float]
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class TrialRow:
    """One trial; `values` and `measured` follow the order of the page's axes.

    Attributes:
        fits: complete and within every limit of the board; on_front: of the study's objectives.
    """

    number: int
    state: str
    fits: bool
    on_front: bool
    message: str
    params: Mapping[str, int | float | str | bool | None]
    values: tuple[float | None, ...]
    measured: tuple[float | None, ...]
    detail: Detail | None


@dataclass(frozen=True)
class Progress:
    """Dominated share of the box of the objectives after each of the trials `numbers`."""

    numbers: tuple[int, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Board:
    """The head of the page: which board, and what it has in bytes."""

    name: str
    mcu: str
    core: str
    clock_hz: int
    flash_bytes: int
    sram_bytes: int


@dataclass(frozen=True)
class Payload:
    """The whole page. `objectives` names the study's; `knee` is the trial to show first, None where none fits."""

    name: str
    space: str
    board: Board
    seed: int
    versions: Mapping[str, str]
    axes: tuple[Axis, ...]
    objectives: tuple[str, ...]
    trials: tuple[TrialRow, ...]
    progress: Progress
    knee: int | None


def build_payload(study: StudyRecord, objectives: Sequence[Objective]) -> Payload:
    """All that the page shows of `study`; fronts, knee and progress are those of `objectives`."""
    every = [registry.get(name) for name in registry.names()]
    best = {record.number for record in front(study.trials, objectives)}
    progress = hypervolume_data(study, objectives)
    target = study.target
    return Payload(
        name=study.name,
        space=study.space,
        board=Board(target.name, target.mcu, target.core, target.clock_hz, target.flash_bytes, target.sram_bytes),
        seed=study.seed,
        versions=study.versions,
        axes=tuple(Axis(o.name, o.label, o.unit, o.direction, o.summary, board_limit(o, study.target)) for o in every),
        objectives=tuple(objective.name for objective in objectives),
        trials=tuple(_row(record, every, record.number in best) for record in study.trials),
        progress=Progress(progress.numbers, progress.shares),
        knee=_knee(study, objectives),
    )


def to_plain(payload: Payload) -> object:
    """Containers for `json.dumps`."""
    return codec.unstructure(payload)


def _knee(study: StudyRecord, objectives: Sequence[Objective]) -> int | None:
    try:
        return pick(study.trials, Budgets(), objectives).record.number
    except NothingFitsError:
        return None  # a study may have nothing that fits yet; its page still opens


def _row(record: TrialRecord, objectives: Sequence[Objective], is_on_front: bool) -> TrialRow:
    evaluation = record.evaluation
    unknown: tuple[float | None, ...] = (None,) * len(objectives)
    values = unknown if evaluation is None else tuple(_finite(o.value(evaluation)) for o in objectives)
    readings = unknown if evaluation is None else tuple(o.measured(evaluation) for o in objectives)
    return TrialRow(
        number=record.number,
        state=record.state,
        fits=record.state == "complete" and evaluation is not None and evaluation.is_feasible,
        on_front=is_on_front,
        message=record.message,
        params=record.params,
        values=values,
        measured=readings,
        detail=None if evaluation is None else _detail(evaluation),
    )


def _detail(evaluation: Evaluation) -> Detail:
    cost = evaluation.estimated
    return Detail(
        candidate=evaluation.candidate,
        key=evaluation.key,
        dense_macs=cost.dense_macs,
        memory=Memory(cost.weight_bytes, cost.code_bytes, cost.arena_bytes, cost.static_bytes, cost.stack_bytes),
        flash=flash_data(cost),
        arena=arena_data(cost),
        layers=cost.layers,
        measured=evaluation.measured,
        float_accuracy=evaluation.float_accuracy,
        int8_accuracy=evaluation.int8_accuracy,
        test_accuracy=evaluation.test_accuracy,
        violations=evaluation.violations,
        seconds=evaluation.seconds,
        versions=evaluation.versions,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
