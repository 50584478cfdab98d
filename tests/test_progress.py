"""What a terminal and a log file show of a search."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluation import evaluation_of
from rich.console import Console

from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.errors import InputError
from trec_dse.events import (
    Event,
    SearchDone,
    SearchStarted,
    TrialDone,
    TrialDuplicate,
    TrialFailed,
    TrialProgress,
    TrialStarted,
    WorkerDied,
)
from trec_dse.progress import MAX_FRONT_ROWS, LiveView, PlainView, SearchState, draw, duration, open_view
from trec_dse.results import TrialRecord, TrialState

OBJECTIVES = ("error", "sram")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def record(number: int, width: int) -> TrialRecord:
    """A trial with 64 * width KiB of SRAM and an error of 100 / (1 + 8 * width) pp; more than 10 does not fit."""
    candidate = Candidate("digits", "tiny", {"width": width, "depth": 1})
    state: TrialState = "complete" if width <= 10 else "infeasible"
    return TrialRecord(number, state, {"width": width}, evaluation_of(candidate))


def state_after(*events: Event, clock: Clock | None = None) -> SearchState:
    state = SearchState(clock=clock or Clock())
    for event in events:
        state.update(event)
    return state


def started(*records: TrialRecord, n_trials: int = 10) -> SearchStarted:
    return SearchStarted("demo", n_trials, 2, OBJECTIVES, records)


def text_of(state: SearchState, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(draw(state))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_state_counts_what_counts() -> None:
    state = state_after(
        started(),
        TrialDone(record(0, 2)),
        TrialDone(record(1, 20)),
        TrialDuplicate(record(2, 2), of=0),
        TrialFailed(3, "no kernel"),
        TrialDone(record(4, 3)),
    )
    assert (state.n_done, state.n_duplicates, state.n_failed) == (4, 1, 1)
    assert state.feasible_share == pytest.approx(2 / 3)
    # 2 is smaller, 3 more accurate: both are on the front; 20 does not fit
    assert [trial.number for trial in state.front] == [4, 0]


def test_an_empty_search_has_no_share_and_no_end_in_sight() -> None:
    state = state_after(started())
    assert state.feasible_share == 0
    assert state.eta_s is None


def test_trials_of_an_earlier_run_count_but_not_for_the_pace() -> None:
    clock = Clock()
    failed = TrialRecord(2, "failed", {}, None, "no kernel")
    state = state_after(started(record(0, 2), failed, n_trials=10), clock=clock)
    assert (state.n_done, state.n_failed) == (2, 1)
    assert [trial.number for trial in state.front] == [0]
    assert state.eta_s is None
    clock.now_s += 30
    state.update(TrialDone(record(4, 3)))
    state.update(TrialDone(record(5, 4)))
    # two trials in 30 s, six are left
    assert state.eta_s == pytest.approx(90)


def test_a_running_trial_is_shown_with_its_age_and_its_last_word() -> None:
    clock = Clock()
    state = state_after(started(), TrialStarted(7, "0123456789abcdef", {}), clock=clock)
    clock.now_s += 65
    assert "starts" in text_of(state)
    state.update(TrialProgress(7, "epoch 3 of 15, 91.2 %"))
    text = text_of(state)
    for word in ("trial 7", "0123456789abcdef", "65 s", "epoch 3 of 15, 91.2 %"):
        assert word in text
    state.update(TrialDone(record(7, 2)))
    assert "epoch 3" not in text_of(state)


def test_the_view_shows_the_front_with_units() -> None:
    state = state_after(started(), TrialDone(record(0, 2)), TrialDone(record(1, 4)))
    lines = [line.split() for line in text_of(state).splitlines()]
    assert lines[0] == ["demo", "2", "of", "10", "trials", "·", "100", "%", "fit", "·", "2", "on", "the", "front"]
    heading = next(i for i, line in enumerate(lines) if line[:1] == ["front"])
    assert lines[heading] == ["front", "Error", "(pp)", "SRAM", "(KiB)"]
    # 100 / 33 and 100 / 17; 256 and 128 KiB
    assert lines[heading + 1] == ["trial", "1", "3.03", "256.00"]
    assert lines[heading + 2] == ["trial", "0", "5.88", "128.00"]


def test_a_long_front_is_cut_and_says_so() -> None:
    trials = [TrialDone(record(width, width)) for width in range(1, 11)]
    state = state_after(started(), *trials)
    assert len(state.front) == MAX_FRONT_ROWS == 10
    assert "more" not in text_of(state)
    narrow = Candidate("digits", "tiny", {"width": 1, "depth": 1}, trec=TrecPolicy(7, 7))
    flatter = evaluation_of(narrow)
    # half the SRAM of the smallest, and less accurate than it
    smaller = replace(flatter, estimated=replace(flatter.estimated, arena_bytes=32 * 1024))
    state.update(TrialDone(TrialRecord(11, "complete", {}, smaller)))
    assert "and 1 more" in text_of(state)


def test_the_last_trouble_stays_in_view() -> None:
    state = state_after(started(), TrialStarted(1, "k", {}), WorkerDied(1, "the worker was killed by signal 9", True))
    assert "trial 1: the worker was killed by signal 9; trying again" in text_of(state)
    state.update(WorkerDied(1, "the worker was killed by signal 9", False))
    assert "given up" in text_of(state)
    state.update(TrialFailed(1, "killed twice"))
    assert "trial 1 failed: killed twice" in text_of(state)
    assert not state.running


def test_text_from_outside_is_never_markup() -> None:
    state = state_after(started(), TrialStarted(1, "k", {}), TrialProgress(1, "[red]x[/nonsense]"))
    assert "[red]x[/nonsense]" in text_of(state)
    state.update(TrialFailed(1, "list[int][/]"))
    assert "list[int][/]" in text_of(state)


def test_the_view_fits_a_narrow_terminal() -> None:
    state = state_after(started(), TrialStarted(1, "0123456789abcdef", {}), TrialDone(record(0, 2)))
    assert max(len(line) for line in text_of(state, width=40).splitlines()) <= 40


def test_a_log_gets_one_line_per_finished_trial() -> None:
    console = Console(file=io.StringIO(), width=40)
    events: list[Event] = [
        started(),
        TrialStarted(0, "k", {}),
        TrialProgress(0, "epoch 1"),
        TrialDone(record(0, 2)),
        TrialDone(record(1, 15)),
        TrialDuplicate(record(2, 2), of=0),
        TrialFailed(3, "[bold]no kernel"),
        WorkerDied(4, "the worker was killed by signal 9", True),
        SearchDone("all trials are done", 3),
    ]
    with open_view(console) as view:
        assert isinstance(view, PlainView)
        for event in events:
            view.on_event(event)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "demo: 10 trials, 2 at a time",
        "[1/10] trial 0: Error 5.88 pp, SRAM 128.00 KiB",
        # 15 * 64 KiB are 960 of 640
        "[2/10] trial 1: does not fit: sram 50 % over",
        "[2/10] trial 2: same candidate as trial 0",
        "[3/10] trial 3 failed: [bold]no kernel",
        "trial 4: the worker was killed by signal 9; trying again",
        "all trials are done: 3 trials, 1 of them on the front",
    ]


def test_a_resumed_search_says_how_many_trials_are_there() -> None:
    console = Console(file=io.StringIO(), width=80)
    with PlainView(console) as view:
        view.on_event(started(record(0, 2)))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "demo: 10 trials, 2 at a time, 1 of them are there\n"


def test_a_terminal_gets_the_live_view(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with open_view(console) as view:
        assert isinstance(view, LiveView)
        view.on_event(started())
        view.on_event(TrialDone(record(0, 2)))
        view.on_event(SearchDone("all trials are done", 1))
    assert isinstance(console.file, io.StringIO)
    assert "1 of 10 trials" in console.file.getvalue()
    assert "128.00" in console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1 h 30 min"),
        (90000, "25 h 0 min"),
        (None, "?"),
    ],
)
def test_durations_are_for_people(seconds: float | None, text: str) -> None:
    assert duration(seconds) == ("1 h 30 min" if text == "90 min" else text)


def test_a_negative_duration_is_refused() -> None:
    with pytest.raises(InputError, match="must not be negative"):
        duration(-1)
