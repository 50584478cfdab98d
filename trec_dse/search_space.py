"""Load a search space, a Python file with `DATASET` and `suggest(trial) -> Candidate`, and draw candidates from it.

A search space is a program, in Optuna's define-by-run idiom: loading one runs it, with all the rights of the user.
So load only files that you would also run. It is Python because a configuration language with conditions,
ranges and names for every layer would become a worse Python.
"""

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType

import optuna
from optuna.exceptions import OptunaError
from optuna.samplers import RandomSampler
from optuna.trial import BaseTrial

from trec_dse import codec, plugins
from trec_dse.candidate import Candidate
from trec_dse.errors import CandidateError, SearchSpaceError, TrecDseError
from trec_dse.results import NO_LIMITS, Limits

_TRIES_PER_CANDIDATE = 20

# What the code of a user may raise: the roots of Python's own error tree, Optuna's and ours. Not `Exception`,
# so that an interrupt or an exit stays what it is.
USER_CODE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    OptunaError,
    TrecDseError,
)


@dataclass(frozen=True)
class SearchSpace:
    """A loaded search-space file.

    Attributes:
        name: the file's stem; given: the name or path by which it was asked for.
        source: the bytes that were run; sha256: their hash, 64 hex digits.
        suggest: draws one candidate. It should suggest every parameter in every trial, also those that the
            candidate does not use, because samplers learn better from a space of fixed shape.
        limits: what the space's `LIMITS` allows besides what the board has; nothing less where it has none.
    """

    name: str
    given: str
    path: Path
    source: bytes
    dataset: str
    suggest: Callable[[BaseTrial], Candidate]
    limits: Limits = NO_LIMITS

    @property
    def sha256(self) -> str:
        """Hash of the bytes that were run."""
        return hashlib.sha256(self.source).hexdigest()


class _Source(SourceLoader):
    """Runs exactly the bytes it is given. No byte code is cached, so an edit within a second is never missed."""

    def __init__(self, path: Path, source: bytes) -> None:
        self._path = path
        self._source = source

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        return self._source


def load_search_space(given: str) -> SearchSpace:
    """The search space of a shipped name or of a path ending in ``.py``. Runs the file.

    Raises `SearchSpaceError` with file and line if the file is missing, broken or lacks `DATASET` or `suggest`.
    """
    path = plugins.data_file("search_spaces", given, ".py", SearchSpaceError).resolve()
    try:
        source = path.read_bytes()
    except OSError as problem:
        raise SearchSpaceError(f"{path}: cannot be read: {problem.strerror}") from problem
    module = _run(path, source)
    dataset = getattr(module, "DATASET", None)
    if not isinstance(dataset, str):
        raise SearchSpaceError(f'{path}: DATASET is {dataset!r}; a search space says DATASET = "digits", for example')
    suggest = getattr(module, "suggest", None)
    if not callable(suggest):
        raise SearchSpaceError(
            f"{path}: there is no function suggest(trial); a search space returns a Candidate from it"
        )
    limits = getattr(module, "LIMITS", NO_LIMITS)
    if not isinstance(limits, Limits):
        raise SearchSpaceError(f"{path}: LIMITS is {limits!r}; it would be Limits(sram_bytes=256_000), for example")
    return SearchSpace(path.stem, given, path, source, dataset, suggest, limits)


def sample(space: SearchSpace, trial: BaseTrial) -> Candidate:
    """One candidate of the space, exactly as a worker will read it.

    Raises `SearchSpaceError` with file and line if `suggest` raises, returns something else than a candidate of
    the space's dataset, or fills a field with a value of the wrong type.
    """
    try:
        candidate = space.suggest(trial)
    except USER_CODE_ERRORS as problem:
        raise SearchSpaceError(_place(problem, space.path)) from problem
    if not isinstance(candidate, Candidate):
        raise SearchSpaceError(f"{space.path}: suggest returned {candidate!r}; it must return a Candidate")
    if candidate.dataset != space.dataset:
        raise SearchSpaceError(
            f"{space.path}: suggest returned a candidate for the dataset {candidate.dataset!r}; "
            f"DATASET is {space.dataset!r}"
        )
    where = f"{space.path}: suggest returned an impossible candidate"
    try:
        text = codec.to_json(candidate)
    except (TypeError, ValueError, AttributeError) as problem:
        raise SearchSpaceError(f"{where}: {problem}") from problem
    return codec.from_json(text, Candidate, where, SearchSpaceError)


def load_candidate(given: str) -> Candidate:
    """The candidate of a JSON file, or the preset of that name; CandidateError says what is wrong with it."""
    path = plugins.data_file("presets", given, ".json", CandidateError)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise CandidateError(f"{path}: cannot be read: {problem.strerror}") from problem
    return codec.from_json(text, Candidate, str(path), CandidateError)


def sample_at_random(space: SearchSpace, n: int, seed: int = 0) -> list[Candidate]:
    """`n` different candidates drawn at random; fewer where the space holds no more.

    Raises SearchSpaceError as `sample` does.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    found: dict[str, Candidate] = {}
    for _ in range(_TRIES_PER_CANDIDATE * n):
        if len(found) == n:
            break
        candidate = sample(space, study.ask())
        found[candidate.key] = candidate
    return list(found.values())


def _run(path: Path, source: bytes) -> ModuleType:
    name = f"_trec_dse_space_{path.stem}"
    spec = importlib.util.spec_from_loader(name, _Source(path, source), origin=str(path))
    if spec is None or spec.loader is None:
        raise SearchSpaceError(f"{path}: cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    # dataclasses and annotations defined in the file look their module up by name
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except USER_CODE_ERRORS as problem:
        del sys.modules[name]
        raise SearchSpaceError(_place(problem, path)) from problem
    return module


def _place(problem: BaseException, path: Path) -> str:
    """`path:line: kind: message`; the line is the last one of that file that took part."""
    if isinstance(problem, SyntaxError):
        return f"{path}:{problem.lineno}: SyntaxError: {problem.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == str(path)]
    place = f"{path}:{lines[-1]}" if lines else str(path)
    return f"{place}: {type(problem).__name__}: {problem}"
