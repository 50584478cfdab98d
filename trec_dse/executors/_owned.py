"""An executor that owns the process at the other end of its line: what the twin and QEMU have in common."""

import subprocess
from collections.abc import Sequence

from trec_dse.errors import DeviceError, NoAnswerError, PortError
from trec_dse.executors import serial
from trec_dse.protocol import Command

_END_S = 5.0


class OwnedProcess:
    """A program that serves a firmware. It reads our end of a pipe and ends with it, however we end.

    Attributes:
        id: of the process. port: where it serves; whoever starts it finds that out and sets it.
    """

    port = ""

    def __init__(self, command: Sequence[str]) -> None:
        self._words = ""
        pipe = subprocess.PIPE
        # A session of its own: an interrupt at the terminal is for us, the pipe tells the program when to end.
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        self.id = self._process.pid

    def last_words(self) -> str:
        """What the program said when it ended, "" while it runs."""
        try:
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return ""
        if not self._words and self._process.stderr is not None:
            self._words = self.message_of(self._process.stderr.read().strip())
        return self._words

    @staticmethod
    def message_of(text: str) -> str:
        """What matters of all that it wrote to standard error."""
        return text.rpartition("\n")[2]

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


class OwningExecutor(serial.SerialExecutor):
    """A `SerialExecutor` that ends the process at the other end on `close`.

    Its line loses nothing, so what is not answered in time would not be answered the next time either.
    """

    n_tries = 1

    def __init__(self, process: OwnedProcess, name: str, timeout_s: float) -> None:
        super().__init__(serial.open_line(process.port, serial.DEFAULT_BAUD, timeout_s), name, timeout_s)
        self._process = process

    @property
    def process_id(self) -> int:
        """The process at the other end."""
        return self._process.id

    def _ask(self, command: Command, payload: bytes, timeout_s: float) -> bytes:
        """As for a board; if the process has ended, with its own message."""
        try:
            return super()._ask(command, payload, timeout_s)
        except DeviceError as problem:
            message = self._process.last_words()
            if message:
                raise NoAnswerError(f"{self.name}: {message}") from problem
            raise

    def _lost(self, problem: Exception) -> DeviceError:
        message = self._process.last_words()
        return PortError(f"{self.name}: {message}") if message else super()._lost(problem)

    def close(self) -> None:
        """Close the port and end the process."""
        super().close()
        self._process.end()
