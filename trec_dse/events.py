"""What a running search tells whoever watches it: the live view, a notebook, a test."""

from collections.abc import Mapping
from dataclasses import dataclass

from trec_dse.results import TrialRecord


@dataclass(frozen=True)
class SearchStarted:
    """The study is open. `n_trials`: how many trials it shall hold; `records`: those of them that it already holds."""

    name: str
    n_trials: int
    workers: int
    objectives: tuple[str, ...]
    records: tuple[TrialRecord, ...]


@dataclass(frozen=True)
class TrialStarted:
    """A candidate went to a worker."""

    number: int
    key: str
    params: Mapping[str, int | float | str | bool | None]


@dataclass(frozen=True)
class TrialProgress:
    """The evaluation said how far it is, such as the epoch."""

    number: int
    text: str


@dataclass(frozen=True)
class TrialDone:
    """A trial is complete, stopped or cannot fit; it is on disk."""

    record: TrialRecord


@dataclass(frozen=True)
class TrialPromoted:
    """A trial that was done before has been trained on; `record` is what it shows now."""

    record: TrialRecord


@dataclass(frozen=True)
class TrialDuplicate:
    """The sampler asked again for a candidate that trial `of` has evaluated: its answer was told, nothing was run."""

    record: TrialRecord
    of: int


@dataclass(frozen=True)
class TrialFailed:
    """A trial could not be evaluated; the search goes on."""

    number: int
    message: str


@dataclass(frozen=True)
class WorkerDied:
    """The worker of a trial died. `will_retry`: the trial is given to a fresh worker."""

    number: int
    reason: str
    will_retry: bool


@dataclass(frozen=True)
class SearchDone:
    """The search is over. `n_done`: trials in the study that count, that is without duplicates."""

    reason: str
    n_done: int


Event = (
    SearchStarted
    | TrialStarted
    | TrialProgress
    | TrialDone
    | TrialPromoted
    | TrialDuplicate
    | TrialFailed
    | WorkerDied
    | SearchDone
)
