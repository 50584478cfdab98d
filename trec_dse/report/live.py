"""The report page while a search runs: a small server on this machine that reads a study and changes nothing.

It answers a fixed list of addresses from what it has read, and never opens a path that a request names:

    /                  the page, without data of its own
    /data?version=V    all trials as JSON; 204 while V is still the newest version
    /detail?trial=N    what the card of one trial shows
    /what-if?trial=N&bits=H&policy=P&reuse=K    that trial's network clustered so, computed now and kept nowhere
"""

import gzip
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol, get_args
from urllib.parse import parse_qs

from trec_dse import __version__, codec, storage
from trec_dse import objectives as registry
from trec_dse.candidate import SlicePolicy
from trec_dse.errors import InputError, StudyError, TrecDseError
from trec_dse.objectives import Objective
from trec_dse.report.grids import read_grids
from trec_dse.report.page import render_live, tabulated
from trec_dse.report.payload import build_detail, build_payload, to_plain
from trec_dse.results import Evaluation, StudyRecord, WhatIfGrid, WhatIfSetting

ADDRESS = "127.0.0.1"
_HOSTS = {"127.0.0.1", "localhost"}
_LEAST_PAUSE_S, _PAUSE_PER_READ = 0.5, 4.0  # a large study is read again only after several times what it took
_SMALL = 1000  # bytes that are not worth compressing


# a trial's number, its evaluation and a setting: a grid of that one point
Ask = Callable[[int, Evaluation, WhatIfSetting], WhatIfGrid]


class Source(Protocol):
    """Where a study comes from; a stamp is cheap to take."""

    def stamp(self) -> object:
        """Equal to the last one as long as nothing has changed."""
        ...

    def read(self) -> StudyRecord:
        """The study as it is now; StudyError if it cannot be read."""
        ...

    def grids(self) -> Sequence[WhatIfGrid]:
        """What-if grids that were computed before."""
        ...


@dataclass(frozen=True)
class StudyFolder:
    """The study in a folder, also while a search writes it."""

    folder: Path

    def stamp(self) -> object:
        """Times and sizes of what changes when a trial starts or ends, or is measured; None if they cannot tell."""
        if storage.read_settings(self.folder).storage is not None:
            return object()  # a database: equal to nothing
        places = [
            self.folder / storage.JOURNAL,
            self.folder / "what_if",
            *sorted((self.folder / "candidates").glob("*")),
            *sorted((self.folder / "firmware").glob(f"*/{storage.MEASUREMENT}")),
        ]
        found = []
        for place in places:
            try:
                seen = place.stat()
            except FileNotFoundError:
                continue
            found.append((place.name, seen.st_mtime_ns, seen.st_size))
        return found

    def read(self) -> StudyRecord:
        """The study as it is now."""
        return storage.load_study(self.folder)

    def grids(self) -> Sequence[WhatIfGrid]:
        """Those in the study's folder."""
        return read_grids(self.folder)


@dataclass(frozen=True)
class Snapshot:
    """What the server answers from. `version` is new with every change; `data` is JSON."""

    version: str
    data: bytes
    evaluations: Mapping[int, Evaluation]


@dataclass
class LiveStudy:
    """The newest snapshot of a study, read again when it has changed; safe to use from several threads."""

    source: Source
    objectives: Sequence[Objective] = registry.DEFAULT
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _snapshot: Snapshot | None = None
    _stamp: object = None
    _not_before_s: float = 0.0
    _count: int = 0

    def snapshot(self) -> Snapshot:
        """What is known now. A study that cannot be read for a moment leaves the last snapshot."""
        with self._lock:
            if self._snapshot is not None and self.clock() < self._not_before_s:
                return self._snapshot
            try:
                self._read_if_changed()
            except StudyError:
                if self._snapshot is None:
                    raise
            assert self._snapshot is not None
            return self._snapshot

    def _read_if_changed(self) -> None:
        start = self.clock()
        stamp = self.source.stamp()
        if self._snapshot is None or stamp != self._stamp:
            study = self.source.read()
            payload = build_payload(study, self.objectives, self.source.grids())
            data = json.dumps(tabulated(to_plain(payload)), allow_nan=False).encode()
            if self._snapshot is None or data != self._snapshot.data:
                self._count += 1
            evaluations = {record.number: record.evaluation for record in study.trials if record.evaluation is not None}
            self._snapshot, self._stamp = Snapshot(str(self._count), data, evaluations), stamp
        end = self.clock()
        self._not_before_s = end + max(_LEAST_PAUSE_S, _PAUSE_PER_READ * (end - start))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: HTTPStatus
    kind: str = "text/plain; charset=utf-8"
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class LiveServer(ThreadingHTTPServer):
    """The server of one study; a context manager. `port` 0 takes a free one, which `url` names."""

    daemon_threads = True  # an open connection must not keep the process alive
    allow_reuse_address = True

    def __init__(self, study: LiveStudy, port: int = 0, ask: Ask | None = None) -> None:
        self.study, self.ask = study, ask
        self._asking = threading.Lock()  # an answer takes a compiler and seconds: one at a time
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as problem:
            raise InputError(
                f"port {port} cannot be listened on: {problem}; take another, or 0 for any free one"
            ) from None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def answer(self, target: str) -> Answer:
        """The answer to a GET of `target`, a path with its query."""
        path, _, rest = target.partition("?")
        query = {name: values[-1] for name, values in parse_qs(rest).items()}
        routes = {"/": self._page, "/data": self._data, "/detail": self._detail, "/what-if": self._what_if}
        route = routes.get(path)
        if route is None:
            return Answer(HTTPStatus.NOT_FOUND, body=b"there is the page at /, and nothing else\n")
        try:
            return route(query)
        except TrecDseError as problem:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, body=f"{problem}\n".encode())

    def _page(self, query: Mapping[str, str]) -> Answer:
        snapshot = self.study.snapshot()
        text = render_live(snapshot.data.decode(), snapshot.version)
        return Answer(HTTPStatus.OK, "text/html; charset=utf-8", text.encode())

    def _data(self, query: Mapping[str, str]) -> Answer:
        snapshot = self.study.snapshot()
        if query.get("version") == snapshot.version:
            return Answer(HTTPStatus.NO_CONTENT)
        headers = {"X-Version": snapshot.version}
        return Answer(HTTPStatus.OK, "application/json", snapshot.data, headers)

    def _detail(self, query: Mapping[str, str]) -> Answer:
        number = query.get("trial", "")
        evaluation = self.study.snapshot().evaluations.get(int(number)) if number.isdecimal() else None
        if evaluation is None:
            return Answer(HTTPStatus.NOT_FOUND, body=f"no evaluated trial {number!r}\n".encode())
        body = json.dumps(tabulated(to_plain(build_detail(evaluation))), allow_nan=False).encode()
        return Answer(HTTPStatus.OK, "application/json", body)

    def _what_if(self, query: Mapping[str, str]) -> Answer:
        numbers = [query.get(name, "") for name in ("trial", "bits", "reuse")]
        policy = next((each for each in get_args(SlicePolicy) if each == query.get("policy")), None)
        if policy is None or not all(number.isdecimal() and len(number) < 9 for number in numbers):
            return Answer(HTTPStatus.BAD_REQUEST, body=b"needed: trial, bits and reuse as numbers, and a policy\n")
        trial, bits, reuse = map(int, numbers)
        evaluation = self.study.snapshot().evaluations.get(trial)
        if self.ask is None or evaluation is None or not evaluation.is_trained:
            return Answer(HTTPStatus.NOT_FOUND, body=f"no trained trial {trial} to ask\n".encode())
        with self._asking:
            grid = self.ask(trial, evaluation, WhatIfSetting(bits, policy, reuse))
        body = json.dumps(tabulated(codec.unstructure(grid)), allow_nan=False).encode()
        return Answer(HTTPStatus.OK, "application/json", body)


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD only; any other method is answered with 501 by the base class."""

    server: LiveServer
    server_version = f"trec_dse/{__version__}"
    sys_version = ""
    timeout = 30  # a client that says nothing is let go

    def do_GET(self) -> None:
        """Answer a request."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Answer as to GET, without the body."""
        self._send(with_body=False)

    def _send(self, *, with_body: bool) -> None:
        # a page of another site whose name was made to point here would name itself: it must learn nothing,
        # and a link on another page must set nothing to work
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        is_foreign = host not in _HOSTS or self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        answer = Answer(HTTPStatus.FORBIDDEN) if is_foreign else self.server.answer(self.path)
        body, headers = answer.body, dict(answer.headers)
        if len(body) > _SMALL and "gzip" in self.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body, compresslevel=1), "gzip"
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the terminal is the reader's."""
