"""Studies that begin with what another one found, or with the shipped candidates."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluation import SPACE
from searching import FAKE, log_of, run

from trec_dse import objectives, pareto, plugins
from trec_dse.errors import InputError
from trec_dse.search_space import SearchSpace, load_candidate, load_search_space
from trec_dse.storage import load_study


def space_in(folder: Path, dataset: str = "digits") -> SearchSpace:
    path = folder / "space.py"
    path.write_text(SPACE.replace('DATASET = "digits"', f'DATASET = "{dataset}"'))
    return load_search_space(str(path))


def test_the_front_of_another_study_comes_first_and_its_networks_come_along(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    run(space, tmp_path / "old", replace(FAKE, n_trials=12))
    (tmp_path / "old" / "networks" / "abc").mkdir(parents=True)
    front = pareto.front(load_study(tmp_path / "old").trials, objectives.DEFAULT)
    settings = replace(FAKE, n_trials=len(front) + 2, seed=5, warm_start=str(tmp_path / "old"))
    run(space, tmp_path / "new", settings)
    first = load_study(tmp_path / "new").trials[: len(front)]
    assert [trial.params for trial in first] == [record.params for record in front]
    assert (tmp_path / "new" / "networks" / "abc").is_dir()
    # once only: going on does not queue them again
    run(space, tmp_path / "new", replace(settings, n_trials=len(front) + 4))
    assert sum(log_of(tmp_path / "new").values()) == len(front) + 4


def test_the_presets_of_the_data_set_are_tried_first(tmp_path: Path) -> None:
    names = plugins.data_names("presets", ".json")
    presets = [load_candidate(name) for name in names if load_candidate(name).dataset == "cifar10"]
    function = "fake_evaluation:evaluate_any"
    run(
        space_in(tmp_path, "cifar10"),
        tmp_path / "study",
        replace(FAKE, n_trials=len(presets) + 1, function=function, workers=1, warm_start="presets"),
    )
    trials = load_study(tmp_path / "study").trials
    found = [trial.evaluation.candidate for trial in trials if trial.evaluation is not None]
    assert found[: len(presets)] == presets
    assert [trial.params for trial in trials[: len(presets)]] == [{}] * len(presets)
    assert set(trials[len(presets)].params) == {"width", "depth", "hash_bits", "use_trec"}


def test_nothing_to_begin_with_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="presets: nothing to begin with: no preset of digits"):
        run(space_in(tmp_path), tmp_path / "study", replace(FAKE, warm_start="presets"))
