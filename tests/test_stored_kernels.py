"""Candidates with kernels by lookup, of low rank, in patterns, or applied to what is drawn only: from search to C."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trec_dse import plugins
from trec_dse.candidate import Candidate, KernelConfig, KernelForm, Recipe, TrecPolicy
from trec_dse.course import parent_key
from trec_dse.datasets import Dataset, load
from trec_dse.errors import TargetError
from trec_dse.evaluate import evaluate, host_network, int8_images, network_folder, price
from trec_dse.graph import QuantizedGraph
from trec_dse.results import EvaluateRequest, Evaluation
from trec_dse.store import load_graph
from trec_dse.target import Target, load_target

RECIPE = Recipe(epochs=2, fine_tune_epochs=0, trec_epochs=1, n_train=300, n_validation=60, n_calibration=16)
DENSE = Candidate("digits", "tiny", {"width": 8, "depth": 2}, recipe=RECIPE)
KINDS = {"lookup": "lookup_conv2d", "low_rank": "conv2d", "pattern": "pattern_conv2d", "sparse": "sparse_conv2d"}
FORMS: tuple[KernelForm, ...] = ("lookup", "low_rank", "pattern", "sparse")


@pytest.fixture(scope="module")
def board() -> Target:
    return load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stored_kernels")


def trained(root: Path, candidate: Candidate, board: Target) -> tuple[Evaluation, QuantizedGraph, list[str]]:
    """What a worker makes of it, its network, and the phases that it went through."""
    said: list[str] = []
    folder = root / "candidates" / candidate.key
    evaluation = evaluate(EvaluateRequest(candidate, board, None, str(folder)), said.append)
    return evaluation, load_graph(network_folder(folder, evaluation.key)), [line.split()[0] for line in said]


@pytest.mark.parametrize("form", FORMS)
def test_a_candidate_is_trained_and_its_c_gives_the_oracle_s_bytes(
    form: KernelForm, root: Path, board: Target, digits: Dataset
) -> None:
    candidate = replace(DENSE, kernels={"conv2": KernelConfig(form, dictionary=4, patterns=4, rank=4)})
    evaluation, graph, _ = trained(root, candidate, board)
    assert evaluation.int8_accuracy is not None and evaluation.int8_accuracy > 0.3, "ten classes: chance is 0.1"
    assert KINDS[form] in [node.op.kind for node in graph.nodes if node.name.startswith("conv2")]
    assert ("conv2.expand" in graph.shapes) == (form == "low_rank")
    images = int8_images(graph, digits, digits.test)[:8]
    with host_network(graph) as network:
        outputs = network.run(images).outputs
    expected = np.stack([graph.run(image)[graph.output].reshape(-1) for image in images])
    assert np.array_equal(outputs, expected)


def test_every_form_goes_on_from_one_dense_training(root: Path, board: Target, digits: Dataset) -> None:
    candidates = [replace(DENSE, kernels={"conv2": KernelConfig(form, rank=4)}) for form in FORMS]
    assert len({parent_key(candidate, digits) for candidate in (DENSE, *candidates)}) == 1
    assert len({price(candidate, board, digits).key for candidate in (DENSE, *candidates)}) == 5
    trained(root, candidates[0], board)
    _, _, phases = trained(root, candidates[1], board)
    assert "dense" not in phases


def test_patterns_survive_fine_tuning_with_trec_on_top(root: Path, board: Target) -> None:
    candidate = replace(DENSE, kernels={"conv2": KernelConfig("pattern", patterns=2)}, trec=TrecPolicy(3, 3))
    _, graph, phases = trained(root, candidate, board)
    assert phases[-1] == "trec"
    kernels = next(graph.weights[node.name]["weights"] for node in graph.nodes if node.name == "conv2")
    # 8 kernels of 3x3 taps with 8 channels: 4 taps of every kernel stay, the other 5 are zero in all channels
    taps = kernels.reshape(8, 9, 8)
    assert ((taps == 0).all(axis=2).sum(axis=1) >= 5).all()
