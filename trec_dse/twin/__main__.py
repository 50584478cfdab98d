"""Serve one firmware as a board would: `python -m trec_dse.twin ELF --target NAME [--tcp PORT]`.

The first line on standard output is the port, once the firmware waits for its first request. The twin ends with its
standard input, with SIGTERM, or with the process that started it; a firmware that faults ends it with exit code 1
and a message on standard error.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from trec_dse import codec
from trec_dse.errors import TargetError, TrecDseError
from trec_dse.plugins import data_file
from trec_dse.target import Target, load_target
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import Line, PtyLine, TcpLine
from trec_dse.twin.machine import Machine


class _AnnouncedLine:
    """Tells the port as soon as the firmware is ready: earlier bytes would be lost, as on a board."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._is_announced = False
        self.url = line.url
        self.received = line.received
        self.send = line.send
        self.discard = line.discard

    def wait(self) -> bool:
        """As the line itself; the first time, print the port."""
        if not self._is_announced:
            self._is_announced = True
            sys.stdout.write(f"{self.url}\n")
            sys.stdout.flush()
        return self._line.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop; the exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m trec_dse.twin", description="a board in software")
    parser.add_argument("elf", type=Path, help="the firmware, as it would be flashed")
    parser.add_argument("--target", required=True, help="name of a shipped board, or its TOML or JSON file")
    parser.add_argument("--tcp", type=int, metavar="PORT", help="serve a socket, not a pseudo-terminal; 0 picks a port")
    given = parser.parse_args(arguments)
    # The emulator keeps Python's own handlers from running; the plain ones end the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        target = _load_target(given.target)
        line: Line = PtyLine() if given.tcp is None else TcpLine(given.tcp)
        machine = Machine(load_image(given.elf), target, _AnnouncedLine(line))
        threading.Thread(target=_end_with_standard_input, daemon=True).start()
        machine.run()
    except TrecDseError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


def _load_target(name: str) -> Target:
    """A board by name or TOML file, or as the JSON text that the executor passes on."""
    path = Path(name)
    if path.suffix != ".json":
        return load_target(data_file("targets", name, ".toml", TargetError))
    try:
        return codec.from_json(path.read_text(encoding="utf-8"), Target, name, TargetError)
    except OSError as problem:
        raise TargetError(f"{path}: cannot be read: {problem.strerror}") from problem


def _end_with_standard_input() -> None:
    """Whoever started the twin holds the other end of this pipe; even a killed process lets go of it."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
