"""The shipped network of 2 KB: every byte of it, its integers everywhere the same, and the way to a board."""

import sys
from pathlib import Path

import numpy as np
import pytest
from test_every_op import random_images
from test_every_op_on_the_twin import on_twin
from twin_programs import M0_PLUS, M4

from trec_dse import codec
from trec_dse.cli import main
from trec_dse.datasets._types import placeholder
from trec_dse.errors import StudyError
from trec_dse.evaluate import host_network, untrained_graph
from trec_dse.graph import QuantizedGraph
from trec_dse.measure import read_manifest
from trec_dse.ops._four_bits import MOST_SHIFT
from trec_dse.resources import data_folder
from trec_dse.results import Evaluation
from trec_dse.search_space import load_candidate
from trec_dse.store import load_graph
from trec_dse.target import Target

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import mnist2k

FOLDER = data_folder("presets") / "mnist2k"


@pytest.fixture(scope="module")
def graph() -> QuantizedGraph:
    return load_graph(FOLDER)


def evaluation() -> Evaluation:
    text = (FOLDER / "evaluation.json").read_text(encoding="utf-8")
    return codec.from_json(text, Evaluation, "preset", StudyError)


def test_every_byte_is_accounted_for(graph: QuantizedGraph) -> None:
    figures = {figure.name: figure.value for figure in mnist2k.byte_table(graph)}
    assert figures == {
        "bytes: weights": 599 + 880,
        "bytes: biases": 5 + 8 + 11 + 10,
        "bytes: topology": 4 * 16 + 16 + 16,
        "bytes: activations": 328,
        "bytes: all": 1937,
    }
    assert all(figure.met is not False for figure in mnist2k.byte_table(graph))


def test_whole_layers_would_take_what_was_published(graph: QuantizedGraph) -> None:
    figures = {figure.name.removeprefix("activations, "): figure.value for figure in mnist2k.other_orders(graph)}
    assert figures["a buffer for each layer"] == 760
    assert figures["in place, row"] == 467.5
    assert figures["in place, herringbone"] == 434.5
    assert figures["pixel by pixel"] == 223 + 98


def test_all_files_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20_000


def test_the_shipped_network_is_the_candidate_s(graph: QuantizedGraph) -> None:
    preset = load_candidate("mnist2k")
    untrained = untrained_graph(preset, placeholder("mnist", (28, 28, 1), 10))
    assert [node.op for node in untrained.nodes] == [node.op for node in graph.nodes]
    assert (evaluation().candidate.network, evaluation().candidate.recipe.quantization.bits) == ("mnist2k", 4)


def test_an_accumulator_fits_16_bits(graph: QuantizedGraph) -> None:
    cascade, dense = graph.nodes
    wholes = list(cascade.op._wholes((14, 14, 1), graph.weights[cascade.name]))  # type: ignore[attr-defined]
    for whole in wholes:
        most = 15 * np.abs(whole.weights).sum(axis=1) + (np.abs(whole.bias.astype(int)) << whole.exponents.bias_shift)
        assert most.max() < 2**15
        assert whole.exponents.shift <= MOST_SHIFT
    assert 15 * 8 * 176 + (128 << int(graph.weights[dense.name]["shifts"][0])) < 2**15


def test_oracle_and_host_agree_and_answers_differ(graph: QuantizedGraph) -> None:
    images = random_images(graph, 60)
    expected = np.stack([graph.run(image)[graph.output] for image in images])
    with host_network(graph) as network:
        assert np.array_equal(network.run(images).outputs, expected)
    assert len(np.unique(expected, axis=0)) > 50


@pytest.mark.parametrize("target", [M4, M0_PLUS], ids=lambda target: target.core)
def test_boards_give_the_oracle_s_integers(graph: QuantizedGraph, target: Target, tmp_path: Path) -> None:
    images = random_images(graph, 2)
    expected = np.stack([graph.run(image)[graph.output] for image in images])
    assert np.array_equal(on_twin(graph, images, target, tmp_path), expected)


@pytest.mark.parametrize("left_behind", [None, "trec_dse/data/mnist"])
def test_it_is_estimated_by_its_name_also_after_a_download_that_failed(
    left_behind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if left_behind is not None:
        (tmp_path / left_behind).mkdir(parents=True)
    assert main(["estimate", "mnist2k", "--target", "nucleo-g0b1re"]) == 0
    said = capsys.readouterr()
    assert "u4" in said.out
    assert "made-up images" in said.err


def test_a_network_that_is_trained_needs_a_board_to_be_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "mnist2k", "--out", str(tmp_path / "firmware")]) == 2
    assert "Give --target" in capsys.readouterr().err
    assert main(["export", "nonsense", "--target", "nucleo-g0b1re", "--out", str(tmp_path / "firmware")]) == 2
    assert "no trained network" in capsys.readouterr().err


def test_it_is_exported_for_the_board_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trec_dse.datasets.load", lambda name, root: placeholder(name, (28, 28, 1), 10))
    folder = tmp_path / "firmware"
    assert main(["export", "mnist2k", "--target", "nucleo-g0b1re", "--out", str(folder), "--no-build"]) == 0
    manifest = read_manifest(folder)
    assert (manifest.target.name, manifest.trial) == ("nucleo-g0b1re", -1)
    assert manifest.evaluation.estimated.arena_bytes == 328
    assert "trec_cascade_u4_s8(&pool, at(" in (folder / "network" / "trec_network.c").read_text(encoding="utf-8")
