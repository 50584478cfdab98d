"""Candidates on a Dask cluster: one task each, wherever the scheduler finds room.

The scheduler gives the task of a worker that it has lost to another one; training goes on from the last epoch that was
saved, since all of them see the study's folder. What a candidate says while it trains comes as an event of the
scheduler's.
"""

import contextlib
import os
import queue
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trec_dse.errors import InputError, StudyError
from trec_dse.pools._remote import Ending, RemoteTask, run
from trec_dse.workers import Died, PoolEvent, Progress

CONNECT_S = 20.0
NEEDS = "--executor dask needs Dask: pip install 'trec_dse[dask]', here and where its workers run"


class DaskPool:
    """Stands where `WorkerPool` stands: up to `n` tasks are with the scheduler at a time; a context manager."""

    def __init__(self, n: int, address: str | None = None, connect_s: float = CONNECT_S) -> None:
        """`address`: tcp://HOST:PORT, or the scheduler's file; None takes DASK_SCHEDULER_ADDRESS.

        Raises InputError if Dask is missing, no address is known, or nobody answers there within `connect_s` seconds.
        """
        if n < 1:
            raise InputError(f"{n} tasks at a time were asked for; it must be at least 1")
        self._n, self._out = n, dict[int, Any]()
        self._news: queue.SimpleQueue[PoolEvent] = queue.SimpleQueue()
        self._next, self._topic = 0, f"trec_dse-{os.urandom(6).hex()}"
        self._client = _connect(address, connect_s)
        self._client.subscribe_topic(self._topic, self._heard)

    @property
    def n_free(self) -> int:
        """How many more tasks may be given to the scheduler."""
        return self._n - len(self._out)

    def submit(self, function: str, argument: str, save_as: Path | None = None) -> int:
        """Give ``function(argument, progress)`` to the scheduler; returns the task's number."""
        if save_as is None:
            raise InputError("a cluster answers in files; a task needs one")
        number, self._next = self._next, self._next + 1
        task = RemoteTask(number, function, argument, str(save_as))
        future = self._client.submit(_run_task, *astuple(task), self._topic, key=f"{self._topic}-{number}", pure=False)
        self._out[number] = future
        future.add_done_callback(lambda done: self._news.put(_how_it_ended(number, done)))
        return number

    def poll(self, timeout_s: float) -> list[PoolEvent]:
        """What happened; waits up to `timeout_s` seconds for something to happen. StudyError without the scheduler."""
        events: list[PoolEvent] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._news.get(timeout=timeout_s))
            while True:
                events.append(self._news.get_nowait())
        if self._client.status not in {"running", "newly-created"}:
            raise StudyError(
                "the connection to the Dask scheduler is lost; what was trained is in the study's folder: start the "
                "cluster anew, then resume"
            )
        heard = [event for event in events if event.task in self._out]
        for event in heard:
            if not isinstance(event, Progress):
                del self._out[event.task]
        return heard

    def close(self) -> None:
        """Take back what has not begun; workers finish what they have."""
        with contextlib.suppress(Exception):  # there may be no scheduler any more
            self._client.cancel(list(self._out.values()))
        self._out.clear()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _heard(self, event: tuple[float, tuple[int, str]]) -> None:
        _, (number, text) = event
        self._news.put(Progress(number, text))


def _connect(address: str | None, connect_s: float) -> Any:
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError as problem:
        raise InputError(NEEDS) from problem
    address = address or os.environ.get("DASK_SCHEDULER_ADDRESS")
    if address is None:
        raise InputError(
            "--executor dask: no scheduler is known; name it: --scheduler tcp://HOST:8786 or its file, or set "
            "DASK_SCHEDULER_ADDRESS"
        )
    where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        return Client(**where, timeout=connect_s, set_as_default=False)
    except (OSError, ValueError, TypeError) as problem:
        raise InputError(
            f"no Dask scheduler answers at {address}: {problem}; start one with `dask scheduler`"
        ) from problem


def _run_task(number: int, function: str, argument: str, save_as: str, topic: str) -> tuple[str, str]:
    """What the worker runs; only plain values travel."""
    from distributed import get_worker  # noqa: PLC0415 - an extra

    say: Callable[[str], None] = lambda text: get_worker().log_event(topic, (number, text))  # noqa: E731
    ending = run(RemoteTask(number, function, argument, save_as), say)
    return ending.kind, ending.text


def _how_it_ended(number: int, future: Any) -> PoolEvent:
    """Of a future that is done."""
    if future.status == "finished":
        return Ending(*future.result()).event(number)
    if future.status == "cancelled":
        return Died(number, "the Dask scheduler has dropped it", will_retry=False)
    return Died(number, f"on the Dask cluster: {future.exception()}", will_retry=False)
