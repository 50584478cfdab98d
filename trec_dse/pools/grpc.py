"""Candidates for workers that share no folder with the search: they ask it for tasks and for files, over gRPC.

    take    a task that nobody has, with a lease          look   which files there are in some folders
    beat    we are alive; which leases are lost?          get    the content of one of them
    end     how a task ended                              put    here is one; only with a good lease, in its turn
    enter   is it our turn in a folder?                   drop   these are needed no more; likewise
    leave   it may be another's

The search alone owns the study and listens; workers (pools/away.py) only ask. A task whose worker is silent for the
length of a lease is given to somebody else, with the checkpoints that the lost one has sent. What several tasks need,
such as the same parent, is trained once: by whoever enters its folder first, while the others wait. Whoever knows the
token is let in. What travels is encrypted where the search has a certificate (tls.py).
"""

import contextlib
import hmac
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from trec_dse import codec
from trec_dse.durable import write_bytes, write_text
from trec_dse.errors import InputError, StudyError
from trec_dse.pools._leases import Leases
from trec_dse.pools._remote import Ending
from trec_dse.pools.tls import server_credentials
from trec_dse.pools.wire import (
    CHUNK,
    MESSAGES,
    SERVICE,
    TOKEN,
    Beats,
    End,
    Files,
    Heard,
    Look,
    Lost,
    Nothing,
    Offer,
    Ours,
    Place,
    Stored,
    Turn,
    files_in,
    folder_of,
    import_grpc,
    require_file,
    require_folder,
    stored,
)
from trec_dse.settings import LEASE_S, LISTEN, Tls
from trec_dse.workers import Answer, Failed, PoolEvent

TOKEN_FILE = "grpc.token"
MOST_BYTES = 1 << 29  # of one file; nothing that fits a microcontroller comes near
_THREADS = 16
_LOOK_S = 0.2

Message = TypeVar("Message")


class GrpcPool:
    """Stands where `WorkerPool` stands: up to `n` tasks are out at a time; a context manager.

    Attributes:
        address: HOST:PORT that it listens on; token: what workers must know.
    """

    def __init__(
        self,
        n: int,
        folder: Path,
        listen: str = LISTEN,
        lease_s: float = LEASE_S,
        *,
        now_s: Callable[[], float] = time.monotonic,
        tls: Tls | None = None,
    ) -> None:
        """`listen`: HOST:PORT; port 0 takes any that is free. `now_s`: the clock by which leases end.

        Raises InputError if grpcio is missing, the address is none or taken, or a file of `tls` is of no use.
        """
        if n < 1 or lease_s <= 0:
            raise InputError(f"{n} tasks at a time with a lease of {lease_s} s; both must be positive")
        self._n, self._next = n, 0
        self._places: dict[int, Path] = {}
        self.token = _token(folder)
        self._book = _Book(folder.resolve(), Leases(lease_s), self._places, now_s)
        grpc = import_grpc()
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=(("grpc.so_reuseport", 0), *MESSAGES))
        self._server.add_generic_rpc_handlers((_handlers(grpc, self._book, self.token),))
        self.address = _bind(self._server, listen, None if tls is None else server_credentials(grpc, tls))
        self._server.start()

    @property
    def n_free(self) -> int:
        """How many more tasks may be offered."""
        return self._n - len(self._places)

    def submit(self, function: str, argument: str, save_as: Path | None = None) -> int:
        """Offer a request; returns the task's number. `function` is not sent: workers evaluate, and nothing else."""
        if save_as is None:
            raise InputError("answers that come over gRPC are kept in files; a task needs one")
        number, self._next = self._next, self._next + 1
        self._places[number] = save_as
        with self._book.lock:
            self._book.leases.offer(number, argument)
        return number

    def poll(self, timeout_s: float) -> list[PoolEvent]:
        """What happened; waits up to `timeout_s` seconds for something to happen."""
        end = time.monotonic() + timeout_s
        while True:
            events = self._book.news()
            for event in events:
                if isinstance(event, Answer | Failed) or not getattr(event, "will_retry", True):
                    del self._places[event.task]
            left = end - time.monotonic()
            if events or left <= 0:
                return events
            self._book.wait(min(_LOOK_S, left))

    def close(self) -> None:
        """Listen no more; workers wait for a search at the same address, and then give up what they have."""
        self._server.stop(grace=1.0).wait()
        self._places.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Book:
    """What the threads that answer share with the search."""

    def __init__(self, folder: Path, leases: Leases, places: dict[int, Path], now_s: Callable[[], float]) -> None:
        self.folder, self.leases, self.lock, self._now_s = folder, leases, threading.Lock(), now_s
        self._places, self._news = places, queue.SimpleQueue[PoolEvent]()
        self._something = threading.Event()

    def news(self) -> list[PoolEvent]:
        """What has happened since the last time."""
        self._something.clear()
        found: list[PoolEvent] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._news.get_nowait())
        with self.lock:
            found += self.leases.reap(self._now_s())
        return found

    def wait(self, timeout_s: float) -> None:
        """Until there is news."""
        self._something.wait(timeout_s)

    def take(self, message: Nothing) -> Offer:
        with self.lock:
            found = self.leases.take(self._now_s())
        return Offer(*found) if found else Offer()

    def beat(self, message: Beats) -> Lost:
        with self.lock:
            for event in self.leases.beat(message.said, self._now_s()):
                self._tell(event)
            return Lost(tuple(lease for lease in message.said if not self.leases.holds(lease)))

    def end(self, message: End) -> Heard:
        """The answer is on disk before anybody hears of it; only then is the lease gone."""
        with self.lock:
            number = self.leases.end(message.lease)
            if number is None:
                return Heard(False)
            event = Ending(message.kind, message.text).event(number)
            if message.kind == "answer":
                try:
                    write_text(self._places[number], message.text)
                except StudyError as problem:
                    event = Failed(number, str(problem))
            self._tell(event)
        return Heard(True)

    def enter(self, message: Turn) -> Ours:
        folder = require_folder(message.folder)
        with self.lock:
            # whoever is lost holds up nobody, however busy the search is elsewhere
            for event in self.leases.reap(self._now_s()):
                self._tell(event)
            return Ours(self.leases.enter(message.lease, folder))

    def leave(self, message: Turn) -> Nothing:
        with self.lock:
            self.leases.leave(message.lease, message.folder)
        return Nothing()

    def look(self, message: Look) -> Files:
        folders = tuple(require_folder(name) for name in message.folders)
        return Files(tuple(files_in(self.folder, folders).values()))

    def drop(self, message: Place) -> Nothing:
        self._place(message).unlink(missing_ok=True)
        return Nothing()

    def get(self, message: Place) -> Iterator[bytes]:
        path = self.folder / require_file(message.path, to_write=False)
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as problem:
            raise StudyError(f"{message.path}: {problem.strerror}") from problem

    def put(self, message: Place, content: bytes) -> Stored:
        path = self._place(message)
        write_bytes(path, content)
        return stored(self.folder, path)

    def _place(self, message: Place) -> Path:
        """Where a file belongs that may be written now."""
        name = require_file(message.path, to_write=True)
        with self.lock:
            self.leases.require_turn(message.lease, folder_of(name))
        return self.folder / name

    def _tell(self, event: PoolEvent) -> None:
        self._news.put(event)
        self._something.set()


def _handlers(grpc: Any, book: _Book, token: str) -> Any:
    """gRPC's handlers around the methods of `book`: the token first, then JSON in and out."""
    expected = f"Bearer {token}".encode()

    def guard(context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authorization", "")
        if not hmac.compare_digest(str(given).encode(), expected):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown token")

    @contextlib.contextmanager
    def refusing(context: Any) -> Iterator[None]:
        guard(context)
        try:
            yield
        except StudyError as problem:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(problem))

    def parsed(text: bytes, kind: type[Message]) -> Message:
        return codec.from_json(text.decode(errors="replace"), kind, "message", StudyError)

    def answering(method: Callable[[Message], object], kind: type[Message]) -> Any:
        def answer(text: bytes, context: Any) -> bytes:
            with refusing(context):
                return codec.to_json(method(parsed(text, kind))).encode()

        return grpc.unary_unary_rpc_method_handler(answer)

    def get(text: bytes, context: Any) -> Iterator[bytes]:
        with refusing(context):
            yield from book.get(parsed(text, Place))

    def put(parts: Iterator[bytes], context: Any) -> bytes:
        with refusing(context):
            place, content = parsed(next(parts, b""), Place), bytearray()
            for part in parts:
                content += part
                if len(content) > MOST_BYTES:
                    raise StudyError(f"{place.path} is larger than {MOST_BYTES} bytes")
            return codec.to_json(book.put(place, bytes(content))).encode()

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "take": answering(book.take, Nothing),
            "beat": answering(book.beat, Beats),
            "end": answering(book.end, End),
            "enter": answering(book.enter, Turn),
            "leave": answering(book.leave, Turn),
            "look": answering(book.look, Look),
            "drop": answering(book.drop, Place),
            "get": grpc.unary_stream_rpc_method_handler(get),
            "put": grpc.stream_unary_rpc_method_handler(put),
        },
    )


def _bind(server: Any, listen: str, credentials: Any) -> str:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{listen!r} is no address to listen on; needed HOST:PORT, such as {LISTEN} or 0.0.0.0:13000")
    try:
        taken = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    except RuntimeError as problem:
        raise InputError(f"{listen}: nobody can listen there: {problem}; is another search running?") from problem
    return f"{host}:{taken}"


def _token(folder: Path) -> str:
    """That of the environment, or one of the study's own, which only its owner can read."""
    given = os.environ.get(TOKEN)
    if given:
        return given
    path = folder / TOKEN_FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
    return path.read_text(encoding="utf-8").strip()
