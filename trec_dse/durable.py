"""Write a file so that it is either the old one or the new one, whatever happens in between; one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from trec_dse.errors import StudyError

_LOCK = "lock"

Turn = Callable[[Path], AbstractContextManager[Path]]
"""Gives a folder to one process at a time: `locked` to those that share it, workers elsewhere ask for their turn."""


def write_text(path: Path, text: str) -> None:
    """Replace the file's content by `text` in UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file's content as one step that survives a crash and a power cut; parent folders are made.

    Raises `StudyError`, and leaves the old file alone, if the disk is full or the folder may not be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as problem:
        raise StudyError(
            f"{path}: cannot be written: {problem.strerror}; make room or mend the permissions, then resume"
        ) from problem


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; `os.fsync` of a file alone leaves its name in memory."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """A folder, made if need be, for one process at a time; the lock ends with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
