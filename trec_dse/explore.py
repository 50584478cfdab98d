"""Search a space for candidates that trade off the objectives best: ask, evaluate in workers, tell, and survive.

This process asks and tells; workers evaluate. Whatever is finished is on disk before it is told, so a search that
was interrupted in any way, or is run again with more trials, goes on where it stopped.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import Trial, TrialState

from trec_dse import codec, storage
from trec_dse.candidate import Candidate
from trec_dse.durable import write_text
from trec_dse.errors import InputError, SearchSpaceError, StudyError
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
from trec_dse.objectives import select
from trec_dse.results import EvaluateRequest, Evaluation, TrialRecord
from trec_dse.search_space import SearchSpace, load_search_space, sample
from trec_dse.target import Target
from trec_dse.workers import Answer, Died, Failed, PoolEvent, Progress, WorkerPool

MAX_FAILURES_IN_A_ROW = 5
MAX_DUPLICATES_IN_A_ROW = 100
# from here on duplicates are avoided by asking at random
_MANY_DUPLICATES = 2
_POLL_S = 0.2


@dataclass(frozen=True)
class ExploreSettings:
    """How to search.

    Attributes:
        n_trials: trials that the study shall hold in the end; duplicates and interrupted ones do not count.
        seed: of the sampler; training has its own seed in the candidate's recipe.
        workers: evaluations at a time.
        data_dir: folder of the data sets; None means the cache, or a download.
        n_train: training images of every candidate, instead of what its recipe says.
        storage_url: an Optuna database instead of the journal in the study's folder.
        timeout_s: after so many seconds no further trial is started; those that run are finished.
        force: accept that the search-space file has changed since the study began.
        function: what evaluates, as "module:function".
    """

    n_trials: int = 50
    seed: int = 0
    workers: int = 1
    objectives: tuple[str, ...] = ("error", "sram", "flash", "latency")
    data_dir: Path | None = None
    n_train: int | None = None
    storage_url: str | None = None
    timeout_s: float | None = None
    force: bool = False
    function: str = "trec_dse.evaluate:evaluate_json"


def explore(
    space: SearchSpace,
    target: Target,
    folder: Path,
    *,
    settings: ExploreSettings,
    on_event: Callable[[Event], None],
) -> None:
    """Fill the study in `folder` up to `settings.n_trials` trials; it is made, or continued if it is there.

    Raises `StudyError` if the folder holds another study or is in use, if the disk is full, or when
    5 trials in a row fail. Ctrl-C ends the workers, leaves a study that can be continued, and is passed on.
    """
    if settings.n_trials < 1:
        raise InputError(f"{settings.n_trials} trials were asked for; it must be at least 1")
    objectives = select(settings.objectives)
    now = _study_settings(space, target, folder, settings)
    is_new = not (folder / storage.SETTINGS).exists()
    if not is_new:
        now = storage.require_same(folder, now, force=settings.force)
    with (
        _interrupt_flag() as interrupted,
        storage.open_study(folder, now.name, objectives, settings.seed, settings.storage_url) as study,
        WorkerPool(settings.workers, folder / "workers.log") as pool,
    ):
        if is_new and study.get_trials(deepcopy=False):
            raise StudyError(f"the storage has trials of a study {now.name!r}, but {folder} has no {storage.SETTINGS}")
        try:
            storage.write_settings(folder, now)
            write_text(folder / storage.SPACE_COPY, space.source.decode())
            storage.requeue_running(study)
            _Search(space, target, folder, settings, study, pool, on_event).run(interrupted)
        except OSError as problem:
            raise StudyError(
                f"{folder}: the study cannot be written: {problem.strerror}; nothing that was told is lost: "
                "make room, then resume"
            ) from problem
    if interrupted.is_set():
        raise KeyboardInterrupt


def resume(
    folder: Path, *, settings: ExploreSettings, on_event: Callable[[Event], None], space: SearchSpace | None = None
) -> None:
    """Continue the study of a folder; its own seed, objectives and training size stand, whatever `settings` says.

    The search space is loaded from where it was, unless given; if it has gone, from the copy in the folder.
    """
    fixed = storage.read_settings(folder)
    settings = replace(
        settings,
        seed=fixed.seed,
        objectives=fixed.objectives,
        n_train=fixed.n_train,
        storage_url=settings.storage_url or fixed.storage,
    )
    if space is None:
        has_gone = Path(fixed.space).suffix == ".py" and not Path(fixed.space).exists()
        space = load_search_space(str(folder / storage.SPACE_COPY) if has_gone else fixed.space)
    explore(space, fixed.target, folder, settings=settings, on_event=on_event)


@dataclass
class _Search:
    """The loop of one process over one study."""

    space: SearchSpace
    target: Target
    folder: Path
    settings: ExploreSettings
    study: optuna.Study
    pool: WorkerPool
    emit: Callable[[Event], None]

    def __post_init__(self) -> None:
        self._objectives = select(self.settings.objectives)
        self._running: dict[int, _Running] = {}
        self._duplicates_in_a_row = 0
        self._failures_in_a_row = 0
        self._last_failure = ""
        # candidate key -> the trial that evaluated it
        self._owners: dict[str, int] = {}
        self._counted = self._count_trials()
        self._n_done = len(self._counted)

    def run(self, interrupted: threading.Event) -> None:
        """Ask and tell until the study is full or something ends the search."""
        settings = self.settings
        trials = storage.load_study(self.folder, settings.storage_url).trials
        records = tuple(trial for trial in trials if trial.number in self._counted)
        self.emit(
            SearchStarted(self.study.study_name, settings.n_trials, settings.workers, settings.objectives, records)
        )
        deadline = math.inf if settings.timeout_s is None else time.monotonic() + settings.timeout_s
        while True:
            reason = self._reason_to_stop_asking(deadline)
            if interrupted.is_set() or self._failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                break
            if reason is None and self.pool.n_free:
                self._ask()
            elif self._running:
                for event in self.pool.poll(_POLL_S):
                    self._handle(event)
            elif reason is not None:
                self.emit(SearchDone(reason, self._n_done))
                return
        self._abandon(interrupted)

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

    def _count_trials(self) -> frozenset[int]:
        """The finished trials but for duplicates and interrupted ones; notes who owns which candidate."""
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(storage.RETRY_OF) for trial in trials}
        counted = set()
        for trial in trials:
            if not trial.state.is_finished() or storage.DUPLICATE_OF in trial.user_attrs or trial.number in retried:
                continue
            counted.add(trial.number)
            if trial.state != TrialState.FAIL:
                self._owners[trial.user_attrs[storage.KEY]] = trial.number
        return frozenset(counted)

    def _reason_to_stop_asking(self, deadline: float) -> str | None:
        if self._n_done + len(self._running) >= self.settings.n_trials:
            return "all trials are done"
        if time.monotonic() > deadline:
            return "the time is up"
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
            candidate = self._with_overrides(sample(self.space, trial))
        except SearchSpaceError as problem:
            self._fail(trial, str(problem))
            return
        finally:
            self.study.sampler = sampler
        key = candidate.key
        trial.set_user_attr(storage.KEY, key)
        twin = next((running for running in self._running.values() if running.key == key), None)
        if key in self._owners or twin is not None:
            self._duplicates_in_a_row += 1
        if twin is not None:
            twin.duplicates.append(trial)
        elif (known := self._known_evaluation(key)) is not None:
            self._tell(trial, known, key)
        else:
            self._duplicates_in_a_row = 0
            self._submit(trial, candidate)

    def _with_overrides(self, candidate: Candidate) -> Candidate:
        if self.settings.n_train is None:
            return candidate
        return replace(candidate, recipe=replace(candidate.recipe, n_train=self.settings.n_train))

    def _known_evaluation(self, key: str) -> Evaluation | None:
        """The answer on disk. A damaged one, or one of an older release, is evaluated again."""
        try:
            return storage.read_evaluation(self.folder, key)
        except StudyError:
            return None

    def _submit(self, trial: Trial, candidate: Candidate) -> None:
        path = storage.evaluation_path(self.folder, candidate.key)
        write_text(path.with_name("candidate.json"), codec.to_json(candidate))
        data_dir = self.settings.data_dir
        request = EvaluateRequest(candidate, self.target, None if data_dir is None else str(data_dir), str(path.parent))
        task = self.pool.submit(self.settings.function, codec.to_json(request), save_as=path)
        self._running[task] = _Running(trial, candidate.key, [])
        self.emit(TrialStarted(trial.number, candidate.key, trial.params))

    def _handle(self, event: PoolEvent) -> None:
        number = self._running[event.task].trial.number
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

    def _finish(self, running: "_Running") -> None:
        try:
            evaluation = storage.read_evaluation(self.folder, running.key)
        except StudyError as problem:
            self._give_up(running, str(problem))
            return
        if evaluation is None:
            path = storage.evaluation_path(self.folder, running.key)
            raise StudyError(f"{path} has vanished; leave a study's folder alone while it is being searched")
        for trial in (running.trial, *running.duplicates):
            self._tell(trial, evaluation, running.key)

    def _give_up(self, running: "_Running", message: str) -> None:
        self._fail(running.trial, message)
        for trial in running.duplicates:
            trial.set_user_attr(storage.DUPLICATE_OF, running.trial.number)
            self.study.tell(trial, state=TrialState.FAIL)

    def _fail(self, trial: Trial, message: str) -> None:
        trial.set_user_attr(storage.MESSAGE, message)
        self.study.tell(trial, state=TrialState.FAIL)
        self._n_done += 1
        self._failures_in_a_row += 1
        self._last_failure = f"trial {trial.number}: {message}"
        self.emit(TrialFailed(trial.number, message))

    def _tell(self, trial: Trial, evaluation: Evaluation, key: str) -> None:
        """Tell the sampler; a trial that cannot fit tells only by how much, which TPE learns from as well."""
        values = [objective.value(evaluation) for objective in self._objectives]
        is_valued = all(math.isfinite(value) for value in values)
        if evaluation.is_feasible and not is_valued:
            self._fail(trial, f"the evaluation fits but has no value for every objective: {values}")
            return
        for name, violation in evaluation.violations.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr("effective_key", evaluation.key)
        trial.set_user_attr("macs", evaluation.estimated.macs)
        owner = self._owners.setdefault(key, trial.number)
        if owner != trial.number:
            trial.set_user_attr(storage.DUPLICATE_OF, owner)
        if is_valued:
            self.study.tell(trial, values)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)
        self._report(trial, evaluation, owner)

    def _report(self, trial: Trial, evaluation: Evaluation, owner: int) -> None:
        record = TrialRecord(trial.number, storage.record_state(evaluation), trial.params, evaluation)
        if owner != trial.number:
            self.emit(TrialDuplicate(record, owner))
            return
        self._n_done += 1
        self._failures_in_a_row = 0
        self.emit(TrialDone(record))


@dataclass(frozen=True)
class _Running:
    """A trial in a worker. `duplicates`: trials that asked for the same candidate and wait for its answer."""

    trial: Trial
    key: str
    duplicates: list[Trial]


def _study_settings(
    space: SearchSpace, target: Target, folder: Path, settings: ExploreSettings
) -> storage.StudySettings:
    return storage.StudySettings(
        name=folder.resolve().name,
        space=space.given,
        space_sha256=space.sha256,
        dataset=space.dataset,
        target=target,
        objectives=settings.objectives,
        seed=settings.seed,
        n_train=settings.n_train,
        n_trials=settings.n_trials,
        storage=storage.without_password(settings.storage_url),
        versions=storage.library_versions(),
    )


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C, so that no write is torn; the second one interrupts in the usual way."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # only the main thread may set handlers, and only it is interrupted
        yield flag
        return
    previous = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def note(number: int, frame: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
