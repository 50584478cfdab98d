"""Pictures of a study and of one candidate, for notebooks; the numbers come apart from the drawing.

Each `<name>_data` function returns a frozen dataclass that holds all that is drawn, and `plot_<name>` turns it into
a plotly figure. Sizes are in KiB and times in ms or cycles, as the axis titles say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from trec_dse import objectives as registry
from trec_dse.errors import InputError
from trec_dse.objectives import Objective
from trec_dse.pareto import front, losses, running_hypervolume
from trec_dse.results import Buffer, Cost, Evaluation, StudyRecord, TrialRecord
from trec_dse.target import Target

PointKind = Literal["front", "dominated", "infeasible"]

MANY_POINTS = 1000  # beyond this WebGL draws faster than SVG
INK, ACCENT, MUTED, WARN = "#1f2933", "#0b6e6e", "#9aa5b1", "#b4552d"
KIND_COLORS = {"input": "#5b7fa6", "activation": ACCENT, "output": "#7a5c99", "scratch": "#c79a3b"}


@dataclass(frozen=True)
class FrontPoint:
    """One trial in the plane of two objectives; measured values are None where there are none."""

    number: int
    kind: PointKind
    x: float
    y: float
    x_measured: float | None
    y_measured: float | None


@dataclass(frozen=True)
class FrontData:
    """Trials in the plane of two objectives.

    Attributes:
        line: the corners of the front, by x; equal networks appear once.
        x_limit, y_limit: the board's limit on that axis, None where it has none.
        n_unknown: trials left out since one of the two values is not known, mostly untrained candidates.
    """

    x: Objective
    y: Objective
    points: tuple[FrontPoint, ...]
    line: tuple[tuple[float, float], ...]
    x_limit: float | None
    y_limit: float | None
    n_unknown: int


@dataclass(frozen=True)
class HypervolumeData:
    """Share of the box up to `reference` that is dominated after each trial.

    Attributes:
        numbers: trial numbers; shares: in 0..1, same length.
        epochs: what had been trained in all when that trial was done, also by trials that do not count here.
        ideal, reference: corners of the box, as losses: the best and the worst value of each objective
            among the feasible trials.
    """

    objectives: tuple[Objective, ...]
    numbers: tuple[int, ...]
    shares: tuple[float, ...]
    epochs: tuple[int, ...]
    ideal: tuple[float, ...]
    reference: tuple[float, ...]


@dataclass(frozen=True)
class ParallelData:
    """Complete trials as rows over parameters and objectives.

    Attributes:
        columns: headings; rows: one per trial, values as they are, None where a trial has no such parameter.
    """

    numbers: tuple[int, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[int | float | str | bool | None, ...], ...]
    on_front: tuple[bool, ...]


@dataclass(frozen=True)
class AgreementData:
    """Estimate and measurement of one objective for every measured trial.

    Attributes:
        worst_error: largest |estimate / measurement - 1|; 0 where nothing is measured.
    """

    objective: Objective
    numbers: tuple[int, ...]
    estimated: tuple[float, ...]
    measured: tuple[float, ...]
    worst_error: float


@dataclass(frozen=True)
class ArenaData:
    """Buffers over time: each is alive from step `first` to `last`. `steps` are layer names; sizes in bytes."""

    steps: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    arena_bytes: int


@dataclass(frozen=True)
class Part:
    """A named share of something, in the unit of its plot."""

    name: str
    value: int


def board_limit(objective: Objective, target: Target) -> float | None:
    """What the board has of it, in the objective's unit; None where a board sets no limit."""
    limits = {registry.sram.name: target.sram_bytes / 1024, registry.flash.name: target.flash_bytes / 1024}
    return limits.get(objective.name)


def front_data(study: StudyRecord, x: Objective = registry.sram, y: Objective = registry.error) -> FrontData:
    """All evaluated trials in the plane of `x` and `y`, and the front of those two alone."""
    best = front(study.trials, (x, y))
    on_front = {record.number for record in best}
    points, n_unknown = [], 0
    for record, evaluation in _evaluated(study.trials):
        point = FrontPoint(
            record.number,
            _kind(record, evaluation, record.number in on_front),
            x.value(evaluation),
            y.value(evaluation),
            x.measured(evaluation),
            y.measured(evaluation),
        )
        if math.isnan(point.x) or math.isnan(point.y):
            n_unknown += 1
        else:
            points.append(point)
    line = sorted((point.x, point.y) for point in points if point.number in on_front)
    limits = board_limit(x, study.target), board_limit(y, study.target)
    return FrontData(x, y, tuple(points), tuple(line), *limits, n_unknown)


def plot_front(data: FrontData) -> go.Figure:
    """The plane of two objectives; bars reach from the estimate to the measurement."""
    trace = go.Scattergl if len(data.points) > MANY_POINTS else go.Scatter
    figure = _figure(data.x.title, data.y.title)
    styles: tuple[tuple[PointKind, str, str, int], ...] = (
        ("infeasible", WARN, "x-thin-open", 7),
        ("dominated", MUTED, "circle", 6),
        ("front", ACCENT, "circle", 9),
    )
    if data.line:
        shape = "hv" if data.x.direction == "minimize" else "vh"
        x_line, y_line = zip(*data.line, strict=True)
        line = {"color": ACCENT, "width": 1.5, "shape": shape}
        figure.add_trace(go.Scatter(x=x_line, y=y_line, mode="lines", line=line, hoverinfo="skip", showlegend=False))
    for kind, color, symbol, size in styles:
        points = [point for point in data.points if point.kind == kind]
        figure.add_trace(
            trace(
                x=[point.x for point in points],
                y=[point.y for point in points],
                error_x=_bars([(point.x, point.x_measured) for point in points], color),
                error_y=_bars([(point.y, point.y_measured) for point in points], color),
                customdata=[point.number for point in points],
                hovertemplate=f"trial %{{customdata}}<br>%{{x:.2f}} {data.x.unit}, %{{y:.2f}} {data.y.unit}",
                mode="markers",
                name=kind,
                marker={"color": color, "symbol": symbol, "size": size},
            )
        )
    board = {"line_dash": "dot", "line_color": WARN, "annotation_text": "board limit", "annotation_font_color": WARN}
    if data.x_limit is not None:
        figure.add_vline(x=data.x_limit, **board)
    if data.y_limit is not None:
        figure.add_hline(y=data.y_limit, **board)
    return figure


def hypervolume_data(study: StudyRecord, objectives: Sequence[Objective] = registry.DEFAULT) -> HypervolumeData:
    """Progress of the search: the box spans from the best to the worst feasible value of each objective."""
    pairs = [(r, e) for r, e in _evaluated(study.trials) if _kind(r, e, False) == "dominated"]
    y = losses((evaluation for _, evaluation in pairs), objectives)
    known = np.flatnonzero(np.logical_not(np.isnan(y).any(axis=1)))
    numbers = tuple(pairs[i][0].number for i in known)
    if not numbers:
        return HypervolumeData(tuple(objectives), (), (), (), (), ())
    y = y[known]
    ideal, reference = y.min(axis=0), y.max(axis=0)
    scaled = (y - ideal) / np.where(reference > ideal, reference - ideal, 1.0)
    # on the worst value itself a point would dominate nothing, so the box reaches a tenth further
    shares = running_hypervolume(scaled, np.full(len(ideal), 1.1)) / 1.1 ** len(ideal)
    spent = sorted(epochs_spent(study.trials).items())
    so_far = dict(zip((number for number, _ in spent), accumulate(count for _, count in spent), strict=True))
    epochs = tuple(so_far[number] for number in numbers)
    return HypervolumeData(
        tuple(objectives), numbers, tuple(shares.tolist()), epochs, tuple(ideal.tolist()), tuple(reference.tolist())
    )


def epochs_spent(trials: Sequence[TrialRecord]) -> dict[int, int]:
    """Training epochs of each evaluated trial by number: none for what cannot fit, nor for a network trained before."""
    spent: dict[int, int] = {}
    known: set[str] = set()
    for record, evaluation in _evaluated(trials):
        recipe = evaluation.candidate.recipe
        fine_tuning = recipe.fine_tune_epochs if evaluation.candidate.pruning else 0
        epochs = recipe.epochs + fine_tuning + recipe.trec_epochs + recipe.quantization.qat_epochs
        is_trained = evaluation.int8_accuracy is not None and evaluation.key not in known
        spent[record.number] = epochs if is_trained else 0
        known.add(evaluation.key)
    return spent


def plot_hypervolume(data: HypervolumeData, *, over_epochs: bool = False) -> go.Figure:
    """Dominated share over trials, or over the epochs spent, as a staircase."""
    labels = ", ".join(objective.label for objective in data.objectives)
    figure = _figure("Epochs" if over_epochs else "Trial", f"Dominated share of the box of {labels}")
    line = {"color": ACCENT, "width": 2, "shape": "hv"}
    x = data.epochs if over_epochs else data.numbers
    figure.add_trace(go.Scatter(x=x, y=data.shares, mode="lines", line=line, showlegend=False))
    figure.update_yaxes(range=[0, 1])
    return figure


def parallel_data(study: StudyRecord, objectives: Sequence[Objective] = registry.DEFAULT) -> ParallelData:
    """Complete trials over every parameter that any of them has, then over the objectives."""
    pairs = [(record, evaluation) for record, evaluation in _evaluated(study.trials) if record.state == "complete"]
    parameters = tuple(dict.fromkeys(name for record, _ in pairs for name in record.params))
    best = {record.number for record in front(study.trials, objectives)}
    rows = tuple(
        (*(record.params.get(name) for name in parameters), *(objective.value(evaluation) for objective in objectives))
        for record, evaluation in pairs
    )
    numbers = tuple(record.number for record, _ in pairs)
    columns = (*parameters, *(objective.title for objective in objectives))
    return ParallelData(numbers, columns, rows, tuple(number in best for number in numbers))


def plot_parallel(data: ParallelData) -> go.Figure:
    """Parallel coordinates; front trials are dark. Text parameters get one tick per choice."""
    dimensions = [_dimension(name, [row[i] for row in data.rows]) for i, name in enumerate(data.columns)]
    line = {"color": [int(kept) for kept in data.on_front], "colorscale": [[0, "#d5dbe1"], [1, ACCENT]]}
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line={**line, "cmin": 0, "cmax": 1}))
    figure.update_layout(font={"color": INK}, margin={"l": 70, "r": 50, "t": 70, "b": 30})
    return figure


def agreement_data(study: StudyRecord, objective: Objective = registry.latency) -> AgreementData:
    """Estimate against measurement; raises `InputError` for an objective that nothing measures."""
    if objective.reading is None:
        raise InputError(f"{objective.name} is never measured; choose one of {', '.join(_measurable())}")
    rows = [
        (record.number, objective.value(evaluation), measured)
        for record, evaluation in _evaluated(study.trials)
        if (measured := objective.measured(evaluation)) is not None
    ]
    errors = [abs(estimated / measured - 1) for _, estimated, measured in rows if measured]
    numbers, estimates, readings = zip(*rows, strict=True) if rows else ((), (), ())
    return AgreementData(objective, numbers, estimates, readings, max(errors, default=0.0))


def plot_agreement(data: AgreementData) -> go.Figure:
    """One point per measured trial; on the diagonal estimate and measurement agree."""
    figure = _figure(f"Estimated {data.objective.title}", f"Measured {data.objective.title}")
    top = 1.05 * max((*data.estimated, *data.measured), default=1.0)
    diagonal = {"color": MUTED, "width": 1, "dash": "dot"}
    figure.add_trace(go.Scatter(x=[0, top], y=[0, top], mode="lines", line=diagonal, hoverinfo="skip"))
    figure.add_trace(
        go.Scatter(
            x=data.estimated,
            y=data.measured,
            customdata=data.numbers,
            hovertemplate="trial %{customdata}<br>%{x:.2f} estimated, %{y:.2f} measured<extra></extra>",
            mode="markers",
            marker={"color": ACCENT, "size": 8},
        )
    )
    figure.update_layout(showlegend=False)
    return figure


def arena_data(cost: Cost) -> ArenaData:
    """The planned arena of one candidate; steps without a layer name are numbered."""
    n_steps = max((buffer.last + 1 for buffer in cost.buffers), default=0)
    names = [layer.name for layer in cost.layers[:n_steps]]
    steps = (*names, *(f"step {i}" for i in range(len(names), n_steps)))
    return ArenaData(steps, cost.buffers, cost.arena_bytes)


def plot_arena(data: ArenaData) -> go.Figure:
    """Rectangles of step by bytes: what lies where in the arena, and when."""
    figure = _figure("", "Arena (KiB)")
    for kind, color in KIND_COLORS.items():
        buffers = [buffer for buffer in data.buffers if buffer.kind == kind]
        if not buffers:
            continue
        figure.add_trace(
            go.Bar(
                x=[(buffer.first + buffer.last) / 2 for buffer in buffers],
                width=[buffer.last - buffer.first + 0.94 for buffer in buffers],
                base=[buffer.offset / 1024 for buffer in buffers],
                y=[buffer.size / 1024 for buffer in buffers],
                text=[buffer.name for buffer in buffers],
                customdata=[buffer.size for buffer in buffers],
                hovertemplate="%{text}<br>%{customdata} bytes at %{base:.2f} KiB<extra></extra>",
                marker={"color": color, "opacity": 0.85},
                name=kind,
            )
        )
    figure.update_layout(barmode="overlay", bargap=0)
    figure.update_xaxes(tickvals=list(range(len(data.steps))), ticktext=data.steps)
    return figure


def flash_data(cost: Cost) -> tuple[Part, ...]:
    """Flash in bytes by layer, then code; a rest of the weights that belongs to no layer is named so."""
    parts = [Part(layer.name, layer.flash_bytes) for layer in cost.layers if layer.flash_bytes]
    rest = cost.weight_bytes - sum(part.value for part in parts)
    shared = [Part("other tables", rest)] if rest > 0 else []
    return (*parts, *shared, Part("code and runtime", cost.code_bytes))


def cycles_data(cost: Cost) -> tuple[Part, ...]:
    """Core cycles per image by layer."""
    return tuple(Part(layer.name, layer.cycles) for layer in cost.layers)


def plot_parts(parts: Sequence[Part], unit: str) -> go.Figure:
    """Horizontal bars in the order given, first on top; `unit` is "bytes" or "cycles"."""
    figure = _figure(unit, "")
    names, values = [part.name for part in parts], [part.value for part in parts]
    figure.add_trace(go.Bar(x=values, y=names, orientation="h", marker={"color": ACCENT}, showlegend=False))
    figure.update_yaxes(autorange="reversed")
    return figure


def _evaluated(trials: Sequence[TrialRecord]) -> list[tuple[TrialRecord, Evaluation]]:
    return [(record, record.evaluation) for record in trials if record.evaluation is not None]


def _kind(record: TrialRecord, evaluation: Evaluation, is_on_front: bool) -> PointKind:
    if record.state != "complete" or not evaluation.is_feasible:
        return "infeasible"
    return "front" if is_on_front else "dominated"


def _measurable() -> list[str]:
    return [name for name in registry.names() if registry.get(name).reading is not None]


def _bars(pairs: Sequence[tuple[float, float | None]], color: str) -> dict[str, object]:
    """One-sided bars from the estimate to the measurement."""
    shifts = [0.0 if measured is None else measured - estimated for estimated, measured in pairs]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(shift, 0.0) for shift in shifts],
        "arrayminus": [max(-shift, 0.0) for shift in shifts],
        "color": color,
        "thickness": 1,
        "width": 3,
        "visible": any(shifts),
    }


def _dimension(name: str, values: Sequence[int | float | str | bool | None]) -> dict[str, object]:
    """An axis of the parallel coordinates; text, truth values and absent ones become positions with a tick."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return {"label": name, "values": list(values)}
    choices = sorted({"–" if value is None else str(value) for value in values})
    positions = [choices.index("–" if value is None else str(value)) for value in values]
    return {"label": name, "values": positions, "tickvals": list(range(len(choices))), "ticktext": choices}


def _figure(x_title: str, y_title: str) -> go.Figure:
    figure = go.Figure()
    axis = {"gridcolor": "#e8ecef", "zeroline": False, "linecolor": MUTED, "ticks": "outside", "tickcolor": MUTED}
    figure.update_layout(
        font={"color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 60, "r": 20, "t": 30, "b": 50},
        xaxis={"title": x_title, **axis},
        yaxis={"title": y_title, **axis},
        legend={"orientation": "h", "y": 1.08, "x": 0},
    )
    return figure
