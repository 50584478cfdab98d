"""A device of a few lines behind a pseudo-terminal, whose answers a test chooses."""

import os
import select
import threading
import tty
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np

from trec_dse.errors import ProtocolError
from trec_dse.protocol import (
    ANSWER_BIT,
    Command,
    Frame,
    Hello,
    InferAnswer,
    Splitter,
    decode_frame,
    encode_frame,
    pack_hello,
    pack_infer,
)

HELLO = Hello("0123456789abcdef", 180_000_000, 4, 3, 96, 64, 2)
OUTPUT = [5, -3, 127]

Answer = Callable[[Frame], bytes]


def good_answer(request: Frame) -> bytes:
    """What a flawless firmware sends."""
    payload = request.payload if request.command == Command.ECHO else b""
    if request.command == Command.HELLO:
        payload = pack_hello(HELLO)
    elif request.command == Command.INFER:
        payload = pack_infer(InferAnswer(1234, 200, (3, 4), np.array(OUTPUT, np.int8)))
    return encode_frame(Frame(request.command | ANSWER_BIT, request.sequence, payload))


def banner(hello: Hello, **changes: str) -> Answer:
    """An answer to hello with another banner."""
    payload = pack_hello(replace(hello, **changes))  # type: ignore[arg-type]
    return lambda request: encode_frame(Frame(request.command | ANSWER_BIT, request.sequence, payload))


class OnPort:
    """Something behind a pseudo-terminal, at `port`, in a thread of its own while it is entered."""

    def __init__(self) -> None:
        self._device, self._host = os.openpty()
        tty.setraw(self._host)
        self.port = os.ttyname(self._host)
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while self._stop_read not in (ready := select.select([self._device, self._stop_read], [], [])[0]):
            assert ready
            self.take(os.read(self._device, 4096))

    def take(self, data: bytes) -> None:
        """What the host has sent."""
        raise NotImplementedError

    def say(self, data: bytes) -> None:
        """Send to the host."""
        os.write(self._device, data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join()
        for descriptor in (self._device, self._host, self._stop_read, self._stop_write):
            os.close(descriptor)


class FakeDevice(OnPort):
    """Answers hello well; to the n-th other request sends what `answers[n]` makes of it, then good answers."""

    def __init__(self, answers: list[Answer] | None = None, hello: Answer = good_answer) -> None:
        super().__init__()
        self._answers = list(answers or [])
        self._hello = hello
        self._splitter = Splitter()
        self.requests: list[Frame] = []

    def take(self, data: bytes) -> None:
        """Answer every whole frame."""
        for piece in self._splitter.feed(data):
            try:
                request = decode_frame(piece)
            except ProtocolError:
                continue
            self.say(self._answer(request))

    def _answer(self, request: Frame) -> bytes:
        if request.command == Command.HELLO:
            return self._hello(request)
        self.requests.append(request)
        return self._answers.pop(0)(request) if self._answers else good_answer(request)
