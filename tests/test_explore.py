"""The search: what it evaluates, tells and keeps, whatever is killed, full, torn or wrong."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from fake_evaluation import SPACE, target
from searching import FAKE, counted, log_of, run

from trec_dse import codec
from trec_dse.candidate import Candidate
from trec_dse.errors import InputError, SearchSpaceError, StudyError
from trec_dse.events import (
    SearchDone,
    SearchStarted,
    TrialDone,
    TrialDuplicate,
    TrialFailed,
    TrialProgress,
    TrialStarted,
    WorkerDied,
)
from trec_dse.explore import explore, resume
from trec_dse.objectives import select
from trec_dse.search_space import SearchSpace, load_search_space
from trec_dse.storage import JOURNAL, load_study, open_study


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    path = tmp_path / "space.py"
    path.write_text(SPACE)
    return load_search_space(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "study"


def space_with(space: SearchSpace, body: str) -> SearchSpace:
    """The space with another `suggest`."""
    source = space.source.decode().split("def suggest")[0] + "def suggest(trial):\n" + body
    space.path.write_text(source)
    return load_search_space(space.given)


def best_numbers(folder: Path) -> set[int]:
    with open_study(folder, "study", select(FAKE.objectives), seed=0) as study:
        return {trial.number for trial in study.best_trials}


def test_thirty_trials_with_two_workers_evaluate_thirty_candidates_once_each(space: SearchSpace, folder: Path) -> None:
    events = run(space, folder)
    record = load_study(folder)
    assert len(counted(record)) == 30
    assert {trial.state for trial in record.trials} == {"complete", "infeasible"}
    log = log_of(folder)
    assert len(log) == 30
    assert set(log.values()) == {1}
    assert isinstance(events[0], SearchStarted)
    assert events[-1] == SearchDone("all trials are done", 30)
    assert sum(isinstance(event, TrialDone) for event in events) == 30
    assert sum(isinstance(event, TrialStarted) for event in events) == 30
    assert TrialProgress(0, "epoch 1 of 1") in events


def test_what_is_told_is_what_the_evaluation_says(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=12))
    with open_study(folder, "study", select(FAKE.objectives), seed=0) as study:
        trials = study.trials
    for told, record in zip(trials, load_study(folder).trials, strict=True):
        assert record.evaluation is not None
        width, depth = int(told.params["width"]), int(told.params["depth"])
        # 64 KiB of SRAM per unit of width, 640 allowed; 10 KiB of Flash per width and depth, 2048 allowed
        assert told.system_attrs["constraints:sram"] == pytest.approx(64 * width / 640 - 1)
        assert told.system_attrs["constraints:flash"] == pytest.approx(10 * width * depth / 2048 - 1)
        bits = told.params["hash_bits"] if told.params["use_trec"] else 8
        assert told.user_attrs["macs"] == 1000 * width * depth * bits
        assert told.user_attrs["key"] == record.evaluation.candidate.key
        if width > 10:
            assert told.state == optuna.trial.TrialState.PRUNED
            assert record.state == "infeasible"
        else:
            error = 100 / (1 + width * depth * bits)
            assert told.values == pytest.approx([error, 64 * width, 10 * width * depth, width * depth * bits])


def test_the_sampler_sees_the_constraints(space: SearchSpace, folder: Path) -> None:
    run(space, folder)
    trials = {trial.number: trial for trial in load_study(folder).trials}
    states = Counter(trial.state for trial in trials.values())
    assert states["infeasible"] > 0
    best = best_numbers(folder)
    assert best
    assert {trials[number].state for number in best} == {"complete"}


def test_one_worker_and_one_seed_give_the_same_search_again(space: SearchSpace, tmp_path: Path) -> None:
    def params(name: str, seed: int) -> list[object]:
        run(space, tmp_path / name, replace(FAKE, n_trials=14, workers=1, seed=seed))
        return [trial.params for trial in load_study(tmp_path / name).trials]

    first = params("a", 1)
    assert params("b", 1) == first
    assert params("c", 2) != first


def test_candidates_are_on_disk_as_json(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=3))
    for path in folder.glob("candidates/*/candidate.json"):
        candidate = codec.from_json(path.read_text(), Candidate, str(path), StudyError)
        assert candidate.key == path.parent.name
        text = (path.parent / "evaluation.json").read_text()
        assert json.loads(text)["key"] == candidate.key
    assert (folder / "search_space.py").read_text() == SPACE


def test_a_second_run_with_more_trials_goes_on(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=5))
    events = run(space, folder, replace(FAKE, n_trials=8))
    assert isinstance(events[0], SearchStarted)
    assert len(events[0].records) >= 5
    assert events[-1] == SearchDone("all trials are done", 8)
    assert len(log_of(folder)) == 8
    assert run(space, folder, replace(FAKE, n_trials=8))[1:] == [SearchDone("all trials are done", 8)]


def test_a_duplicate_is_answered_at_once_and_does_not_count(space: SearchSpace, folder: Path) -> None:
    body = "    trial.suggest_int('unused', 1, 100)\n    width = trial.suggest_int('width', 1, 4)\n"
    body += "    return Candidate(DATASET, 'tiny', {'width': width, 'depth': 1})\n"
    events = run(space_with(space, body), folder, replace(FAKE, n_trials=4))
    duplicates = [event for event in events if isinstance(event, TrialDuplicate)]
    assert events[-1] == SearchDone("all trials are done", 4)
    assert duplicates
    assert sum(log_of(folder).values()) == 4
    records = {trial.number: trial for trial in load_study(folder).trials}
    for event in duplicates:
        original = records[event.of]
        assert records[event.record.number].message == f"same candidate as trial {event.of}"
        assert event.record.evaluation == original.evaluation
        assert event.record.params["width"] == original.params["width"]


def test_a_space_with_nothing_new_ends_the_search(space: SearchSpace, folder: Path) -> None:
    body = "    trial.suggest_int('unused', 1, 100)\n    width = trial.suggest_int('width', 1, 2)\n"
    body += "    return Candidate(DATASET, 'tiny', {'width': width, 'depth': 1})\n"
    events = run(space_with(space, body), folder, replace(FAKE, n_trials=20))
    assert isinstance(events[-1], SearchDone)
    assert "100 duplicates in a row" in events[-1].reason
    assert events[-1].n_done == 2


def test_an_evaluation_that_lies_there_is_read_instead_of_made(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=10))
    # the journal is lost, the candidates are not: the same seed asks for the same first candidates
    (folder / JOURNAL).unlink()
    before = log_of(folder)
    run(space, folder, replace(FAKE, n_trials=2))
    assert log_of(folder) == before
    assert len(counted(load_study(folder))) == 2


def test_a_damaged_evaluation_is_made_again(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=1, workers=1))
    (path,) = folder.glob("candidates/*/evaluation.json")
    path.write_text(path.read_text()[:100])
    (folder / JOURNAL).unlink()
    run(space, folder, replace(FAKE, n_trials=1, workers=1))
    key = path.parent.name
    assert log_of(folder) == {f"start {key}": 1, f"again {key}": 1}
    assert load_study(folder).trials[0].evaluation is not None


def test_n_train_overrides_the_recipe(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=2, n_train=500))
    evaluations = [trial.evaluation for trial in load_study(folder).trials]
    assert [evaluation and evaluation.candidate.recipe.n_train for evaluation in evaluations] == [500, 500]


def test_a_killed_worker_costs_nothing_but_time(space: SearchSpace, folder: Path) -> None:
    folder.mkdir()
    (folder / "kill_worker").touch()
    events = run(space, folder, replace(FAKE, n_trials=6))
    (death,) = [event for event in events if isinstance(event, WorkerDied)]
    assert death.will_retry
    assert [trial.state for trial in counted(load_study(folder)) if trial.state == "failed"] == []
    assert events[-1] == SearchDone("all trials are done", 6)


def test_workers_that_always_die_stop_the_search_with_the_reason(space: SearchSpace, folder: Path) -> None:
    folder.mkdir()
    (folder / "kill_worker_always").touch()
    with pytest.raises(StudyError, match=r"5 trials in a row failed; .*killed by signal 9, twice"):
        run(space, folder, replace(FAKE, workers=1))
    (folder / "kill_worker_always").unlink()
    run(space, folder, replace(FAKE, n_trials=10))
    states = Counter(trial.state for trial in counted(load_study(folder)))
    assert states["failed"] == 5
    assert states.total() == 10


def test_a_failing_candidate_fails_its_trial_and_the_search_goes_on(space: SearchSpace, folder: Path) -> None:
    body = "    width = trial.suggest_int('width', 1, 10**6)\n"
    body += "    return Candidate(DATASET, 'tiny', {'width': width, 'depth': 1, 'fail': trial.number % 3 == 1})\n"
    events = run(space_with(space, body), folder, replace(FAKE, n_trials=18, workers=1))
    failed = [event.number for event in events if isinstance(event, TrialFailed)]
    # six failures, but never five in a row
    assert failed == [1, 4, 7, 10, 13, 16]
    trials = load_study(folder).trials
    assert [trials[number].message for number in failed] == ["this candidate cannot be evaluated"] * 6


def test_a_bug_in_the_evaluation_stops_the_search_and_names_itself(space: SearchSpace, folder: Path) -> None:
    with pytest.raises(StudyError, match="5 trials in a row failed; the last: trial 4: ZeroDivisionError"):
        run(space, folder, replace(FAKE, workers=1, function="fake_evaluation:evaluate_with_a_bug"))
    assert "evaluate_with_a_bug" in (folder / "workers.log").read_text()


def test_a_space_that_raises_in_some_trials_goes_on(space: SearchSpace, folder: Path) -> None:
    body = "    width = trial.suggest_int('width', 1, 10**6)\n    assert trial.number != 1, 'not this one'\n"
    body += "    return Candidate(DATASET, 'tiny', {'width': width, 'depth': 1})\n"
    events = run(space_with(space, body), folder, replace(FAKE, n_trials=4, workers=1))
    (failed,) = [event for event in events if isinstance(event, TrialFailed)]
    assert failed.number == 1
    assert "space.py:11: AssertionError: not this one" in failed.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return 1 / 0", r"space\.py:10: ZeroDivisionError"),
        ("return Candidate(DATASET, 'tiny', {'width': [1]})", "impossible candidate"),
        ("return Candidate('mnist', 'tiny')", "for the dataset 'mnist'"),
    ],
)
def test_a_space_that_always_fails_stops_the_search(space: SearchSpace, folder: Path, line: str, message: str) -> None:
    with pytest.raises(StudyError, match=f"5 trials in a row failed; the last: trial 4: .*{message}"):
        run(space_with(space, f"    {line}\n"), folder)
    assert len(load_study(folder).trials) == 5


def test_after_the_time_is_up_nothing_new_is_started(space: SearchSpace, folder: Path) -> None:
    events = run(space, folder, replace(FAKE, timeout_s=-1.0))
    assert events[1:] == [SearchDone("the time is up", 0)]
    events = run(space, folder, replace(FAKE, n_trials=3, timeout_s=1e6))
    assert events[-1] == SearchDone("all trials are done", 3)


def test_a_changed_space_is_refused_unless_forced(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=2))
    body = "    width = trial.suggest_int('width', 1, 9)\n"
    changed = space_with(space, body + "    return Candidate(DATASET, 'tiny', {'width': width, 'depth': 1})\n")
    with pytest.raises(StudyError, match="has changed since the study began"):
        run(changed, folder)
    run(changed, folder, replace(FAKE, n_trials=4, force=True))
    assert len(counted(load_study(folder))) == 4
    assert (folder / "search_space.py").read_bytes() == changed.source


def test_another_target_or_seed_is_refused(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=1))
    with pytest.raises(StudyError, match="seed was 0 and is now 7"):
        run(space, folder, replace(FAKE, seed=7))
    with pytest.raises(StudyError, match="the target was 'stm32f469i-disco' and is now 'other'"):
        explore(space, replace(target(), name="other"), folder, settings=FAKE, on_event=lambda event: None)


def test_resume_knows_everything_from_the_folder(space: SearchSpace, tmp_path: Path) -> None:
    first = replace(FAKE, n_trials=3, seed=9, objectives=("sram", "error"), n_train=77)
    run(space, tmp_path / "study", first)
    shutil.move(tmp_path / "study", tmp_path / "moved")
    space.path.unlink()
    resume(tmp_path / "moved", settings=replace(FAKE, n_trials=6), on_event=lambda event: None)
    record = load_study(tmp_path / "moved")
    assert (record.name, record.seed, len(counted(record))) == ("study", 9, 6)
    assert {trial.evaluation.candidate.recipe.n_train for trial in record.trials if trial.evaluation} == {77}


def test_resume_of_a_folder_without_a_study_says_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        resume(tmp_path, settings=FAKE, on_event=lambda event: None)


def test_a_journal_without_its_settings_is_refused(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=1))
    (folder / "study.json").unlink()
    with pytest.raises(StudyError, match=r"has trials of a study 'study', but .* has no study\.json"):
        run(space, folder)


def test_impossible_settings_are_refused(space: SearchSpace, folder: Path) -> None:
    with pytest.raises(InputError, match="0 trials were asked for"):
        run(space, folder, replace(FAKE, n_trials=0))
    with pytest.raises(InputError, match="no objective named 'beauty'"):
        run(space, folder, replace(FAKE, objectives=("beauty",)))
    with pytest.raises(InputError, match="0 workers"):
        run(space, folder, replace(FAKE, workers=0))


def test_a_search_may_run_outside_the_main_thread(space: SearchSpace, folder: Path) -> None:
    thread = threading.Thread(target=run, args=(space, folder, replace(FAKE, n_trials=2)))
    thread.start()
    thread.join()
    assert len(counted(load_study(folder))) == 2


def test_a_database_holds_the_trials_instead_of_the_journal(space: SearchSpace, folder: Path) -> None:
    folder.mkdir()
    settings = replace(FAKE, n_trials=2, storage_url=f"sqlite:///{folder / 'trials.db'}")
    run(space, folder, settings)
    resume(folder, settings=replace(FAKE, n_trials=3), on_event=lambda event: None)
    assert len(counted(load_study(folder))) == 3
    assert not (folder / JOURNAL).exists()


def test_a_torn_journal_is_mended_on_the_way(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=4))
    with (folder / JOURNAL).open("rb+") as journal:
        journal.truncate((folder / JOURNAL).stat().st_size - 9)
    assert run(space, folder, replace(FAKE, n_trials=6))[-1] == SearchDone("all trials are done", 6)
    assert len(log_of(folder)) == 6
    assert len(list(folder.glob("*.bak"))) == 1


def test_a_study_is_read_without_torch(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=1))
    program = (
        "import sys, trec_dse.explore; from pathlib import Path; from trec_dse.storage import load_study\n"
        "load_study(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
    assert subprocess.run([sys.executable, "-c", program, str(folder)], env=env, check=False).returncode == 0


def test_a_space_that_is_gone_and_has_no_copy_is_named(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(FAKE, n_trials=1))
    space.path.unlink()
    (folder / "search_space.py").unlink()
    with pytest.raises(SearchSpaceError, match=r"search_space\.py: no such file"):
        resume(folder, settings=FAKE, on_event=lambda event: None)
