"""Training to a rung and on from it, and what candidates have in common: all real, on a very small network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trec_dse import plugins
from trec_dse.candidate import Candidate, PruningRecipe, QuantizationRecipe, Recipe, TrainingRecipe, TrecPolicy
from trec_dse.codec import to_json
from trec_dse.course import parent_key, pruned_key, taught_by
from trec_dse.datasets import Dataset, load
from trec_dse.durable import locked, write_text
from trec_dse.errors import CandidateError, StudyError, TargetError
from trec_dse.evaluate import evaluate, network_folder
from trec_dse.results import EvaluateRequest, Evaluation
from trec_dse.storage import evaluation_path
from trec_dse.store import load_graph
from trec_dse.target import load_target

RECIPE = Recipe(
    epochs=3, fine_tune_epochs=2, trec_epochs=2, batch_size=64, n_train=300, n_validation=100, n_calibration=16
)
CANDIDATE = Candidate("digits", "tiny", {"width": 8, "depth": 1}, TrecPolicy(3, 3), {"*": 0.25}, RECIPE)
DENSE = replace(CANDIDATE, trec=None, pruning={}, recipe=replace(RECIPE, fine_tune_epochs=0))


def train(root: Path, candidate: Candidate, epochs: int | None = None) -> tuple[Evaluation, list[str]]:
    """Evaluate as a worker does; what it said, as "phase epoch"."""
    path = evaluation_path(root, candidate.key)
    target = load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))
    said: list[str] = []
    evaluation = evaluate(EvaluateRequest(candidate, target, None, str(path.parent), epochs), said.append)
    write_text(path, to_json(evaluation))
    return evaluation, [" ".join(line.split("/")[0].split()[::2]) for line in said]


def same_network(root: Path, other: Path, evaluation: Evaluation) -> bool:
    folders = [network_folder(evaluation_path(place, "any").parent, evaluation.key) for place in (root, other)]
    first, second = (load_graph(folder) for folder in folders)
    return first.quantization == second.quantization and all(
        np.array_equal(array, second.weights[node][name])
        for node, arrays in first.weights.items()
        for name, array in arrays.items()
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    root = tmp_path_factory.mktemp("whole")
    evaluation, said = train(root, CANDIDATE)
    assert said == ["dense 1", "dense 2", "dense 3", "pruned 1", "pruned 2", "trec 1", "trec 2"]
    return root, evaluation


def test_rungs_train_no_dense_epoch_twice_and_end_in_the_very_same_network(
    whole: tuple[Path, Evaluation], tmp_path: Path
) -> None:
    untrained, said = train(tmp_path, CANDIDATE, 0)
    assert said == []
    first, said = train(tmp_path, CANDIDATE, 1)
    assert said == ["dense 1", "pruned 1", "trec 1"]
    second, said = train(tmp_path, CANDIDATE, 2)
    assert said == ["dense 2", "pruned 1", "trec 1"]
    last, said = train(tmp_path, CANDIDATE, 3)
    assert said == ["dense 3", "pruned 1", "pruned 2", "trec 1", "trec 2"]
    assert same_network(tmp_path, whole[0], last)
    assert last.int8_accuracy == whole[1].int8_accuracy
    assert [evaluation.fidelity for evaluation in (untrained, first, second, last)] == [0, 1 / 3, 2 / 3, 1]
    assert [(rung.epochs, rung.trained) for rung in last.rungs] == [(0, 0), (1, 3), (2, 3), (3, 5)]
    assert last.trained_epochs == 11
    assert last.rungs[1].error == pytest.approx(1 - (first.int8_accuracy or 0))
    assert untrained.int8_accuracy == pytest.approx(0.1)


def test_all_choices_of_trec_share_one_dense_and_one_pruned_parent(
    whole: tuple[Path, Evaluation], tmp_path: Path
) -> None:
    del tmp_path
    root, first = whole
    other, said = train(root, replace(CANDIDATE, trec=TrecPolicy(2, 2)))
    assert said == ["trec 1", "trec 2"]
    assert other.trained_epochs == 2
    assert other.key != first.key
    _, said = train(root, replace(CANDIDATE, pruning={"*": 0.5}))
    assert said == ["pruned 1", "pruned 2", "trec 1", "trec 2"]
    _, said = train(root, DENSE)
    assert said == ["folded 1", "folded 2"]


def test_a_rung_that_another_candidate_needs_later_than_its_parent_was_trained_is_still_there(tmp_path: Path) -> None:
    train(tmp_path, DENSE, 1)
    train(tmp_path, DENSE, 3)
    _, said = train(tmp_path, replace(DENSE, trec=TrecPolicy(2, 2)), 1)
    assert said == ["trec 1"]
    # nobody asked for two epochs before: only these are trained anew
    _, said = train(tmp_path, replace(DENSE, trec=TrecPolicy(2, 2)), 2)
    assert said == ["dense 1", "dense 2", "trec 1"]


def test_what_is_not_pruned_is_fine_tuned_as_well_if_the_recipe_says_so(tmp_path: Path) -> None:
    _, said = train(tmp_path, replace(DENSE, recipe=RECIPE), 1)
    assert said == ["dense 1", "pruned 1", "folded 1"]
    _, said = train(tmp_path, replace(CANDIDATE, pruning={}), 1)
    assert said == ["trec 1"]


def test_what_is_known_after_all_epochs_answers_every_rung(whole: tuple[Path, Evaluation]) -> None:
    root, evaluation = whole
    policy = TrecPolicy(3, 3, vector_length=4)  # ignored with this slice policy: the same network
    again, said = train(root, replace(CANDIDATE, trec=policy), 1)
    assert said == []
    assert again.key == evaluation.key
    assert (again.fidelity, again.trained_epochs) == (1, 0)
    assert again.int8_accuracy == evaluation.int8_accuracy


def test_gradual_pruning_has_a_parent_of_its_own(tmp_path: Path) -> None:
    gradual = replace(CANDIDATE, recipe=replace(RECIPE, pruning=PruningRecipe(schedule="agp")))
    train(tmp_path, DENSE)
    _, said = train(tmp_path, gradual)
    assert said[:4] == ["dense 1", "dense 2", "dense 3", "pruned 1"]
    _, said = train(tmp_path, replace(gradual, trec=None))
    assert said == ["folded 1", "folded 2"]


def test_training_in_int8_goes_through_rungs_too(tmp_path: Path) -> None:
    recipe = replace(DENSE.recipe, trec_epochs=0, quantization=QuantizationRecipe(qat_epochs=2))
    _, said = train(tmp_path, replace(DENSE, recipe=recipe), 1)
    assert said == ["dense 1", "qat 1"]
    _, said = train(tmp_path, replace(DENSE, recipe=recipe), 3)
    assert said == ["dense 2", "dense 3", "qat 1", "qat 2"]


TAUGHT = replace(CANDIDATE, recipe=replace(RECIPE, training=TrainingRecipe(distillation=0.5, teacher={"width": 16})))


def test_a_wider_teacher_is_trained_once_and_before_its_pupils(tmp_path: Path) -> None:
    evaluation, said = train(tmp_path, TAUGHT, 1)
    assert said[:3] == ["teacher's epoch", "teacher's epoch", "teacher's epoch"]
    assert said[3:] == ["dense 1", "pruned 1", "trec 1"]
    assert evaluation.trained_epochs == 6
    _, said = train(tmp_path, replace(TAUGHT, network_args={"width": 4, "depth": 1}), 1)
    assert said == ["dense 1", "pruned 1", "trec 1"]


def test_a_teacher_is_a_dense_candidate_of_its_own_that_nobody_teaches() -> None:
    teacher = taught_by(TAUGHT)
    assert teacher is not None
    assert teacher.network_args == {"width": 16, "depth": 1}
    assert (teacher.trec, teacher.pruning, teacher.recipe.training) == (None, {}, TrainingRecipe())
    assert taught_by(teacher) is None
    assert taught_by(CANDIDATE) is None


def test_a_network_is_asked_for_before_its_parents_and_a_pupil_before_its_teacher_so_nobody_waits_in_a_circle(
    tmp_path: Path, digits: Dataset
) -> None:
    taught = replace(RECIPE, training=TrainingRecipe(teacher={"width": 12}, distillation=0.5))
    candidate = replace(CANDIDATE, recipe=taught)
    teacher = taught_by(candidate)
    assert teacher is not None
    asked: list[str] = []

    @contextmanager
    def turn(folder: Path) -> Iterator[Path]:
        asked.append(folder.relative_to(tmp_path).as_posix())
        with locked(folder):
            yield folder
        asked.append("done")

    path = evaluation_path(tmp_path, candidate.key)
    target = load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))
    found = evaluate(EvaluateRequest(candidate, target, None, str(path.parent)), lambda _: None, turn)
    keys = pruned_key(candidate, digits, 3), parent_key(candidate, digits), parent_key(teacher, digits)
    pruned, dense, teaching = (f"parents/{key}" for key in keys)
    # the teacher once more for the fine-tuning
    assert asked == [
        f"networks/{found.key}",
        pruned,
        dense,
        teaching,
        "done",
        "done",
        teaching,
        "done",
        "done",
        "done",
    ]


def test_what_a_teacher_says_is_part_of_the_dense_parent_s_key(digits: Dataset) -> None:
    def key(**changes: object) -> str:
        recipe = replace(RECIPE, training=TrainingRecipe(**changes))  # type: ignore[arg-type]
        return parent_key(replace(CANDIDATE, recipe=recipe), digits)

    wide = {"distillation": 0.5, "teacher": {"width": 16}}
    assert key(distillation=0.5, temperature=2.0) == key()
    keys = {key(), key(**wide), key(**wide, temperature=2.0), key(**{**wide, "teacher": {"width": 12}})}
    assert len(keys) == 4


def test_a_teacher_needs_a_share_of_the_loss() -> None:
    with pytest.raises(CandidateError, match=r"differs in \{'width': 16\} needs a distillation above 0"):
        TrainingRecipe(teacher={"width": 16})


def test_clustering_more_finely_has_less_error_and_none_at_all_no_error(tmp_path: Path) -> None:
    errors = [train(tmp_path, replace(DENSE, trec=TrecPolicy(bits, bits)), 0)[0].rungs[0].error for bits in (1, 3, 5)]
    assert errors[0] > errors[1] > errors[2] > 0
    assert train(tmp_path, DENSE, 0)[0].rungs[0].error == 0


def test_the_dense_parent_s_key_holds_what_its_weights_depend_on_and_nothing_else(digits: Dataset) -> None:
    def key(candidate: Candidate) -> str:
        return parent_key(candidate, digits)

    later = replace(RECIPE, trec_epochs=9, fine_tune_epochs=0, kernel_surrogate=True, n_calibration=5)
    same = (DENSE, replace(CANDIDATE, trec=TrecPolicy(2, 4)), replace(CANDIDATE, recipe=later))
    assert {key(candidate) for candidate in same} == {key(CANDIDATE)}
    changes = ({"epochs": 4}, {"seed": 1}, {"learning_rate": 0.1}, {"n_train": 299}, {"weight_decay": 0.0})
    others = [replace(CANDIDATE, recipe=replace(RECIPE, **change)) for change in changes]
    others.append(replace(CANDIDATE, network_args={"width": 4, "depth": 1}))
    assert len({key(candidate) for candidate in (CANDIDATE, *others)}) == 7


def test_the_pruned_parent_s_key_holds_shares_heuristic_and_rung(digits: Dataset) -> None:
    def key(candidate: Candidate, epochs: int = 3) -> str:
        return pruned_key(candidate, digits, epochs)

    assert key(replace(CANDIDATE, trec=None)) == key(CANDIDATE)
    by_l1 = replace(CANDIDATE, recipe=replace(RECIPE, pruning=PruningRecipe("l1")))
    fine = replace(CANDIDATE, recipe=replace(RECIPE, fine_tune_epochs=1))
    keys = [key(CANDIDATE), key(CANDIDATE, 1), key(replace(CANDIDATE, pruning={"*": 0.5})), key(by_l1), key(fine)]
    assert len(set(keys)) == 5


def test_damaged_weights_of_a_parent_are_named(tmp_path: Path) -> None:
    train(tmp_path, DENSE, 1)
    (snapshot,) = tmp_path.glob("parents/*/after_1.safetensors")
    snapshot.write_bytes(snapshot.read_bytes()[:100])
    with pytest.raises(StudyError, match=r"after_1\.safetensors: no weights of this network"):
        train(tmp_path, replace(DENSE, trec=TrecPolicy(2, 2)), 1)


def test_a_complete_training_leaves_no_checkpoint_behind(whole: tuple[Path, Evaluation]) -> None:
    root, _ = whole
    left = {path.name for path in root.rglob("*.safetensors") if "networks" not in path.parts}
    assert left == {"after_3.safetensors"}
    assert not list(root.glob("networks/*/training"))
