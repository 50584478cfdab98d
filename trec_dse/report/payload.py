"""What the report page knows: every number it shows, as plain data for its script.

The `Payload` is what all trials need at once, and small; the `Detail` of a trial is read when its card is opened.
Numbers that are not known are None, so that the JSON holds no NaN.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from trec_dse import codec
from trec_dse import objectives as registry
from trec_dse.candidate import Candidate
from trec_dse.errors import NothingFitsError
from trec_dse.influence import InfluenceData, influence_data
from trec_dse.objectives import Objective
from trec_dse.pareto import front
from trec_dse.pick import Budgets, pick
from trec_dse.plots import ArenaData, Part, arena_data, board_limit, flash_data, hypervolume_data
from trec_dse.results import Evaluation, LayerCost, Measurement, StudyRecord, TrialRecord, WhatIfGrid


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
    n_clusters: Mapping[str, tuple[int, ...]]
    violations: Mapping[str, float]
    seconds: float
    versions: Mapping[str, str]


@dataclass(frozen=True)
class TrialRow:
    """One trial; `values` and `measured` follow the order of the page's axes.

    Attributes:
        fits: complete and within every limit of the board; on_front: of the study's objectives.
        network: number of the first trial that came down to the same network; None where nothing was evaluated.
        is_measured: whether its firmware was run.
    """

    number: int
    state: str
    fits: bool
    on_front: bool
    message: str
    params: Mapping[str, int | float | str | bool | None]
    values: tuple[float | None, ...]
    measured: tuple[float | None, ...]
    network: int | None
    is_measured: bool


@dataclass(frozen=True)
class Progress:
    """Dominated share of the box of the objectives after each of the trials `numbers`, and `epochs` in all."""

    numbers: tuple[int, ...]
    shares: tuple[float, ...]
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Board:
    """The head of the page: which board, and what it has in bytes.

    `costs`: what the cycle costs of the estimates were learned from; "" where they are those of the board's file.
    """

    name: str
    mcu: str
    core: str
    clock_hz: int
    flash_bytes: int
    sram_bytes: int
    costs: str = ""


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
    influence: InfluenceData
    knee: int | None
    what_if: tuple[WhatIfGrid, ...]


def build_payload(study: StudyRecord, objectives: Sequence[Objective], what_if: Sequence[WhatIfGrid] = ()) -> Payload:
    """All that the page shows of `study`; fronts, knee and progress are those of `objectives`."""
    every = [registry.get(name) for name in registry.names()]
    best = {record.number for record in front(study.trials, objectives)}
    progress = hypervolume_data(study, objectives)
    first: dict[str, int] = {}
    for record in study.trials:
        if record.evaluation is not None:
            first.setdefault(record.evaluation.key, record.number)
    target = study.target
    costs = "" if target.calibration is None else target.calibration.summary
    return Payload(
        name=study.name,
        space=study.space,
        board=Board(
            target.name, target.mcu, target.core, target.clock_hz, target.flash_bytes, target.sram_bytes, costs
        ),
        seed=study.seed,
        versions=study.versions,
        axes=tuple(Axis(o.name, o.label, o.unit, o.direction, o.summary, board_limit(o, study.target)) for o in every),
        objectives=tuple(objective.name for objective in objectives),
        trials=tuple(_row(record, every, best, first) for record in study.trials),
        progress=Progress(progress.numbers, progress.shares, progress.epochs),
        influence=influence_data(study.trials, every),
        knee=_knee(study, objectives),
        what_if=tuple(what_if),
    )


def to_plain(data: Payload | Detail) -> object:
    """Containers for `json.dumps`."""
    return codec.unstructure(data)


def _knee(study: StudyRecord, objectives: Sequence[Objective]) -> int | None:
    try:
        return pick(study.trials, Budgets(), objectives).record.number
    except NothingFitsError:
        return None  # a study may have nothing that fits yet; its page still opens


def _row(
    record: TrialRecord, objectives: Sequence[Objective], best: Collection[int], first: Mapping[str, int]
) -> TrialRow:
    evaluation = record.evaluation
    unknown: tuple[float | None, ...] = (None,) * len(objectives)
    return TrialRow(
        number=record.number,
        state=record.state,
        fits=record.state == "complete" and evaluation is not None and evaluation.is_feasible,
        on_front=record.number in best,
        message=record.message,
        params=record.params,
        values=unknown if evaluation is None else tuple(_finite(o.value(evaluation)) for o in objectives),
        measured=unknown if evaluation is None else tuple(o.measured(evaluation) for o in objectives),
        network=None if evaluation is None else first[evaluation.key],
        is_measured=evaluation is not None and evaluation.measured is not None,
    )


def build_detail(evaluation: Evaluation) -> Detail:
    """All that the card of one candidate shows."""
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
        n_clusters=evaluation.n_clusters,
        violations=evaluation.violations,
        seconds=evaluation.seconds,
        versions=evaluation.versions,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
