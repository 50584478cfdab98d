"""What a search and its workers say to each other over gRPC, and the side that asks.

Every message is the JSON of one of these dataclasses; files travel as their bytes. Nothing is pickled and nothing that
arrives is run. Names of files are those of a study's folder, and only of what networks and parents keep there.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from trec_dse import codec
from trec_dse.errors import InputError, StudyError
from trec_dse.pools.tls import channel_credentials, why_refused
from trec_dse.settings import TLS_CA, TLS_CERT, TLS_KEY, Tls

SERVICE = "trec_dse.Search"
PLAIN, ENCRYPTED = "grpc://", "grpcs://"
TOKEN = "TREC_DSE_TOKEN"
NEEDS = "--executor grpc needs grpcio: pip install 'trec_dse[grpc]', here and where its workers run"
CHUNK = 1 << 20
MESSAGES = (("grpc.max_receive_message_length", 1 << 26),)  # the evaluation of a large network takes megabytes
CALL_S, FILE_S = 20.0, 600.0
_FOLDER = r"(candidates|networks|parents)/[0-9a-f]{8,64}"
_FILE = r"(/[A-Za-z0-9_][A-Za-z0-9_.-]*){1,3}"

Reply = TypeVar("Reply")


@dataclass(frozen=True)
class Door:
    """How one gets into a search: HOST:PORT at which it listens, the token, the files for TLS if it encrypts."""

    host: str
    token: str
    tls: Tls | None = None


@dataclass(frozen=True)
class Nothing:
    """No more to say."""


@dataclass(frozen=True)
class Offer:
    """A task: the lease that makes it ours, and the JSON of an `EvaluateRequest`; both empty if there is none."""

    lease: str = ""
    request: str = ""


@dataclass(frozen=True)
class Beats:
    """By lease, what the worker of that task said last."""

    said: Mapping[str, str]


@dataclass(frozen=True)
class Lost:
    """Leases that are not good any more."""

    leases: tuple[str, ...]


@dataclass(frozen=True)
class End:
    """How a task ended; `text` is the JSON of an `Evaluation`, or the error."""

    lease: str
    kind: Literal["answer", "failed", "died"]
    text: str


@dataclass(frozen=True)
class Heard:
    """Whether the lease was good."""

    was_good: bool


@dataclass(frozen=True)
class Look:
    """Folders of the study of which the files are asked for."""

    folders: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    """A file of the study, as the search has it; two that agree in all are the same."""

    path: str
    mtime_ns: int
    size: int


@dataclass(frozen=True)
class Files:
    """What a look has found."""

    files: tuple[Stored, ...]


@dataclass(frozen=True)
class Place:
    """Where a file belongs; `lease`: who sends it."""

    lease: str
    path: str


@dataclass(frozen=True)
class Turn:
    """A folder of the study that one worker at a time reads, trains for and writes; `lease`: who asks."""

    lease: str
    folder: str


@dataclass(frozen=True)
class Ours:
    """Whether it is our turn."""

    is_ours: bool


class Unreachable(StudyError):
    """Nobody answers; that may pass."""


def require_folder(name: str) -> str:
    """`name`, if it is that of a candidate's, network's or parent's folder; StudyError otherwise."""
    if re.fullmatch(_FOLDER, name) is None:
        raise StudyError(f"{name!r} is no folder that workers may see; needed candidates/, networks/ or parents/KEY")
    return name


def require_file(name: str, *, to_write: bool) -> str:
    """`name`, if it is that of a file in such a folder; what candidates show is written by the search alone."""
    if re.fullmatch(_FOLDER + _FILE, name) is None or (to_write and name.startswith("candidates/")):
        raise StudyError(f"{name!r} is no file that workers may {'write' if to_write else 'read'}")
    return name


def folder_of(name: str) -> str:
    """The folder of a candidate, network or parent that a file belongs to."""
    return "/".join(name.split("/")[:2])


def stored(root: Path, path: Path) -> Stored:
    """A file below `root`, as it is now."""
    found = path.stat()
    return Stored(path.relative_to(root).as_posix(), found.st_mtime_ns, found.st_size)


def files_in(root: Path, folders: tuple[str, ...]) -> dict[str, Stored]:
    """By name, the files in these folders of `root`, except locks and what is being written."""
    found = [path for name in folders for path in sorted((root / name).rglob("*")) if path.is_file()]
    kept = [stored(root, path) for path in found if path.name != "lock" and not path.name.startswith(".")]
    return {file.path: file for file in kept}


def door_of(address: str, token: str, tls: Tls | None = None) -> Door:
    """The way in at grpc://HOST:PORT, or grpcs://HOST:PORT with `tls`. InputError for anything else."""
    scheme = ENCRYPTED if address.startswith(ENCRYPTED) else PLAIN
    host, _, port = address.removeprefix(scheme).rpartition(":")
    if not address.startswith(scheme) or not host or not port.isdigit():
        raise InputError(
            f"{address!r} is no address of a search; needed grpc://HOST:PORT or, encrypted, grpcs://HOST:PORT, such as "
            "grpc://head:13000"
        )
    if scheme == PLAIN and tls is not None:
        raise InputError(
            f"{address} is not encrypted, so {TLS_CERT}, {TLS_KEY} and {TLS_CA} mean nothing there; needed grpcs://{host}:{port}"
        )
    return Door(f"{host}:{port}", token, (tls or Tls()) if scheme == ENCRYPTED else None)


def import_grpc() -> Any:
    """The library. InputError if it is missing."""
    # of a handshake that fails whoever asked is told; a line of the library's own would tear the view of the search
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        import grpc  # noqa: PLC0415 - an extra
    except ImportError as problem:
        raise InputError(NEEDS) from problem
    return grpc


class Client:
    """Asks a search; a context manager.

    Calls raise Unreachable if nobody answers, StudyError if they are refused, InputError if we are not let in.
    """

    def __init__(self, door: Door) -> None:
        """InputError if a file of `door.tls` is missing or of no use."""
        self._grpc, self._door, self._host, self._is_in = import_grpc(), door, door.host, False
        if door.tls is None:
            self._channel = self._grpc.insecure_channel(door.host, options=MESSAGES)
        else:
            credentials = channel_credentials(self._grpc, door.tls)
            self._channel = self._grpc.secure_channel(door.host, credentials, options=MESSAGES)
        self._proof = (("authorization", f"Bearer {door.token}"),)

    def call(self, name: str, message: object, reply: type[Reply]) -> Reply:
        """Say `message`, hear a `reply`."""
        method = self._channel.unary_unary(f"/{SERVICE}/{name}")
        try:
            heard = method(codec.to_json(message).encode(), timeout=CALL_S, metadata=self._proof)
        except self._grpc.RpcError as problem:
            raise self._error(problem) from problem
        self._is_in = True
        return codec.from_json(heard.decode(), reply, f"answer of {self._host}", StudyError)

    def get(self, path: str) -> bytes:
        """The content of a file of the study."""
        method = self._channel.unary_stream(f"/{SERVICE}/get")
        try:
            message = codec.to_json(Place("", path)).encode()
            return b"".join(method(message, timeout=FILE_S, metadata=self._proof))
        except self._grpc.RpcError as problem:
            raise self._error(problem) from problem

    def put(self, place: Place, content: bytes) -> Stored:
        """Write a file of the study; returns what it is there."""
        method = self._channel.stream_unary(f"/{SERVICE}/put")
        try:
            heard = method(_in_parts(place, content), timeout=FILE_S, metadata=self._proof)
        except self._grpc.RpcError as problem:
            raise self._error(problem) from problem
        return codec.from_json(heard.decode(), Stored, f"answer of {self._host}", StudyError)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def _error(self, problem: Any) -> StudyError | InputError:
        code, status = problem.code(), self._grpc.StatusCode
        if code == status.UNAVAILABLE and not self._is_in:
            reason = why_refused(self._host, self._door.tls)
            if reason is not None:
                return InputError(reason)
        # cancelled is what a search that ends has not answered any more
        if code in (status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.CANCELLED):
            return Unreachable(f"no search answers at {self._host}: {problem.details()}")
        if code == status.UNAUTHENTICATED:
            return InputError(f"the search at {self._host} does not know our token; see {TOKEN} and --token-file")
        return StudyError(f"the search at {self._host} refuses: {problem.details()}")


def _in_parts(place: Place, content: bytes) -> Iterator[bytes]:
    yield codec.to_json(place).encode()
    for start in range(0, len(content), CHUNK):
        yield content[start : start + CHUNK]
