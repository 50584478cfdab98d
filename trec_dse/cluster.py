"""Workers on other machines: tasks, beats and answers are small files in the study's folder, which all machines share.

    queue/tasks/NAME.json      waits; a node takes it by renaming it to queue/taken/NAME.json, so only one can
    queue/beats/NAME.json      rewritten by that node again and again, with what its worker said last
    queue/answers/NAME.json    how it ended; the evaluation itself was written to the study before

Nodes know nothing of the study. The one process that asks and tells gives a task to somebody else when its beat has not
changed for the length of a lease, by its own clock: clocks that differ or jump do not matter. A node that was only slow
and answers later is not heard, and what it trained is not lost, because networks are kept under their keys.
"""

import contextlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from trec_dse import codec
from trec_dse.durable import write_text
from trec_dse.errors import InputError, StudyError
from trec_dse.settings import LEASE_S
from trec_dse.workers import MAX_ATTEMPTS, Answer, Died, Failed, PoolEvent, Progress, WorkerPool

QUEUE, NODES = "queue", "nodes"
BEAT_S = 2.0
_LOOK_S = 0.1  # between two looks at the folders


@dataclass(frozen=True)
class Task:
    """What a node runs: `function` as "module:name" on `argument`; its answer goes to the file `save_as`."""

    function: str
    argument: str
    save_as: str


@dataclass(frozen=True)
class Ending:
    """How a task ended; `text` is the error, if there was one."""

    kind: Literal["answer", "failed", "died"]
    text: str = ""


@dataclass
class _Given:
    """A task that is out: its number, its name in the queue, how often it was tried, its last sign of life."""

    number: int
    task: Task
    name: str = ""
    attempt: int = 0
    sign: str | None = None  # None: nobody has taken it
    said: str = ""
    seen_s: float = 0.0


class Queue:
    """The folders of a queue; every step in them is one rename."""

    def __init__(self, folder: Path) -> None:
        self.tasks, self.taken, self.beats, self.answers = (
            folder / QUEUE / name for name in ("tasks", "taken", "beats", "answers")
        )

    def make(self) -> None:
        """Make the folders, empty: what is left of an earlier search is nobody's any more."""
        for folder in (self.tasks, self.taken, self.beats, self.answers):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def put(self, name: str, task: Task) -> None:
        """Offer a task."""
        write_text(self.tasks / f"{name}.json", codec.to_json(task))

    def take(self) -> tuple[str, Task] | None:
        """The oldest task that is offered, now ours; None if there is none."""
        for path in sorted(self.tasks.glob("*.json")):
            mine = self.taken / path.name
            # another node may be quicker, or the search may end
            with contextlib.suppress(FileNotFoundError):
                path.rename(mine)
                return path.stem, codec.from_json(mine.read_text(encoding="utf-8"), Task, str(mine), StudyError)
        return None

    def beat(self, name: str, sign: str, said: str) -> None:
        """Show that a task is worked on; `sign` must differ from the last one."""
        temporary = self.beats / f".{name}.{os.getpid()}"
        # a beat that is lost is followed by another: no need to wait for the disk
        with contextlib.suppress(FileNotFoundError):
            temporary.write_text(json.dumps([sign, said]), encoding="utf-8")
            temporary.replace(self.beats / f"{name}.json")

    def end(self, name: str, ending: Ending) -> None:
        """Say how a task ended; nobody listens if it was given to somebody else."""
        if (self.taken / f"{name}.json").exists():
            write_text(self.answers / f"{name}.json", codec.to_json(ending))

    def forget(self, name: str) -> None:
        """Remove all of a task."""
        for folder in (self.tasks, self.taken, self.beats, self.answers):
            (folder / f"{name}.json").unlink(missing_ok=True)


class NodePool:
    """Stands where `WorkerPool` stands: up to `n` tasks are out at a time, for whatever nodes there are.

    Only for the process that holds the study.
    """

    def __init__(self, n: int, folder: Path, lease_s: float = LEASE_S) -> None:
        if n < 1 or lease_s <= 0:
            raise InputError(f"{n} tasks at a time with a lease of {lease_s} s; both must be positive")
        self._n, self._lease_s = n, lease_s
        self._queue = Queue(folder)
        self._queue.make()
        # names of an earlier search must not come again: a node may still be at work for it
        self._session = os.urandom(4).hex()
        self._next = 0
        self._out: dict[int, _Given] = {}

    @property
    def n_free(self) -> int:
        """How many more tasks may be offered."""
        return self._n - len(self._out)

    def submit(self, function: str, argument: str, save_as: Path | None = None) -> int:
        """Offer ``function(argument, progress)``; returns the task's number."""
        if save_as is None:
            raise InputError("nodes answer in files; a task needs one")
        given = _Given(self._next, Task(function, argument, str(save_as)))
        self._next += 1
        self._out[given.number] = given
        self._offer(given)
        return given.number

    def poll(self, timeout_s: float) -> list[PoolEvent]:
        """What happened; waits up to `timeout_s` seconds for something to happen."""
        end = time.monotonic() + timeout_s
        while True:
            events = [event for given in list(self._out.values()) for event in self._look(given)]
            if events or time.monotonic() >= end:
                return events
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Take back what nobody has begun; nodes finish what they have, and wait for the next search."""
        for given in self._out.values():
            self._queue.forget(given.name)
        self._out.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _offer(self, given: _Given) -> None:
        given.attempt += 1
        given.sign, given.name = None, f"{given.number:08}-{given.attempt}-{self._session}"
        self._queue.put(given.name, given.task)

    def _look(self, given: _Given) -> list[PoolEvent]:
        answer = self._queue.answers / f"{given.name}.json"
        with contextlib.suppress(FileNotFoundError):
            return [self._over(given, codec.from_json(answer.read_text("utf-8"), Ending, str(answer), StudyError))]
        if given.sign is None:
            if (self._queue.tasks / f"{given.name}.json").exists():
                return []
            given.sign, given.seen_s = "", time.monotonic()
        sign, said = self._last_beat(given)
        if sign != given.sign:
            given.sign, given.seen_s = sign, time.monotonic()
        elif time.monotonic() - given.seen_s > self._lease_s:
            return [self._lost(given)]
        if said == given.said:
            return []
        given.said = said
        return [Progress(given.number, said)]

    def _last_beat(self, given: _Given) -> tuple[str, str]:
        path = self._queue.beats / f"{given.name}.json"
        try:
            sign, said = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return given.sign or "", given.said
        return str(sign), str(said)

    def _over(self, given: _Given, ending: Ending) -> PoolEvent:
        self._queue.forget(given.name)
        del self._out[given.number]
        if ending.kind == "answer":
            return Answer(given.number, "")
        if ending.kind == "failed":
            return Failed(given.number, ending.text)
        return Died(given.number, ending.text, will_retry=False)

    def _lost(self, given: _Given) -> PoolEvent:
        self._queue.forget(given.name)
        will_retry = given.attempt < MAX_ATTEMPTS
        if will_retry:
            self._offer(given)
        else:
            del self._out[given.number]
        return Died(given.number, f"its node gave no sign of life for {self._lease_s:.0f} s", will_retry)


@dataclass
class _Job:
    name: str
    said: str = ""


def serve(folder: Path, n: int, idle_s: float, say: Callable[[str], None]) -> int:
    """The life of a node: up to `n` tasks at a time, until none has come for `idle_s` seconds; returns how many ended.

    `say` is told what is taken and how it ended. Raises StudyError if the folder holds no queue to begin with.
    """
    queue, me = Queue(folder), f"{socket.gethostname()}-{os.getpid()}"
    if not queue.tasks.is_dir():
        raise StudyError(f"{folder}: nobody searches there; start `trec-dse search ... --executor nodes` first")
    jobs: dict[int, _Job] = {}
    n_ended, n_beats, idle_since = 0, 0, time.monotonic()
    (folder / NODES).mkdir(exist_ok=True)
    with WorkerPool(n, folder / NODES / f"{me}.log") as pool:
        while jobs or time.monotonic() - idle_since < idle_s:
            while pool.n_free and (found := queue.take()) is not None:
                name, task = found
                jobs[pool.submit(task.function, task.argument, Path(task.save_as))] = _Job(name)
                say(f"{name}: taken")
            if not jobs:
                time.sleep(_LOOK_S)
                continue
            for event in pool.poll(BEAT_S):
                ending = _ending(event, jobs[event.task])
                if ending is not None:
                    job = jobs.pop(event.task)
                    queue.end(job.name, ending)
                    say(f"{job.name}: {ending.text or 'done'}")
                    n_ended += 1
            n_beats, idle_since = n_beats + 1, time.monotonic()
            for job in jobs.values():
                queue.beat(job.name, f"{me} {n_beats}", job.said)
    return n_ended


def _ending(event: PoolEvent, job: _Job) -> Ending | None:
    """How the job ended, if it did."""
    match event:
        case Progress():
            job.said = event.text
            return None
        case Answer():
            return Ending("answer")
        case Failed():
            return Ending("failed", event.message)
        case Died():
            return None if event.will_retry else Ending("died", event.reason)
