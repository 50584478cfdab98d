"""A search in a process of its own, which is killed, interrupted, locked out or out of space."""

import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluation import SPACE, evaluation_of
from searching import FAKE, counted, log_of, run, start

from trec_dse import codec
from trec_dse.candidate import Candidate
from trec_dse.errors import StudyError
from trec_dse.events import SearchDone
from trec_dse.search_space import SearchSpace, load_search_space
from trec_dse.storage import evaluation_path, load_study


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    path = tmp_path / "space.py"
    path.write_text(SPACE)
    return load_search_space(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "study"


def read_until(search: subprocess.Popen[str], is_last: Callable[[str], bool]) -> list[str]:
    lines = []
    assert search.stdout is not None
    for line in search.stdout:
        lines.append(line.strip())
        if is_last(line.strip()):
            break
    return lines


def test_a_search_that_is_killed_again_and_again_loses_nothing_and_repeats_nothing(
    space: SearchSpace, folder: Path
) -> None:
    chance = random.Random(2)
    acknowledged: set[int] = set()
    n_kills = 5
    for _ in range(n_kills):
        with start(space, folder, n_trials=40) as search:
            n_lines = chance.randint(1, 30)
            lines = [read_until(search, lambda line: True)[0] for _ in range(n_lines)]
            search.kill()
            acknowledged |= {int(line.split()[1]) for line in lines if line.startswith("TrialDone")}
    run(space, folder, replace(FAKE, n_trials=40))
    record = load_study(folder)
    by_number = {trial.number: trial for trial in record.trials}
    assert len(counted(record)) == 40
    assert {trial.state for trial in counted(record)} == {"complete", "infeasible"}
    assert all(by_number[number].evaluation is not None for number in acknowledged)
    log = log_of(folder)
    assert not [line for line in log if line.startswith("again")]
    # an evaluation is begun anew only where the one before was cut off, at most one per worker and kill
    assert sum(log.values()) - len(log) <= 2 * n_kills
    keys = [trial.evaluation.key for trial in counted(record) if trial.evaluation]
    assert len(set(keys)) == len(keys) == 40
    for trial in record.trials:
        if trial.message.startswith("interrupted"):
            retry = trial
            while retry.message.startswith("interrupted"):
                retry = by_number[int(retry.message.rpartition(" ")[2])]
            assert trial.params.items() <= retry.params.items()


def test_an_answer_that_was_not_told_before_the_kill_is_told_after_it(space: SearchSpace, folder: Path) -> None:
    folder.mkdir()
    (folder / "hang").touch()
    with start(space, folder, n_trials=1, workers=1) as search:
        read_until(search, lambda line: line.startswith("TrialProgress"))
        search.kill()
    (folder / "hang").unlink()
    (running,) = load_study(folder).trials
    assert running.state == "running"
    # what the worker would have written in the moment of the kill
    (path,) = folder.glob("candidates/*/candidate.json")
    candidate = codec.from_json(path.read_text(), Candidate, str(path), StudyError)
    evaluation_path(folder, candidate.key).write_text(codec.to_json(evaluation_of(candidate)))
    run(space, folder, replace(FAKE, n_trials=1))
    assert sum(log_of(folder).values()) == 1
    interrupted, told = load_study(folder).trials
    assert interrupted.message == "interrupted; tried again as trial 1"
    assert told.evaluation == evaluation_of(candidate)


def test_an_interrupt_leaves_a_study_that_can_be_continued(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=3))
    (folder / "hang").touch()
    with start(space, folder, n_trials=5) as search:
        read_until(search, lambda line: line.startswith("TrialProgress"))
        search.send_signal(signal.SIGINT)
        rest, errors = search.communicate()
    assert "SearchDone" in rest
    assert errors.strip().endswith("KeyboardInterrupt")
    (folder / "hang").unlink()
    record = load_study(folder)
    assert Counter(trial.state for trial in record.trials)["running"] == 0
    assert len([trial for trial in record.trials if trial.message.startswith("interrupted")]) in (1, 2)
    assert run(space, folder, replace(FAKE, n_trials=5))[-1] == SearchDone("all trials are done", 5)


def test_a_second_search_in_the_folder_is_refused_and_reading_is_not(space: SearchSpace, folder: Path) -> None:
    folder.mkdir()
    (folder / "hang").touch()
    with start(space, folder, n_trials=5) as search:
        read_until(search, lambda line: line.startswith("TrialProgress"))
        with pytest.raises(StudyError, match=f"process {search.pid} searches here"):
            run(space, folder)
        assert load_study(folder).trials[0].state == "running"
        search.kill()


def test_a_full_disk_stops_the_search_and_spoils_nothing(space: SearchSpace, folder: Path) -> None:
    # no file may grow beyond 20 kB: the journal gets there first
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))"
    with start(space, folder, n_trials=40, before=limit) as search:
        _, errors = search.communicate()
    message = errors.strip().splitlines()[-1]
    assert message.startswith("trec_dse.errors.StudyError")
    assert "the study cannot be written: File too large; nothing that was told is lost" in message
    before = {trial.number for trial in load_study(folder).trials if trial.evaluation is not None}
    assert len(before) > 2
    run(space, folder, replace(FAKE, n_trials=40))
    after = load_study(folder)
    assert before <= {trial.number for trial in after.trials if trial.evaluation is not None}
    assert len(counted(after)) == 40
    assert not [line for line in log_of(folder) if line.startswith("again")]


def test_a_clock_that_jumps_by_days_does_not_matter(space: SearchSpace, folder: Path) -> None:
    jumping = """
import datetime, random, time
real = time.time
time.time = lambda: real() + random.choice((-1, 1)) * 86_400
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + random.choice((-1, 1)) * datetime.timedelta(days=1)
datetime.datetime = Jumping
"""
    with start(space, folder, n_trials=40, before=jumping) as search:
        read_until(search, lambda line: line.startswith("TrialDone 8"))
        search.kill()
    with start(space, folder, n_trials=40, before=jumping) as search:
        _, errors = search.communicate()
    assert not errors
    record = load_study(folder)
    assert len(counted(record)) == 40
    assert Counter(trial.state for trial in record.trials)["running"] == 0
    assert not [line for line in log_of(folder) if line.startswith("again")]
