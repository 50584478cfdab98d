"""Kernels that keep few taps: choosing patterns, training with them, and what the device pays for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse import datasets
from trec_dse.candidate import Candidate, KernelConfig, TrecConfig, TrecPolicy
from trec_dse.codegen import constant_bytes
from trec_dse.errors import CandidateError
from trec_dse.evaluate import price, untrained_graph
from trec_dse.graph import Window
from trec_dse.lower import lower
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.pattern_conv2d import PatternConv2d
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.sparse.apply import apply_kernels, hold_patterns, resolve_kernels
from trec_dse.sparse.pattern import PatternConv2d as PatternLayer
from trec_dse.sparse.pattern import fit_patterns, place
from trec_dse.target import load_target
from trec_dse.trec.apply import apply_trec
from trec_dse.trec.conv import TrecConv2d as TrecLayer
from trec_dse.trec.policy import ConvShape

M4 = load_target(data_folder("targets") / "stm32f469i-disco.toml")
PATTERN = KernelConfig("pattern", patterns=3, taps=4, group=2)


def test_weights_stand_at_the_taps_of_their_pattern() -> None:
    weights = torch.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]])  # 1 kernel, 2 groups of 1 channel, 2 taps
    whole = place(weights, torch.tensor([[0, 3], [1, 2]]), torch.tensor([[1, 0]]), 4)
    assert whole.tolist() == [[[0.0, 3.0], [1.0, 0.0], [2.0, 0.0], [0.0, 4.0]]]


def test_a_row_chooses_the_pattern_that_keeps_most_of_it() -> None:
    energy = torch.tensor([[9.0, 8.0, 0.0, 1.0], [0.0, 1.0, 7.0, 7.0], [5.0, 5.0, 1.0, 0.0]])
    patterns, choice = fit_patterns(energy, 2, 2)
    assert [patterns[i].tolist() for i in choice] == [[0, 1], [2, 3], [0, 1]]


def test_a_pattern_becomes_what_those_that_chose_it_have_most_of() -> None:
    # one pattern for all: taps 0 and 2 hold 6 and 7 in sum, tap 1 only 5
    patterns, choice = fit_patterns(torch.tensor([[1.0, 5.0, 2.0], [5.0, 0.0, 5.0]]), 1, 2)
    assert patterns.tolist() == [[0, 2]]
    assert choice.tolist() == [0, 0]


def test_more_patterns_keep_more() -> None:
    energy = torch.rand(100, 9, generator=torch.Generator().manual_seed(0)).square()

    def kept(n: int) -> float:
        patterns, choice = fit_patterns(energy, n, 4)
        return float(energy.gather(1, patterns[choice]).sum() / energy.sum())

    assert 4 / 9 < kept(1) < kept(4) < kept(8) < kept(16) < 1


def layer(seed: int = 1) -> nn.Conv2d:
    torch.manual_seed(seed)
    return nn.Conv2d(4, 6, 3, padding=1)


def test_missing_taps_are_zero_and_stay_zero_while_the_others_learn() -> None:
    conv = layer()
    pattern = PatternLayer.from_conv(conv, PATTERN)
    assert int((pattern.weight != 0).sum()) == 6 * 4 * 4 == int(pattern.mask.sum())
    assert torch.equal(pattern.weight, conv.weight * pattern.mask)
    optimizer = torch.optim.SGD(pattern.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    before = pattern.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        pattern(torch.randn(2, 4, 6, 6)).square().sum().backward()
        optimizer.step()
    assert not (pattern.weight * (1 - pattern.mask)).any()
    assert bool((pattern.weight != before)[pattern.mask == 1].all())


def test_two_channels_of_a_group_lack_the_same_taps() -> None:
    mask = PatternLayer.from_conv(layer(), PATTERN).mask.reshape(6, 2, 2, 9)
    assert torch.equal(mask[:, :, 0], mask[:, :, 1])
    assert len(torch.unique(mask[:, :, 0].reshape(12, 9), dim=0)) <= 3


def test_a_graph_computes_what_the_layer_computes() -> None:
    model = nn.Sequential(layer(), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 25, 3)).eval()
    changed = apply_kernels(model, {"0": PATTERN})
    graph, x = lower(changed, (5, 5, 4)), torch.randn(3, 4, 5, 5)
    op = graph.nodes[0].op
    assert isinstance(op, PatternConv2d) and op.activation == "relu" and (op.n_taps, op.groups) == (4, 2)
    with torch.no_grad():
        assert torch.allclose(graph.forward(x.permute(0, 2, 3, 1))[graph.nodes[-1].name], changed(x), atol=1e-5)


def test_trec_keeps_the_missing_taps_missing() -> None:
    torch.manual_seed(0)
    stored = apply_kernels(nn.Sequential(layer()), {"0": PATTERN})
    images = torch.randn(4, 4, 8, 8)
    clustered = apply_trec(stored, {"0": TrecConfig(3, 12)}, images)
    hold_patterns(clustered, stored)
    optimizer = torch.optim.SGD(clustered.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        clustered.train()(images).square().sum().backward()
        optimizer.step()
    source, found = stored.get_submodule("0"), clustered.get_submodule("0")
    assert isinstance(source, PatternLayer) and isinstance(found, TrecLayer)
    changed = found.weight != source.weight
    assert bool(changed[source.mask == 1].all()) and not bool(changed[source.mask == 0].any())


def test_kernels_of_another_size_keep_the_same_share() -> None:
    shapes = {"a": ConvShape(5, 5, 12, 8, 64), "b": ConvShape(3, 3, 3, 8, 64), "c": ConvShape(1, 3, 8, 8, 64)}
    found = resolve_kernels({"*": KernelConfig("pattern", taps=4, group=8)}, shapes)
    # 25 * 4 / 9 = 11.1 and 3 * 4 / 9 = 1.3; groups are the nearest divisors of 12, 3 and 8
    assert [(config.taps, config.group) for config in found.values()] == [(11, 6), (4, 3), (1, 8)]


def test_numbers_that_make_no_pattern_are_told() -> None:
    with pytest.raises(CandidateError, match=r"8 patterns of 0 taps for groups of 8; needed 1\.\.256 patterns"):
        KernelConfig("pattern", taps=0)


def test_products_and_bytes_by_hand() -> None:
    op = PatternConv2d(6, Window((3, 3), padding=(1, 1)), 4, 2, 3)
    assert op.macs((8, 8, 4)) == 64 * 4 * 4 * 6
    # rows of 36 and parts of 8 elements, 4 rows of 2 bytes each; sums of 6 channels and of as many, and one, of a slice
    assert op.scratch_bytes((8, 8, 4)) == 36 * 8 + 8 * 8 + (6 + 7) * 16


def test_a_kernel_s_part_takes_its_weights_and_two_bytes_of_flash() -> None:
    model = nn.Sequential(layer()).eval()
    changed = apply_kernels(model, {"0": replace(PATTERN, patterns=1)})
    graph = lower(changed, (5, 5, 4))
    node, quantized = graph.nodes[0], quantize(graph, torch.randn(2, 5, 5, 4))
    # one pattern: 2 slices of 6 kernels of 4 taps and 2 channels, a number of 2 bytes each; 3 numbers a slice;
    # the pattern's 4 taps; biases and factors of 4 bytes
    weights, kernels, slices = 2 * 6 * 8, 2 * 6 * 2, 2 * 3 * 2
    assert constant_bytes(quantized)[node.name].tables == weights + kernels + slices + 4 + 6 * (4 + 4)


def test_a_candidate_asks_for_it_and_the_estimate_knows_it_is_cheaper() -> None:
    data = datasets.placeholder("cifar10")
    plain = Candidate("cifar10", "cifarnet", {"width": 0.5})
    patterned = replace(plain, kernels={"conv2": KernelConfig("pattern", patterns=4, group=32)})
    costs = [price(candidate, M4, data).cost for candidate in (plain, patterned)]
    dense, sparse = (next(layer for layer in cost.layers if layer.name == "conv2") for cost in costs)
    assert sparse.macs * 25 == dense.macs * 11
    assert sparse.cycles < 0.9 * dense.cycles
    assert sparse.flash_bytes < 0.6 * dense.flash_bytes


def test_groups_of_one_channel_cost_more_than_the_dense_layer() -> None:
    shape, window = (16, 16, 64), Window((3, 3), padding=(1, 1))

    def cycles(op: Conv2d | PatternConv2d) -> float:
        return sum(M4.timing[item.kind] * item.amount for item in op.work(shape, worst=False))

    dense, whole, single = (
        cycles(op)
        for op in (Conv2d(64, window), PatternConv2d(64, window, 4, 1, 8), PatternConv2d(64, window, 4, 64, 8))
    )
    assert whole < dense < single


def test_trec_on_a_pattern_layer_is_a_clustered_convolution() -> None:
    candidate = Candidate("digits", "tiny", {"width": 8, "depth": 2}, TrecPolicy(3, 3), kernels={"conv2": PATTERN})
    graph = untrained_graph(candidate, datasets.placeholder("digits"))
    node = next(node for node in graph.nodes if node.name == "conv2")
    assert node.op.kind == "trec_conv2d"
    assert int((graph.weights["conv2"]["weights"] != 0).sum()) <= 8 * 8 * 4
    assert np.count_nonzero(graph.weights["conv2"]["weights"]) > 8 * 8 * 2
