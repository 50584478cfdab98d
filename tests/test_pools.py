"""Candidates on other people's clusters: Dask's, and Ray's where it is installed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_evaluation import SPACE
from searching import FAKE, counted, log_of, run

from trec_dse.errors import InputError, StudyError
from trec_dse.pools import _remote, open_pool
from trec_dse.pools._remote import Ending, RemoteTask
from trec_dse.pools.dask import DaskPool
from trec_dse.pools.ray import RayPool
from trec_dse.results import StudyRecord
from trec_dse.search_space import load_search_space
from trec_dse.storage import load_study
from trec_dse.workers import Answer, Died, Failed, PoolEvent, Progress


@pytest.fixture
def here() -> Iterator[None]:
    """Ends the processes that tasks of this process have left waiting for the next."""
    yield
    while _remote._idle:
        _remote._idle.pop()[1].close()


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Two workers of one thread each, in processes of their own."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ray() -> Iterator[str]:
    """A cluster of one machine with two places."""
    pytest.importorskip("ray")
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    command = [str(Path(sys.executable).with_name("ray"))]
    start = ["start", "--head", "--port", "0", "--num-cpus", "2", "--include-dashboard", "false"]
    subprocess.run([*command, *start], env=environment, check=True, capture_output=True)
    yield "auto"
    subprocess.run([*command, "stop", "--force"], check=True, capture_output=True)


def all_events(pool: DaskPool | RayPool, n_endings: int, within_s: float = 60.0) -> list[PoolEvent]:
    """Everything until so many tasks have ended."""
    found: list[PoolEvent] = []
    end = time.monotonic() + within_s
    while sum(not isinstance(event, Progress) for event in found) < n_endings:
        assert time.monotonic() < end, found
        found += pool.poll(1.0)
    return found


def one_of_each(pool: DaskPool | RayPool, folder: Path) -> None:
    """An answer, a refusal and a process that dies whenever it is tried."""
    names = ("echo", "refuse", "die")
    echo, refuse, die = (
        pool.submit(f"fake_evaluation:{name}", "" if name == "die" else "text", folder / name) for name in names
    )
    assert pool.n_free == 0
    found = all_events(pool, 3)
    endings = {event.task: event for event in found if not isinstance(event, Progress)}
    assert endings[echo] == Answer(echo, "")
    assert endings[refuse] == Failed(refuse, "no kernel for text")
    died = endings[die]
    assert isinstance(died, Died)
    assert died.reason.startswith("the worker was killed by signal 9 on ")
    assert not died.will_retry
    assert (folder / "echo").read_text() == "text"
    assert pool.n_free == 3


def require_complete(record: StudyRecord, folder: Path, n: int) -> None:
    """So many different candidates, each evaluated once."""
    assert {trial.state for trial in counted(record)} == {"complete", "infeasible"}
    keys = [trial.evaluation.key for trial in counted(record) if trial.evaluation]
    assert len(set(keys)) == len(keys) == n
    assert not [line for line in log_of(folder) if line.startswith("again")]


def test_a_task_runs_in_a_process_of_its_own_that_is_kept_for_the_next(here: None, tmp_path: Path) -> None:
    said: list[str] = []
    for name in ("first", "second"):
        task = RemoteTask(0, "fake_evaluation:echo", name, str(tmp_path / name))
        assert _remote.run(task, said.append) == Ending("answer")
    first, second = said
    assert first == second
    assert int(first.split()[0]) != os.getpid()
    assert (tmp_path / "second").read_text() == "second"


def test_a_task_has_as_many_threads_as_the_cluster_says(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    _remote.run(RemoteTask(0, "fake_evaluation:echo", "", str(tmp_path / "answer")), said.append)
    assert said[0].split()[1] == "3"


def test_a_process_is_not_kept_for_other_gpus(here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for devices in ("0", "1", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        _remote.run(RemoteTask(0, "fake_evaluation:echo", "", str(tmp_path / devices)), said.append)
    assert said[0] == said[2] != said[1]


def test_a_process_that_dies_is_tried_once_more_where_it_is(here: None, tmp_path: Path) -> None:
    task = RemoteTask(0, "fake_evaluation:die", str(tmp_path / "once"), str(tmp_path / "answer"))
    assert _remote.run(task, lambda _: None) == Ending("answer")
    assert (tmp_path / "answer").read_text() == "survived"


def test_dask_answers_refuses_and_survives_a_crash(dask: Any, tmp_path: Path) -> None:
    with DaskPool(3, dask.scheduler_address) as pool:
        one_of_each(pool, tmp_path)


def test_what_a_candidate_says_on_dask_is_heard_before_its_end(dask: Any, tmp_path: Path) -> None:
    with DaskPool(1, dask.scheduler_address) as pool:
        task = pool.submit("fake_evaluation:hang", "", tmp_path / "answer")
        # it says its process id, and is tried once more when that process is killed
        for _ in range(2):
            found: list[PoolEvent] = []
            while not found:
                found = pool.poll(5.0)
            (heard,) = found
            assert isinstance(heard, Progress)
            assert heard.task == task
            os.kill(int(heard.text), signal.SIGKILL)
        (died,) = all_events(pool, 1)
        assert isinstance(died, Died)


def test_a_search_on_dask_of_which_a_worker_is_killed_is_complete_and_repeats_nothing(
    dask: Any, tmp_path: Path
) -> None:
    path, folder = tmp_path / "space.py", tmp_path / "study"
    path.write_text(SPACE)
    settings = replace(FAKE, n_trials=25, workers=2, executor="dask", scheduler=dask.scheduler_address)
    search = threading.Thread(target=run, args=(load_search_space(str(path)), folder, settings), daemon=True)
    search.start()
    while search.is_alive() and not (folder / "evaluations.log").exists():
        time.sleep(0.02)
    os.kill(dask.workers[0].process.process.pid, signal.SIGKILL)
    search.join(timeout=120)
    assert not search.is_alive()
    assert len(counted(load_study(folder))) == 25
    keys = [trial.evaluation.key for trial in counted(load_study(folder)) if trial.evaluation]
    assert len(set(keys)) == 25


def test_dask_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    with pytest.raises(InputError, match="no scheduler is known; name it: --scheduler tcp://HOST:8786"):
        DaskPool(1)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9: "):
        DaskPool(1, "tcp://127.0.0.1:9", connect_s=0.5)
    with pytest.raises(InputError, match="0 tasks at a time"):
        DaskPool(0)


@pytest.mark.parametrize("executor", ["dask", "ray"])
def test_a_library_that_is_not_there_is_named(executor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("distributed", "ray"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"pip install 'trec_dse\[{executor}\]'"):
        open_pool(replace(FAKE, executor=executor), tmp_path)


def test_a_scheduler_that_is_gone_ends_the_search_with_what_to_do(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=50
    )
    pool = DaskPool(1, cluster.scheduler_address)
    pool.submit("fake_evaluation:hang", "", tmp_path / "answer")
    cluster.close()
    with pytest.raises(StudyError, match="then resume"):
        for _ in range(200):
            pool.poll(0.1)
    pool.close()


@pytest.mark.slow
def test_ray_answers_refuses_and_survives_a_crash(ray: str, tmp_path: Path) -> None:
    with RayPool(3, ray) as pool:
        one_of_each(pool, tmp_path)


@pytest.mark.slow
def test_a_search_on_ray_is_complete_and_repeats_nothing(ray: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "space.py", tmp_path / "study"
    path.write_text(SPACE)
    settings = replace(FAKE, n_trials=25, workers=2, executor="ray", scheduler=ray)
    run(load_search_space(str(path)), folder, settings)
    require_complete(load_study(folder), folder, 25)
