"""A Power Profiler Kit II of a few lines behind a pseudo-terminal: calibration, and samples that a test chooses."""

from collections.abc import Sequence

from fake_device import OnPort

# With this resistor and no other correction, a count of range 3 is 10 microamperes: 4 * 1.8 V / 163840 / 10 uA.
_METADATA = "\n".join(
    [
        "Calibrated: 0",
        *(f"R{i}: {4 * 1.8 / 163840 / 1e-5}" for i in range(5)),
        *(f"{name}{i}: 0" for name in ("GS", "O", "S", "I") for i in range(5)),
        *(f"{name}{i}: 1" for name in ("GI", "UG") for i in range(5)),
        "HW: 9173",
        "IA: 56",
        "END",
    ]
)
_LENGTHS = {0x19: 1, 0x06: 1, 0x07: 1, 0x0D: 3, 0x11: 2, 0x0C: 2}
START, STOP, METADATA = 0x06, 0x07, 0x19

Sample = tuple[float, bool]  # milliamperes, marker


def word(milliamperes: float, marker: bool, counter: int) -> bytes:
    """A sample as it is sent: 14 bits of current, the range, the counter, the inputs."""
    counts = round(milliamperes / 0.01)
    assert 0 <= counts < 1 << 14
    return (counts | 3 << 14 | (counter & 63) << 18 | int(marker) << 24).to_bytes(4, "little")


class FakePpk2(OnPort):
    """Sends `samples` whenever it is told to start, those with an index in `lost` left out.

    Attributes:
        commands: first bytes of what it was told.
    """

    def __init__(self, samples: Sequence[Sample], lost: Sequence[int] = (), metadata: str = _METADATA) -> None:
        super().__init__()
        self._words = [word(*sample, i) for i, sample in enumerate(samples) if i not in set(lost)]
        self._metadata = metadata.encode("ascii")
        self._heard = b""
        self.commands: list[int] = []

    def take(self, data: bytes) -> None:
        """Obey every whole command."""
        self._heard += data
        while self._heard and len(self._heard) >= _LENGTHS[self._heard[0]]:
            command = self._heard[0]
            self._heard = self._heard[_LENGTHS[command] :]
            self.commands.append(command)
            self._obey(command)

    def _obey(self, command: int) -> None:
        if command == METADATA:
            self.say(self._metadata)
        elif command == START:
            raw = b"".join(self._words)
            for at in range(0, len(raw), 1022):  # pieces that end within a sample
                self.say(raw[at : at + 1022])
