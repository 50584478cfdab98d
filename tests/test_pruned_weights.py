"""Weights that are pruned one by one: how they lie in Flash, which layers get the kernel, from a candidate to the C."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse import plugins
from trec_dse.candidate import Candidate, KernelConfig, QuantizationRecipe, Recipe, TrecPolicy, plain_data
from trec_dse.codegen import constant_bytes
from trec_dse.datasets import Dataset, load
from trec_dse.errors import CandidateError, TargetError
from trec_dse.evaluate import evaluate, host_network, int8_images, network_folder, price
from trec_dse.graph import INPUT, FloatArray, Graph, Node, QuantizedGraph, Shape, Window
from trec_dse.ops._entries import entries_of, pack_runs, unpack_runs
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.pruned_conv2d import PrunedConv2d, runs_of
from trec_dse.ops.pruned_dense import PrunedDense
from trec_dse.quantize import quantize
from trec_dse.results import EvaluateRequest
from trec_dse.sparse.apply import apply_kernels, dense_layers, resolve_kernels
from trec_dse.sparse.gather import PrunedConv2d as PrunedModule
from trec_dse.sparse.gather import PrunedLinear, largest
from trec_dse.store import load_graph
from trec_dse.target import Target, load_target
from trec_dse.trec.apply import conv_shapes
from trec_dse.zeros import without_zeros

RECIPE = Recipe(epochs=2, fine_tune_epochs=0, trec_epochs=1, n_train=300, n_validation=60, n_calibration=16)
DENSE = Candidate("digits", "tiny", {"width": 8, "depth": 2}, recipe=RECIPE)


@pytest.fixture(scope="module")
def board() -> Target:
    return load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def int8(op: Conv2d | Dense, shape: Shape, weights: FloatArray) -> QuantizedGraph:
    arrays = {"weights": weights, "bias": np.zeros(len(weights))}
    graph = Graph(shape, (Node("layer", op, (INPUT,)),), {"layer": arrays})
    return quantize(graph, torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))


def thin(rows: int, columns: int, n_left: int) -> FloatArray:
    """Weights (rows, columns) of which the first `n_left`, counted over the rows, are 1 and the others 0."""
    weights = np.zeros(rows * columns)
    weights[:n_left] = 1.0
    return weights.reshape(rows, columns)


def test_an_entry_is_a_gap_and_a_value() -> None:
    assert entries_of(np.array([0, 0, 5, -3, 0, 0, 0, 127])) == [(2, 5), (1, -3), (4, 127)]
    assert entries_of(np.array([9, 0])) == [(0, 9)]
    assert entries_of(np.zeros(40)) == []


def test_zeros_stand_where_a_byte_is_too_small_for_a_gap() -> None:
    run = np.zeros(600, np.int8)
    run[[255, 599]] = [1, 2]
    assert entries_of(run) == [(255, 1), (255, 0), (89, 2)]
    run[255] = 0
    assert entries_of(run) == [(255, 0), (255, 0), (89, 2)]


def test_packed_runs_are_counts_and_bytes_and_can_be_read_again() -> None:
    counts, entries = pack_runs(np.array([[0, -1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0]], np.int8))
    assert counts.tolist() == [2, 0, 1]
    assert entries.tolist() == [1, 255, 2, 2, 0, 3]
    assert pack_runs(np.zeros((2, 3), np.int8))[1].tolist() == [0, 0], "C has no empty arrays"
    random = np.random.default_rng(3)
    for zeros in (0.5, 0.9, 0.999):
        runs = random.integers(-128, 128, (4, 900)).astype(np.int8) * (random.random((4, 900)) > zeros)
        assert np.array_equal(unpack_runs(*pack_runs(runs), 900), runs)


def test_a_convolution_s_runs_are_its_even_and_its_odd_elements() -> None:
    kernels = np.array([[1, 2, 3], [4, 5, 6]]).reshape(2, 1, 1, 3)
    assert runs_of(kernels).tolist() == [[1, 3], [2, 0], [4, 6], [5, 0]]


def test_a_dense_layer_becomes_smaller_from_a_little_more_than_half_zeros_on() -> None:
    # 10 rows of 100: 1,000 bytes; 20 of counts and 2 for each entry
    assert without_zeros(int8(Dense(10), (100,), thin(10, 100, 490))).nodes[0].op == Dense(10)
    pruned = without_zeros(int8(Dense(10), (100,), thin(10, 100, 489)))
    assert pruned.nodes[0].op == PrunedDense(10, n_entries=489)
    assert pruned.nodes[0].op.macs((100,)) == 489


def test_the_tables_of_a_pruned_layer_are_what_its_entries_take() -> None:
    graph = int8(Dense(10), (100,), thin(10, 100, 50))
    rest = 2 * 40  # biases, factors
    assert constant_bytes(graph)["layer"].tables == 1000 + rest
    assert constant_bytes(without_zeros(graph))["layer"].tables == 20 + 2 * 50 + rest
    conv = int8(Conv2d(8, Window((1, 1))), (4, 4, 50), thin(8, 50, 40).reshape(8, 1, 1, 50))
    pruned = without_zeros(conv)
    assert pruned.nodes[0].op == PrunedConv2d(8, Window((1, 1)), n_entries=40)
    assert pruned.nodes[0].op.macs((4, 4, 50)) == 16 * 40
    assert constant_bytes(pruned)["layer"].tables == 2 * 2 * 8 + 2 * 40 + 2 * 32


def test_other_layers_and_what_is_not_smaller_stay_as_they_are() -> None:
    graph = int8(Conv2d(4, Window((3, 3))), (6, 6, 2), np.random.default_rng(0).standard_normal((4, 3, 3, 2)))
    assert without_zeros(graph).nodes == graph.nodes


@pytest.mark.parametrize("zeros", [0.6, 0.95])
def test_both_kernels_give_the_same_integers(zeros: float) -> None:
    random = np.random.default_rng(8)
    weights = random.standard_normal((6, 3, 3, 5)) * (random.random((6, 3, 3, 5)) > zeros)
    weights[:, 1, 1, 2] = 1.0
    graph = int8(Conv2d(6, Window((3, 3), (1, 1), (1, 1)), "relu"), (7, 5, 5), weights)
    pruned = without_zeros(graph)
    assert pruned.nodes[0].op.kind == "pruned_conv2d"
    images = random.integers(-128, 128, (4, 7, 5, 5)).astype(np.int8)
    with host_network(pruned) as sparse, host_network(graph) as dense:
        assert np.array_equal(sparse.run(images).outputs, dense.run(images).outputs)


def test_the_smallest_weights_go_and_the_first_of_equals() -> None:
    assert largest(torch.tensor([[3.0, -1.0], [2.0, -4.0]]), 0.5).tolist() == [[1, 0], [0, 1]]
    assert largest(torch.tensor([1.0, 1.0, 1.0, 1.0]), 0.25).tolist() == [0, 1, 1, 1]
    assert largest(torch.tensor([1.0, 2.0, 3.0]), 0.5).sum() == 1, "1.5 rounds to 2"


def test_what_is_pruned_stays_zero_in_training() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(36, 3))
    changed = apply_kernels(model, {"0": KernelConfig("pruned", share=0.5), "2": KernelConfig("pruned", share=0.9)})
    conv, dense = changed.get_submodule("0"), changed.get_submodule("2")
    assert isinstance(conv, PrunedModule) and isinstance(dense, PrunedLinear)
    before = [layer.kept.eq(0) for layer in (conv, dense)]
    optimizer = torch.optim.SGD(changed.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        changed(torch.randn(8, 2, 5, 5)).square().sum().backward()
        optimizer.step()
    assert [int((layer.kept == 0).sum()) for layer in (conv, dense)] == [36, round(0.9 * 108)]
    assert torch.equal(conv.kept.eq(0), before[0]) and torch.equal(dense.kept.eq(0), before[1])


def test_dense_layers_can_be_pruned_and_nothing_else_can_be_asked_of_them() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(36, 3))
    shapes, dense = conv_shapes(model, (5, 5, 2)), dense_layers(model)
    assert dense == ("2",)
    asked = {"2": KernelConfig("pruned", share=0.8), "*": KernelConfig("pruned", share=0.7)}
    assert {name: config.share for name, config in resolve_kernels(asked, shapes, dense).items()} == {
        "0": 0.7,
        "2": 0.8,
    }
    with pytest.raises(CandidateError, match="kernels are asked for 2; the convolutions are 0, and 2 can be pruned"):
        resolve_kernels({"2": KernelConfig("lookup")}, shapes, dense)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(CandidateError, match="must lie between 0 and 1"):
        KernelConfig("pruned", share=share)


def test_training_in_four_bits_is_refused_for_pruned_weights() -> None:
    recipe = replace(RECIPE, quantization=QuantizationRecipe(qat_epochs=1, bits=4))
    with pytest.raises(CandidateError, match="training in 4 bits would bring pruned weights back"):
        replace(DENSE, kernels={"conv2": KernelConfig("pruned")}, recipe=recipe)


def test_candidates_with_other_kernels_keep_their_keys() -> None:
    kernels = plain_data(replace(DENSE, kernels={"conv2": KernelConfig("pattern")}))["kernels"]
    assert isinstance(kernels, dict) and "share" not in kernels["conv2"]
    kernels = plain_data(replace(DENSE, kernels={"conv2": KernelConfig("pruned")}))["kernels"]
    assert isinstance(kernels, dict) and kernels["conv2"]["share"] == 0.9


def test_an_untrained_candidate_is_priced_by_what_will_be_left(board: Target, digits: Dataset) -> None:
    whole = price(DENSE, board, digits)
    config = KernelConfig("pruned", share=0.8)
    pruned = price(replace(DENSE, kernels={"conv2": config, "fc1": config}), board, digits)
    assert pruned.key != whole.key
    kinds = {layer.name: layer.op for layer in pruned.cost.layers}
    assert (kinds["conv1"], kinds["conv2"], kinds["fc1"]) == ("conv2d", "pruned_conv2d", "pruned_dense")
    # conv2: 115 of 576 left, two counts for each of 8 channels; fc1: 256 of 1,280, ten counts
    assert whole.cost.weight_bytes - pruned.cost.weight_bytes == pytest.approx(
        576 + 1280 - 2 * (115 + 256) - 2 * (16 + 10), abs=16
    )
    assert pruned.cost.cycles < whole.cost.cycles


def test_a_candidate_is_trained_and_its_c_gives_the_oracle_s_bytes(
    tmp_path: Path, board: Target, digits: Dataset
) -> None:
    config = KernelConfig("pruned", share=0.75)
    candidate = replace(DENSE, kernels={"conv2": config, "fc1": config})
    folder = tmp_path / "candidates" / candidate.key
    evaluation = evaluate(EvaluateRequest(candidate, board, None, str(folder)), lambda _: None)
    assert evaluation.int8_accuracy is not None and evaluation.int8_accuracy > 0.3, "ten classes: chance is 0.1"
    graph = load_graph(network_folder(folder, evaluation.key))
    assert [node.op.kind for node in graph.nodes if node.name != "pool2"] == ["conv2d", "pruned_conv2d", "pruned_dense"]
    images = int8_images(graph, digits, digits.test)[:8]
    with host_network(graph) as network:
        outputs = network.run(images).outputs
    assert np.array_equal(outputs, np.stack([graph.run(image)[graph.output].reshape(-1) for image in images]))


def test_a_clustered_layer_needs_no_zeros(board: Target, digits: Dataset) -> None:
    candidate = replace(DENSE, kernels={"conv2": KernelConfig("pruned")}, trec=TrecPolicy(3, 3))
    assert "trec_conv2d" in {layer.op for layer in price(candidate, board, digits).cost.layers}
