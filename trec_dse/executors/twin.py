"""Run a network on the board's twin: a process of its own behind a pseudo-terminal, spoken to as a board is."""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

from trec_dse import codec
from trec_dse.device import Inference, Int8Array
from trec_dse.errors import DeviceError, NoAnswerError, ToolchainError
from trec_dse.executors import serial
from trec_dse.target import Target

# Modelled seconds take longer in software, the more so on a busy machine.
DEFAULT_TIMEOUT_S = 300.0
_END_S = 5.0


class TwinExecutor(serial.SerialExecutor):
    """A `SerialExecutor` that owns the process at the other end and ends it on `close`."""

    def __init__(self, process: "_Process", timeout_s: float) -> None:
        super().__init__(serial.open_line(process.port, serial.DEFAULT_BAUD, timeout_s), "twin", timeout_s)
        self._process = process

    @property
    def process_id(self) -> int:
        """The twin's process."""
        return self._process.id

    def infer(self, image: Int8Array) -> Inference:
        """One inference; a firmware that faults is reported with the twin's own message."""
        try:
            return super().infer(image)
        except DeviceError as problem:
            message = self._process.last_words()
            if message:
                raise NoAnswerError(f"twin: {message}") from problem
            raise

    def close(self) -> None:
        """Close the port and end the twin."""
        super().close()
        self._process.end()


class _Process:
    """The twin's process. It reads our end of a pipe and dies with it, however we end."""

    def __init__(self, elf: Path, target: Target) -> None:
        self._words = ""
        with tempfile.TemporaryDirectory(prefix="trec-twin-") as folder:
            description = Path(folder) / "target.json"
            description.write_text(codec.to_json(target), encoding="utf-8")
            command = [sys.executable, "-m", "trec_dse.twin", str(elf), "--target", str(description)]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            self.id = self._process.pid
            assert self._process.stdout is not None
            self.port = self._process.stdout.readline().strip()
        if not self.port:
            message = self.last_words() or "it ended without a message"
            self.end()
            raise DeviceError(f"{elf} did not start on the twin of {target.name}: {message}")

    def last_words(self) -> str:
        """What the twin said when it ended, "" while it runs."""
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return ""
        if not self._words and self._process.stderr is not None:
            self._words = self._process.stderr.read().strip().rpartition("\n")[2]
        return self._words

    def end(self) -> None:
        """End it; harmless if it has ended."""
        self._process.terminate()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def open(
    elf: Path, target: Target, *, timeout_s: float = DEFAULT_TIMEOUT_S, build_id: str | None = None
) -> TwinExecutor:
    """The twin of `target` running `elf`, introduced and ready. `timeout_s` bounds one inference.

    Raises `ToolchainError` if the emulator is not installed, `DeviceError` if the firmware does not start.
    """
    if importlib.util.find_spec("unicorn") is None or importlib.util.find_spec("capstone") is None:
        raise ToolchainError("the twin needs unicorn and capstone; run: pip install 'trec_dse[twin]'")
    process = _Process(elf, target)
    executor = TwinExecutor(process, timeout_s)
    try:
        executor.introduce(build_id)
    except DeviceError as problem:
        message = process.last_words()
        executor.close()
        if message:
            raise NoAnswerError(f"twin: {message}") from problem
        raise
    return executor
