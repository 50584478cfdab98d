"""Which layers stay dense on a board: priced before training, and said in the estimate."""

from dataclasses import replace

import pytest

from trec_dse import codec
from trec_dse.candidate import Candidate, TrecConfig, TrecPolicy
from trec_dse.cost import cycles_of, relative_time
from trec_dse.datasets._types import placeholder
from trec_dse.errors import CandidateError
from trec_dse.evaluate import price, untrained_graph
from trec_dse.graph import Window
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target

PHOTOS = placeholder("photos", (32, 32, 3), 10)
SQUEEZENET = Candidate("cifar10", "squeezenet", {"width": 0.25}, trec=TrecPolicy(4, 4, only_where_it_pays=True))


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(data_folder("targets") / "stm32f469i-disco.toml")


def test_relative_time_is_that_of_the_layer_itself(target: Target) -> None:
    graph = untrained_graph(Candidate("cifar10", "cifarnet", {"width": 0.25}, trec=TrecPolicy(4, 3)), PHOTOS)
    shapes = graph.shapes
    n_seen = 0
    for node in graph.nodes:
        if isinstance(node.op, TrecConv2d):
            shape, op = shapes[node.inputs[0]], node.op
            dense = Conv2d(op.out_channels, op.window)
            expected = cycles_of(op.work(shape, worst=True), target.timing, "") / cycles_of(
                dense.work(shape, worst=True), target.timing, ""
            )
            n = op.n_positions(shape)
            column = (op.window.kernel[0] + n - 1, op.window.kernel[1], shape[2])
            assert Window(op.window.kernel).positions(column) == (n, 1)
            assert relative_time(op.window.kernel, column, op.out_channels, op.config, target) == expected
            n_seen += 1
    assert n_seen == 2


def test_the_estimate_says_which_layers_stay_dense_and_why(target: Target) -> None:
    priced = price(SQUEEZENET, target, PHOTOS)
    layers = {layer.name: layer for layer in priced.cost.layers}
    # 16 positions in fire9 and conv10 are as many clusters
    expected = {"fire9.squeeze", "fire9.expand1", "fire9.expand3", "conv10"}
    assert expected <= set(priced.trec.reasons)
    assert {name for name, layer in layers.items() if layer.note} == set(priced.trec.reasons)
    for name, reason in priced.trec.reasons.items():
        assert layers[name].op == "conv2d"
        assert layers[name].note == reason
    assert "16 clusters in 16 rows" in layers["conv10"].note
    # where N is large the cost of clustering is shared by many positions
    clustered = [layer for layer in priced.cost.layers if layer.op == "trec_conv2d"]
    assert clustered
    assert all(layer.note == "" for layer in clustered)


def test_a_board_on_which_clustering_is_dear_keeps_more_layers_dense(target: Target) -> None:
    dear = replace(target, timing={**target.timing, "slice_row": 10_000.0})
    cheap, costly = (price(SQUEEZENET, board, PHOTOS) for board in (target, dear))
    assert set(cheap.trec.reasons) < set(costly.trec.reasons)
    assert not costly.trec.configs
    assert cheap.key != costly.key


def test_nothing_that_pays_makes_the_network_slower(target: Target) -> None:
    everywhere = replace(SQUEEZENET, trec=TrecPolicy(4, 4))
    dense = replace(SQUEEZENET, trec=None)
    costs = [price(candidate, target, PHOTOS).cost for candidate in (SQUEEZENET, everywhere, dense)]
    assert costs[0].worst_cycles < min(costs[1].worst_cycles, costs[2].worst_cycles)


def test_a_policy_with_configs_of_its_own_survives_json() -> None:
    policy = TrecPolicy(2, 2, layers=(), layer_configs={"conv1": TrecConfig(3, 9, "shared", 6)})
    candidate = replace(SQUEEZENET, trec=policy)
    again = codec.from_json(codec.to_json(candidate), Candidate, "candidate", CandidateError)
    assert again == candidate
    assert again.key == candidate.key != SQUEEZENET.key
