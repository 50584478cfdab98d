"""4-bit networks: what they are rewritten to, that training sees the kernels' integers, and every byte by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse.candidate import Candidate, QuantizationRecipe, TrecPolicy
from trec_dse.codegen import constant_bytes
from trec_dse.datasets import Dataset, Split
from trec_dse.datasets._types import placeholder
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.evaluate import host_network, int8_images, untrained_graph
from trec_dse.four_bits import FourBitNetwork, in_four_bits, pixel_levels
from trec_dse.graph import INPUT, Graph, Quantization, QuantizedGraph, Window, averaged, pack, unpack
from trec_dse.lower import lower
from trec_dse.memory import plan_memory
from trec_dse.networks.mnist2k import build
from trec_dse.ops._four_bits import Exponents, best_exponent, shift_right, whole_layer
from trec_dse.ops._in_place import slack
from trec_dse.ops.cascade_u4 import CascadeU4, Layer, ring_pixels
from trec_dse.ops.dense_u4 import DenseU4
from trec_dse.quantize import quantize_own_scales
from trec_dse.store import load_graph, save_graph

SHAPE = (28, 28, 1)
IN_FOUR_BITS = replace(
    Candidate("mnist", "mnist2k"),
    recipe=replace(Candidate("mnist", "mnist2k").recipe, quantization=QuantizationRecipe(bits=4)),
)


def digits(n: int = 32) -> Dataset:
    """Blobs in the shape and with the mean and deviation of MNIST."""
    return replace(placeholder("mnist", SHAPE, 10, n), mean=(0.1307,), std=(0.3081,))


def normalised(dataset: Dataset) -> torch.Tensor:
    return dataset.normalise(dataset.train.images)


def nhwc(images: torch.Tensor) -> torch.Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


def rewritten(model: nn.Module, dataset: Dataset) -> Graph:
    graph = lower(model.eval(), dataset.input_shape)
    return in_four_bits(graph, nhwc(normalised(dataset)), pixel_levels(dataset.mean, dataset.std))


def logits_of(graph: QuantizedGraph, dataset: Dataset) -> np.ndarray:
    """What the oracle's outputs stand for."""
    outputs = [graph.run(image)[graph.output] for image in int8_images(graph, dataset, dataset.train)]
    return np.stack(outputs) * graph.quantization[graph.output].scale


def test_two_numbers_share_a_byte_the_first_in_the_lower_half() -> None:
    packed = pack(np.array([1, 2, 15]))
    assert packed.view(np.uint8).tolist() == [0x21, 0x0F]
    assert unpack(packed, (3,)).tolist() == [1, 2, 15]
    assert pack(np.array([-1, -8])).view(np.uint8).tolist() == [0x8F]


def test_a_tensor_of_4_bits_takes_half_its_elements_rounded_up() -> None:
    assert Quantization(1.0, 0, bits=4).bytes_of((3, 3, 1)) == 5
    assert Quantization(1.0, 0).bytes_of((3, 3, 1)) == 9


def test_shifting_right_rounds_halves_upwards() -> None:
    assert shift_right(np.array([-6, -5, 5, 6, 7]), 2, -8, 7).tolist() == [-1, -1, 1, 2, 2]
    assert shift_right(np.array([3]), 0, 0, 15).tolist() == [3]


def test_an_exponent_gives_the_least_error() -> None:
    assert best_exponent(np.array([-8.0, 7.0, 3.0]), -8, 7) == 0
    assert best_exponent(np.array([0.5, 1.75]), -8, 7) == -2  # quarters up to 7
    # one outlier is cut rather than all others lost
    assert best_exponent(np.array([1.0] * 100 + [8.0]), 0, 7) == 0


def test_bias_and_output_are_never_finer_than_the_accumulator() -> None:
    found = Exponents.of(np.array([-2.0, -5.0, 20.0]))
    assert (found.accumulator, found.bias, found.output) == (-2, -2, 13)
    assert (found.bias_shift, found.shift) == (0, 15)


def test_a_zero_point_goes_into_the_bias() -> None:
    # steps of 1/4: weights 2 and -1, which sum to 1; zero point 2 takes 2 * 1/4 from the bias
    exponents = np.array([-2.0, -2.0, 0.0])
    layer = whole_layer(np.array([[0.5, -0.25]]), np.array([1.0]), exponents, Quantization(1.0, 2, bits=4))
    assert layer.weights.tolist() == [[2, -1]]
    assert layer.bias.tolist() == [2]
    assert layer.accumulate(np.array([[3, 4]])).tolist() == [[3 * 2 - 4 + 2]]


def test_an_image_becomes_levels_by_one_addition_and_one_shift() -> None:
    dataset, random = digits(), np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, *SHAPE)).astype(np.uint8)
    pixels[:, :2, :2, 0] = np.array([[255, 255], [255, 254]])
    graph = quantize_own_scales(rewritten(build(SHAPE, 10), dataset))
    found = [unpack(image, (14, 14, 1)) for image in int8_images(graph, dataset, Split(pixels, np.zeros(6, np.int64)))]
    sums = pixels.reshape(6, 14, 2, 14, 2).astype(int).sum(axis=(2, 4))
    # zero point 2: level = floor(sum / 64 + 1/2 + 2 - 255 * mean / 16), which is floor((sum + 26.7) / 64)
    assert np.array_equal(np.stack(found)[..., 0], np.minimum(15, (sums + 26) >> 6))


def test_averaging_by_hand() -> None:
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    assert averaged(image, (2, 2, 1)).reshape(-1).tolist() == [2.5, 4.5, 10.5, 12.5]


def test_channels_of_different_scales_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="one scale"):
        pixel_levels((0.1, 0.2), (0.3, 0.3))
    found = pixel_levels((0.1307, 0.1307), (0.3081, 0.3081))
    assert (found.zero_point, found.bits) == (2, 4)
    assert found.scale == pytest.approx(16 / 255 / 0.3081)


def test_a_ring_holds_what_windows_have_yet_to_read() -> None:
    assert ring_pixels(Window((3, 3)), (12, 12, 5)) == 2 * 12 + 3
    assert ring_pixels(Window((2, 2), (2, 2)), (8, 8, 11)) == 8 + 2
    assert ring_pixels(Window((1, 1)), (9, 9, 3)) == 1
    assert ring_pixels(Window((3, 3), padding=(1, 1)), (5, 5, 1)) == 2 * 5 + 3
    # a stride of 2 over 5 columns leaves the last of them out: windows at columns 0 and 2
    assert ring_pixels(Window((2, 2), (2, 2)), (4, 5, 1)) == 5 + 2


def test_the_published_network_needs_less_than_any_order_of_whole_layers() -> None:
    layers = (*(Layer(Window((3, 3)), channels) for channels in (5, 8, 11)), Layer(Window((2, 2), (2, 2))))
    cascade = CascadeU4(layers)
    # four counts of two bytes; 27 pixels of 5, 23 of 8 and 10 of 11 numbers
    assert cascade.scratch_bytes((14, 14, 1)) == 8 + 68 + 92 + 55 == 223
    # before the last of 16 pixels 165 numbers are written, and the window at (11, 10) has yet to be read
    assert cascade.overlap((14, 14, 1)) == math.ceil(15 * 11 / 2) - (11 * 14 + 10) // 2 == 1
    in_place = [(12, 1, 5), (10, 5, 8), (8, 8, 11)]
    whole = [
        (n + 2) ** 2 * f_a + slack(Window((3, 3)), (n + 2, n + 2, f_a), f_b, "herringbone") for n, f_a, f_b in in_place
    ]
    assert max(whole) / 2 == 434.5  # as published
    assert 223 + 98 < 434.5


def test_every_byte_of_the_published_network() -> None:
    graph = untrained_graph(IN_FOUR_BITS, digits())
    cascade, dense = graph.nodes
    weights = {node.name: graph.weights[node.name] for node in graph.nodes}
    assert weights[cascade.name]["weights"].size == math.ceil((45 + 360 + 792) / 2) == 599
    assert weights[dense.name]["weights"].size == 1760 // 2
    assert weights[cascade.name]["bias"].size + weights[dense.name]["bias"].size == 34
    sizes = constant_bytes(graph)
    # tables rounded up to words: 600 + 24 of bias + 4 layers of 16 bytes; 880 + 12; each a struct of four words
    assert (sizes[cascade.name].tables, sizes[cascade.name].structs) == (600 + 24 + 64, 16)
    assert (sizes[dense.name].tables, sizes[dense.name].structs) == (880 + 12, 16)
    plan = plan_memory(graph)
    assert plan.size == 328  # 223 rounded up to 224, the output four bytes before the input: 224 + 4 + 98 = 326
    assert 600 + 24 + 64 + 16 + 880 + 12 + 16 + plan.size == 1940


def test_training_sees_the_very_integers_of_the_kernels() -> None:
    torch.manual_seed(3)
    dataset = digits()
    network = FourBitNetwork(rewritten(build(SHAPE, 10), dataset))
    for name, parameter in network.named_parameters():  # as if it had learned
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
        elif name.endswith("exponents"):
            parameter.data += torch.tensor([0.3, -0.4, 0.2])
    logits = network(normalised(dataset)).detach().numpy()
    graph = quantize_own_scales(network.graph)
    assert np.array_equal(logits, logits_of(graph, dataset))
    with host_network(graph) as host:
        outputs = host.run(int8_images(graph, dataset, dataset.train)).outputs
    assert np.array_equal(outputs * graph.quantization[graph.output].scale, logits)


def test_padding_and_no_averaging_are_the_kernels_too() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 3, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(3 * 4 * 4, 5),
    )  # fmt: skip
    dataset = replace(placeholder("small", (14, 14, 1), 5, 16), mean=(0.3,), std=(0.25,))
    network = FourBitNetwork(rewritten(model, dataset))
    logits = network(normalised(dataset)).detach().numpy()
    assert np.array_equal(logits, logits_of(quantize_own_scales(network.graph), dataset))
    assert len(np.unique(logits)) > 5


def test_everything_learns_until_the_exponents_are_frozen() -> None:
    dataset = digits()
    network = FourBitNetwork(rewritten(build(SHAPE, 10), dataset))
    network(normalised(dataset)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    network.freeze()
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {f"_learned.{i}.exponents" for i in range(4)}


def test_the_graph_of_an_untouched_network_is_the_one_it_was_made_from() -> None:
    dataset = digits()
    graph = rewritten(build(SHAPE, 10), dataset)
    again = FourBitNetwork(graph).graph
    for node in graph.nodes:
        assert graph.weights[node.name].keys() == again.weights[node.name].keys()
        for key, value in graph.weights[node.name].items():
            np.testing.assert_allclose(again.weights[node.name][key], value, rtol=1e-5, atol=1e-6)


def test_a_stored_network_keeps_its_bits(tmp_path: Path) -> None:
    graph = untrained_graph(IN_FOUR_BITS, digits())
    save_graph(graph, tmp_path)
    assert load_graph(tmp_path).quantization[INPUT] == graph.quantization[INPUT]
    assert isinstance(load_graph(tmp_path).nodes[1].op, DenseU4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ((nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 3)), "only convolutions with ReLU"),
        ((nn.Conv2d(1, 2, 3), nn.ReLU()), "ends in"),
        ((nn.AvgPool2d(3, 2), nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(242, 3)), "do not tile"),
    ],
)
def test_what_has_no_4_bit_kernel_is_refused_by_name(model: tuple[nn.Module, ...], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        rewritten(nn.Sequential(*model), digits())


def test_clustering_in_4_bits_is_refused() -> None:
    with pytest.raises(CandidateError, match="in 4 bits"):
        replace(IN_FOUR_BITS, trec=TrecPolicy(3, 3))
    with pytest.raises(CandidateError, match="frozen_epochs"):
        QuantizationRecipe(frozen_epochs=3)
