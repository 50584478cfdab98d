"""Single weights that are zero and stay so: by a schedule, in training in int8, from a candidate to the C."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse import plugins
from trec_dse.candidate import (
    Candidate,
    KernelConfig,
    PruningRecipe,
    PruningSchedule,
    QuantizationRecipe,
    Recipe,
    TrainingRecipe,
)
from trec_dse.course import Course, parent_key, pruned_key
from trec_dse.datasets import Dataset, load
from trec_dse.errors import TargetError
from trec_dse.evaluate import host_network, int8_images, price, untrained_graph
from trec_dse.graph import INPUT, Graph, Node, QuantizedGraph
from trec_dse.lineage import lineage
from trec_dse.ops.dense import Dense
from trec_dse.ops.pruned_conv2d import PrunedConv2d
from trec_dse.ops.pruned_dense import PrunedDense
from trec_dse.qat import QatNetwork
from trec_dse.quantize import calibrate, quantize_with
from trec_dse.sparse.apply import apply_kernels, layers_with_zeros, shares_of_zeros
from trec_dse.sparse.held import HeldZeros
from trec_dse.target import load_target
from trec_dse.train import _parameter_groups
from trec_dse.zeros import without_zeros

RECIPE = Recipe(epochs=2, fine_tune_epochs=1, trec_epochs=0, n_train=300, n_validation=60, n_calibration=16)
SINGLE = replace(RECIPE, pruning=PruningRecipe(unit="weights"))
GRADUAL = replace(RECIPE, pruning=PruningRecipe(schedule="agp", unit="weights"))
DENSE = Candidate("digits", "tiny", {"width": 8, "depth": 2}, recipe=RECIPE)
ZEROS = {"conv2": KernelConfig("pruned", share=0.75), "fc1": KernelConfig("pruned", share=0.8)}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def layer(*weights: float) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(len(weights), 1, bias=False))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([weights]))
    return model


def values(model: nn.Module) -> list[float]:
    return [round(value, 4) for value in model.get_parameter("0.weight").flatten().tolist()]


@torch.no_grad()
def answer(model: nn.Module) -> float:
    """The sum of all weights that count."""
    return float(model(torch.ones(1, model.get_parameter("0.weight").numel())))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """One update by the gradient 1 of every weight that counts."""
    optimizer.zero_grad()
    model(torch.ones(1, model.get_parameter("0.weight").numel())).sum().backward()
    optimizer.step()


def test_the_smallest_weights_are_held_and_the_others_learn() -> None:
    model = layer(4.0, -1.0, -3.0, 2.0)
    zeros = HeldZeros(model, {"0": 0.5})
    zeros.mask(1.0)
    for _ in range(3):
        step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    zeros.release()
    assert values(model) == [3.7, 0.0, -3.3, 0.0]
    step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert values(model) == [3.6, -0.1, -3.4, -0.1], "released, they learn again"


def test_momentum_does_not_carry_a_weight_away_that_was_masked_a_moment_ago() -> None:
    model = layer(4.0, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    step(model, optimizer)  # 3.9, 0.9; both move by 0.1
    zeros = HeldZeros(model, {"0": 0.5})
    zeros.mask(1.0)
    assert answer(model) == pytest.approx(3.9)
    step(model, optimizer)  # by 0.15, and 0.05 of what was
    assert values(model) == [3.75, -0.05]
    assert answer(model) == pytest.approx(3.75)
    zeros.release()
    assert values(model) == [3.75, 0.0]


def test_held_weights_do_not_count_where_gradients_are_clipped() -> None:
    model = layer(3.0, 0.1, 0.1, 0.1)
    HeldZeros(model, {"0": 0.75}).mask(1.0)
    model(torch.ones(1, 4)).sum().backward()
    assert float(nn.utils.clip_grad_norm_(model.parameters(), 5.0)) == 1.0, "2 with all four"


def test_more_and_more_are_held_and_none_is_let_go() -> None:
    model = layer(*range(1, 11))
    zeros = HeldZeros(model, {"0": 0.8})
    zeros.mask(0.5)  # 4 of 10
    assert answer(model) == 5 + 6 + 7 + 8 + 9 + 10
    with torch.no_grad():
        model.get_parameter("0.weight")[0, :6] = torch.tensor([50.0, 50.0, 50.0, 50.0, 20.0, 6.0])
    zeros.mask(1.0)  # 8 of 10: the four again, however they grew, then 6, 7, 8 and 9
    zeros.release()
    assert values(model) == [0, 0, 0, 0, 20, 0, 0, 0, 0, 10]


def test_training_in_int8_leaves_a_zero_a_zero() -> None:
    weights = {"weights": np.array([[1.0, 0.0, -0.5, 0.0], [0.0, 0.0, 0.25, 0.0]]), "bias": np.zeros(2)}
    graph = Graph((4,), (Node("fc", Dense(2), (INPUT,)),), {"fc": weights})
    images = torch.rand(16, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    ranges = calibrate(graph, images, QuantizationRecipe())
    left = []
    for holding in ((), ("fc",)):
        network = QatNetwork(graph, ranges, holding=holding)
        optimizer = torch.optim.SGD(_parameter_groups(network, 0.1), lr=0.5, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images.view(16, 4, 1, 1)), torch.arange(16) % 2)
            torch.autograd.backward(loss)
            optimizer.step()
        after = network.graph.weights["fc"]["weights"]
        quantized = quantize_with(network.graph, network.ranges, images)
        assert not np.array_equal(after[weights["weights"] != 0], [1.0, -0.5, 0.25]), "the others learn"
        left.append((int((after != 0).sum()), int((quantized.weights["fc"]["weights"] != 0).sum())))
    assert left[0][0] == 8
    assert left[1] == (3, 3)
    assert [node.op for node in without_zeros(quantized).nodes] == [Dense(2)], "8 bytes, and 2 * 3 + 2 * 2 as a list"


def test_shares_are_found_and_layers_that_lost_weights_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    asked = {"*": KernelConfig("pruned", share=0.5), "3": KernelConfig("pruned", share=0.9)}
    assert shares_of_zeros(model, asked, (8, 8, 1)) == {"0": 0.5, "3": 0.9}
    assert shares_of_zeros(model, {"0": KernelConfig("lookup")}, (8, 8, 1)) == {}
    assert layers_with_zeros(model) == ()
    assert layers_with_zeros(apply_kernels(model, {name: KernelConfig("pruned") for name in "03"})) == ("0", "3")


def trained(candidate: Candidate, dataset: Dataset, folder: Path) -> tuple[QuantizedGraph, list[str]]:
    """The int8 network, and what was trained for it."""
    said: list[str] = []
    course = Course(candidate, dataset, candidate.recipe.epochs, said.append, folder / "parents", folder / "own")
    return course.run({}).graph, [line.split("/")[0] for line in said]


def entries(graph: QuantizedGraph) -> dict[str, int]:
    """Weights that are stored, by layer."""
    kinds = PrunedConv2d | PrunedDense
    return {node.name: node.op.n_entries or 0 for node in graph.nodes if isinstance(node.op, kinds)}


@pytest.mark.parametrize("schedule", ["one_shot", "agp"])
def test_a_candidate_trained_in_int8_keeps_its_zeros_and_its_c_gives_the_oracle_s_bytes(
    schedule: PruningSchedule, tmp_path: Path, digits: Dataset
) -> None:
    method = PruningRecipe(schedule=schedule, unit="weights")
    recipe = replace(RECIPE, pruning=method, quantization=QuantizationRecipe(qat_epochs=1))
    graph, said = trained(replace(DENSE, kernels=ZEROS, recipe=recipe), digits, tmp_path)
    assert said == ["dense epoch 1", "dense epoch 2", "pruned epoch 1", "qat epoch 1"]
    # a quarter of 8 * 8 * 9 weights, a fifth of 10 * 128; rounding to int8 may lose a few more
    assert 140 <= entries(graph)["conv2"] <= 144
    assert 250 <= entries(graph)["fc1"] <= 256
    images = int8_images(graph, digits, digits.test)[:16]
    with host_network(graph) as network:
        outputs = network.run(images).outputs
    assert np.array_equal(outputs, np.stack([graph.run(image)[graph.output].reshape(-1) for image in images]))


def test_weights_and_channels_go_together(tmp_path: Path, digits: Dataset) -> None:
    candidate = replace(DENSE, kernels=ZEROS, pruning={"*": 0.5}, recipe=GRADUAL)
    graph, said = trained(candidate, digits, tmp_path)
    assert said == ["dense epoch 1", "dense epoch 2", "pruned epoch 1"]
    assert [node.op.out_channels for node in graph.nodes if "conv" in node.name] == [4, 4]  # type: ignore[attr-defined]
    assert entries(graph)["conv2"] <= 36  # a quarter of 4 * 4 * 9
    assert entries(graph).keys() == entries(untrained_graph(candidate, digits)).keys()


def test_what_went_in_the_fine_tuning_is_what_has_gone_in_the_end(tmp_path: Path, digits: Dataset) -> None:
    recipe = replace(SINGLE, trec_epochs=1, training=TrainingRecipe(ema=0.5))
    candidate = replace(DENSE, kernels=ZEROS, recipe=recipe)
    parents = tmp_path / "parents"
    course = Course(candidate, digits, 2, lambda _: None, parents, tmp_path / "own")
    before = course._fine_tuned()
    source = course.run({}).source
    for name in ("conv2", "fc1"):
        gone = before.get_submodule(name).get_parameter("weight").detach().numpy() == 0
        after = source.weights[name]["weights"]
        if name == "conv2":
            after = after.transpose(0, 3, 1, 2)
            assert int(gone.sum()) == 432
            assert np.array_equal(after == 0, gone)
        else:
            assert int(gone.sum()) == int((after == 0).sum()) == 1024


def test_one_shots_share_the_dense_training_and_both_quantisations_the_pruned_one(
    tmp_path: Path, digits: Dataset
) -> None:
    trained(DENSE, digits, tmp_path)
    _, said = trained(replace(DENSE, kernels=ZEROS, recipe=SINGLE), digits, tmp_path)
    assert said == ["pruned epoch 1"]
    by_training = replace(SINGLE, quantization=QuantizationRecipe(qat_epochs=1))
    _, said = trained(replace(DENSE, kernels=ZEROS, recipe=by_training), digits, tmp_path)
    assert said == ["qat epoch 1"]
    _, said = trained(replace(DENSE, kernels=ZEROS, recipe=GRADUAL), digits, tmp_path)
    assert said == ["dense epoch 1", "dense epoch 2", "pruned epoch 1"]


def test_candidates_of_before_keep_their_keys_and_share_their_parents(digits: Dataset) -> None:
    before = replace(DENSE, kernels=ZEROS, recipe=replace(RECIPE, pruning=PruningRecipe(schedule="agp")))
    assert (DENSE.key, before.key) == ("348c4346249b2183", "b84d50f72f8c6a2d")
    assert not before.prunes_weights
    assert pruned_key(before, digits, 2) == pruned_key(replace(before, kernels={}), digits, 2)
    assert lineage(before, "a") == lineage(replace(before, kernels={}), "a")


def test_the_pruned_parent_s_key_holds_which_weights_go(digits: Dataset) -> None:
    candidates = [
        replace(DENSE, kernels={"conv2": KernelConfig("pruned", share=share)}, recipe=recipe)
        for share in (0.8, 0.9)
        for recipe in (SINGLE, GRADUAL)
    ]
    assert all(candidate.prunes_weights for candidate in candidates)
    assert len({pruned_key(candidate, digits, 2) for candidate in candidates}) == 4
    assert len({parent_key(candidate, digits) for candidate in candidates}) == 1
    at_once, gradual = (lineage(candidate, "a") for candidate in candidates[:2])
    assert at_once.dense == lineage(DENSE, "a").dense != gradual.dense
    assert len({at_once.pruned, gradual.pruned, lineage(candidates[2], "a").pruned}) == 3


def test_a_unit_of_which_nothing_goes_changes_nothing(tmp_path: Path, digits: Dataset) -> None:
    idle = replace(DENSE, recipe=replace(GRADUAL, fine_tune_epochs=0))
    assert not idle.prunes_weights
    trained(replace(DENSE, recipe=replace(RECIPE, fine_tune_epochs=0)), digits, tmp_path)
    graph, said = trained(idle, digits, tmp_path)
    assert said == []
    assert entries(graph) == {}


def test_zeros_cost_the_same_by_either_unit(digits: Dataset) -> None:
    board = load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))
    late, early = (price(replace(DENSE, kernels=ZEROS, recipe=recipe), board, digits) for recipe in (RECIPE, SINGLE))
    assert late.cost.weight_bytes == early.cost.weight_bytes
    assert late.key != early.key
