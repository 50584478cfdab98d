"""Worker processes: answers, failures, deaths, and that none of them outlives the search."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trec_dse.errors import InputError
from trec_dse.workers import Answer, Died, Failed, PoolEvent, Progress, WorkerPool, n_cores

LIMIT_S = 120.0  # only reached if something hangs


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[WorkerPool]:
    with WorkerPool(1, tmp_path / "log") as pool:
        yield pool


def wait_for(pool: WorkerPool, is_last: Callable[[PoolEvent], bool]) -> list[PoolEvent]:
    """All events up to the one that is waited for."""
    events: list[PoolEvent] = []
    deadline = time.monotonic() + LIMIT_S
    while not any(is_last(event) for event in events):
        assert time.monotonic() < deadline, f"only {events}"
        events += pool.poll(1.0)
    return events


def is_over(event: PoolEvent) -> bool:
    return isinstance(event, Answer | Failed) or (isinstance(event, Died) and not event.will_retry)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still alive"
        os.sched_yield()


def test_a_task_is_answered_after_its_progress(pool: WorkerPool) -> None:
    task = pool.submit("fake_evaluation:echo", 'text with "quotes",\nlines and ümlauts')
    progress, answer = wait_for(pool, is_over)
    assert isinstance(progress, Progress)
    assert int(progress.text.split()[0]) == pool.pids[0] != os.getpid()
    assert answer == Answer(task, 'text with "quotes",\nlines and ümlauts')


def test_an_answer_longer_than_a_pipe_holds_arrives_whole(pool: WorkerPool) -> None:
    pool.submit("fake_evaluation:echo", "x" * 300_000)
    assert wait_for(pool, is_over)[-1] == Answer(0, "x" * 300_000)


def test_a_worker_is_used_again_and_what_it_prints_goes_to_the_log(tmp_path: Path) -> None:
    with WorkerPool(1, tmp_path / "log") as pool:
        pids = set()
        for text in "abc":
            pool.submit("fake_evaluation:echo", text)
            assert isinstance(wait_for(pool, is_over)[-1], Answer)
            pids |= set(pool.pids)
        assert len(pids) == 1
    assert (tmp_path / "log").read_text().count("this must not disturb the protocol") == 3


def test_the_answer_is_on_disk_before_it_is_reported(pool: WorkerPool, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answer.json"
    pool.submit("fake_evaluation:echo", "precious", save_as=path)
    wait_for(pool, is_over)
    assert path.read_text() == "precious"
    assert [entry.name for entry in path.parent.iterdir()] == ["answer.json"]


def test_cores_are_shared_out_among_the_workers() -> None:
    for n in (1, n_cores(), 2 * n_cores()):
        with WorkerPool(n) as pool:
            pool.submit("fake_evaluation:echo", "")
            progress = wait_for(pool, is_over)[0]
            assert isinstance(progress, Progress)
            assert int(progress.text.split()[1]) == max(1, n_cores() // n)


def test_two_workers_work_at_the_same_time(tmp_path: Path) -> None:
    with WorkerPool(2) as pool:
        assert pool.n_free == 2
        tasks = {pool.submit("fake_evaluation:hang", "") for _ in range(2)}
        seen: set[int] = set()
        while seen != tasks:
            seen |= {event.task for event in pool.poll(1.0)}
        assert pool.n_free == 0


def test_an_error_for_the_user_fails_the_task_and_the_worker_lives_on(pool: WorkerPool) -> None:
    task = pool.submit("fake_evaluation:refuse", "conv9")
    assert wait_for(pool, is_over) == [Failed(task, "no kernel for conv9")]
    pids = pool.pids
    pool.submit("fake_evaluation:echo", "")
    wait_for(pool, is_over)
    assert pool.pids == pids


def test_a_bug_fails_the_task_at_once_and_its_traceback_is_in_the_log(pool: WorkerPool, tmp_path: Path) -> None:
    pool.submit("fake_evaluation:evaluate_with_a_bug", "")
    (event,) = wait_for(pool, is_over)
    assert isinstance(event, Failed)
    assert event.message.startswith("ZeroDivisionError: division by zero")
    after = pool.submit("fake_evaluation:echo", "next")
    assert wait_for(pool, is_over)[-1] == Answer(after, "next")
    assert "in evaluate_with_a_bug" in (tmp_path / "log").read_text()


def test_a_function_that_is_not_there_fails_the_task(pool: WorkerPool) -> None:
    pool.submit("fake_evaluation:absent", "")
    (event,) = wait_for(pool, is_over)
    assert isinstance(event, Failed)
    assert "AttributeError" in event.message


def test_a_task_whose_worker_is_killed_is_tried_again(pool: WorkerPool, tmp_path: Path) -> None:
    task = pool.submit("fake_evaluation:die", str(tmp_path / "died"))
    assert wait_for(pool, is_over) == [
        Died(task, "the worker was killed by signal 9", will_retry=True),
        Answer(task, "survived"),
    ]


def test_a_task_that_kills_two_workers_is_given_up_and_the_next_one_runs(pool: WorkerPool) -> None:
    task = pool.submit("fake_evaluation:die", "")
    after = pool.submit("fake_evaluation:echo", "next")
    events = wait_for(pool, lambda event: isinstance(event, Answer))
    deaths = [event for event in events if isinstance(event, Died)]
    assert [(death.task, death.will_retry) for death in deaths] == [(task, True), (task, False)]
    assert events[-1] == Answer(after, "next")


def test_a_worker_that_is_killed_while_idle_is_replaced(pool: WorkerPool) -> None:
    pool.submit("fake_evaluation:echo", "")
    wait_for(pool, is_over)
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    task = pool.submit("fake_evaluation:echo", "still here")
    assert wait_for(pool, is_over)[-1] == Answer(task, "still here")
    assert pool.pids != (pid,)


def test_closing_the_pool_ends_a_worker_that_hangs() -> None:
    with WorkerPool(1) as pool:
        pool.submit("fake_evaluation:hang", "")
        wait_for(pool, lambda event: isinstance(event, Progress))
        (pid,) = pool.pids
        assert is_alive(pid)
    assert not is_alive(pid)


def test_no_worker_outlives_a_search_that_is_killed() -> None:
    program = """
        from trec_dse.workers import WorkerPool
        pool = WorkerPool(2)
        for _ in range(2):
            pool.submit("fake_evaluation:hang", "")
        seen = {}
        while len(seen) < 2:
            seen.update((event.task, event.text) for event in pool.poll(1.0))
        print(*seen.values(), flush=True)
        while True:
            pool.poll(1.0)
    """
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as search:
        assert search.stdout is not None
        pids = [int(pid) for pid in search.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        search.kill()
    for pid in pids:
        wait_until_dead(pid)


def test_a_pool_without_workers_is_refused() -> None:
    with pytest.raises(InputError, match="0 workers were asked for"):
        WorkerPool(0)
