"""Candidates on a Ray cluster: one task each, with the share of a GPU that it asks for.

A task whose worker or machine is lost is given out once more; training goes on from the last epoch that was saved,
since all machines see the study's folder. What candidates say while they train is collected by an actor.
"""

import time
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trec_dse.errors import InputError, StudyError
from trec_dse.pools._remote import Ending, RemoteTask, run
from trec_dse.workers import MAX_ATTEMPTS, Died, PoolEvent, Progress

NEEDS = "--executor ray needs Ray: pip install 'trec_dse[ray]', here and where its workers run"
_LOOK_S = 0.2


class RayPool:
    """Stands where `WorkerPool` stands: up to `n` tasks are with Ray at a time; a context manager."""

    def __init__(self, n: int, address: str | None = None, *, n_gpus: float = 0.0) -> None:
        """`address`: of the cluster, None the one that runs here. `n_gpus`: of every task; 0.25 lets four share one.

        Raises InputError if Ray is missing or no cluster is found.
        """
        if n < 1 or n_gpus < 0:
            raise InputError(f"{n} tasks at a time with {n_gpus} GPUs each; needed at least 1 and no negative share")
        self._n, self._next = n, 0
        self._ray = _connect(address)
        self._listener = self._ray.remote(num_cpus=0)(Listener).remote()
        self._run = self._ray.remote(num_cpus=1, num_gpus=n_gpus, max_retries=0)(_run_task)
        self._out: dict[Any, tuple[RemoteTask, int]] = {}  # by reference: the task, and which attempt this is

    @property
    def n_free(self) -> int:
        """How many more tasks may be given to Ray."""
        return self._n - len(self._out)

    def submit(self, function: str, argument: str, save_as: Path | None = None) -> int:
        """Give ``function(argument, progress)`` to Ray; returns the task's number."""
        if save_as is None:
            raise InputError("a cluster answers in files; a task needs one")
        task = RemoteTask(self._next, function, argument, str(save_as))
        self._next += 1
        self._give(task, attempt=1)
        return task.number

    def poll(self, timeout_s: float) -> list[PoolEvent]:
        """What happened; waits up to `timeout_s` seconds for something to happen. StudyError without the cluster."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                events = self._said() + self._ended()
            except (self._ray.exceptions.ActorDiedError, ConnectionError) as problem:
                raise StudyError(
                    "the connection to the Ray cluster is lost; what was trained is in the study's folder: start the "
                    "cluster anew, then resume"
                ) from problem
            if events or time.monotonic() >= end:
                return events
            time.sleep(min(_LOOK_S, max(0.0, end - time.monotonic())))

    def close(self) -> None:
        """Take back what has not begun; workers finish what they have."""
        for reference in self._out:
            self._ray.cancel(reference, force=False)
        self._out.clear()
        self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give(self, task: RemoteTask, attempt: int) -> None:
        self._out[self._run.remote(*astuple(task), self._listener)] = task, attempt

    def _said(self) -> list[PoolEvent]:
        numbers = {task.number for task, _ in self._out.values()}
        said = self._ray.get(self._listener.heard.remote())
        return [Progress(number, text) for number, text in said if number in numbers]

    def _ended(self) -> list[PoolEvent]:
        if not self._out:
            return []
        done, _ = self._ray.wait(list(self._out), num_returns=len(self._out), timeout=0)
        return [self._over(reference) for reference in done]

    def _over(self, reference: Any) -> PoolEvent:
        task, attempt = self._out.pop(reference)
        try:
            return Ending(*self._ray.get(reference)).event(task.number)
        except self._ray.exceptions.RayError as problem:
            will_retry = attempt < MAX_ATTEMPTS
            if will_retry:
                self._give(task, attempt + 1)
            reason = str(problem).strip().split("\n")[0]
            return Died(task.number, f"on the Ray cluster: {reason}", will_retry)


class Listener:
    """An actor: hears what tasks say, until the search asks."""

    def __init__(self) -> None:
        self._said: list[tuple[int, str]] = []

    def say(self, number: int, text: str) -> None:
        """Keep it."""
        self._said.append((number, text))

    def heard(self) -> list[tuple[int, str]]:
        """What was said since the last time."""
        said, self._said = self._said, []
        return said


def _connect(address: str | None) -> Any:
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as problem:
        raise InputError(NEEDS) from problem
    try:
        ray.init(address=address or "auto", log_to_driver=False, configure_logging=False, include_dashboard=False)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        where = f"at {address}" if address else "on this machine, and no --scheduler names another"
        raise InputError(f"no Ray cluster is found {where}; start one with `ray start --head`") from problem
    return ray


def _run_task(number: int, function: str, argument: str, save_as: str, listener: Any) -> tuple[str, str]:
    """What the worker runs; only plain values travel."""
    ending = run(RemoteTask(number, function, argument, save_as), lambda text: listener.say.remote(number, text))
    return ending.kind, ending.text
