"""What a board draws while its network runs: samples of current and voltage, and the energy of what a pin marked.

A sample stands for the time from one sample to the next: instruments average over that time, so the integral is the
sum of volts x amperes x step (a rectangle each), over the samples during which the marker was high. A trapezoid would
take in half a sample from outside at either end. Nothing is subtracted: it is the energy of all that hangs on the
measured supply. Either end of an inference is known to one sample, so that one of n samples is uncertain by 2/n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trec_dse.errors import MeterError
from trec_dse.results import MeasuredEnergy

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
# An inference of fewer samples than this could be wrong by 2/50.
LEAST_SAMPLES = 50
# A chip's own oscillator may be off by 2 or 3 % when it is warm or cold; instruments' clocks are exact.
CLOCK_TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class Trace:
    """What an instrument recorded, in samples at equal distances.

    Attributes:
        step_s: seconds from one sample to the next.
        amperes, volts: (n,); marker: (n,), whether the pin was high.
        n_lost: samples that are known to be missing in between. limit_a: the most that the instrument can measure.
    """

    step_s: float
    amperes: Floats
    volts: Floats
    marker: Bools
    n_lost: int = 0
    limit_a: float = np.inf


@dataclass(frozen=True)
class Spent:
    """What one inference took. seconds: while the marker was high; idle_amperes: mean while it was low."""

    joules: float
    seconds: float
    amperes: float
    volts: float
    idle_amperes: float


class Instrument(Protocol):
    """Records current and marker. `start` and `stop` bracket one inference, with some time before and after it.

    Attributes:
        is_live: whether it measures the board that runs now, rather than plays back what was recorded before.
    """

    name: str
    is_live: bool

    def start(self) -> None:
        """Begin to record; returns when samples arrive."""
        ...

    def stop(self) -> Trace:
        """What was recorded since `start`."""
        ...

    def finish(self) -> None:
        """Raises `MeterError` if what was recorded is not all that was run."""
        ...

    def close(self) -> None:
        """Give the instrument back; the board keeps its supply."""
        ...


def windows(marker: Bools) -> list[tuple[int, int]]:
    """First sample, and the one behind the last, of each stretch in which the marker is high."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marker, [False])).astype(np.int8)))
    return [(int(first), int(behind)) for first, behind in edges.reshape(-1, 2)]


def spent_in(trace: Trace, expected_s: float) -> Spent:
    """Energy of the inference in a trace. `expected_s`: how long it took by the board's own count of cycles.

    A request that was repeated runs twice; both windows must be of that length, and their mean counts. Raises
    `MeterError` for whatever could make the number wrong.
    """
    n = len(trace.amperes)
    if n == 0:
        raise MeterError("the instrument recorded nothing; is it connected, and does it measure this board's supply?")
    if trace.n_lost or not (np.isfinite(trace.amperes).all() and np.isfinite(trace.volts).all()):
        n_lost = trace.n_lost + int((~(np.isfinite(trace.amperes) & np.isfinite(trace.volts))).sum())
        raise MeterError(
            f"{n_lost} of {n} samples were lost; connect the instrument to a port of its own and try again"
        )
    if float(np.abs(trace.amperes).max()) >= trace.limit_a:
        raise MeterError(
            f"the current reaches the {1000 * trace.limit_a:g} mA that the instrument can measure; supply what needs "
            "more, such as a display or the probe, in another way"
        )
    found = windows(trace.marker)
    if not found:
        raise MeterError(
            "the marker was never high; lead the board's marker pin to the instrument's first input, and give the "
            "instrument's inputs the board's voltage"
        )
    if trace.marker[0] or trace.marker[-1]:
        end = "starts" if trace.marker[0] else "ends"
        raise MeterError(f"the record {end} within an inference, with the marker high; its energy is cut off")
    for first, behind in found:
        _check_length(behind - first, trace.step_s, expected_s)
    return _mean([_spent(trace, *window) for window in found], float(trace.amperes[~trace.marker].mean()))


def summary(instrument: str, spent: Sequence[Spent]) -> MeasuredEnergy:
    """All inferences in one record. Raises `MeterError` if there are none."""
    if not spent:
        raise MeterError(f"{instrument} saw no inference")
    mj = [1000 * one.joules for one in spent]

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    return MeasuredEnergy(
        instrument=instrument,
        n_inferences=len(spent),
        mj=mean(mj),
        mj_least=min(mj),
        mj_most=max(mj),
        run_ma=1000 * mean([one.amperes for one in spent]),
        idle_ma=1000 * mean([one.idle_amperes for one in spent]),
        volts=mean([one.volts for one in spent]),
    )


def _check_length(n_samples: int, step_s: float, expected_s: float) -> None:
    """Whether the marker was high for as long as the board computed; a glitch or a lost sample shows here."""
    seconds = n_samples * step_s
    if abs(seconds - expected_s) > CLOCK_TOLERANCE * expected_s + 2 * step_s:
        raise MeterError(
            f"the marker was high for {1000 * seconds:.4g} ms, but the board counted {1000 * expected_s:.4g} ms; is it "
            "this board's marker, without noise on the wire, and does the record belong to these images?"
        )
    if n_samples < LEAST_SAMPLES:
        raise MeterError(
            f"an inference of {1000 * expected_s:.4g} ms is {n_samples} samples; {LEAST_SAMPLES} are the least that "
            "tell its energy, so this network needs a faster instrument"
        )


def _spent(trace: Trace, first: int, behind: int) -> Spent:
    amperes, volts = trace.amperes[first:behind], trace.volts[first:behind]
    joules = float(np.sum(amperes * volts)) * trace.step_s
    return Spent(joules, (behind - first) * trace.step_s, float(amperes.mean()), float(volts.mean()), 0.0)


def _mean(runs: Sequence[Spent], idle_amperes: float) -> Spent:
    n = len(runs)
    return Spent(
        joules=sum(run.joules for run in runs) / n,
        seconds=sum(run.seconds for run in runs) / n,
        amperes=sum(run.amperes for run in runs) / n,
        volts=sum(run.volts for run in runs) / n,
        idle_amperes=idle_amperes,
    )
