"""A trace that some instrument recorded while the same images were inferred: a CSV or NPZ file, played back.

CSV: a line of headings, then a sample a line. NPZ: arrays of these names. The columns, in any order: time (time_s,
timestamp_ms ...), current (current_a, current_ma, current_ua), marker (or d0, gpi0), and perhaps voltage (voltage_v,
voltage_mv); units may also stand in brackets, as in "Timestamp(ms)". The marked stretches are the inferences in their
order.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from trec_dse.errors import InputError, MeterError
from trec_dse.metering import Floats, Trace, windows

USAGE = "FILE.csv or FILE.npz"
_HEADING = re.compile(r"#?\s*([a-z][a-z0-9]*)[\s_]*[(\[]?\s*([a-zµ]*)\s*[)\]]?\s*")
_NAMES = {
    "time": ("time", "timestamp"),
    "current": ("current",),
    "voltage": ("voltage",),
    "marker": ("marker", "d0", "gpi0"),
}
_UNITS = {"": 1.0, "s": 1.0, "a": 1.0, "v": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6}
# Time stamps are rounded when they are written; a gap is more than that.
_GAP = 1.5


class RecordedInstrument:
    """Each `stop` gives the next inference of the file, with the time around it up to the middle between two."""

    is_live = False

    def __init__(self, name: str, trace: Trace, lost_before: npt.NDArray[np.int64]) -> None:
        self.name = name
        self._trace, self._lost_before = trace, lost_before
        found = windows(trace.marker)
        middles = [(before[1] + after[0]) // 2 for before, after in itertools.pairwise(found)]
        bounds = [0, *middles, len(trace.marker)]
        self._pieces = list(itertools.pairwise(bounds))
        self._n_taken = 0

    def start(self) -> None:
        """It was recorded before."""

    def stop(self) -> Trace:
        """The next piece. Raises `MeterError` behind the last one."""
        if self._n_taken == len(self._pieces):
            raise MeterError(f"{self.name} holds {self._n_taken} inferences, and more were run; record all of them")
        first, behind = self._pieces[self._n_taken]
        self._n_taken += 1
        trace, lost = self._trace, int(self._lost_before[first + 1 : behind].sum())
        return Trace(
            trace.step_s, trace.amperes[first:behind], trace.volts[first:behind], trace.marker[first:behind], lost
        )

    def finish(self) -> None:
        """Raises `MeterError` if the file holds more inferences than were run."""
        if self._n_taken < len(self._pieces):
            raise MeterError(
                f"{self.name} holds {len(self._pieces)} inferences, of which {self._n_taken} were run; "
                "give --images as many as were recorded"
            )

    def close(self) -> None:
        """Nothing to give back."""


def open(argument: str, volts: float | None) -> RecordedInstrument:
    """The trace in a file. Raises `InputError` for one that is missing, damaged or without a column that it needs."""
    path = Path(argument)
    columns = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    for name in ("time", "current", "marker"):
        if name not in columns:
            raise InputError(f"{path}: no column {name}; it has {', '.join(columns) or 'none that is known'}")
    if ("voltage" in columns) == (volts is not None):
        wanted = "has the voltage already: leave --volts out" if volts else "has no voltage: give --volts, such as 3.3"
        raise InputError(f"{path}: it {wanted}")
    step_s, lost_before = _spacing(columns["time"], path)
    amperes = columns["current"]
    trace = Trace(step_s, amperes, columns.get("voltage", np.full_like(amperes, volts or 0.0)), columns["marker"] > 0.5)
    return RecordedInstrument(path.name, trace, lost_before)


def _read_csv(path: Path) -> dict[str, Floats]:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            headings = stream.readline().strip().split(",")
            lines = stream.readlines()
        if not lines:
            raise ValueError("it holds no samples")
        values = np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float64)
    except (OSError, UnicodeDecodeError, ValueError) as problem:
        raise InputError(f"{path}: not a table of numbers below one line of headings: {problem}") from problem
    if values.shape[1] != len(headings):
        raise InputError(f"{path}: {len(headings)} headings above {values.shape[1]} columns")
    return _known(dict(zip(headings, values.T, strict=True)), path)


def _read_npz(path: Path) -> dict[str, Floats]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: np.asarray(arrays[name], np.float64) for name in arrays.files}
    except (OSError, ValueError, BadZipFile) as problem:
        raise InputError(f"{path}: not an NPZ file of numbers: {problem}") from problem
    columns = _known(found, path)
    if len({array.shape for array in columns.values()}) > 1 or any(array.ndim != 1 for array in columns.values()):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in columns.items())
        raise InputError(f"{path}: its arrays must be of one length: {shapes}")
    return columns


def _known(found: Mapping[str, Floats], path: Path) -> dict[str, Floats]:
    """Columns by our names, in seconds, amperes and volts; others are left out."""
    columns: dict[str, Floats] = {}
    for heading, values in found.items():
        match = _HEADING.fullmatch(heading.strip().lower())
        name = next((ours for ours, names in _NAMES.items() if match and match[1] in names), None)
        if match is None or name is None:
            continue
        unit = match[2][:-1] if len(match[2]) == 2 else match[2]
        if unit not in _UNITS or name in columns:
            raise InputError(f"{path}: column {heading!r} is given twice or has an unknown unit")
        columns[name] = values * _UNITS[unit]
    return columns


def _spacing(times: Floats, path: Path) -> tuple[float, npt.NDArray[np.int64]]:
    """Seconds between two samples, and how many are missing before each."""
    steps = np.diff(times)
    if len(times) < 2 or not np.isfinite(times).all() or (steps <= 0).any():
        at = int(np.argmax(~(steps > 0))) + 2 if len(steps) else len(times)
        raise InputError(f"{path}: time does not go on at sample {at}")
    usual = float(np.median(steps))
    missing = np.where(steps > _GAP * usual, np.rint(steps / usual) - 1, 0).astype(np.int64)
    step_s = float(times[-1] - times[0]) / (len(steps) + int(missing.sum()))
    return step_s, np.concatenate(([0], missing)).astype(np.int64)
