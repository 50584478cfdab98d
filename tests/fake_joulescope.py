"""The library of the Joulescopes, as far as it is used, with devices whose samples a test chooses."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


class FakeBuffer:
    """Every look brings `chunk` samples more; before `origin`, where the test's begin, they are as its first one.

    The start of a stream is lost, as it is with the real ones.
    """

    chunk = 2000
    n_lost, origin = 5000, 12_000

    def __init__(self, amperes: Floats, volts: Floats, marker: npt.NDArray[np.bool_]) -> None:
        self._signals: dict[str, Array] = {"current": amperes, "voltage": volts, "current_lsb": marker.astype(np.uint8)}
        self._n = 0
        self.is_streaming = False
        self.oldest = 0

    def restart(self) -> None:
        self._n, self.is_streaming = 0, True

    @property
    def sample_id_range(self) -> tuple[int, int]:
        self._n += self.chunk * self.is_streaming
        return self.oldest, self._n

    def samples_get(self, start: int, stop: int, fields: Sequence[str]) -> dict[str, dict[str, dict[str, Array]]]:
        numbers = np.arange(start, stop)
        places = np.clip(numbers - self.origin, 0, len(self._signals["current"]) - 1)
        values = {name: self._signals[name][places] for name in fields}
        values["current"][numbers < self.n_lost] = np.nan
        return {"signals": {name: {"value": array} for name, array in values.items()}}


class FakeDevice:
    """An instrument; `parameters` are what it was told."""

    def __init__(self, buffer: FakeBuffer, number: str = "001234") -> None:
        self.stream_buffer, self.device_serial_number = buffer, number
        self.parameters: dict[str, object] = {}
        self.is_open = False

    def __str__(self) -> str:
        return f"JS220-{self.device_serial_number}"

    def parameter_set(self, name: str, value: object) -> None:
        self.parameters[name] = value

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def start(self) -> None:
        self.stream_buffer.restart()

    def stop(self) -> None:
        self.stream_buffer.is_streaming = False


def library(*devices: FakeDevice) -> SimpleNamespace:
    """The module `joulescope`, with these devices connected."""

    def scan(name: str | None = None, config: str | None = None) -> list[FakeDevice]:
        return list(devices)

    return SimpleNamespace(scan=scan)
