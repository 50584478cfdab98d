"""Run a network on the board's twin: a process of its own behind a pseudo-terminal, spoken to as a board is."""

import importlib.util
import select
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from trec_dse import codec
from trec_dse.errors import DeviceError, NoAnswerError, ToolchainError
from trec_dse.executors import serial
from trec_dse.protocol import Command
from trec_dse.target import Target

# Modelled seconds take longer in software, the more so on a busy machine.
DEFAULT_TIMEOUT_S = 300.0
# Boards start within milliseconds; this is for a busy machine that compiles the twin's hooks first.
START_S = 120.0
_END_S = 5.0


class TwinExecutor(serial.SerialExecutor):
    """A `SerialExecutor` that owns the process at the other end and ends it on `close`.

    Its line loses nothing, so what is not answered in time would not be answered the next time either.
    """

    n_tries = 1
    hello_timeout_s = DEFAULT_TIMEOUT_S

    def __init__(self, process: "_Process", timeout_s: float) -> None:
        super().__init__(serial.open_line(process.port, serial.DEFAULT_BAUD, timeout_s), "twin", timeout_s)
        self._process = process

    @property
    def process_id(self) -> int:
        """The twin's process."""
        return self._process.id

    def _ask(self, command: Command, payload: bytes, timeout_s: float) -> bytes:
        """As for a board; a firmware that faulted is reported with the twin's own message."""
        try:
            return super()._ask(command, payload, timeout_s)
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
            # A session of its own: an interrupt at the terminal is for us, the pipe tells the twin when to end.
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
            )
            self.id = self._process.pid
            self.port = self._first_line()
        if not self.port:
            message = self.last_words() or f"it did not ask for a request within {START_S:g} s"
            self.end()
            raise DeviceError(f"{elf} did not start on the twin of {target.name}: {message}")

    def _first_line(self) -> str:
        """The port, once the firmware waits for its first request; "" if it never does."""
        stdout = self._process.stdout
        assert stdout is not None
        return stdout.readline().strip() if select.select([stdout], [], [], START_S)[0] else ""

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
    with ExitStack() as on_failure:
        process = _Process(elf, target)
        on_failure.callback(process.end)
        executor = TwinExecutor(process, timeout_s)
        on_failure.callback(executor.close)
        executor.introduce(build_id)
        on_failure.pop_all()
    return executor
