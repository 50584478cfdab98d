"""Another board from the same trained networks: new prices, old accuracies, nothing trained."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from trec_dse import objectives, pareto, plugins, storage
from trec_dse.datasets import load
from trec_dse.errors import StudyError, TargetError
from trec_dse.evaluate import price
from trec_dse.explore import explore, resume
from trec_dse.rescore import rescore
from trec_dse.results import StudyRecord
from trec_dse.search_space import load_search_space, sample_at_random
from trec_dse.settings import ExploreSettings
from trec_dse.target import Target, load_target

SPACE = """
from trec_dse.candidate import Candidate, Recipe, TrecPolicy

DATASET = "digits"


def suggest(trial):
    width = trial.suggest_categorical("width", [4, 8, 12])
    recipe = Recipe(epochs=1, fine_tune_epochs=0, trec_epochs=0, n_train=200, n_validation=50, n_calibration=8)
    return Candidate(DATASET, "tiny", {"width": width, "depth": 1}, TrecPolicy(2, 2), {}, recipe)
"""


def board(name: str, sram_bytes: int | None = None) -> Target:
    target = load_target(plugins.data_file("targets", name, ".toml", TargetError))
    if sram_bytes is None:
        return target
    regions = tuple(
        dataclasses.replace(r, size=sram_bytes) if r.name == target.ram_region else r for r in target.regions
    )
    return dataclasses.replace(target, regions=regions)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyRecord]:
    root = tmp_path_factory.mktemp("rescore")
    (root / "space.py").write_text(SPACE)
    space = load_search_space(str(root / "space.py"))
    # one byte too few for the widest network: it does not fit and is not trained
    needed = [price(c, board("stm32f469i-disco"), load("digits")).cost.sram_bytes for c in sample_at_random(space, 3)]
    small = board("stm32f469i-disco", sram_bytes=max(needed) - 1)
    explore(space, small, root / "old", settings=ExploreSettings(n_trials=3), on_event=lambda _: None)
    return root, storage.load_study(root / "old")


def test_networks_keep_their_accuracy_and_get_new_prices(searched: tuple[Path, StudyRecord]) -> None:
    root, old = searched
    states = [trial.state for trial in old.trials if "same" not in trial.message]
    assert sorted(states) == ["complete", "complete", "infeasible"]
    result = rescore(root / "old", board("nucleo-f746zg"), root / "f746")
    assert (result.n_priced, result.n_infeasible, result.n_queued) == (2, 0, 1)
    new = storage.load_study(root / "f746")
    assert new.target.name == "nucleo-f746zg"
    before = {t.evaluation.key: t.evaluation for t in old.trials if t.evaluation and t.state == "complete"}
    for trial in new.trials:
        assert trial.evaluation is not None
        known = before[trial.evaluation.key]
        assert trial.evaluation.int8_accuracy == known.int8_accuracy
        assert trial.evaluation.estimated.arena_bytes == known.estimated.arena_bytes
        assert trial.evaluation.estimated.cycles < known.estimated.cycles  # the M7 issues two instructions at once
    assert pareto.front(new.trials, objectives.DEFAULT)


def test_what_did_not_fit_the_old_board_is_trained_on_resume(searched: tuple[Path, StudyRecord]) -> None:
    root, _ = searched
    rescore(root / "old", board("stm32f469i-disco"), root / "large")
    resume(root / "large", settings=ExploreSettings(n_trials=3), on_event=lambda _: None)
    study = storage.load_study(root / "large")
    assert [trial.state for trial in study.trials] == ["complete"] * 3
    trained = [trial.evaluation for trial in study.trials if trial.params["width"] == 12]
    assert trained[0] is not None
    assert trained[0].int8_accuracy is not None


def test_a_smaller_board_turns_trials_infeasible(searched: tuple[Path, StudyRecord]) -> None:
    root, _ = searched
    result = rescore(root / "old", board("nucleo-f746zg", sram_bytes=1000), root / "tiny")
    states = [trial.state for trial in storage.load_study(root / "tiny").trials]
    assert result.n_infeasible == states.count("infeasible") > 0


def test_a_folder_that_holds_a_study_is_left_alone(searched: tuple[Path, StudyRecord]) -> None:
    root, _ = searched
    with pytest.raises(StudyError, match="already holds a study"):
        rescore(root / "old", board("nucleo-f746zg"), root / "old")


def test_what_was_stopped_is_judged_anew_from_where_its_training_stands(tmp_path: Path) -> None:
    text = SPACE.replace("[4, 8, 12]", "[4, 6, 8, 10, 12, 14]").replace("epochs=1,", "epochs=3,", 1)
    (tmp_path / "space.py").write_text(text)
    space, settings = load_search_space(str(tmp_path / "space.py")), ExploreSettings(n_trials=6, reduction=3)
    explore(space, board("stm32f469i-disco"), tmp_path / "old", settings=settings, on_event=lambda _: None)
    states = Counter(trial.state for trial in storage.load_study(tmp_path / "old").trials if not trial.message)
    assert states["stopped"] > 0
    result = rescore(tmp_path / "old", board("nucleo-f746zg"), tmp_path / "new")
    assert (result.n_priced, result.n_queued) == (states["complete"], states["stopped"])
    resume(tmp_path / "new", settings=ExploreSettings(n_trials=6), on_event=lambda _: None)
    study = storage.load_study(tmp_path / "new")
    evaluations = [trial.evaluation for trial in study.trials if trial.evaluation and not trial.message]
    assert len({evaluation.key for evaluation in evaluations}) == 6
    assert {evaluation.target for evaluation in evaluations} == {"nucleo-f746zg"}
    # a candidate that goes no further than before costs no epoch
    stopped = [evaluation for evaluation in evaluations if evaluation.fidelity < 1]
    assert sum(evaluation.trained_epochs for evaluation in stopped) == 0
