"""What a search can trade off: each objective is one decorated function of an `Evaluation`.

The function reads estimates only, because a search must compare candidates that were measured with
candidates that were not. What a firmware showed stands beside it, as `Objective.measured`. Adding an objective
is adding one function here; the command line, the plots and the report find it by its name.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from trec_dse.errors import InputError
from trec_dse.results import Evaluation, Measurement
from trec_dse.target import Target

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """One quantity to minimize or to maximize.

    Attributes:
        label, unit: how a plot or a table heads it: "SRAM", "KiB".
        value: from estimates and from the validation split; NaN where it is not known, as the error of a
            candidate that was never trained because it cannot fit.
        summary: what exactly is counted, in one sentence.
    """

    name: str
    direction: Direction
    label: str
    unit: str
    value: Callable[[Evaluation], float]
    reading: Callable[[Measurement], float | None] | None
    summary: str

    def measured(self, evaluation: Evaluation) -> float | None:
        """The same quantity as the built firmware showed it; None if not measured, or if nothing can measure it."""
        if evaluation.measured is None or self.reading is None:
            return None
        return self.reading(evaluation.measured)

    def loss(self, evaluation: Evaluation) -> float:
        """The value with the sign that makes less better."""
        value = self.value(evaluation)
        return -value if self.direction == "maximize" else value

    @property
    def title(self) -> str:
        """Label and unit, as "SRAM (KiB)"."""
        return f"{self.label} ({self.unit})"


_registry: dict[str, Objective] = {}


def objective(
    direction: Direction, unit: str, label: str, *, measured: Callable[[Measurement], float | None] | None = None
) -> Callable[[Callable[[Evaluation], float]], Objective]:
    """Make an objective of a function of estimates; its docstring becomes the summary.

    `measured` reads the same quantity from a measurement, where a firmware can show it.
    """

    def register(function: Callable[[Evaluation], float]) -> Objective:
        name = function.__name__
        summary = (function.__doc__ or "").strip()
        _registry[name] = Objective(name, direction, label, unit, function, measured, summary)
        return _registry[name]

    return register


def names() -> list[str]:
    """Names of all objectives, in the order in which they are defined."""
    return list(_registry)


def get(name: str) -> Objective:
    """The objective of that name; raises `InputError`, listing what there is."""
    if name not in _registry:
        raise InputError(f"no objective named {name!r}; choose from {', '.join(names())}")
    return _registry[name]


def select(wanted: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives of those names, in that order; raises `InputError` for an unknown name or one given twice."""
    for name in wanted:
        if list(wanted).count(name) > 1:
            raise InputError(f"objective {name!r} is given twice; each counts once")
    return tuple(get(name) for name in wanted)


def require_figures(wanted: Sequence[Objective], target: Target) -> None:
    """Raise `InputError` if an objective needs a figure that the board's file lacks."""
    if target.power is None and any(objective.name == energy.name for objective in wanted):
        raise InputError(f"{target.name}: its file has no [power], so nothing can be searched for by energy there")


@objective("minimize", "pp", "Error")
def error(e: Evaluation) -> float:
    """Share of wrong answers of the int8 network on the validation split."""
    # a firmware sees other images; that it computes the same network is shown by its mismatches, not by this
    return math.nan if e.int8_accuracy is None else 100 * (1 - e.int8_accuracy)


@objective("minimize", "KiB", "SRAM", measured=lambda m: m.sram_bytes / 1024)
def sram(e: Evaluation) -> float:
    """Arena, other variables and the reserved stack."""
    return e.estimated.sram_bytes / 1024


@objective("minimize", "KiB", "Flash", measured=lambda m: m.flash_bytes / 1024)
def flash(e: Evaluation) -> float:
    """Weights, tables, code and read-only data."""
    return e.estimated.flash_bytes / 1024


@objective("minimize", "ms", "Latency", measured=lambda m: m.latency_ms)
def latency(e: Evaluation) -> float:
    """Time of one inference with as many clusters as the calibration images have on average."""
    return e.estimated.latency_ms


@objective("minimize", "ms", "Median latency", measured=lambda m: _milliseconds(m, m.cycles_p50))
def median_latency(e: Evaluation) -> float:
    """Time that half of the calibration images take at most; before training, that of the mean."""
    cost = e.estimated
    return cost.latency_ms if cost.p50_cycles is None else 1000 * cost.p50_cycles / cost.clock_hz


@objective("minimize", "ms", "Latency of 99 %", measured=lambda m: _milliseconds(m, m.cycles_p99))
def p99_latency(e: Evaluation) -> float:
    """Time that 99 in 100 of the calibration images take at most; before training, that of the mean."""
    cost = e.estimated
    return cost.latency_ms if cost.p99_cycles is None else 1000 * cost.p99_cycles / cost.clock_hz


@objective("minimize", "ms", "Worst latency", measured=lambda m: 1000 * m.cycles_max / m.clock_hz)
def worst_latency(e: Evaluation) -> float:
    """Time of one inference with the most clusters there can be; measured: the slowest image seen."""
    return 1000 * e.estimated.worst_cycles / e.estimated.clock_hz


@objective("minimize", "mJ", "Energy", measured=lambda m: None if m.energy is None else m.energy.mj)
def energy(e: Evaluation) -> float:
    """Energy of one inference at the current that the chip's maker states; unknown where the board has no figure."""
    # the estimate is of the chip alone; an instrument shows all that hangs on its supply
    return math.nan if e.estimated.energy_mj is None else e.estimated.energy_mj


@objective("minimize", "million", "MACs")
def macs(e: Evaluation) -> float:
    """Multiply-accumulates of one inference, with the clusters seen on the calibration images; 1 MAC = 2 FLOPs."""
    return e.estimated.macs / 1e6


def _milliseconds(measured: Measurement, cycles: int | None) -> float | None:
    return None if cycles is None else 1000 * cycles / measured.clock_hz


DEFAULT: tuple[Objective, ...] = (error, sram, flash, latency)
