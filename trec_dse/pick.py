"""Choose one trial of a study: the one a person would build, given what the board and the task allow."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trec_dse import objectives as registry
from trec_dse.errors import InputError, NothingFitsError
from trec_dse.objectives import Objective
from trec_dse.pareto import Floats, candidates, front, losses
from trec_dse.results import Evaluation, TrialRecord

Preference = Literal["auto", "accuracy", "knee"]

_BYTE_UNITS = {"": 1, "b": 1, "k": 1024, "ki": 1024, "kib": 1024, "m": 1024**2, "mi": 1024**2, "mib": 1024**2}
_MS_UNITS = {"": 1.0, "ms": 1.0, "s": 1000.0, "us": 0.001, "µs": 0.001}
_MJ_UNITS = {"": 1.0, "mj": 1.0, "j": 1000.0, "uj": 0.001, "µj": 0.001}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-zµ%]*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Budgets:
    """What the network may use; None is no limit beyond the board's own.

    Attributes:
        max_loss_pp: percentage points of validation accuracy that may be lost against the study's best
            feasible trial.
    """

    sram_bytes: int | None = None
    flash_bytes: int | None = None
    latency_ms: float | None = None
    max_loss_pp: float | None = None
    energy_mj: float | None = None


@dataclass(frozen=True)
class Choice:
    """The trial chosen, and why, in one or two sentences for a person."""

    record: TrialRecord
    reason: str


@dataclass(frozen=True)
class _Limit:
    """One budget as a question to an evaluation, in the unit of its text."""

    label: str
    unit: str
    allowed: float
    used: Callable[[Evaluation], float]

    def excess(self, evaluation: Evaluation) -> float:
        """Used beyond what is allowed, in the limit's unit; not positive when it is kept."""
        return self.used(evaluation) - self.allowed

    def share(self, evaluation: Evaluation) -> float:
        """Excess as a share of the limit, so that KiB and ms can be compared."""
        return self.excess(evaluation) / max(self.allowed, 1e-9)

    def text(self) -> str:
        return f"{self.label} <= {_number(self.allowed)} {self.unit}"


def pick(
    records: Sequence[TrialRecord],
    budgets: Budgets,
    objectives: Sequence[Objective] = registry.DEFAULT,
    *,
    prefer: Preference = "auto",
) -> Choice:
    """The best trial within the budgets; sizes and times are measured ones where there are any, else estimates.

    "accuracy" takes the smallest error, "knee" the point of the front of `objectives` beyond which a little
    more of one costs much of another. "auto" takes the knee, unless only sizes or times are limited: who says
    what there is to spend, and not what may be lost, wants the most accurate network for it.
    Raises `NothingFitsError`, naming the nearest trial and what it lacks.
    """
    pairs = [(r, e) for r, e in candidates(records) if e.int8_accuracy is not None]
    if not pairs:
        raise NothingFitsError(f"no trial to pick from: {_census(records)}")
    limits = _limits(budgets, [evaluation for _, evaluation in pairs])
    fitting = [(r, e) for r, e in pairs if all(limit.excess(e) <= 0 for limit in limits)]
    if not fitting:
        raise NothingFitsError(_nearest(pairs, limits))
    if prefer == "auto":
        only_sizes = bool(limits) and budgets.max_loss_pp is None
        prefer = "accuracy" if only_sizes else "knee"
    chosen, why = _best(fitting, objectives, prefer)
    within = f" within {', '.join(limit.text() for limit in limits)}" if limits else ""
    return Choice(chosen, f"trial {chosen.number}: {why}{within}")


def knee(y: Floats, weights: Floats | None = None) -> int:
    """Index of the knee of a front, losses of shape (n_points, n_objectives), n_points >= 1.

    Columns are put on a logarithmic scale, so that halving counts the same everywhere, and then on 0..1. In two
    dimensions the knee is the point furthest below the line between the two ends of the front; in more, the
    one furthest below the plane through the corners, which `weights`, one per column, may tilt. The first wins ties.
    """
    if len(y) == 0:
        raise InputError("a front without points has no knee")
    # a loss of zero has no logarithm; a thousandth of the column's range is as good as nothing
    low, high = y.min(axis=0), y.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    shift = np.where(low > 0, 0.0, span / 1000 - low)
    scaled = np.log(y + shift) - np.log(low + shift)
    reach = scaled.max(axis=0)
    votes = np.ones(y.shape[1]) if weights is None else weights
    return int(np.argmin((scaled / np.where(reach > 0, reach, 1.0)) @ votes))


def parse_bytes(text: str) -> int:
    """Bytes from "64KiB", "64k", "0.5MiB" or "65536". "kB" is refused, since half the world means 1000."""
    value, unit = _split(text, "a size such as 64KiB, 64k or 65536")
    if unit in ("kb", "mb"):
        raise InputError(f"{text!r} may mean thousands or 1024s; write {unit[0].upper()}iB, or plain bytes")
    if unit not in _BYTE_UNITS:
        raise InputError(f"{text!r} has the unknown unit {unit!r}; sizes are in B, KiB or MiB")
    size = value * _BYTE_UNITS[unit]
    if size != int(size) or size < 1:
        raise InputError(f"{text!r} is {_number(size)} bytes; a size is a whole number of bytes, at least 1")
    return int(size)


def parse_ms(text: str) -> float:
    """Milliseconds from "100ms", "0.1s", "250us" or "100"."""
    value, unit = _split(text, "a time such as 100ms or 0.1s")
    if unit not in _MS_UNITS:
        raise InputError(f"{text!r} has the unknown unit {unit!r}; times are in us, ms or s")
    if value <= 0:
        raise InputError(f"{text!r} is no time to compute anything in; it must be above 0")
    return value * _MS_UNITS[unit]


def parse_mj(text: str) -> float:
    """Millijoules from "5mJ", "500uJ", "0.005J" or "5"."""
    value, unit = _split(text, "an energy such as 5mJ or 500uJ")
    if unit not in _MJ_UNITS:
        raise InputError(f"{text!r} has the unknown unit {unit!r}; energies are in uJ, mJ or J")
    if value <= 0:
        raise InputError(f"{text!r} is no energy to compute anything with; it must be above 0")
    return value * _MJ_UNITS[unit]


def parse_pp(text: str) -> float:
    """Percentage points from "1pp" or "0.5". A percent sign is refused: it may also mean a share of the accuracy."""
    value, unit = _split(text, "percentage points such as 1pp or 0.5pp")
    if unit == "%":
        raise InputError(f"{text!r} may mean points or a share of the accuracy; write {_number(value)}pp for points")
    if unit not in ("", "pp"):
        raise InputError(f"{text!r} has the unknown unit {unit!r}; accuracy losses are in pp")
    if value > 100:
        raise InputError(f"{text!r} is more than accuracy can lose; it must be at most 100pp")
    return value


def _split(text: str, expected: str) -> tuple[float, str]:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is not {expected}")
    return float(match[1]), match[2].lower()


def _limits(budgets: Budgets, evaluations: Sequence[Evaluation]) -> list[_Limit]:
    limits = []
    sizes = ((budgets.sram_bytes, registry.sram), (budgets.flash_bytes, registry.flash))
    for size, objective in sizes:
        if size is not None:
            limits.append(_Limit(objective.label, "KiB", size / 1024, _used(objective)))
    if budgets.latency_ms is not None:
        limits.append(_Limit("latency", "ms", budgets.latency_ms, _used(registry.latency)))
    if budgets.energy_mj is not None:
        if any(evaluation.estimated.energy_mj is None for evaluation in evaluations):
            raise InputError(f"{evaluations[0].target}: its file has no [power], so no trial's energy is known")
        limits.append(_Limit("energy", "mJ", budgets.energy_mj, _used(registry.energy)))
    if budgets.max_loss_pp is not None:
        best = min(registry.error.value(evaluation) for evaluation in evaluations)
        limits.append(_Limit("accuracy loss", "pp", budgets.max_loss_pp, lambda e: _loss_pp(e, best)))
    return limits


def _used(objective: Objective) -> Callable[[Evaluation], float]:
    def used(evaluation: Evaluation) -> float:
        measured = objective.measured(evaluation)
        return objective.value(evaluation) if measured is None else measured

    return used


def _loss_pp(evaluation: Evaluation, best: float) -> float:
    # accuracies are shares of a few thousand images: rounding keeps 97.0 - 96.0 from exceeding a limit of 1
    return round(registry.error.value(evaluation) - best, 9)


def _best(
    fitting: Sequence[tuple[TrialRecord, Evaluation]], objectives: Sequence[Objective], prefer: Preference
) -> tuple[TrialRecord, str]:
    if len(fitting) == 1:
        return fitting[0][0], "the only one"
    of_all = f"of {_trials(len(fitting))}"
    if prefer == "accuracy":
        tie_break = (registry.error, registry.sram, registry.flash, registry.latency)
        record, _ = min(fitting, key=lambda pair: tuple(o.loss(pair[1]) for o in tie_break))
        return record, f"the most accurate {of_all}"
    evaluations = {record.number: evaluation for record, evaluation in fitting}
    on_front = front([record for record, _ in fitting], objectives)
    y = losses((evaluations[record.number] for record in on_front), objectives)
    labels = ", ".join(objective.label for objective in objectives[:-1]) + f" and {objectives[-1].label}"
    return on_front[knee(y, _votes(objectives))], f"the knee between {labels} {of_all}"


def _votes(objectives: Sequence[Objective]) -> Floats:
    """Sizes and times rise and fall together: three of them must not outvote the accuracy, so they share one vote."""
    n_costs = sum(objective.name != registry.error.name for objective in objectives)
    return np.array([1.0 if o.name == registry.error.name else 1.0 / n_costs for o in objectives])


def _nearest(pairs: Sequence[tuple[TrialRecord, Evaluation]], limits: Sequence[_Limit]) -> str:
    record, evaluation = min(pairs, key=lambda pair: max(limit.share(pair[1]) for limit in limits))
    misses = [
        f"{limit.label} {_number(limit.used(evaluation))} {limit.unit}, {_number(limit.excess(evaluation))} too much"
        for limit in limits
        if limit.excess(evaluation) > 0
    ]
    asked = ", ".join(limit.text() for limit in limits)
    return f"none of {_trials(len(pairs))} has {asked}; nearest is trial {record.number}: {'; '.join(misses)}"


def _census(records: Sequence[TrialRecord]) -> str:
    if not records:
        return "the study has none yet"
    states = [record.state for record in records]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"of {_trials(len(records))} none is complete and feasible ({', '.join(counts)})"


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _number(value: float) -> str:
    """Two decimals, or four significant digits below one, without trailing zeros."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")
