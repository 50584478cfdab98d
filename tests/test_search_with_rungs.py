"""A search that trains only the promising to the end: what it trains, tells, keeps, and how it goes on after a kill."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluation import SPACE
from searching import FAKE, run, start

from trec_dse import objectives, pareto
from trec_dse.cli import main
from trec_dse.events import Event, SearchDone, TrialDone, TrialPromoted
from trec_dse.objectives import select
from trec_dse.pick import Budgets, pick
from trec_dse.results import Evaluation
from trec_dse.rungs import judged
from trec_dse.search_space import SearchSpace, load_search_space
from trec_dse.storage import load_study, open_study

RUNGS = replace(FAKE, n_trials=72, workers=1, reduction=3)
RECIPE = "Recipe(epochs=27, fine_tune_epochs=0, trec_epochs=0)"


def make_space(folder: Path) -> SearchSpace:
    path = folder / "space.py"
    text = SPACE.replace("import Candidate", "import Candidate, Recipe")
    path.write_text(text.replace("if use_trec else None,\n", f"if use_trec else None,\n        recipe={RECIPE},\n"))
    return load_search_space(str(path))


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return make_space(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A study that tests only read, and what happened."""
    root = tmp_path_factory.mktemp("finished")
    return root / "study", run(make_space(root), root / "study", RUNGS)


@pytest.fixture
def searched(finished: tuple[Path, list[Event]]) -> Path:
    return finished[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "study"


def evaluations(folder: Path) -> list[Evaluation]:
    return [evaluation for evaluation in judged(load_study(folder).trials) if evaluation.is_feasible]


def test_few_are_trained_to_the_end_and_each_goes_on_from_where_it_was(finished: tuple[Path, list[Event]]) -> None:
    folder, events = finished
    assert events[-1] == SearchDone("all trials are done", 72)
    found = evaluations(folder)
    n_whole = sum(evaluation.fidelity == 1 for evaluation in found)
    assert 0 < n_whole < len(found)
    for evaluation in found:
        # no epoch twice: the epochs of all rungs add up to the last
        assert evaluation.trained_epochs == evaluation.rungs[-1].epochs
    assert sum(isinstance(event, TrialPromoted) for event in events) > n_whole


def test_the_front_holds_only_what_was_trained_to_the_end(searched: Path) -> None:
    front = pareto.front(load_study(searched).trials, objectives.DEFAULT)
    assert front
    for record in front:
        assert record.evaluation is not None
        assert record.evaluation.fidelity == 1
    best = {record.evaluation.key for record in front if record.evaluation}
    whole = [evaluation for evaluation in evaluations(searched) if evaluation.fidelity == 1]
    on_front = pareto.non_dominated(pareto.losses(whole, objectives.DEFAULT))
    assert {evaluation.key for evaluation, is_best in zip(whole, on_front, strict=True) if is_best} == best


def test_stopped_trials_are_told_complete_with_their_rung(searched: Path) -> None:
    with open_study(searched, "study", select(RUNGS.objectives), seed=0) as study:
        trials = study.get_trials(deepcopy=False)
    stopped = [trial for trial in trials if trial.user_attrs.get("fidelity", 1) < 1]
    assert stopped
    assert all(trial.state.name == "COMPLETE" for trial in stopped)
    promoted = [trial for trial in trials if "promoted_from" in trial.user_attrs]
    for trial in promoted:
        first = trials[trial.user_attrs["duplicate_of"]]
        assert trial.params == first.params
        assert trial.user_attrs["rung"] > trial.user_attrs["promoted_from"] >= first.user_attrs["rung"]
    # epochs are counted once
    told = sum(trial.user_attrs.get("epochs", 0) for trial in trials)
    assert told == sum(evaluation.trained_epochs for evaluation in evaluations(searched))


def test_untrained_candidates_are_told_with_the_error_that_is_foreseen(searched: Path) -> None:
    with open_study(searched, "study", select(RUNGS.objectives), seed=0) as study:
        trials = study.get_trials(deepcopy=False)
    # the fake gives 90 % to all that are untrained, and before anything is trained nothing can be foreseen
    start = next(trial.number for trial in trials if trial.user_attrs.get("rung", 0) > 0 and trial.values)
    told: dict[bool, list[float]] = {False: [], True: []}
    for trial in trials:
        if trial.user_attrs.get("rung") == 0:
            told[trial.number > start].append(trial.values[0])
    assert told[False] == pytest.approx([90] * len(told[False]))
    foreseen = told[True]
    assert len(set(foreseen)) > 1
    assert all(error != pytest.approx(90) for error in foreseen)


def test_a_study_with_rungs_is_shown_with_their_correlations_and_picked_from(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = searched
    assert main(["status", str(folder), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["n_stopped"] > 0
    assert shown["epochs"] == sum(evaluation.trained_epochs for evaluation in evaluations(folder))
    # from one epoch on the fake's errors keep their order
    assert {(c["lower"], c["upper"]): c["rho"] for c in shown["rungs"]}[(1, 3)] == pytest.approx(1)
    assert main(["status", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "1 epoch -> 3 epochs: Spearman 1.00 over" in text
    study = load_study(folder)
    picked = pick(study.trials, Budgets(), objectives.DEFAULT)
    assert picked.record.evaluation is not None
    assert picked.record.evaluation.fidelity == 1


def test_no_epoch_is_started_beyond_the_limit(space: SearchSpace, folder: Path) -> None:
    events = run(space, folder, replace(RUNGS, workers=1, max_epochs=30))
    assert isinstance(events[-1], SearchDone)
    assert events[-1].reason == "the epochs are spent"
    spent = sum(evaluation.trained_epochs for evaluation in evaluations(folder))
    assert 30 <= spent < 57
    # with a higher limit it goes on
    run(space, folder, replace(RUNGS, workers=1, max_epochs=60))
    assert sum(evaluation.trained_epochs for evaluation in evaluations(folder)) >= 60


def test_a_search_with_rungs_that_is_killed_again_and_again_loses_nothing(space: SearchSpace, folder: Path) -> None:
    done: set[int] = set()
    for n_lines in (9, 40, 17):
        with start(space, folder, n_trials=RUNGS.n_trials, settings="reduction=3") as search:
            assert search.stdout is not None
            lines = [search.stdout.readline() for _ in range(n_lines)]
            search.kill()
        done |= {int(line.split()[1]) for line in lines if line.startswith("TrialDone")}
    run(space, folder, RUNGS)
    study = load_study(folder)
    assert Counter(trial.state for trial in study.trials)["running"] == 0
    by_number = {trial.number: trial for trial in study.trials}
    assert all(by_number[number].evaluation is not None for number in done)
    keys = [t.evaluation.candidate.key for t in study.trials if t.evaluation and not t.message]
    assert len(keys) == len(set(keys)) == RUNGS.n_trials
    for evaluation in evaluations(folder):
        assert evaluation.trained_epochs == evaluation.rungs[-1].epochs


@pytest.mark.slow
def test_one_worker_and_one_seed_give_the_same_rungs_again(space: SearchSpace, tmp_path: Path) -> None:
    def rungs(name: str) -> list[object]:
        run(space, tmp_path / name, replace(RUNGS, n_trials=25, workers=1))
        return [trial.evaluation and trial.evaluation.rungs for trial in load_study(tmp_path / name).trials]

    assert rungs("a") == rungs("b")


@pytest.mark.slow
def test_more_trials_later_go_on_with_the_same_rungs(space: SearchSpace, folder: Path) -> None:
    run(space, folder, replace(RUNGS, n_trials=24))
    before = {e.candidate.key: e.rungs for e in evaluations(folder)}
    events = run(space, folder, RUNGS)
    assert sum(isinstance(event, TrialDone) for event in events) == 48
    after = {e.candidate.key: e.rungs for e in evaluations(folder)}
    for key, rungs in before.items():
        assert after[key][: len(rungs)] == rungs
