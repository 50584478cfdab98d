"""The whole line on a very small candidate: train, reject, remember, export, link, run on the twin, pick, report."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from trec_dse import codec, datasets, plugins
from trec_dse.candidate import Candidate, PruningRecipe, QuantizationRecipe, Recipe, TrecPolicy
from trec_dse.cli import main
from trec_dse.course import calibration_images
from trec_dse.errors import InputError, StudyError, TargetError
from trec_dse.evaluate import evaluate, evaluate_json, network_folder
from trec_dse.measure import measure, read_manifest
from trec_dse.quantize import quantize
from trec_dse.results import EvaluateRequest, Evaluation, MeasureRequest
from trec_dse.storage import evaluation_path, read_evaluation
from trec_dse.store import FLOAT_WEIGHTS, load_float, load_graph
from trec_dse.target import Target, load_target

RECIPE = Recipe(
    epochs=2, fine_tune_epochs=1, trec_epochs=1, batch_size=64, n_train=300, n_validation=100, n_calibration=16
)
CANDIDATE = Candidate("digits", "tiny", {"width": 8, "depth": 2}, TrecPolicy(3, 3), {"*": 0.25}, RECIPE)


def board() -> Target:
    return load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))


def request(root: Path, candidate: Candidate = CANDIDATE, target: Target | None = None) -> EvaluateRequest:
    folder = evaluation_path(root, candidate.key).parent
    return EvaluateRequest(candidate, target or board(), None, str(folder))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation, list[str]]:
    root = tmp_path_factory.mktemp("study")
    said: list[str] = []
    text = evaluate_json(codec.to_json(request(root)), said.append)
    evaluation_path(root, CANDIDATE.key).parent.mkdir(parents=True)
    evaluation_path(root, CANDIDATE.key).write_text(text)
    return root, codec.from_json(text, Evaluation, "answer", StudyError), said


class PulledPlugError(Exception):
    """Stands for whatever ends a process in the middle of a training."""


def test_a_candidate_cut_off_in_any_phase_goes_on_from_its_last_epoch(
    trained: tuple[Path, Evaluation, list[str]], tmp_path: Path
) -> None:
    _, wanted, whole = trained
    said: list[str] = []

    def cut_off_at(n_lines: int) -> None:
        def say(line: str) -> None:
            said.append(line)
            if len(said) == n_lines:
                raise PulledPlugError

        with pytest.raises(PulledPlugError):
            evaluate(request(tmp_path), say)

    for n_lines in (1, 3, 4):  # after the first dense epoch, in the pruned phase, after TREC's last epoch
        cut_off_at(n_lines)
    result = evaluate(request(tmp_path), said.append)
    assert said == whole  # no epoch was trained twice
    assert (result.int8_accuracy, result.float_accuracy) == (wanted.int8_accuracy, wanted.float_accuracy)
    assert not (network_folder(evaluation_path(tmp_path, CANDIDATE.key).parent, result.key) / "training").exists()


def test_a_candidate_is_trained_and_priced(trained: tuple[Path, Evaluation, list[str]]) -> None:
    _, evaluation, said = trained
    assert [line.split(",")[0] for line in said] == [
        "dense epoch 1/2",
        "dense epoch 2/2",
        "pruned epoch 1/1",
        "trec epoch 1/1",
    ]
    assert evaluation.is_feasible
    assert 0.3 < (evaluation.int8_accuracy or 0) <= 1  # three times chance after so little training
    assert evaluation.float_accuracy == pytest.approx(evaluation.int8_accuracy, abs=0.06)
    assert [layer.op for layer in evaluation.estimated.layers][:2] == ["trec_conv2d", "trec_conv2d"]
    assert evaluation.test_accuracy is None  # the test split is not looked at before the front is known
    assert evaluation.versions["data_sha256"] == datasets.load("digits").sha256


def test_the_clusters_of_every_calibration_image_are_kept(trained: tuple[Path, Evaluation, list[str]]) -> None:
    _, evaluation, _ = trained
    layers = [layer for layer in evaluation.estimated.layers if layer.trec]
    assert list(evaluation.n_clusters) == [layer.name for layer in layers]
    for layer in layers:
        counts = evaluation.n_clusters[layer.name]
        assert layer.trec is not None
        assert len(counts) == RECIPE.n_calibration
        assert layer.trec.mean_clusters == pytest.approx(sum(counts) / len(counts))
        assert max(counts) <= layer.trec.worst_clusters


def test_the_float_weights_that_are_kept_give_the_same_int8_network(
    trained: tuple[Path, Evaluation, list[str]],
) -> None:
    root, evaluation, _ = trained
    folder = network_folder(evaluation_path(root, CANDIDATE.key).parent, evaluation.key)
    images = calibration_images(datasets.load("digits", None), RECIPE.n_calibration)
    again, kept = quantize(load_float(folder), images.permute(0, 2, 3, 1)), load_graph(folder)
    assert again.quantization == kept.quantization
    for node, arrays in kept.weights.items():
        assert all(np.array_equal(array, again.weights[node][name]) for name, array in arrays.items()), node


def test_a_network_without_float_weights_says_which_file_is_missing(
    trained: tuple[Path, Evaluation, list[str]], tmp_path: Path
) -> None:
    root, evaluation, _ = trained
    shutil.copytree(network_folder(evaluation_path(root, CANDIDATE.key).parent, evaluation.key), tmp_path / "copy")
    (tmp_path / "copy" / FLOAT_WEIGHTS).unlink()
    with pytest.raises(StudyError, match=r"float\.safetensors"):
        load_float(tmp_path / "copy")


def test_the_same_network_is_never_trained_twice(trained: tuple[Path, Evaluation, list[str]]) -> None:
    root, evaluation, _ = trained
    # another policy that comes down to the same configs: kernel row of a 3x3 kernel on one channel is 3
    said: list[str] = []
    again = evaluate(request(root), said.append)
    assert said == []
    assert again.int8_accuracy == evaluation.int8_accuracy


def test_training_is_repeatable(trained: tuple[Path, Evaluation, list[str]], tmp_path: Path) -> None:
    root, evaluation, _ = trained
    again = evaluate(request(tmp_path), lambda _: None)
    place = network_folder(evaluation_path(root, CANDIDATE.key).parent, evaluation.key)
    other = network_folder(evaluation_path(tmp_path, CANDIDATE.key).parent, again.key)
    left, right = load_graph(place).weights, load_graph(other).weights
    assert all(np.array_equal(left[n][k], right[n][k]) for n in left for k in left[n])


def test_every_kind_of_compression_runs_in_one_candidate(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        RECIPE,
        epochs=3,
        pruning=PruningRecipe("taylor", "agp", start=1),
        quantization=QuantizationRecipe("mse", qat_epochs=2),
    )
    candidate = dataclasses.replace(CANDIDATE, pruning={"*": 0.5}, recipe=recipe)
    said: list[str] = []
    evaluation = evaluate(request(tmp_path, candidate), said.append)
    phases = [line.split(" epoch")[0] for line in said]
    assert phases == ["dense", "dense", "dense", "pruned", "trec", "qat", "qat"]
    assert evaluation.float_accuracy == pytest.approx(evaluation.int8_accuracy, abs=0.06)
    assert evaluation.estimated.layers[0].output_shape == (8, 8, 4)  # half of 8 channels
    text = codec.to_json(candidate)
    assert codec.from_json(text, Candidate, "candidate", StudyError) == candidate


def test_a_candidate_from_before_the_recipes_of_compression_keeps_its_meaning() -> None:
    data = json.loads(codec.to_json(CANDIDATE))
    del data["recipe"]["pruning"], data["recipe"]["quantization"]
    assert codec.from_json(json.dumps(data), Candidate, "candidate", StudyError) == CANDIDATE


def test_bias_correction_changes_biases_alone(tmp_path: Path) -> None:
    graphs = []
    for bias_correction in (False, True):
        recipe = dataclasses.replace(RECIPE, quantization=QuantizationRecipe(bias_correction=bias_correction))
        candidate = dataclasses.replace(CANDIDATE, recipe=recipe)
        evaluation = evaluate(request(tmp_path, candidate), lambda _: None)
        graphs.append(load_graph(network_folder(evaluation_path(tmp_path, candidate.key).parent, evaluation.key)))
    plain, corrected = graphs
    assert np.array_equal(plain.weights["fc1"]["weights"], corrected.weights["fc1"]["weights"])
    assert not np.array_equal(plain.weights["fc1"]["bias"], corrected.weights["fc1"]["bias"])


def test_what_cannot_fit_is_not_trained(tmp_path: Path) -> None:
    target = board()
    regions = tuple(dataclasses.replace(r, size=1024) if r.name == "SRAM" else r for r in target.regions)
    said: list[str] = []
    evaluation = evaluate(request(tmp_path, target=dataclasses.replace(target, regions=regions)), said.append)
    assert said == []
    assert evaluation.int8_accuracy is None
    assert evaluation.violations["sram"] > 0


def test_a_front_point_is_built_run_and_measured(trained: tuple[Path, Evaluation, list[str]]) -> None:
    root, evaluation, _ = trained
    measured = measure(MeasureRequest(str(root), CANDIDATE.key, 7, board(), None, 12), lambda _: None)
    assert measured.measured is not None
    assert (measured.measured.n_images, measured.measured.n_mismatches) == (12, 0)
    assert measured.measured.arena_bytes == evaluation.estimated.arena_bytes
    assert measured.measured.cycles == pytest.approx(evaluation.estimated.cycles, rel=0.25)
    assert measured.measured.stack_bytes < evaluation.estimated.stack_bytes
    assert 0.3 < (measured.test_accuracy or 0) <= 1
    manifest = read_manifest(root / "firmware" / "trial_7")
    assert manifest.trial == 7
    assert manifest.evaluation.key == evaluation.key
    assert manifest.build_id in (root / "firmware" / "trial_7" / "network" / "trec_network.h").read_text()


def test_the_export_s_known_answers_pass_on_the_host(trained: tuple[Path, Evaluation, list[str]]) -> None:
    root, _, _ = trained
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("needs make and cc")
    measure(MeasureRequest(str(root), CANDIDATE.key, 8, board(), None, 2), lambda _: None)
    done = subprocess.run(
        ["make", "-C", root / "firmware" / "trial_8", "test"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "8 of 8 known answers are right" in done.stdout


def test_a_folder_without_a_manifest_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an export folder is what"):
        read_manifest(tmp_path)


SPACE = """
from trec_dse.candidate import Candidate, PruningRecipe, QuantizationRecipe, Recipe, TrecPolicy

DATASET = "digits"


def suggest(trial):
    width = trial.suggest_int("width", 4, 12, step=4)
    bits = trial.suggest_int("bits", 2, 3)
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    trec = TrecPolicy(bits, bits) if use_trec else None
    recipe = Recipe(epochs=1, fine_tune_epochs=0, trec_epochs=0, n_train=300, n_validation=100, n_calibration=16)
    return Candidate(DATASET, "tiny", {"width": width, "depth": 1}, trec, {}, recipe)
"""


@pytest.mark.slow
def test_a_user_s_whole_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space, out, firmware = tmp_path / "space.py", tmp_path / "run", tmp_path / "firmware"
    space.write_text(SPACE)
    search = ["search", str(space), "--target", "nucleo-f746zg", "--trials", "3", "--images", "10", "--out", str(out)]
    assert main(search) == 0
    capsys.readouterr()
    assert main(["status", str(out), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["n_trials"], status["n_complete"]) == (3, 3)
    for point in status["front"]:
        assert point["measured"]["n_mismatches"] == 0
        assert point["measured"]["n_images"] == 10
        assert point["estimated"]["arena_bytes"] == point["measured"]["arena_bytes"]
    assert main(["resume", str(out), "--trials", "4", "--images", "10"]) == 0
    assert (out / "report.html").stat().st_size > 1_000_000
    capsys.readouterr()
    assert main(["pick", str(out), "--sram", "64KiB", "--json"]) == 0
    trial = json.loads(capsys.readouterr().out)["trial"]
    assert main(["pick", str(out), "--sram", "1KiB"]) == 1
    assert "KiB" in capsys.readouterr().err
    assert main(["export", str(out), str(trial), "--out", str(firmware)]) == 0
    assert main(["validate", str(firmware), "--images", "5"]) == 0
    assert "0 mismatches" in capsys.readouterr().out
    assert main(["export", str(out), str(trial), "--optimize", "size", "--out", str(firmware)]) == 0
    assert "B of Flash saved" in capsys.readouterr().out
    assert main(["validate", str(firmware), "--images", "5"]) == 0
    assert "0 mismatches" in capsys.readouterr().out
    candidate = next((out / "candidates").glob("*/candidate.json"))
    assert main(["estimate", str(candidate), "--target", "nucleo-f746zg"]) == 0
    assert "Arena" in capsys.readouterr().out
    assert read_evaluation(out, candidate.parent.name) is not None


def test_random_hashes_are_part_of_the_recipe_and_of_the_key(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=0, fine_tune_epochs=0, trec_epochs=0, hash_gradient="none")
    found = []
    drawn = dataclasses.replace(recipe, hash_start="gaussian")
    for chosen in (recipe, drawn, dataclasses.replace(drawn, hash_seed=1)):
        result = evaluate(request(tmp_path, dataclasses.replace(CANDIDATE, recipe=chosen)), lambda _: None)
        found.append((result.key, result.n_clusters))
    assert len({key for key, _ in found}) == 3
    assert found[0][1] != found[1][1] != found[2][1]
