"""Folders of a study on a machine that does not share them: fetched when it is their turn, sent back as they change.

Where workers share the study's folder, a lock lets one process at a time train what several candidates need
(`durable.locked`). Here the search says whose turn it is: `Mirror.turn` stands where `locked` stands.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from trec_dse.durable import locked
from trec_dse.pools.wire import (
    Client,
    Files,
    Look,
    Nothing,
    Ours,
    Place,
    Stored,
    Turn,
    Unreachable,
    files_in,
    folder_of,
)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
PATIENCE_S = 120.0  # so long a search that does not answer is asked for a turn, and told of what is trained

Result = TypeVar("Result")


@dataclass
class Mirror:
    """Copies of some folders of the study below `root`; `lease`: in whose name turns are asked for and files are sent.

    `say` is told what is waited for.
    """

    client: Client
    root: Path
    lease: str
    say: Callable[[str], None]
    _alike: dict[str, Stored] = field(default_factory=dict)
    _ours: list[str] = field(default_factory=list)

    @contextmanager
    def turn(self, folder: Path) -> Iterator[Path]:
        """`folder` of this copy as the study has it, for one worker of the search at a time; sent back in the end.

        Waits while it is another's turn, which ends with that one's lease at the latest. StudyError if our own lease
        is lost; then, and after any other error, our turn ends with the task.
        """
        name = folder.relative_to(self.root).as_posix()
        self._wait_for(name)
        with locked(folder):
            _patiently(lambda: self.fetch(name))
            self._ours.append(name)
            try:
                yield folder
                _patiently(self.send)
            finally:
                self._ours.remove(name)
        _patiently(lambda: self.client.call("leave", Turn(self.lease, name), Nothing))

    def fetch(self, folder: str) -> None:
        """Make a folder here what it is there."""
        there = {file.path: file for file in self.client.call("look", Look((folder,)), Files).files}
        here = files_in(self.root, (folder,))
        for name in here.keys() - there.keys():
            (self.root / name).unlink()
        self._alike = {name: file for name, file in self._alike.items() if folder_of(name) != folder}
        for name, file in there.items():
            if here.get(name) != file:
                path = self.root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.client.get(name))
            self._note(file)

    def send(self) -> None:
        """Make the folders whose turn is ours there what they are here. StudyError if the lease is lost."""
        here = files_in(self.root, tuple(self._ours))
        for name, file in here.items():
            if self._alike.get(name) != file:
                content = (self.root / name).read_bytes()
                self._note(self.client.put(Place(self.lease, name), content))
        for name in [name for name in self._alike if folder_of(name) in self._ours and name not in here]:
            self.client.call("drop", Place(self.lease, name), Nothing)
            del self._alike[name]

    def _wait_for(self, name: str) -> None:
        """Until it is our turn."""
        wait_s = 0.0
        while not _patiently(lambda: self.client.call("enter", Turn(self.lease, name), Ours)).is_ours:
            if not wait_s:
                self.say(f"waits for {name}, which another worker trains")
                wait_s = FIRST_WAIT_S
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _note(self, file: Stored) -> None:
        """A file is the same here and there; the time of its copy says so the next time, too."""
        os.utime(self.root / file.path, ns=(file.mtime_ns, file.mtime_ns))
        self._alike[file.path] = file


def _patiently(ask: Callable[[], Result]) -> Result:
    """What `ask` returns, although nobody may answer for a while."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except Unreachable:
            if time.monotonic() >= end:
                raise
            time.sleep(LONGEST_WAIT_S)
