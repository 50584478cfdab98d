"""Persistent worker processes that run one function at a time and may die without hurting the search.

A worker is a fresh Python that reads tasks as JSON lines and answers in JSON lines, so nothing is pickled and
PyTorch is imported once per worker, not once per trial. When the search goes away, even by `kill -9`, the pipe
to its workers closes; a thread in each worker waits for just that and ends the worker with all it has started.
"""

import contextlib
import importlib
import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Protocol, Self, cast

from trec_dse.durable import write_text
from trec_dse.errors import InputError, TrecDseError

MAX_ATTEMPTS = 2

WorkerFunction = Callable[[str, Callable[[str], None]], str]
"""What a worker can run: takes a text and a function that passes on progress; returns a text."""


@dataclass(frozen=True)
class Progress:
    """The function of a task reported how far it is."""

    task: int
    text: str


@dataclass(frozen=True)
class Answer:
    """A task is done; `text` is what its function returned."""

    task: int
    text: str


@dataclass(frozen=True)
class Failed:
    """The function of a task raised; trying again would raise again."""

    task: int
    message: str


@dataclass(frozen=True)
class Died:
    """The process that ran a task ended without an answer. Unless `will_retry`, the task is given up."""

    task: int
    reason: str
    will_retry: bool


PoolEvent = Progress | Answer | Failed | Died


class Pool(Protocol):
    """Who evaluates, as the search sees it."""

    @property
    def n_free(self) -> int:
        """How many more tasks would start at once."""
        ...

    def submit(self, function: str, argument: str, save_as: Path | None = None) -> int:
        """Queue ``function(argument, progress)``, its answer to be written to `save_as`; returns the task's number."""
        ...

    def poll(self, timeout_s: float) -> list[PoolEvent]:
        """What happened; waits up to `timeout_s` seconds for something to happen."""
        ...

    def close(self) -> None:
        """Give up all tasks."""
        ...


@dataclass(frozen=True)
class _Task:
    number: int
    function: str
    argument: str
    save_as: str | None


@dataclass(frozen=True)
class _Message:
    task: int
    kind: Literal["progress", "answer", "failed", "crashed"]
    text: str


class WorkerPool:
    """Up to `n` workers, started when there is something to do; a context manager that leaves no process behind.

    `log` collects what the workers print, such as warnings and tracebacks. `n_threads`: of each worker; None shares the
    cores of this machine out.
    """

    def __init__(self, n: int, log: Path | None = None, n_threads: int | None = None) -> None:
        if n < 1:
            raise InputError(f"{n} workers were asked for; it must be at least 1")
        self._n = n
        self._log = log
        self._n_threads = n_threads or max(1, n_cores() // n)
        self._next = 0
        self._queue: deque[_Task] = deque()
        self._attempts: dict[int, int] = {}
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    @property
    def n_free(self) -> int:
        """How many more tasks would start at once."""
        n_busy = sum(worker.task is not None for worker in self._workers)
        return max(0, self._n - n_busy - len(self._queue))

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the living workers."""
        return tuple(worker.process.pid for worker in self._workers)

    def submit(self, function: str, argument: str, save_as: Path | None = None) -> int:
        """Queue ``function(argument, progress)``, with `function` as "module:name"; returns the task's number.

        The worker writes the answer to `save_as` before it reports it, so that no finished work is lost if the
        search dies in that moment.
        """
        task = _Task(self._next, function, argument, None if save_as is None else str(save_as))
        self._next += 1
        self._queue.append(task)
        self._start_tasks()
        return task.number

    def poll(self, timeout_s: float) -> list[PoolEvent]:
        """What happened; waits up to `timeout_s` seconds for something to happen."""
        events: list[PoolEvent] = []
        for key, _ in self._selector.select(timeout_s if self._workers else 0):
            worker = cast(_Worker, key.data)
            messages = worker.read()
            if messages is None:
                events += self._bury(worker)
            else:
                events += [self._event(worker, message) for message in messages]
        self._start_tasks()
        return events

    def close(self) -> None:
        """Kill all workers and what they have started, and forget what was queued."""
        self._queue.clear()
        for worker in self._workers:
            self._selector.unregister(worker.answers)
            worker.kill()
        self._workers.clear()
        self._selector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_tasks(self) -> None:
        while self._queue and (worker := self._idle_worker()) is not None:
            task = self._queue[0]
            if worker.give(task):
                self._queue.popleft()
                self._attempts[task.number] = self._attempts.get(task.number, 0) + 1
            else:
                self._bury(worker)

    def _idle_worker(self) -> "_Worker | None":
        for worker in self._workers:
            if worker.task is None and not worker.is_leaving:
                return worker
        if len(self._workers) == self._n:
            return None
        worker = _Worker(n_threads=self._n_threads, log=self._log)
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        return worker

    def _event(self, worker: "_Worker", message: _Message) -> PoolEvent:
        if message.kind == "progress":
            return Progress(message.task, message.text)
        worker.task = None
        worker.is_leaving = message.kind == "crashed"
        if message.kind == "answer":
            return Answer(message.task, message.text)
        return Failed(message.task, message.text)

    def _bury(self, worker: "_Worker") -> list[PoolEvent]:
        """Forget a dead worker; its task, if it had one, gets another attempt or is given up."""
        self._selector.unregister(worker.answers)
        self._workers.remove(worker)
        reason = worker.kill(grace_s=5.0)
        task = worker.task
        if task is None:
            return []
        will_retry = self._attempts[task.number] < MAX_ATTEMPTS
        if will_retry:
            self._queue.appendleft(task)
        return [Died(task.number, reason, will_retry)]


class _Worker:
    """One process as the pool sees it."""

    def __init__(self, n_threads: int, log: Path | None) -> None:
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        # set before PyTorch starts its threads; n workers with all cores each would slow each other down
        threads = {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
        with Path(os.devnull if log is None else log).open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "trec_dse.workers"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **threads, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C in a terminal reaches the search only; its workers end when it says so
                start_new_session=True,
            )
        self.task: _Task | None = None
        self.is_leaving = False
        self._tasks = cast(BinaryIO, self.process.stdin)
        self.answers = cast(BinaryIO, self.process.stdout)
        self._unread = b""

    def give(self, task: _Task) -> bool:
        """Hand over a task; False if the process is gone."""
        try:
            self._tasks.write(json.dumps(asdict(task)).encode() + b"\n")
            self._tasks.flush()
        except BrokenPipeError:
            return False
        self.task = task
        return True

    def read(self) -> list[_Message] | None:
        """The messages that have arrived, or None at the end of the pipe."""
        chunk = os.read(self.answers.fileno(), 1 << 16)
        if not chunk:
            return None
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return [_Message(**json.loads(line)) for line in lines]

    def kill(self, grace_s: float = 0.0) -> str:
        """End the process and its children; returns how it ended. A process that is ending gets `grace_s` for it."""
        # a pipe closes a moment before its process ends, and only the process knows by which signal
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self.answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._tasks.close()
        return f"the worker was killed by signal {-code}" if code < 0 else f"the worker ended with exit code {code}"


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve() -> None:
    """The life of a worker: run tasks until the pipe from the search closes."""
    answers = os.fdopen(os.dup(1), "wb")
    # what anything prints goes to the log; the pipe is ours
    os.dup2(2, 1)
    tasks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(os.dup(0), tasks), daemon=True).start()
    # a child of the worker must not read our tasks
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    while True:
        _run(_Task(**json.loads(tasks.get())), answers)


def _watch(handle: int, tasks: "queue.SimpleQueue[bytes]") -> None:
    with os.fdopen(handle, "rb") as pipe:
        for line in pipe:
            tasks.put(line)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _run(task: _Task, answers: BinaryIO) -> None:
    def send(kind: Literal["progress", "answer", "failed", "crashed"], text: str) -> None:
        answers.write(json.dumps(asdict(_Message(task.number, kind, text))).encode() + b"\n")
        answers.flush()

    def send_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        send("crashed", f"{kind.__name__}: {error} (a bug, not a bad candidate: its traceback is in the workers' log)")
        sys.__excepthook__(kind, error, trace)

    # an error that nobody expects ends the worker, whose state is then unknown; the search must still hear of it
    sys.excepthook = send_crash
    module, _, name = task.function.partition(":")
    function = cast(WorkerFunction, getattr(importlib.import_module(module), name))
    try:
        answer = function(task.argument, lambda text: send("progress", text))
        if task.save_as is not None:
            write_text(Path(task.save_as), answer)
    except TrecDseError as problem:
        send("failed", str(problem))
        return
    send("answer", answer)


if __name__ == "__main__":
    serve()
