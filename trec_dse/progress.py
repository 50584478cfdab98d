"""Watch a search in a terminal: a live view where there is one, else one plain line per finished trial."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trec_dse import pareto
from trec_dse.errors import InputError
from trec_dse.events import (
    Event,
    SearchDone,
    SearchStarted,
    TrialDone,
    TrialDuplicate,
    TrialFailed,
    TrialProgress,
    TrialPromoted,
    TrialStarted,
    WorkerDied,
)
from trec_dse.objectives import Objective, select
from trec_dse.results import Evaluation, TrialRecord
from trec_dse.rungs import name_of

MAX_FRONT_ROWS = 10


@dataclass
class RunningTrial:
    """A trial in a worker: since when, in seconds of the view's clock, and what it said last."""

    key: str
    since_s: float
    text: str = "starts"


@dataclass
class SearchState:
    """What there is to see of a search, kept up to date by its events; `clock` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    name: str = ""
    n_trials: int = 0
    objectives: tuple[Objective, ...] = ()
    records: dict[int, TrialRecord] = field(default_factory=dict)
    front: list[TrialRecord] = field(default_factory=list)
    running: dict[int, RunningTrial] = field(default_factory=dict)
    n_failed: int = 0
    n_duplicates: int = 0
    last_message: str = ""
    _since_s: float = 0.0
    _n_before: int = 0

    @property
    def n_done(self) -> int:
        """Trials that count: evaluated or failed, without duplicates."""
        return len(self.records) + self.n_failed

    @property
    def feasible_share(self) -> float:
        """Share of the evaluated trials that keep every limit; 0 before the first."""
        n_feasible = sum(record.state in ("complete", "stopped") for record in self.records.values())
        return n_feasible / len(self.records) if self.records else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at the pace of this run; None before its first trial is done."""
        n_here = self.n_done - self._n_before
        if n_here <= 0:
            return None
        return (self.clock() - self._since_s) / n_here * max(0, self.n_trials - self.n_done)

    def update(self, event: Event) -> None:
        """Take one event in."""
        match event:
            case SearchStarted():
                self._start(event)
            case TrialStarted():
                self.running[event.number] = RunningTrial(event.key, self.clock())
            case TrialProgress():
                if event.number in self.running:
                    self.running[event.number].text = event.text
            case TrialDone() | TrialPromoted():
                self._add(event.record)
            case TrialDuplicate():
                self.running.pop(event.record.number, None)
                self.n_duplicates += 1
            case TrialFailed():
                self.running.pop(event.number, None)
                # one that was done and could not be trained on stays what it was
                self.n_failed += event.number not in self.records
                self.last_message = f"trial {event.number} failed: {event.message}"
            case WorkerDied():
                self.last_message = _death(event)
            case SearchDone():
                self.running.clear()

    def _start(self, event: SearchStarted) -> None:
        self.name, self.n_trials, self.objectives = event.name, event.n_trials, select(event.objectives)
        self._since_s = self.clock()
        for record in event.records:
            if record.evaluation is None:
                self.n_failed += 1
            else:
                self.records[record.number] = record
        self.front = pareto.front(self.records.values(), self.objectives)
        self._n_before = self.n_done

    def _add(self, record: TrialRecord) -> None:
        self.running.pop(record.number, None)
        self.records[record.number] = record
        # all others were dominated before, so the front suffices
        others = [other for other in self.front if other.number != record.number]
        self.front = pareto.front([*others, record], self.objectives)


class SearchView(Protocol):
    """Something that shows a search: used as a context manager, fed by `on_event`."""

    state: SearchState

    def on_event(self, event: Event) -> None:
        """Show what happened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_view(console: Console | None = None) -> SearchView:
    """The live view if the console is a terminal, else plain lines that a log file can keep."""
    console = console or Console()
    return LiveView(console) if console.is_terminal else PlainView(console)


class PlainView:
    """One line per finished trial."""

    def __init__(self, console: Console) -> None:
        self.state = SearchState()
        self._console = console

    def on_event(self, event: Event) -> None:
        """Write a line if there is something to say."""
        self.state.update(event)
        line = plain_line(event, self.state)
        if line:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveView:
    """What runs, how far the search is, and the front, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.state = SearchState()
        # the clock of the view ticks in a thread of its own
        self._lock = threading.Lock()
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def on_event(self, event: Event) -> None:
        """Take the event in; the view is redrawn by itself."""
        with self._lock:
            self.state.update(event)

    def _draw(self) -> RenderableType:
        with self._lock:
            return draw(self.state)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


def plain_line(event: Event, state: SearchState) -> str:
    """What a log says about an event; empty if it says nothing."""
    counter = f"[{state.n_done}/{state.n_trials}]"
    line = ""
    match event:
        case SearchStarted():
            resumed = f", {state.n_done} of them are there" if state.n_done else ""
            line = f"{event.name}: {event.n_trials} trials, {event.workers} at a time{resumed}"
        case TrialDone(record):
            line = f"{counter} trial {record.number}: {_outcome(record, state.objectives)}"
        case TrialPromoted(record):
            line = f"{counter} trial {record.number} trained on: {_outcome(record, state.objectives)}"
        case TrialDuplicate(record, of):
            line = f"{counter} trial {record.number}: same candidate as trial {of}"
        case TrialFailed(number, message):
            line = f"{counter} trial {number} failed: {message}"
        case WorkerDied():
            line = _death(event)
        case SearchDone(reason, n_done):
            line = f"{reason}: {n_done} trials, {len(state.front)} of them on the front"
    return line


def draw(state: SearchState) -> RenderableType:
    """The live view of a state."""
    parts: list[RenderableType] = [
        _headline(state),
        # the padding ends the bar's line, which the bar itself does not
        Padding(ProgressBar(max(1, state.n_trials), min(state.n_done, state.n_trials), width=60), (0, 0, 1, 0)),
    ]
    if state.running:
        parts.append(_running_table(state))
    if state.front:
        parts.append(_front_table(state))
    if state.last_message:
        parts.append(Text(state.last_message, style="yellow"))
    return Group(*parts)


def _headline(state: SearchState) -> Text:
    parts = [
        f"{state.n_done} of {state.n_trials} trials",
        f"{100 * state.feasible_share:.0f} % fit",
        f"{len(state.front)} on the front",
    ]
    parts += [f"{state.n_duplicates} duplicates"] if state.n_duplicates else []
    parts += [f"{state.n_failed} failed"] if state.n_failed else []
    parts += [f"{duration(state.eta_s)} left"] if state.eta_s else []
    return Text.assemble((state.name, "bold"), "  ", " · ".join(parts))


def _running_table(state: SearchState) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("running", "candidate", "since", ""):
        table.add_column(heading, style="dim", header_style="dim")
    now = state.clock()
    for number, trial in sorted(state.running.items()):
        table.add_row(f"trial {number}", trial.key, duration(now - trial.since_s), Text(trial.text))
    return table


def _front_table(state: SearchState) -> Table:
    shown = state.front[:MAX_FRONT_ROWS]
    hidden = len(state.front) - len(shown)
    table = Table(box=None, padding=(0, 2, 0, 0), caption=f"and {hidden} more" if hidden else None)
    table.add_column("front", header_style="dim")
    for objective in state.objectives:
        table.add_column(objective.title, justify="right", header_style="dim")
    for record in shown:
        if record.evaluation is not None:
            values = [f"{objective.value(record.evaluation):.2f}" for objective in state.objectives]
            table.add_row(f"trial {record.number}", *values)
    return table


def _outcome(record: TrialRecord, objectives: tuple[Objective, ...]) -> str:
    if record.evaluation is None:
        return record.message
    if not record.evaluation.is_feasible:
        return f"does not fit: {_excess(record.evaluation)}"
    values = ", ".join(f"{o.label} {o.value(record.evaluation):.2f} {o.unit}" for o in objectives)
    if record.evaluation.fidelity == 0:
        return f"untrained: {values}"
    return values if record.state == "complete" else f"after {name_of(record.evaluation.rungs[-1].epochs)}: {values}"


def _excess(evaluation: Evaluation) -> str:
    return ", ".join(f"{name} {100 * value:.0f} % over" for name, value in evaluation.violations.items() if value > 0)


def _death(event: WorkerDied) -> str:
    return f"trial {event.number}: {event.reason}; {'trying again' if event.will_retry else 'given up'}"


def duration(seconds: float | None) -> str:
    """Seconds for people: "42 s", "7 min", "3 h 20 min"; raises `InputError` below zero."""
    if seconds is None:
        return "?"
    if seconds < 0:
        raise InputError(f"a duration of {seconds} s; it must not be negative")
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
