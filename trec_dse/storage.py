"""The durable side of a study: its folder, its Optuna journal, its settings, and the record read back from them.

FOLDER/
  study.json             what the study is about; written once, compared at every resume
  study.journal          Optuna's trials, one JSON line per step
  search_space.py        the search-space file as it was run
  coordinator.lock       held by the one process that may ask and tell
  candidates/KEY/        candidate.json and, once it is known, evaluation.json
  firmware/trial_N/      an export folder; measurement.json in it is what `validate` measured last
  workers.log            what the workers printed
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import OptunaError
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from trec_dse import __version__, codec
from trec_dse.durable import sync_folder, write_text
from trec_dse.errors import StudyError
from trec_dse.objectives import Objective
from trec_dse.results import Evaluation, Measurement, StudyRecord, TrialRecord
from trec_dse.results import TrialState as RecordState
from trec_dse.settings import SamplerSettings
from trec_dse.target import Target

JOURNAL = "study.journal"
SETTINGS = "study.json"
LOCK = "coordinator.lock"
SPACE_COPY = "search_space.py"
MEASUREMENT = "measurement.json"
_MANIFEST = "manifest.json"

# user attributes of a trial
KEY = "key"
MESSAGE = "message"
DUPLICATE_OF = "duplicate_of"
RETRY_OF = "retry_of"
PRESET = "preset"  # name of the shipped candidate that the trial is, instead of one that the sampler makes
PROMOTED = "promoted_from"  # rung: the trial tells what the one that it is a duplicate of shows after more training
RUNG, FIDELITY, EPOCHS, LINEAGE = "rung", "fidelity", "epochs", "lineage"
FEATURES, CHOICES = "features", "choices"  # what is known without training
_QUEUED_PARAMS = "queued_params"
TWIN = "twin"  # the executor of a measurement without a board

_DATABASE_ERRORS = (SQLAlchemyError, OptunaError, ImportError, ValueError)


@dataclass(frozen=True)
class StudySettings:
    """What must stay the same over the whole study; `study.json`.

    Attributes:
        name: the study's name in its storage, which outlives a renamed folder.
        space: the search space as it was given; space_sha256: hash of the file that was run.
        n_train: training images of every candidate; None leaves it to the search space.
        n_trials: how many the study was last asked to hold; alone of all this it may change.
        storage: database that holds the trials, without its password; None: the journal in the folder.
        sampler: where candidates come from; reduction: one in so many is trained on at each rung.
    """

    name: str
    space: str
    space_sha256: str
    dataset: str
    target: Target
    objectives: tuple[str, ...]
    seed: int
    n_train: int | None
    n_trials: int
    storage: str | None
    versions: Mapping[str, str]
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    reduction: int = 1


def library_versions() -> dict[str, str]:
    """Versions of Python, of this package and of the libraries that shape a result, without importing them."""
    found = {"python": python_version(), "trec_dse": __version__}
    for name in ("optuna", "numpy", "torch", "torch-pruning"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def without_password(storage_url: str | None) -> str | None:
    """A database URL as it may be written to disk; the database's own password file or variable fills the gap."""
    if storage_url is None:
        return None
    try:
        url = make_url(storage_url)
        return URL.create(
            url.drivername, url.username, None, url.host, url.port, url.database, url.query
        ).render_as_string()
    except _DATABASE_ERRORS as problem:
        raise StudyError(
            f"{storage_url!r} is no storage URL: {problem}; one looks like sqlite:///trials.db or postgresql://host/name"
        ) from problem


def write_settings(folder: Path, settings: StudySettings) -> None:
    """Write `study.json` in one step."""
    write_text(folder / SETTINGS, codec.to_json(settings))


def read_settings(folder: Path) -> StudySettings:
    """The `study.json` of a folder; raises `StudyError` if there is none or it is damaged."""
    path = folder / SETTINGS
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise StudyError(f"{folder} holds no study: there is no {SETTINGS} in it; start one with `explore`") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise StudyError(f"{path}: cannot be read: {problem}") from problem
    return codec.from_json(text, StudySettings, str(path), StudyError)


def require_same(folder: Path, now: StudySettings, *, force: bool = False) -> StudySettings:
    """The settings under which `now` continues the study in the folder; raises `StudyError` naming what differs.

    With `force` a changed search-space file is accepted.
    """
    before = read_settings(folder)
    now = replace(now, name=before.name, versions=before.versions, space=before.space)
    before = replace(before, n_trials=now.n_trials)
    changed = [field.name for field in fields(now) if getattr(now, field.name) != getattr(before, field.name)]
    if "space_sha256" in changed and not force:
        raise StudyError(
            f"{folder}: the search space {before.space!r} has changed since the study began, so its trials would mean "
            "two different things; put the old file back (a copy is search_space.py in the folder), use a new folder, "
            "or force it"
        )
    differences = [_difference(before, now, name) for name in changed if name != "space_sha256"]
    if differences:
        raise StudyError(
            f"{folder} holds another study than the one asked for: {'; '.join(differences)}; use a new folder"
        )
    return now


@contextlib.contextmanager
def open_study(
    folder: Path, name: str, objectives: Sequence[Objective], seed: int, storage_url: str | None = None
) -> Iterator[optuna.Study]:
    """The study of a folder for the one process that asks and tells; made if there is none.

    A torn last line of the journal is cut off and kept in a `.bak` file; a lock that a killed process left
    is removed. The study samples at random until it is given another sampler.

    Raises `StudyError` if another process searches in this folder, or a journal line other than the last is damaged.
    """
    # otherwise every trial writes a line of its own into the live view
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [objective.direction for objective in objectives]
    with _coordinator_lock(folder):
        try:
            storage = _journal(folder) if storage_url is None else optuna.storages.get_storage(storage_url)
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=directions,
                sampler=RandomSampler(seed),
                load_if_exists=True,
            )
        except _DATABASE_ERRORS as problem:
            raise StudyError(f"the storage of {folder} cannot be opened: {problem}") from problem
        if [direction.name.lower() for direction in study.directions] != directions:
            raise StudyError(f"the storage holds a study {name!r} with other objectives; use a folder of another name")
        yield study


def requeue_running(study: optuna.Study) -> int:
    """Give up all trials that nobody runs any more and queue each again; returns how many.

    Only for the process that holds the study. Queued first: a crash in between repeats a trial but loses none.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        # a queued trial that was cut off again before it suggested anything still has to be what it was queued as
        params = {**trial.user_attrs.get(_QUEUED_PARAMS, {}), **trial.params}
        kept = {PRESET: trial.user_attrs[PRESET]} if PRESET in trial.user_attrs else {}
        study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number, _QUEUED_PARAMS: params, **kept})
        study.tell(trial.number, state=TrialState.FAIL)
    return len(running)


def evaluation_path(folder: Path, key: str) -> Path:
    """Where the evaluation of a candidate lies, or will."""
    return folder / "candidates" / key / "evaluation.json"


def candidate_path(folder: Path, key: str) -> Path:
    """Where a candidate lies that was given to a worker."""
    return folder / "candidates" / key / "candidate.json"


def read_evaluation(folder: Path, key: str) -> Evaluation | None:
    """The evaluation of a candidate, or None if it was not evaluated; raises `StudyError` if the file is damaged."""
    path = evaluation_path(folder, key)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as problem:
        raise StudyError(f"{path}: cannot be read: {problem}") from problem
    return codec.from_json(text, Evaluation, str(path), StudyError)


def distributions(folder: Path) -> dict[int, dict[str, BaseDistribution]]:
    """What the parameters of each trial were drawn from, by trial number; changes nothing."""
    return {trial.number: trial.distributions for trial in _trials(folder, read_settings(folder), None)}


def load_study(folder: Path, storage_url: str | None = None) -> StudyRecord:
    """A study read back, also while a search writes it; changes nothing.

    `storage_url` is needed only if the study lies in a database that asks for a password.
    A trial whose evaluation was removed or damaged is shown as failed, with the reason.
    """
    settings = read_settings(folder)
    trials = _trials(folder, settings, storage_url)
    retries = {trial.user_attrs[RETRY_OF]: trial.number for trial in trials if RETRY_OF in trial.user_attrs}
    records = tuple(_record(folder, trial, retries) for trial in trials if trial.state != TrialState.WAITING)
    return StudyRecord(
        settings.name, settings.space, settings.target, settings.seed, settings.versions, records, settings.objectives
    )


def _trials(folder: Path, settings: StudySettings, storage_url: str | None) -> list[FrozenTrial]:
    """All trials of the study's storage, which is only read."""
    url = storage_url or settings.storage
    if url is None and not (folder / JOURNAL).is_file():
        return []
    try:
        storage = _read_only_journal(folder) if url is None else optuna.storages.get_storage(url)
        return storage.get_all_trials(storage.get_study_id_from_name(settings.name), deepcopy=False)
    except KeyError:
        # the search has been asked for, but not a single trial yet
        return []
    except _DATABASE_ERRORS as problem:
        raise StudyError(f"the storage of {folder} cannot be read: {problem}") from problem


def _record(folder: Path, trial: FrozenTrial, retries: Mapping[int, int]) -> TrialRecord:
    if trial.state == TrialState.RUNNING:
        return TrialRecord(trial.number, "running", trial.params)
    if trial.number in retries:
        message = f"interrupted; tried again as trial {retries[trial.number]}"
        return TrialRecord(trial.number, "interrupted", trial.params, None, message)
    if trial.state == TrialState.FAIL:
        return TrialRecord(trial.number, "failed", trial.params, None, str(trial.user_attrs.get(MESSAGE, "")))
    key = str(trial.user_attrs.get(KEY, ""))
    try:
        evaluation = read_evaluation(folder, key)
    except StudyError as problem:
        return TrialRecord(trial.number, "failed", trial.params, None, str(problem))
    if evaluation is None:
        message = f"{evaluation_path(folder, key)} is missing; it was there when the trial ended"
        return TrialRecord(trial.number, "failed", trial.params, None, message)
    message = f"same candidate as trial {trial.user_attrs[DUPLICATE_OF]}" if DUPLICATE_OF in trial.user_attrs else ""
    if PROMOTED in trial.user_attrs:
        message += ", trained on"
    measured = _measured_on_board(firmware_folder(folder, trial.number), evaluation)
    if measured is not None:
        evaluation = replace(evaluation, measured=measured)
    return TrialRecord(trial.number, record_state(evaluation), trial.params, evaluation, message)


def firmware_folder(folder: Path, number: int) -> Path:
    """Where a trial's firmware is exported to by the search, and what `validate` measured of it lies."""
    return folder / "firmware" / f"trial_{number}"


def _measured_on_board(folder: Path, evaluation: Evaluation) -> Measurement | None:
    """What `validate` measured of the trial's firmware on a board, or with an instrument; None if nothing.

    A board's figures come before those of the twin, which the search itself has measured.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        text = (folder / MEASUREMENT).read_text(encoding="utf-8")
        measured = codec.from_json(text, Measurement, str(folder / MEASUREMENT), StudyError)
        is_this_network = manifest["evaluation"]["key"] == evaluation.key
    except (OSError, ValueError, KeyError, TypeError, StudyError):
        return None
    is_from_board = measured.executor != TWIN or measured.energy is not None
    return measured if is_this_network and is_from_board else None


def record_state(evaluation: Evaluation) -> RecordState:
    """How a trial with this evaluation ended."""
    if not evaluation.is_feasible or evaluation.int8_accuracy is None:
        return "infeasible"
    return "complete" if evaluation.fidelity == 1 else "stopped"


@contextlib.contextmanager
def _coordinator_lock(folder: Path) -> Iterator[None]:
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as problem:
        raise StudyError(f"{folder}: no study can be written there: {problem.strerror}") from problem
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            pid = os.pread(handle, 32, 0).decode(errors="replace").strip()
            raise StudyError(
                f"{folder}: process {pid} searches here; wait for it, stop it, or use a new folder"
            ) from problem
        except OSError as problem:
            raise StudyError(
                f"{path}: the file system gives no locks ({problem.strerror}); use a local folder"
            ) from problem
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # closing releases the lock; the file stays, because removing it would let two processes hold "the" lock
        os.close(handle)


def _journal(folder: Path) -> BaseStorage:
    """The journal, mended where a crash may have damaged it. Needs the coordinator's lock."""
    path = folder / JOURNAL
    # we are alone, so whoever held Optuna's own lock is gone; it would otherwise make us wait for 30 s
    for stale in folder.glob(f"{JOURNAL}.lock*"):
        stale.unlink()
    if path.exists():
        n_whole = _check_journal(path)
        if n_whole < path.stat().st_size:
            _cut_journal(path, n_whole)
    return JournalStorage(JournalFileBackend(str(path)))


def _read_only_journal(folder: Path) -> BaseStorage:
    path = folder / JOURNAL
    _check_journal(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _check_journal(path: Path) -> int:
    """Length of the whole lines in bytes; raises `StudyError`, naming the line, if one of them is damaged."""
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise StudyError(f"{path}: cannot be read: {problem.strerror}") from problem
    whole = data[: data.rfind(b"\n") + 1]
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            is_entry = isinstance(json.loads(line), dict)
        except ValueError:
            is_entry = False
        if not is_entry:
            raise StudyError(
                f"{path}:{number}: this line is damaged, and what follows may depend on it; put a copy of the file "
                f"back, or keep only the {number - 1} lines before it: evaluated candidates are not run again"
            )
    return len(whole)


def _cut_journal(path: Path, n_whole: int) -> None:
    """Cut off a line that a crash left half written; its bytes are kept beside the journal."""
    with path.open("rb+") as file:
        file.seek(n_whole)
        backup = path.with_name(f"{JOURNAL}.{n_whole}.bak")
        backup.write_bytes(file.read())
        file.truncate(n_whole)
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _difference(before: StudySettings, now: StudySettings, name: str) -> str:
    old, new = getattr(before, name), getattr(now, name)
    if not isinstance(old, Target):
        return f"{name} was {old!r} and is now {new!r}"
    if old.name == new.name:
        return f"the description of the target {old.name!r} has changed"
    return f"the target was {old.name!r} and is now {new.name!r}"
