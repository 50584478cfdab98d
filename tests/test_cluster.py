"""Nodes: one task is one node's, a silent node loses it, and a search goes on whoever is killed."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluation import SPACE
from searching import FAKE, counted, log_of, run

from trec_dse import cluster
from trec_dse.cluster import Ending, NodePool, Queue, Task, serve
from trec_dse.errors import InputError, StudyError
from trec_dse.search_space import load_search_space
from trec_dse.storage import load_study
from trec_dse.workers import Answer, Died, Failed, PoolEvent, Progress

LEASE_S = 0.3


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[NodePool]:
    with NodePool(2, tmp_path, LEASE_S) as pool:
        yield pool


@pytest.fixture
def queue(tmp_path: Path, pool: NodePool) -> Queue:
    return Queue(tmp_path)


def take(queue: Queue) -> str:
    found = queue.take()
    assert found is not None
    return found[0]


def events(pool: NodePool, seconds: float = 5.0) -> list[PoolEvent]:
    found = pool.poll(seconds)
    assert found
    return found


@contextmanager
def node(folder: Path, idle_s: float = 60.0) -> Iterator[subprocess.Popen[str]]:
    """A node in a process of its own, which ends with the test."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    command = [sys.executable, "-m", "trec_dse", "worker", str(folder), "--idle", str(idle_s)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_task_is_taken_by_one_node_only_the_oldest_first(pool: NodePool, queue: Queue, tmp_path: Path) -> None:
    for text in ("first", "second"):
        pool.submit("module:name", text, tmp_path / text)
    assert pool.n_free == 0
    names, tasks = zip(*(found for found in (queue.take() for _ in range(3)) if found), strict=True)
    assert [task.argument for task in tasks] == ["first", "second"]
    assert len(set(names)) == 2
    assert tasks[0] == Task("module:name", "first", str(tmp_path / "first"))


def test_what_a_node_says_and_how_it_ends_is_heard_once(pool: NodePool, queue: Queue, tmp_path: Path) -> None:
    good, bad = (pool.submit("module:name", text, tmp_path / text) for text in ("good", "bad"))
    first, second = take(queue), take(queue)
    queue.beat(first, "1", "epoch 1")
    assert events(pool) == [Progress(good, "epoch 1")]
    queue.beat(first, "2", "epoch 1")
    assert pool.poll(0) == []
    queue.end(first, Ending("answer"))
    queue.end(second, Ending("failed", "no kernel for conv9"))
    assert events(pool) == [Answer(good, ""), Failed(bad, "no kernel for conv9")]
    assert pool.n_free == 2
    assert list((tmp_path / "queue").rglob("*.json")) == []


def test_a_node_that_gives_signs_of_life_keeps_its_task_beyond_the_lease(
    pool: NodePool, queue: Queue, tmp_path: Path
) -> None:
    pool.submit("module:name", "", tmp_path / "answer")
    name = take(queue)
    for i in range(8):
        queue.beat(name, str(i), "")
        assert pool.poll(LEASE_S / 4) == []


def test_a_silent_node_loses_its_task_and_after_the_second_one_it_is_given_up(
    pool: NodePool, queue: Queue, tmp_path: Path
) -> None:
    task = pool.submit("module:name", "", tmp_path / "answer")
    first = take(queue)
    queue.beat(first, "7", "")
    (died,) = events(pool)
    assert died == Died(task, "its node gave no sign of life for 0 s", will_retry=True)
    second = take(queue)
    assert second != first
    # the first one was only slow: nobody listens any more
    queue.end(first, Ending("answer"))
    assert pool.poll(0) == []
    assert events(pool) == [replace(died, will_retry=False)]
    assert (queue.take(), pool.n_free) == (None, 2)


def test_a_task_that_nobody_takes_waits_for_ever(pool: NodePool, queue: Queue, tmp_path: Path) -> None:
    pool.submit("module:name", "", tmp_path / "answer")
    assert pool.poll(2 * LEASE_S) == []
    assert queue.take() is not None


def test_a_new_search_does_not_hear_what_a_node_says_to_the_one_before(tmp_path: Path) -> None:
    with NodePool(1, tmp_path, LEASE_S) as before:
        before.submit("module:name", "", tmp_path / "answer")
        old = take(Queue(tmp_path))
    with NodePool(1, tmp_path, LEASE_S) as after:
        task = after.submit("module:name", "", tmp_path / "answer")
        Queue(tmp_path).end(old, Ending("failed", "late"))
        new = take(Queue(tmp_path))
        assert new != old
        Queue(tmp_path).end(new, Ending("answer"))
        assert events(after) == [Answer(task, "")]


def test_a_node_runs_what_it_finds_and_leaves_when_nothing_comes(
    pool: NodePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "BEAT_S", 0.1)
    echo, refuse = (pool.submit(f"fake_evaluation:{name}", "text", tmp_path / name) for name in ("echo", "refuse"))
    said: list[str] = []
    assert serve(tmp_path, 1, 0.2, said.append) == 2
    found = [event for event in events(pool) if not isinstance(event, Progress)]
    assert found == [Answer(echo, ""), Failed(refuse, "no kernel for text")]
    assert (tmp_path / "echo").read_text() == "text"
    assert [line.split(": ")[1] for line in said] == ["taken", "done", "taken", "no kernel for text"]


def test_a_node_needs_a_search_and_a_search_a_place_for_answers(pool: NodePool, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nobody searches there; start"):
        serve(tmp_path / "elsewhere", 1, 0.0, print)
    with pytest.raises(InputError, match="a task needs one"):
        pool.submit("module:name", "")
    with pytest.raises(InputError, match="both must be positive"):
        NodePool(0, tmp_path)


def test_a_search_over_two_nodes_of_which_one_is_killed_is_complete_and_repeats_nothing(tmp_path: Path) -> None:
    path, folder = tmp_path / "space.py", tmp_path / "study"
    path.write_text(SPACE)
    settings = replace(FAKE, n_trials=25, workers=4, executor="nodes", lease_s=1.0)
    Queue(folder).make()
    search = threading.Thread(target=run, args=(load_search_space(str(path)), folder, settings))
    with node(folder) as killed, node(folder):
        search.start()
        assert killed.stdout is not None
        # its worker has hardly started
        assert killed.stdout.readline().endswith(": taken\n")
        killed.kill()
        search.join()
    record = load_study(folder)
    assert len(counted(record)) == 25
    assert {trial.state for trial in counted(record)} == {"complete", "infeasible"}
    keys = [trial.evaluation.key for trial in counted(record) if trial.evaluation]
    assert len(set(keys)) == 25
    assert not [line for line in log_of(folder) if line.startswith("again")]
