"""Keep every answer of a device on disk as it comes, so that a validation that was cut off goes on where it stopped.

A cable that was pulled or a process that was killed costs the image under way. The first line of the file says what was
asked: answers of another firmware are not gone on from.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from trec_dse import codec
from trec_dse.device import Executor, Inference, Int8Array
from trec_dse.durable import write_text
from trec_dse.errors import DeviceError
from trec_dse.executors.replay import RecordedAnswer, image_key


@dataclass(frozen=True)
class Asked:
    """Whose answers a file holds. elf: SHA-256 of the firmware; board: what tells it from others of its kind."""

    elf: str
    board: str

    @classmethod
    def of(cls, elf: Path, board: str) -> Self:
        """Of this firmware on this board."""
        return cls(hashlib.sha256(elf.read_bytes()).hexdigest(), board)


@dataclass(frozen=True)
class _Line:
    """One answer, by the `image_key` of its image."""

    image: str
    answer: RecordedAnswer


class ResumingExecutor:
    """Asks another executor only what the file at `path` does not hold yet; `n_kept` images were in it.

    A context manager, which closes the other one; only within it answers are kept.
    """

    def __init__(self, executor: Executor, path: Path, asked: Asked) -> None:
        self.name = executor.name
        self._executor, self._path = executor, path
        self._answers = _read(path, asked)
        self.n_kept = len(self._answers)
        self._asked = asked
        self._file: IO[str] | None = None

    @property
    def n_answered(self) -> int:
        """Different images that were answered, now or before."""
        return len(self._answers)

    def infer(self, image: Int8Array) -> Inference:
        """The answer that was kept, or the device's."""
        key = image_key(image)
        kept = self._answers.get(key)
        if kept is not None:
            return Inference(np.array(kept.output, np.int8), kept.cycles, kept.stack_bytes, kept.n_clusters)
        answer = self._executor.infer(image)
        output = tuple(int(value) for value in answer.output)
        line = _Line(key, RecordedAnswer(output, answer.cycles, answer.stack_bytes, answer.n_clusters))
        if self._file is not None:
            self._file.write(_text(line))
            self._file.flush()
        self._answers[key] = line.answer
        return answer

    def forget(self) -> None:
        """Remove the file: the result is safe elsewhere."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self._executor.__enter__()
        # anew, for the next answer must not be joined to a line that was cut off
        kept = [_text(_Line(key, answer)) for key, answer in self._answers.items()]
        write_text(self._path, "".join([_text(self._asked), *kept]))
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        self._executor.__exit__(kind, error, trace)


def _text(value: Asked | _Line) -> str:
    return json.dumps(codec.unstructure(value), separators=(",", ":")) + "\n"


def _read(path: Path, asked: Asked) -> dict[str, RecordedAnswer]:
    """The answers of the same firmware and board, up to the first line that was cut off or spoilt."""
    answers: dict[str, RecordedAnswer] = {}
    with contextlib.suppress(FileNotFoundError, DeviceError, UnicodeDecodeError):
        first, *lines = path.read_text(encoding="utf-8").split("\n")
        if codec.from_json(first, Asked, str(path), DeviceError) == asked:
            for text in lines:
                line = codec.from_json(text, _Line, str(path), DeviceError)
                answers[line.image] = line.answer
    return answers
