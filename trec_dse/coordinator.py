"""The loop of the one process that asks, tells and promotes: what runs next, and what is told of what has run.

Whenever a worker is free, a candidate that has earned it is trained on (rungs.py); if none has, a new one is asked for.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState

from trec_dse import codec, storage
from trec_dse.candidate import Candidate
from trec_dse.durable import write_text
from trec_dse.errors import InputError, StudyError
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
from trec_dse.ledger import Ledger, Params
from trec_dse.objectives import select
from trec_dse.results import EvaluateRequest, Evaluation, TrialRecord
from trec_dse.rungs import Place, places
from trec_dse.search_space import SearchSpace, load_candidate, sample
from trec_dse.settings import ExploreSettings
from trec_dse.target import Target
from trec_dse.workers import Answer, Died, Failed, Pool, PoolEvent, Progress

MAX_FAILURES_IN_A_ROW = 5
MAX_DUPLICATES_IN_A_ROW = 100
# from here on duplicates are avoided by asking at random
_MANY_DUPLICATES = 2
_POLL_S = 0.2
_TIME_IS_UP, _EPOCHS_ARE_SPENT = "the time is up", "the epochs are spent"


@dataclass(frozen=True)
class Running:
    """A candidate in a worker, on its way to `place`.

    Attributes:
        number: of the trial that stands for it; trial: that trial, None where it was told before and is trained on.
        left: the rung that it came from; duplicates: trials that asked for the same candidate and wait for its answer.
    """

    number: int
    key: str
    place: Place
    trial: Trial | None = None
    left: int = 0
    duplicates: list[Trial] = field(default_factory=list)


@dataclass
class Coordinator:
    """The loop of one process over one study."""

    space: SearchSpace
    target: Target
    folder: Path
    settings: ExploreSettings
    study: optuna.Study
    pool: Pool
    emit: Callable[[Event], None]

    def __post_init__(self) -> None:
        self._running: dict[int, Running] = {}
        self._duplicates_in_a_row = 0
        self._failures_in_a_row = 0
        self._last_failure = ""
        self._ledger = Ledger(self.study, select(self.settings.objectives), self.settings.reduction)
        self._n_done = len(self._ledger.counted)

    def run(self, interrupted: threading.Event) -> None:
        """Ask and tell until the study is full or something ends the search."""
        settings = self.settings
        trials = storage.load_study(self.folder, settings.storage_url).trials
        records = tuple(trial for trial in trials if trial.number in self._ledger.counted)
        self.emit(
            SearchStarted(self.study.study_name, settings.n_trials, settings.workers, settings.objectives, records)
        )
        deadline = math.inf if settings.timeout_s is None else time.monotonic() + settings.timeout_s
        while not (interrupted.is_set() or self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW):
            reason = self._reason_to_stop_asking(deadline)
            if self.pool.n_free and self._start_something(reason):
                continue
            if not self._running:
                assert reason is not None
                self.emit(SearchDone(reason, self._n_done))
                return
            for event in self.pool.poll(_POLL_S):
                self._handle(event)
        self._abandon(interrupted)

    def _start_something(self, reason: str | None) -> bool:
        """Train one candidate on, or ask for a new one unless there is a `reason` not to; False if neither is due."""
        if reason in (_TIME_IS_UP, _EPOCHS_ARE_SPENT):
            return False
        due = self._ledger.book.next()
        if due is None and reason is not None:
            due = self._ledger.book.next_to_finish()
        if due is not None:
            self._train_on(*due)
        elif reason is None:
            self._ask()
        return due is not None or reason is None

    def _abandon(self, interrupted: threading.Event) -> None:
        """End what runs and queue it for the next time."""
        self.pool.close()
        storage.requeue_running(self.study)
        if interrupted.is_set():
            self.emit(SearchDone("interrupted", self._n_done))
            return
        reason = f"{MAX_FAILURES_IN_A_ROW} trials in a row failed"
        self.emit(SearchDone(reason, self._n_done))
        raise StudyError(f"{reason}; the last: {self._last_failure}")

    def _reason_to_stop_asking(self, deadline: float) -> str | None:
        limit = self.settings.max_epochs
        if time.monotonic() > deadline:
            return _TIME_IS_UP
        if limit is not None and self._ledger.epochs >= limit:
            return _EPOCHS_ARE_SPENT
        if (
            self._n_done + sum(running.trial is not None for running in self._running.values())
            >= self.settings.n_trials
        ):
            return "all trials are done"
        if self._duplicates_in_a_row >= MAX_DUPLICATES_IN_A_ROW:
            return f"{MAX_DUPLICATES_IN_A_ROW} duplicates in a row: the search space has hardly anything new"
        return None

    def _ask(self) -> None:
        """Start one trial, or answer it at once if its candidate is known."""
        sampler = self.study.sampler
        if self._duplicates_in_a_row >= _MANY_DUPLICATES:
            # a new seed each time, or the sampler would repeat itself
            self.study.sampler = RandomSampler(self.settings.seed + len(self.study.get_trials(deepcopy=False)))
        trial = self.study.ask()
        try:
            candidate = self._with_overrides(self._candidate(trial))
        except InputError as problem:
            self._fail(trial, str(problem))
            return
        finally:
            self.study.sampler = sampler
        key = candidate.key
        trial.set_user_attr(storage.KEY, key)
        twin = next((running for running in self._running.values() if running.key == key), None)
        if key in self._ledger.owners or twin is not None:
            self._duplicates_in_a_row += 1
        if twin is not None:
            twin.duplicates.append(trial)
        elif (known := self._known_evaluation(key)) is not None:
            self._tell(trial, known, key)
        else:
            self._duplicates_in_a_row = 0
            first = self._ledger.first_place(places(candidate.recipe, self.settings.reduction))
            self._submit(candidate, Running(trial.number, key, first, trial), trial.params)

    def _candidate(self, trial: Trial) -> Candidate:
        """What the sampler asks for, or what was queued by name."""
        preset = trial.user_attrs.get(storage.PRESET)
        return sample(self.space, trial) if preset is None else load_candidate(str(preset))

    def _with_overrides(self, candidate: Candidate) -> Candidate:
        if self.settings.n_train is None:
            return candidate
        return replace(candidate, recipe=replace(candidate.recipe, n_train=self.settings.n_train))

    def _known_evaluation(self, key: str) -> Evaluation | None:
        """The answer on disk. A damaged one, or one of an older release, is evaluated again."""
        try:
            known = storage.read_evaluation(self.folder, key)
        except StudyError:
            return None
        # where there are no rungs, no partial answer will do
        return None if known is not None and known.fidelity < 1 and self.settings.reduction == 1 else known

    def _train_on(self, key: str, rung: int) -> None:
        """Take a candidate from `rung` to the next one."""
        self._ledger.book.leave(key, rung)
        owner = self._ledger.owners[key]
        path = storage.candidate_path(self.folder, key)
        candidate = codec.from_json(path.read_text(encoding="utf-8"), Candidate, str(path), StudyError)
        steps = places(candidate.recipe, self.settings.reduction)
        running = Running(owner.number, key, next(step for step in steps if step.index > rung), left=rung)
        known = self._known_evaluation(key)
        # a driver that was killed may not have told what its worker had written
        if known is not None and self._ledger.place(known).index > rung:
            self._tell_again(running, known)
        else:
            self._submit(candidate, running, owner.params)

    def _submit(self, candidate: Candidate, running: Running, params: Params) -> None:
        path = storage.evaluation_path(self.folder, running.key)
        write_text(storage.candidate_path(self.folder, running.key), codec.to_json(candidate))
        data_dir = self.settings.data_dir
        request = EvaluateRequest(
            candidate,
            self.target,
            None if data_dir is None else str(data_dir),
            str(path.parent),
            running.place.epochs if self.settings.reduction > 1 else None,
            self.space.limits,
        )
        task = self.pool.submit(self.settings.function, codec.to_json(request), save_as=path)
        self._running[task] = running
        self.emit(TrialStarted(running.number, running.key, params))

    def _handle(self, event: PoolEvent) -> None:
        number = self._running[event.task].number
        match event:
            case Progress():
                self.emit(TrialProgress(number, event.text))
            case Answer():
                self._finish(self._running.pop(event.task))
            case Failed():
                self._give_up(self._running.pop(event.task), event.message)
            case Died():
                self.emit(WorkerDied(number, event.reason, event.will_retry))
                if not event.will_retry:
                    self._give_up(self._running.pop(event.task), f"{event.reason}, twice; see workers.log")

    def _finish(self, running: Running) -> None:
        try:
            evaluation = storage.read_evaluation(self.folder, running.key)
        except StudyError as problem:
            self._give_up(running, str(problem))
            return
        if evaluation is None:
            path = storage.evaluation_path(self.folder, running.key)
            raise StudyError(f"{path} has vanished; leave a study's folder alone while it is being searched")
        if running.trial is None:
            self._tell_again(running, evaluation)
        else:
            self._tell(running.trial, evaluation, running.key)
        for trial in running.duplicates:
            self._tell(trial, evaluation, running.key)

    def _give_up(self, running: Running, message: str) -> None:
        if running.trial is None:
            self._ledger.book.close(running.key)
            self._note_failure(running.number, f"could not be trained on: {message}")
        else:
            self._fail(running.trial, message)
        for trial in running.duplicates:
            trial.set_user_attr(storage.DUPLICATE_OF, running.number)
            self.study.tell(trial, state=TrialState.FAIL)

    def _fail(self, trial: Trial, message: str) -> None:
        trial.set_user_attr(storage.MESSAGE, message)
        self.study.tell(trial, state=TrialState.FAIL)
        self._n_done += 1
        self._note_failure(trial.number, message)

    def _note_failure(self, number: int, message: str) -> None:
        self._failures_in_a_row += 1
        self._last_failure = f"trial {number}: {message}"
        self.emit(TrialFailed(number, message))

    def _tell(self, trial: Trial, evaluation: Evaluation, key: str) -> None:
        try:
            owner = self._ledger.tell(trial, evaluation, key)
        except StudyError as problem:
            self._fail(trial, str(problem))
            return
        record = TrialRecord(trial.number, storage.record_state(evaluation), trial.params, evaluation)
        if owner is not None:
            self.emit(TrialDuplicate(record, owner))
            return
        self._n_done += 1
        self._failures_in_a_row = 0
        self.emit(TrialDone(record))

    def _tell_again(self, running: Running, evaluation: Evaluation) -> None:
        self._ledger.tell_again(running.key, running.left, evaluation)
        self._failures_in_a_row = 0
        owner = self._ledger.owners[running.key]
        self.emit(TrialPromoted(TrialRecord(owner.number, storage.record_state(evaluation), owner.params, evaluation)))
