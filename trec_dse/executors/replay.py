"""Play back recorded answers, so that everything behind an executor can be tested without one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from trec_dse import codec
from trec_dse.device import Executor, Inference, Int8Array
from trec_dse.errors import DeviceError, NoAnswerError


@dataclass(frozen=True)
class RecordedAnswer:
    """One `Inference` as plain data."""

    output: tuple[int, ...]
    cycles: int
    stack_bytes: int
    n_clusters: tuple[int, ...] = ()


@dataclass(frozen=True)
class Recording:
    """Answers by the `image_key` of their image."""

    answers: Mapping[str, RecordedAnswer] = field(default_factory=dict)


def image_key(image: Int8Array) -> str:
    """16 hex digits that name an image by its content."""
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


class ReplayExecutor:
    """Answers from a recording; an image that was never recorded is an error, not a guess."""

    def __init__(self, recording: Recording, name: str = "replay") -> None:
        self.name = name
        self._recording = recording

    def infer(self, image: Int8Array) -> Inference:
        """The answer recorded for this image. Raises `NoAnswerError` if there is none."""
        key = image_key(image)
        answer = self._recording.answers.get(key)
        if answer is None:
            raise NoAnswerError(
                f"{self.name}: image {key} was not recorded; {len(self._recording.answers)} others were"
            )
        return Inference(np.array(answer.output, np.int8), answer.cycles, answer.stack_bytes, answer.n_clusters)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to give back."""


class Recorder:
    """Passes images on to another executor and remembers what it answered; `recording` is the result so far."""

    def __init__(self, executor: Executor) -> None:
        self.name = executor.name
        self._executor = executor
        self._answers: dict[str, RecordedAnswer] = {}

    @property
    def recording(self) -> Recording:
        """All answers so far."""
        return Recording(dict(self._answers))

    def infer(self, image: Int8Array) -> Inference:
        """The other executor's answer."""
        answer = self._executor.infer(image)
        output = tuple(int(value) for value in answer.output)
        self._answers[image_key(image)] = RecordedAnswer(output, answer.cycles, answer.stack_bytes, answer.n_clusters)
        return answer

    def __enter__(self) -> Self:
        self._executor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.__exit__(kind, error, trace)


def open(path: Path) -> ReplayExecutor:
    """The answers in a file that `write_recording` wrote. Raises `DeviceError` if it is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise DeviceError(f"{path}: cannot be read: {problem.strerror}") from problem
    return ReplayExecutor(codec.from_json(text, Recording, str(path), DeviceError), f"replay of {path.name}")


def write_recording(recording: Recording, path: Path) -> None:
    """The recording as a JSON file."""
    path.write_text(codec.to_json(recording), encoding="utf-8")
