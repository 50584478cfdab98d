"""The durable side of a study: locks, torn and damaged journals, settings, reading back."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluation import evaluation_of, target
from optuna.trial import TrialState

from trec_dse import codec
from trec_dse.candidate import Candidate
from trec_dse.durable import write_text
from trec_dse.errors import StudyError
from trec_dse.objectives import Objective, select
from trec_dse.results import Measurement
from trec_dse.storage import (
    JOURNAL,
    KEY,
    MEASUREMENT,
    SETTINGS,
    StudySettings,
    evaluation_path,
    firmware_folder,
    library_versions,
    load_study,
    open_study,
    read_settings,
    requeue_running,
    require_same,
    without_password,
    write_settings,
)

OBJECTIVES: tuple[Objective, ...] = select(("error", "sram"))
SETTINGS_OF_A = StudySettings(
    name="a",
    space="digits_tiny",
    space_sha256="1" * 64,
    dataset="digits",
    target=target(),
    objectives=("error", "sram"),
    seed=3,
    n_train=None,
    n_trials=10,
    storage=None,
    versions={"optuna": "5.0.0"},
)


def fill(folder: Path, n_trials: int) -> None:
    with open_study(folder, "a", OBJECTIVES, seed=0) as study:
        for i in range(n_trials):
            trial = study.ask()
            trial.suggest_int("x", 0, 9)
            study.tell(trial, [float(i), 1.0])


def journal_lines(folder: Path) -> list[bytes]:
    return (folder / JOURNAL).read_bytes().splitlines(keepends=True)


def test_a_new_study_is_made_and_found_again(tmp_path: Path) -> None:
    fill(tmp_path / "deep" / "folder", 3)
    with open_study(tmp_path / "deep" / "folder", "a", OBJECTIVES, seed=0) as study:
        assert [trial.values for trial in study.trials] == [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
        assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]


def test_the_second_coordinator_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    with open_study(tmp_path, "a", OBJECTIVES, seed=0):
        program = (
            "import sys; from pathlib import Path; from trec_dse.errors import StudyError\n"
            "from trec_dse.storage import open_study; from trec_dse.objectives import select\n"
            "try:\n"
            "    with open_study(Path(sys.argv[1]), 'a', select(('error', 'sram')), 0): pass\n"
            "except StudyError as error:\n"
            "    print(error)\n"
        )
        env = {"PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)], env=env, capture_output=True, text=True, check=True
        )
        assert f"process {os.getpid()} searches here" in done.stdout
    with open_study(tmp_path, "a", OBJECTIVES, seed=0):
        pass  # the lock is free again


@pytest.mark.parametrize("torn", [b'{"op_code": 4, "worker', b"\x00" * 512, b'{"op_code": 4}', b"\xff"])
def test_a_torn_last_line_is_cut_off_and_kept(tmp_path: Path, torn: bytes) -> None:
    fill(tmp_path, 3)
    whole = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(whole + torn)
    fill(tmp_path, 1)
    assert (tmp_path / JOURNAL).read_bytes().startswith(whole)
    with open_study(tmp_path, "a", OBJECTIVES, seed=0) as study:
        assert len(study.trials) == 4
    (backup,) = tmp_path.glob("*.bak")
    assert backup.read_bytes() == torn


def test_every_possible_cut_of_the_journal_can_be_continued(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    whole = (tmp_path / JOURNAL).read_bytes()
    for length in range(0, len(whole), 61):
        (tmp_path / JOURNAL).write_bytes(whole[:length])
        with open_study(tmp_path, "a", OBJECTIVES, seed=0) as study:
            study.tell(study.ask(), [0.0, 0.0])
        (tmp_path / JOURNAL).unlink()


@pytest.mark.parametrize("damage", [b"garbage\n", b"3\n", b"\n", b'{"op_code": 4}{"op_code": 4}\n'])
def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_changed(tmp_path: Path, damage: bytes) -> None:
    fill(tmp_path, 3)
    lines = journal_lines(tmp_path)
    lines[4] = damage
    (tmp_path / JOURNAL).write_bytes(b"".join(lines))
    write_settings(tmp_path, SETTINGS_OF_A)
    with (
        pytest.raises(StudyError, match=r"study\.journal:5: this line is damaged.*keep only the 4 lines before it"),
        open_study(tmp_path, "a", OBJECTIVES, seed=0),
    ):
        pass
    with pytest.raises(StudyError, match=r"study\.journal:5:"):
        load_study(tmp_path)
    assert journal_lines(tmp_path) == lines


def test_a_lock_left_by_a_killed_process_does_not_make_us_wait(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    stale = tmp_path / f"{JOURNAL}.lock"
    stale.symlink_to(JOURNAL)
    (tmp_path / f"{JOURNAL}.lock1234.rename").symlink_to("nowhere")
    fill(tmp_path, 1)
    assert not list(tmp_path.glob("*.lock?*"))
    assert not stale.is_symlink()


def test_other_objectives_than_the_stored_ones_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    with (
        pytest.raises(StudyError, match="with other objectives"),
        open_study(tmp_path, "a", select(("error",)), seed=0),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StudyError, match="file/study: no study can be written there: Not a directory"),
        open_study(tmp_path / "file" / "study", "a", OBJECTIVES, seed=0),
    ):
        pass


def test_a_database_serves_as_well_as_the_journal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    with open_study(tmp_path, "a", OBJECTIVES, seed=0, storage_url=url) as study:
        study.tell(study.ask(), [1.0, 2.0])
    write_settings(tmp_path, replace(SETTINGS_OF_A, storage=url))
    assert [record.number for record in load_study(tmp_path).trials] == [0]
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize("url", ["nonsense://x", "sqlite:////absent/folder/x.db"])
def test_a_database_that_cannot_be_opened_is_an_error_for_the_user(tmp_path: Path, url: str) -> None:
    with (
        pytest.raises(StudyError, match="cannot be opened"),
        open_study(tmp_path, "a", OBJECTIVES, seed=0, storage_url=url),
    ):
        pass


def test_no_password_is_written_to_disk() -> None:
    assert without_password("postgresql://me:secret@host/trials") == "postgresql://me@host/trials"
    assert without_password(None) is None
    with pytest.raises(StudyError, match="is no storage URL"):
        without_password("nonsense")


def test_running_trials_are_queued_again_with_their_parameters(tmp_path: Path) -> None:
    with open_study(tmp_path, "a", OBJECTIVES, seed=0) as study:
        values = [study.ask().suggest_int("x", 0, 99) for _ in range(2)]
        assert requeue_running(study) == 2
        assert requeue_running(study) == 0
        again = [study.ask() for _ in range(2)]
        assert [trial.suggest_int("x", 0, 99) for trial in again] == values
        assert [trial.user_attrs["retry_of"] for trial in again] == [0, 1]
        states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]


def test_a_queued_trial_that_is_cut_off_before_its_first_parameter_keeps_its_parameters(tmp_path: Path) -> None:
    with open_study(tmp_path, "a", OBJECTIVES, seed=0) as study:
        value = study.ask().suggest_int("x", 0, 10**9)
        for _ in range(3):
            requeue_running(study)
            trial = study.ask()
        assert trial.suggest_int("x", 0, 10**9) == value
        assert trial.user_attrs["retry_of"] == 2


def test_settings_survive_the_way_through_the_file(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS_OF_A)
    assert read_settings(tmp_path) == SETTINGS_OF_A


def test_a_folder_without_a_study_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StudyError, match=r"holds no study: there is no study\.json"):
            read_settings(folder)


def test_damaged_settings_are_named(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS_OF_A)
    data = json.loads((tmp_path / SETTINGS).read_text())
    (tmp_path / SETTINGS).write_text(json.dumps({**data, "sead": 3}))
    with pytest.raises(StudyError, match=r"study\.json: .*sead"):
        read_settings(tmp_path)


def test_the_same_settings_continue_a_study_whatever_the_versions(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS_OF_A)
    now = replace(SETTINGS_OF_A, name="moved", versions={"optuna": "5.9.0"}, space="elsewhere.py")
    assert require_same(tmp_path, now) == SETTINGS_OF_A


def test_a_changed_space_is_refused_unless_forced(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS_OF_A)
    now = replace(SETTINGS_OF_A, space_sha256="2" * 64)
    with pytest.raises(StudyError, match="the search space 'digits_tiny' has changed"):
        require_same(tmp_path, now)
    assert require_same(tmp_path, now, force=True) == now


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (replace(SETTINGS_OF_A, seed=4), "seed was 3 and is now 4"),
        (replace(SETTINGS_OF_A, objectives=("error",)), r"objectives was \('error', 'sram'\) and is now \('error',\)"),
        (replace(SETTINGS_OF_A, n_train=9), "n_train was None and is now 9"),
        (
            replace(SETTINGS_OF_A, target=replace(target(), name="b")),
            "the target was 'stm32f469i-disco' and is now 'b'",
        ),
        (replace(SETTINGS_OF_A, target=replace(target(), clock_hz=1)), "the description of the target .* has changed"),
    ],
)
def test_another_study_in_the_folder_is_refused_even_by_force(tmp_path: Path, now: StudySettings, message: str) -> None:
    write_settings(tmp_path, SETTINGS_OF_A)
    with pytest.raises(StudyError, match=message):
        require_same(tmp_path, now, force=True)


def test_every_state_is_read_back(tmp_path: Path) -> None:
    small = Candidate("digits", "tiny", {"width": 2, "depth": 1})
    large = Candidate("digits", "tiny", {"width": 20, "depth": 1})
    write_settings(tmp_path, SETTINGS_OF_A)
    for candidate in (small, large):
        write_text(evaluation_path(tmp_path, candidate.key), codec.to_json(evaluation_of(candidate)))
    with open_study(tmp_path, "a", OBJECTIVES, seed=0) as study:
        trials = [study.ask() for _ in range(6)]
        for trial, key in zip(trials, (small.key, large.key, "0" * 16, small.key), strict=False):
            trial.set_user_attr(KEY, key)
        study.tell(trials[0], [1.0, 2.0])
        study.tell(trials[1], state=TrialState.PRUNED)
        study.tell(trials[2], [1.0, 2.0])
        trials[3].set_user_attr("duplicate_of", 0)
        study.tell(trials[3], [1.0, 2.0])
        trials[4].set_user_attr("message", "no kernel for it")
        study.tell(trials[4], state=TrialState.FAIL)
        record = load_study(tmp_path)
        assert [trial.state for trial in record.trials] == [
            "complete",
            "infeasible",
            "failed",
            "complete",
            "failed",
            "running",
        ]
        assert record.trials[0].evaluation == evaluation_of(small)
        assert record.trials[1].evaluation == evaluation_of(large)
        assert "evaluation.json is missing" in record.trials[2].message
        assert record.trials[3].message == "same candidate as trial 0"
        assert record.trials[4].message == "no kernel for it"
        requeue_running(study)
    assert load_study(tmp_path).trials[5].message == "interrupted; tried again as trial 6"
    assert (record.name, record.space, record.seed, record.target) == ("a", "digits_tiny", 3, target())


def test_a_damaged_evaluation_spoils_its_trial_only(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS_OF_A)
    write_text(evaluation_path(tmp_path, "k"), '{"candidate": 3')
    with open_study(tmp_path, "a", OBJECTIVES, seed=0) as study:
        trial = study.ask()
        trial.set_user_attr(KEY, "k")
        study.tell(trial, [1.0, 2.0])
    (record,) = load_study(tmp_path).trials
    assert record.state == "failed"
    assert "evaluation.json: not valid JSON" in record.message


def test_what_a_board_showed_of_a_trials_firmware_is_read_with_it(tmp_path: Path) -> None:
    candidate = Candidate("digits", "tiny", {"width": 2, "depth": 1})
    evaluation = evaluation_of(candidate)
    write_settings(tmp_path, SETTINGS_OF_A)
    write_text(evaluation_path(tmp_path, candidate.key), codec.to_json(evaluation))
    with open_study(tmp_path, "a", OBJECTIVES, seed=0) as study:
        for _ in range(2):
            trial = study.ask()
            trial.set_user_attr(KEY, candidate.key)
            study.tell(trial, [1.0, 2.0])
    measured = Measurement("/dev/ttyACM0", 60_000, 20_000, 12_000, 300, 180_000, 180_010, 180_000_000, 3, 0, 1.0)
    folder = firmware_folder(tmp_path, 1)
    write_text(folder / "manifest.json", json.dumps({"evaluation": {"key": evaluation.key}}))
    write_text(folder / MEASUREMENT, codec.to_json(measured))
    first, second = load_study(tmp_path).trials
    assert first.evaluation == evaluation
    assert second.evaluation == replace(evaluation, measured=measured)


def test_reading_changes_nothing_and_bears_a_half_written_line(tmp_path: Path) -> None:
    write_settings(tmp_path, SETTINGS_OF_A)
    assert load_study(tmp_path).trials == ()
    assert not (tmp_path / JOURNAL).exists()
    fill(tmp_path, 2)
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_co')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(load_study(tmp_path).trials) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_versions_are_known_without_importing_torch() -> None:
    program = (
        "import sys; from trec_dse.storage import library_versions as v; print(v()); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'torch'" in done.stdout
    assert {"python", "trec_dse", "optuna", "numpy"} <= set(library_versions())


def test_a_write_replaces_the_file_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    write_text(path, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "new"


def test_a_write_that_fails_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"file/a\.json: cannot be written: "):
        write_text(tmp_path / "file" / "a.json", "")
