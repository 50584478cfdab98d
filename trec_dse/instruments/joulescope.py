"""A Joulescope (JS220 or JS110) in the board's supply: current and voltage, and two digital inputs.

The marker goes to its input IN0. It is read at 100,000 samples a second, each the mean over its time; the instrument
sets samples that were lost to NaN. JS110: its inputs have the voltage that its EXTIO connector gets, 3.3 V at first.
"""

import time
from typing import Any

import numpy as np

from trec_dse.errors import InputError, NoAnswerError, PortError
from trec_dse.instruments._library import library
from trec_dse.metering import Trace

USAGE = "joulescope or joulescope:SERIAL"
_HZ = 100_000
_BUFFER_S = 60
_LIMIT_A = 10.0
_SETTLE_S, _PATIENCE_S, _POLL_S = 0.05, 5.0, 0.005
_FIELDS = ("current", "voltage", "current_lsb")


class Joulescope:
    """A Joulescope, opened. `device` is the library's."""

    is_live = True

    def __init__(self, device: Any) -> None:
        self.name = f"joulescope {device}"
        self._device = device
        self._begin = 0

    def start(self) -> None:
        """Begin to record. Raises `NoAnswerError` if no samples come."""
        self._device.start()
        # The first samples of a stream are lost on the way; the record begins behind them.
        self._begin = self._wait_until(self._newest() + round(_SETTLE_S * _HZ))

    def stop(self) -> Trace:
        """What was recorded, some time after the inference included."""
        self._wait_until(self._newest() + round(_SETTLE_S * _HZ))
        self._device.stop()
        first, behind = self._device.stream_buffer.sample_id_range
        begin = max(first, self._begin)
        data = self._device.stream_buffer.samples_get(begin, behind, fields=list(_FIELDS))
        amperes, volts, level = (np.array(data["signals"][name]["value"], np.float64) for name in _FIELDS)
        return Trace(1 / _HZ, amperes, volts, level > 0, begin - self._begin, _LIMIT_A)

    def finish(self) -> None:
        """Every inference was recorded by itself."""

    def close(self) -> None:
        """Give it back; the supply stays on."""
        self._device.close()

    def _newest(self) -> int:
        """Number of the newest sample."""
        behind = self._device.stream_buffer.sample_id_range[1]
        return 0 if behind is None else int(behind)

    def _wait_until(self, wanted: int) -> int:
        end = time.monotonic() + _PATIENCE_S
        while self._newest() < wanted:
            if time.monotonic() > end:
                self._device.stop()
                raise NoAnswerError(f"{self.name} sends no samples; unplug it, and plug it in again")
            time.sleep(_POLL_S)
        return self._newest()


def open(argument: str, volts: float | None) -> Joulescope:
    """The Joulescope with the serial number `argument`, or the only one there is."""
    if volts is not None:
        raise InputError("a Joulescope measures the voltage itself: leave --volts out")
    api = library("joulescope", "joulescope")
    found = [device for device in api.scan(config="auto") if argument in ("", str(device.device_serial_number))]
    if len(found) != 1:
        which = f" with the serial number {argument}" if argument else ""
        seen = ", ".join(map(str, found)) or "none"
        raise PortError(
            f"{len(found)} Joulescopes{which} are connected ({seen}); plug one in, or name it by its number"
        )
    (device,) = found
    device.parameter_set("buffer_duration", _BUFFER_S)
    device.parameter_set("sampling_frequency", _HZ)
    try:
        device.open()
    except Exception as problem:  # the driver has errors of no common kind
        raise PortError(f"{device} cannot be opened: {problem}; close the program that uses it") from problem
    device.parameter_set("i_range", "auto")
    return Joulescope(device)
