"""Run a network on the board's twin: a process of its own behind a pseudo-terminal, spoken to as a board is."""

import importlib.util
import select
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from trec_dse import codec
from trec_dse.errors import DeviceError, ToolchainError
from trec_dse.executors._owned import OwnedProcess, OwningExecutor
from trec_dse.target import Target

# Modelled seconds take longer in software, the more so on a busy machine.
DEFAULT_TIMEOUT_S = 300.0
# Boards start within milliseconds; this is for a busy machine that compiles the twin's hooks first.
START_S = 120.0


class TwinExecutor(OwningExecutor):
    """A `SerialExecutor` that owns the twin at the other end and ends it on `close`."""

    hello_timeout_s = DEFAULT_TIMEOUT_S


class _Twin(OwnedProcess):
    """The twin's process."""

    def __init__(self, elf: Path, target: Target) -> None:
        with tempfile.TemporaryDirectory(prefix="trec-twin-") as folder:
            description = Path(folder) / "target.json"
            description.write_text(codec.to_json(target), encoding="utf-8")
            super().__init__([sys.executable, "-m", "trec_dse.twin", str(elf), "--target", str(description)])
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


def open(
    elf: Path, target: Target, *, timeout_s: float = DEFAULT_TIMEOUT_S, build_id: str | None = None
) -> TwinExecutor:
    """The twin of `target` running `elf`, introduced and ready. `timeout_s` bounds one inference.

    Raises `ToolchainError` if the emulator is not installed, `DeviceError` if the firmware does not start.
    """
    if importlib.util.find_spec("unicorn") is None or importlib.util.find_spec("capstone") is None:
        raise ToolchainError("the twin needs unicorn and capstone; run: pip install 'trec_dse[twin]'")
    with ExitStack() as on_failure:
        process = _Twin(elf, target)
        on_failure.callback(process.end)
        executor = TwinExecutor(process, "twin", timeout_s)
        on_failure.callback(executor.close)
        executor.introduce(build_id)
        on_failure.pop_all()
    return executor
