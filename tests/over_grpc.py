"""What the tests of workers that share no folder share: a clock, a request, a worker in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_evaluation import target

from trec_dse.candidate import Candidate
from trec_dse.pools.grpc import GrpcPool
from trec_dse.pools.wire import Client, Door, Nothing, Offer
from trec_dse.results import EvaluateRequest
from trec_dse.workers import PoolEvent

KEY = "0123456789abcdef"
NETWORK, PARENT = f"networks/{KEY}", f"parents/{KEY}"

WORKER = """
import sys
from pathlib import Path
from trec_dse.pools.away import Post, Worker
from trec_dse.pools.wire import Door
host, token, scratch, function, idle = sys.argv[1:]
post = Post(Door(host, token), Path(scratch), idle_s=float(idle), function=function)
Worker(post, lambda line: print(line, flush=True)).run()
"""


@dataclass
class Clock:
    """The time of a search, which goes on when it is told to."""

    s: float = 0.0

    def __call__(self) -> float:
        return self.s


def door(pool: GrpcPool) -> Door:
    """The way in for whoever is invited."""
    return Door(pool.address, pool.token)


def taken(pool: GrpcPool, client: Client, study: Path) -> str:
    """The lease of a task that is offered and taken at once."""
    pool.submit("nobody:asks", "request", study / "answer")
    return take(client).lease


def take(client: Client) -> Offer:
    """The oldest task that nobody has."""
    return client.call("take", Nothing(), Offer)


def all_events(pool: Any, n: int) -> list[PoolEvent]:
    """The first `n` things that happen."""
    found: list[PoolEvent] = []
    end = time.monotonic() + 60
    while len(found) < n:
        assert time.monotonic() < end, found
        found += pool.poll(1.0)
    return found


def request_for(candidate: Candidate, study: Path, epochs: int | None = None) -> EvaluateRequest:
    """What the search asks for."""
    return EvaluateRequest(candidate, target(), None, str(study / "candidates" / candidate.key), epochs)


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def worker(host: str, scratch: Path, function: str, idle_s: float = 60.0) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process of its own, which ends with the test."""
    with python(WORKER, host, "secret", str(scratch), function, str(idle_s)) as process:
        yield process


@contextmanager
def python(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs `program`, which ends with the test."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as process:
        try:
            yield process
        finally:
            process.kill()
