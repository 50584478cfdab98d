"""Kernels of few dictionary vectors per tap: fitting them, the layer, and what the device pays for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse import datasets
from trec_dse.candidate import Candidate, KernelConfig, TrecPolicy, plain_data
from trec_dse.codegen import constant_bytes
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.evaluate import price, untrained_graph
from trec_dse.graph import INPUT, NodeQuantization, Quantization, Window
from trec_dse.lower import lower
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.lookup_conv2d import LookupConv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.resources import data_folder
from trec_dse.sparse.apply import apply_kernels, resolve_kernels
from trec_dse.sparse.lookup import LookupLayer, fit_dictionary, pursue, spread
from trec_dse.target import load_target
from trec_dse.trec.policy import ConvShape

M4 = load_target(data_folder("targets") / "stm32f469i-disco.toml")
LOOKUP = KernelConfig("lookup", dictionary=6, terms=2)


def test_coefficients_stand_at_their_channels() -> None:
    places = spread(torch.tensor([[2.0, -1.0]]), torch.tensor([[3, 0]]), 5)
    assert places.tolist() == [[-1.0, 0.0, 0.0, 2.0, 0.0]]


def test_a_pursuit_picks_the_entry_that_explains_most_first() -> None:
    dictionary = torch.eye(3, dtype=torch.float64)
    indices, coefficients = pursue(torch.tensor([[1.0, -5.0, 2.0]], dtype=torch.float64), dictionary, 2)
    assert indices.tolist() == [[1, 2]]
    assert coefficients[0].tolist() == pytest.approx([-5.0, 2.0])


def test_a_pursuit_solves_for_all_coefficients_anew() -> None:
    # (1, 1) projects 1.4 on the diagonal; with the first axis as second entry the sum must still be exact
    dictionary = torch.tensor([[1.0, 0.0], [2**-0.5, 2**-0.5]], dtype=torch.float64)
    indices, coefficients = pursue(torch.tensor([[1.0, 3.0]], dtype=torch.float64), dictionary, 2)
    assert indices.tolist() == [[1, 0]]
    assert coefficients[0].tolist() == pytest.approx([3 * 2**0.5, -2.0], abs=1e-6)


def test_vectors_made_of_few_directions_are_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=1)
    scales = torch.rand(80, 1, generator=generator) + 0.5
    vectors = directions[torch.arange(80) % 4] * scales
    dictionary, indices, coefficients = fit_dictionary(vectors, 4, 1)
    assert torch.allclose(coefficients * dictionary[indices[:, 0]], vectors, atol=1e-5)
    assert sorted((dictionary @ directions.T).abs().amax(dim=1).tolist()) == pytest.approx([1.0] * 4, abs=1e-5)


def test_fitting_goes_on_where_the_first_guess_is_poor() -> None:
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))

    def error(rounds: int) -> float:
        dictionary, indices, coefficients = fit_dictionary(vectors, 8, 2, rounds)
        rebuilt = (coefficients.unsqueeze(1) @ dictionary[indices]).squeeze(1)
        return float((vectors - rebuilt).square().sum() / vectors.square().sum())

    assert error(12) < 0.95 * error(0) < 0.5


def test_there_are_no_more_entries_than_vectors_and_each_has_length_one() -> None:
    dictionary, indices, _ = fit_dictionary(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 9, 5)
    assert dictionary.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])
    assert indices.tolist()[0] in ([0, 1], [1, 0])


def conv(channels: int = 4, kernels: int = 5) -> nn.Conv2d:
    torch.manual_seed(3)
    return nn.Conv2d(channels, kernels, 3, stride=2, padding=1)


def test_enough_terms_give_the_convolution_itself() -> None:
    source, x = conv(), torch.randn(2, 4, 9, 8)
    layer = LookupLayer.from_conv(source, KernelConfig("lookup", dictionary=12, terms=4))
    assert torch.allclose(layer(x), source(x), atol=1e-4)
    assert layer.dictionary.weight.shape == (12, 4, 1, 1) and layer.dictionary.bias is None


def test_dictionary_and_coefficients_learn_and_the_picks_stay() -> None:
    layer = LookupLayer.from_conv(conv(), LOOKUP)
    before = layer.lookup.indices.clone()
    layer(torch.randn(2, 4, 9, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())
    assert {name for name, _ in layer.named_parameters()} == {"dictionary.weight", "lookup.weight", "lookup.bias"}
    assert torch.equal(layer.lookup.indices, before)


def test_a_graph_computes_what_the_layer_computes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(), nn.ReLU(), nn.Flatten(), nn.Linear(125, 3)).eval()
    changed = apply_kernels(model, {"0": LOOKUP})
    x = torch.randn(3, 4, 9, 9)
    graph = lower(changed, (9, 9, 4))
    assert [node.op.kind for node in graph.nodes] == ["conv2d", "lookup_conv2d", "dense"]
    lookup = graph.nodes[1].op
    assert isinstance(lookup, LookupConv2d) and lookup.activation == "relu" and lookup.n_terms == 2
    with torch.no_grad():
        found = graph.forward(x.permute(0, 2, 3, 1))[graph.nodes[-1].name]
        assert torch.allclose(found, changed(x), atol=1e-5)
    assert isinstance(model[0], nn.Conv2d), "the network itself stays"


SHAPES = {"stem": ConvShape(3, 3, 3, 4, 64), "point": ConvShape(1, 1, 4, 8, 64), "last": ConvShape(3, 3, 8, 8, 16)}


def test_a_star_means_what_is_not_named_and_larger_than_a_pixel() -> None:
    asked = {"*": LOOKUP, "stem": KernelConfig("dense")}
    assert resolve_kernels(asked, SHAPES) == {"last": LOOKUP}
    assert resolve_kernels({"point": LOOKUP}, SHAPES) == {"point": LOOKUP}


def test_a_dictionary_is_no_larger_than_the_kernels_it_serves() -> None:
    wanted = KernelConfig("lookup", dictionary=64, terms=40)
    assert resolve_kernels({"stem": wanted}, SHAPES)["stem"] == KernelConfig("lookup", 36, 36)


def test_a_wrong_name_and_a_wrong_number_are_told() -> None:
    with pytest.raises(CandidateError, match="asked for conv9; the convolutions are stem, point, last"):
        resolve_kernels({"conv9": LOOKUP}, SHAPES)
    with pytest.raises(CandidateError, match=r"dictionary is 257; it must lie in 1..256"):
        KernelConfig("lookup", dictionary=257)
    with pytest.raises(CandidateError, match=r"terms is 9; it must lie in 1..8"):
        KernelConfig("lookup", dictionary=8, terms=9)


def test_a_candidate_with_whole_kernels_has_the_data_it_always_had() -> None:
    plain = Candidate("digits", "tiny")
    assert "kernels" not in plain_data(plain)
    kept = plain_data(replace(plain, kernels={"*": LOOKUP}))["kernels"]
    assert isinstance(kept, dict) and kept["*"]["dictionary"] == 6


def test_candidates_that_come_down_to_one_network_share_it() -> None:
    data = datasets.placeholder("digits")
    plain = Candidate("digits", "tiny", {"width": 8, "depth": 2})
    by_star = price(replace(plain, kernels={"*": LOOKUP}), M4, data)
    by_name = price(replace(plain, kernels={"conv1": LOOKUP, "conv2": LOOKUP}), M4, data)
    dense = price(replace(plain, kernels={"*": KernelConfig("dense")}), M4, data)
    assert by_star.key == by_name.key
    assert dense.key == price(plain, M4, data).key != by_star.key


def test_trec_clusters_the_dictionary_s_pixels() -> None:
    candidate = Candidate(
        "digits", "tiny", {"width": 8, "depth": 2}, TrecPolicy(4, 4, "whole"), kernels={"conv2": LOOKUP}
    )
    graph = untrained_graph(candidate, datasets.placeholder("digits"))
    ops = {node.name: node.op for node in graph.nodes}
    dictionary = ops["conv2.dictionary"]
    assert isinstance(dictionary, TrecConv2d) and dictionary.config.vector_length == 8
    assert isinstance(ops["conv2.lookup"], LookupConv2d)


def lookup_by_hand() -> tuple[LookupConv2d, dict[str, np.ndarray]]:
    weights = {"weights": np.array([[[[1.0], [-2.0]]]]), "indices": np.array([[[[2.0], [0.0]]]]), "bias": np.zeros(1)}
    return LookupConv2d(1, Window((1, 2)), 1), weights


def test_a_lookup_by_hand() -> None:
    op, weights = lookup_by_hand()
    image = torch.arange(9.0).reshape(1, 1, 3, 3)  # pixels (0 1 2), (3 4 5), (6 7 8)
    # channel 2 of a pixel minus twice channel 0 of its right neighbour
    expected = [2 - 2 * 3, 5 - 2 * 6]
    assert (
        op.forward([image], {k: torch.from_numpy(v).float() for k, v in weights.items()}).flatten().tolist() == expected
    )


def test_its_bytes_and_its_work_by_hand() -> None:
    op = LookupConv2d(5, Window((3, 3), (2, 2), (1, 1)), 2)
    shape = (9, 9, 4)  # 5x5 outputs
    assert op.macs(shape) == 25 * 9 * 2 * 5
    # three lines of 4 channels, each twice 8 + 1 columns: 5 outputs filled up to 8, and the kernel's reach
    assert op.scratch_bytes(shape) == 3 * 4 * 2 * 9
    work = {item.kind: item.amount for item in op.work(shape, worst=False)}
    # 18 terms of a kernel are filled up to 20; 5 rows of 8 positions; 3 + 4 * 2 lines are read
    assert work["lookup_term"] == 5 * 8 * 5 * 20
    assert work["lookup_byte"] == 11 * 4 * 18
    assert work["lookup_output"] == 25 * 5


def test_a_term_takes_three_bytes_of_flash() -> None:
    graph = untrained_graph(
        Candidate("cifar10", "cifarnet", {"width": 0.25}, kernels={"conv2": KernelConfig("lookup", 16, 2)}),
        datasets.placeholder("cifar10"),
    )
    # 16 kernels of 25 taps with 2 terms, filled up to 52; biases and factors of 4 bytes
    assert constant_bytes(graph)["conv2.lookup"].tables == 16 * 52 * 3 + 16 * (4 + 4)


def test_more_channels_than_a_dictionary_can_have_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="256 channels"):
        LookupConv2d(1, Window((1, 1)), 1).output_shape((4, 4, 257))
    with pytest.raises(UnsupportedError, match="65536 bytes of lines"):
        LookupConv2d(1, Window((5, 5)), 1).output_shape((90, 90, 256))


def test_it_is_cheaper_than_the_convolution_that_it_stands_for() -> None:
    shape, window, timing = (14, 14, 64), Window((5, 5)), M4.timing

    def cycles(op: Conv2d | LookupConv2d, source: tuple[int, int, int]) -> float:
        return sum(timing[item.kind] * item.amount for item in op.work(source, worst=False))

    parts = cycles(Conv2d(64, Window((1, 1))), shape) + cycles(LookupConv2d(64, window, 2), shape)
    assert parts < 0.4 * cycles(Conv2d(64, window), shape)


def test_integers_of_a_lookup_by_hand() -> None:
    op, weights = lookup_by_hand()
    quantization = NodeQuantization((Quantization(1.0, 1),), Quantization(2.0, 3))
    integers = op.quantize(weights, quantization)
    # the largest coefficient is 127 levels, so one level is 2 / 127; 1 is 63.5 levels and rounds up
    assert integers["weights"].tolist() == [[[[64], [-127]]]]
    assert integers["indices"].dtype == np.uint8
    image = np.arange(9, dtype=np.int8).reshape(1, 3, 3)
    # (2 - 1) * 64 - (3 - 1) * 127 = -190 levels = -2.99, halved and rounded -1, plus the zero point
    assert op.run([image], integers, quantization).flatten().tolist()[0] == 2


def test_the_input_of_a_graph_may_be_looked_up_directly() -> None:
    op, weights = lookup_by_hand()
    assert (
        INPUT == "input" and op.output_shape((1, 3, 3)) == (1, 2, 1) and set(weights) == {"weights", "indices", "bias"}
    )
