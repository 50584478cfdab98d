"""Nordic's Power Profiler Kit II as an ammeter in a board's supply: 100,000 samples a second, eight digital inputs.

The marker goes to its input D0, the board's voltage to VCC of its logic port. Supply and ground pass through VIN and
VOUT. Its samples carry a counter of six bits, by which lost ones are noticed (unless 64 in a row are lost; then the
inference is shorter than the board says). What the bits mean: Nordic's own application, pc-nrfconnect-ppk.
"""

import threading
import time
from typing import Any

import numpy as np

from trec_dse.errors import InputError, MeterError, NoAnswerError, PortError
from trec_dse.instruments._library import library
from trec_dse.metering import Trace

USAGE = "ppk2 or ppk2:PORT"
_STEP_S = 1e-5
_LIMIT_A = 1.0
_VOLTS = (0.8, 5.0)
_INPUT = 1 << 0
_COUNTER_AT, _COUNTER_MASK = 18, 0x3F
_WORD = 4  # bytes of a sample
_SETTLE_S, _QUIET_S, _PATIENCE_S, _BOOT_S = 0.05, 0.05, 2.0, 0.5


class Ppk2:
    """A PPK2 that lets the board's supply through. Opened by `open`."""

    is_live = True

    def __init__(self, device: Any, port: str, volts: float) -> None:
        self.name = f"ppk2 at {port}"
        self._device, self._volts = device, volts
        self._pieces: list[bytes] = []
        self._reader: threading.Thread | None = None
        self._is_ending = threading.Event()
        self._problem: OSError | None = None

    def start(self) -> None:
        """Begin to record. Raises `NoAnswerError` if no samples come."""
        self._drain()
        self._pieces.clear()
        self._is_ending.clear()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._device.start_measuring()
        end = time.monotonic() + _PATIENCE_S
        while not self._pieces:
            if time.monotonic() > end or self._problem:
                self._end()
                raise NoAnswerError(f"{self.name} sends no samples; unplug it, and plug it in again")
            time.sleep(0.001)

    def stop(self) -> Trace:
        """What was recorded, some time after the inference included."""
        time.sleep(_SETTLE_S)
        self._end()
        if self._problem is not None:
            raise PortError(f"{self.name} was lost while in use: {self._problem}") from self._problem
        raw = b"".join(self._pieces)
        raw = raw[: len(raw) // _WORD * _WORD]
        words = np.frombuffer(raw, "<u4")
        counter = (words >> _COUNTER_AT & _COUNTER_MASK).astype(np.int64)
        n_lost = int(((np.diff(counter) - 1) % (_COUNTER_MASK + 1)).sum())
        # The library keeps what was left of the last record, which is another one.
        self._device.remainder = {"sequence": b"", "len": 0}
        microamperes, inputs = self._device.get_samples(raw)
        if len(microamperes) != len(words) or len(inputs) != len(words):
            raise MeterError(
                f"{self.name} sent samples that its own library cannot read; unplug it, and plug it in again"
            )
        amperes = np.array(microamperes, np.float64) * 1e-6
        marker = (np.array(inputs, np.int64) & _INPUT) > 0
        return Trace(_STEP_S, amperes, np.full_like(amperes, self._volts), marker, n_lost, _LIMIT_A)

    def finish(self) -> None:
        """Every inference was recorded by itself."""

    def close(self) -> None:
        """Give the port back."""
        if self._reader is not None and self._reader.is_alive():
            self._end()
        self._device.ser.close()

    def _end(self) -> None:
        """No more samples: those under way are read, the reader ends."""
        self._device.stop_measuring()
        n_pieces, end = -1, time.monotonic() + _PATIENCE_S
        while n_pieces != len(self._pieces) and time.monotonic() < end:
            n_pieces = len(self._pieces)
            time.sleep(_QUIET_S)
        self._is_ending.set()
        if self._reader is not None:
            self._reader.join()

    def _read(self) -> None:
        """Takes samples out of the system's small buffer as fast as they come."""
        try:
            while not self._is_ending.is_set():
                piece = self._device.get_data()
                if piece:
                    self._pieces.append(piece)
                else:
                    time.sleep(0.001)
        except OSError as problem:
            self._problem = problem

    def _drain(self) -> None:
        while self._device.get_data():
            time.sleep(0.001)


def open(argument: str, volts: float | None) -> Ppk2:
    """The PPK2 at the port `argument`, or the one there is; `volts` is the supply's. The board has its supply then."""
    low, high = _VOLTS
    if volts is None or not low <= volts <= high:
        raise InputError(f"a PPK2 measures no voltage: say with --volts, {low:g} to {high:g}, what supplies the board")
    api = library("ppk2_api.ppk2_api", "ppk2")
    port = argument or _only_port(api.PPK2_API.list_devices())
    try:
        device = api.PPK2_API(port, timeout=1, write_timeout=1, exclusive=True)
    except OSError as problem:
        raise PortError(
            f"{port}: cannot be opened: {problem}; close the program that uses it, or plug it in"
        ) from problem
    if not device.get_modifiers():
        device.ser.close()
        raise NoAnswerError(
            f"{port} did not tell the calibration of a PPK2; is it one? Unplug it, and plug it in again"
        )
    device.set_source_voltage(round(1000 * volts))  # which only tells it what passes through
    device.use_ampere_meter()
    device.toggle_DUT_power("ON")
    time.sleep(_BOOT_S)
    return Ppk2(device, port, volts)


def _only_port(ports: list[str]) -> str:
    """The port of the PPK2 there is: it has one or two, by its firmware, of which the first takes commands."""
    if not 1 <= len(ports) <= 2:
        seen = ", ".join(ports) or "none"
        raise PortError(f"ports of a PPK2: {seen}; plug one in, or name its port as ppk2:/dev/ttyACM1")
    return sorted(ports)[0]
