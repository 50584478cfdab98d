"""What a worker of somebody else's cluster does with a task: runs it in a process of its own and says how it ended.

The process is one of `workers.py`, so that a candidate which crashes takes nobody along and is tried once more where
it is. It is kept for the next task, because starting one takes seconds.
"""

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trec_dse.workers import Answer, Died, Failed, Pool, PoolEvent, Progress, WorkerPool, n_cores

_POLL_S = 1.0

_idle: list[tuple[str, WorkerPool]] = []
_lock = threading.Lock()


@dataclass(frozen=True)
class RemoteTask:
    """`function` as "module:name" on `argument`; its answer is written to the file `save_as` before it is reported."""

    number: int
    function: str
    argument: str
    save_as: str


@dataclass(frozen=True)
class Ending:
    """How a task ended; `text` is the error, if there was one."""

    kind: Literal["answer", "failed", "died"]
    text: str = ""

    def event(self, task: int) -> PoolEvent:
        """As the search hears of it."""
        if self.kind == "answer":
            return Answer(task, "")
        return Failed(task, self.text) if self.kind == "failed" else Died(task, self.text, will_retry=False)


def run(task: RemoteTask, say: Callable[[str], None]) -> Ending:
    """Run a task to its end, on the worker; `say` is told its progress."""
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    pool = _borrow(devices)
    try:
        ending = _run_in(pool, task, say)
    except BaseException:
        pool.close()
        raise
    with _lock:
        _idle.append((devices, pool))
    return ending


def _borrow(devices: str) -> WorkerPool:
    """An idle process that sees these GPUs, or a new one."""
    with _lock:
        for i, (seen, pool) in enumerate(_idle):
            if seen == devices:
                del _idle[i]
                return pool
    # a cluster says by this variable how many cores a task has
    n_threads = int(os.environ.get("OMP_NUM_THREADS", n_cores()))
    return WorkerPool(1, n_threads=n_threads)


def _run_in(pool: Pool, task: RemoteTask, say: Callable[[str], None]) -> Ending:
    pool.submit(task.function, task.argument, Path(task.save_as))
    while True:
        for event in pool.poll(_POLL_S):
            match event:
                case Progress():
                    say(event.text)
                case Answer():
                    return Ending("answer")
                case Failed():
                    return Ending("failed", event.message)
                case Died() if not event.will_retry:
                    return Ending("died", f"{event.reason} on {socket.gethostname()}")
