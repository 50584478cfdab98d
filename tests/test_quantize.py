"""Scales, zero points and the one rounding rule, by hand."""

import numpy as np
import pytest
import torch

from trec_dse.candidate import QuantizationRecipe, TrecConfig
from trec_dse.errors import CandidateError
from trec_dse.graph import INPUT, Graph, Node, NodeQuantization, Quantization, Window, quantize_array
from trec_dse.ops._clustering import assign
from trec_dse.ops._fixed_point import (
    channel_multipliers,
    divide,
    multiplier_and_shift,
    quantize_channels,
    rescale_tables,
    single_rescale,
    sum_multipliers,
)
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.quantize import FULL_RANGE, calibrate, correct_biases, observe, quantize, quantize_with


def test_a_range_is_covered_by_256_levels() -> None:
    q = observe(torch.tensor([-1.0, 1.55]))
    assert q.scale == pytest.approx(0.01)
    assert q.zero_point == -28  # -128 + 1.0 / 0.01


def test_zero_is_always_a_level_so_that_padding_and_relu_are_exact() -> None:
    assert observe(torch.tensor([2.0, 5.1])) == Quantization(pytest.approx(0.02), -128)  # type: ignore[arg-type]
    assert observe(torch.tensor([-5.1, -2.0])).zero_point == 127
    assert observe(torch.zeros(3)).scale > 0


def test_images_are_rounded_half_upwards_and_saturated() -> None:
    found = quantize_array(np.array([0.05, -0.05, 0.04, 99.0, -99.0]), Quantization(0.1, 3))
    assert found.tolist() == [4, 3, 3, 127, -128]


def test_division_rounds_half_upwards_on_both_sides_of_zero() -> None:
    assert [int(divide(np.array(n), 2)) for n in (-3, -1, 1, 3)] == [-1, 0, 1, 2]
    assert int(divide(np.array(-7), 3)) == -2


@pytest.mark.parametrize(("scale", "expected"), [(0.5, (2**30, 31)), (0.75, (3 * 2**29, 31)), (0.25, (2**30, 32))])
def test_a_scale_is_a_normalised_multiplier_and_a_shift(scale: float, expected: tuple[int, int]) -> None:
    assert multiplier_and_shift(scale) == expected


def test_a_scale_just_below_a_power_of_two_does_not_overflow_its_multiplier() -> None:
    multiplier, shift = multiplier_and_shift(0.5 * (1 - 1e-12))
    assert multiplier < 2**31
    assert multiplier / 2**shift == pytest.approx(0.5)


def test_the_factors_of_a_layer_are_multiples_of_a_2_to_the_32nd() -> None:
    tables = rescale_tables(np.array([0.25, 2.0**-20 + 2.0**-33]))
    assert tables["shift"] == 32
    assert tables["factors"].tolist() == [2**30, 2**12 + 1]  # a half is rounded upwards


@pytest.mark.parametrize(("largest", "shift"), [(0.5, 31), (0.75, 31), (40.0, 25), (2.0**-19, 49)])
def test_a_layer_with_large_or_only_tiny_factors_has_another_shift(largest: float, shift: int) -> None:
    tables = rescale_tables(np.array([largest, largest / 4]))
    assert tables["shift"] == shift
    assert (tables["factors"] / 2.0**shift).tolist() == [largest, largest / 4]


def test_a_factor_just_below_a_half_does_not_overflow() -> None:
    assert rescale_tables(np.array([0.5 - 1e-12]))["factors"].tolist() == [2**30]
    assert rescale_tables(np.array([0.5 - 2.0**-31]))["factors"].tolist() == [2**31 - 2]


def test_a_vanishing_scale_becomes_zero() -> None:
    assert rescale_tables(np.array([1e-30]))["factors"].tolist() == [0]
    assert channel_multipliers(np.array([1e-30]))["multipliers"].tolist() == [0]


def test_one_scale_for_a_layer_is_a_multiplier_and_a_shift() -> None:
    assert single_rescale(0.75) == {"multiplier": 3 * 2**29, "shift": 31}


def test_sums_have_multipliers_of_16_bits_unless_an_input_counts_double() -> None:
    assert sum_multipliers((0.5, 1.0)) == ((2**13, 2**14), 14)
    (first, second), shift = sum_multipliers((2.0, 0.25))
    assert shift > 14
    assert (first / 2**shift, second / 2**shift) == (2.0, 0.25)


def test_weights_are_symmetric_per_channel() -> None:
    levels, scales = quantize_channels(np.array([[1.27, -0.635], [0.0, 0.0]]))
    assert levels.tolist() == [[127, -63], [0, 0]]  # -63.5 rounds upwards
    assert scales[0] == pytest.approx(0.01)


def test_the_input_s_zero_point_is_folded_into_the_bias() -> None:
    weights = {"weights": np.array([[1.27, 0.64]]), "bias": np.array([0.5])}
    q = NodeQuantization((Quantization(0.1, -10),), Quantization(0.2, 0))
    tables = Dense(1).quantize(weights, q)
    # bias 0.5 / (0.01 * 0.1) = 500; 500 - (-10) * (127 + 64)
    assert tables["bias"].tolist() == [500 + 10 * 191]


def test_pooling_and_padding_keep_their_input_s_scale() -> None:
    weights = {"weights": np.ones((1, 1, 1, 1)), "bias": np.zeros(1)}
    graph = Graph((2, 2, 1), (Node("conv", Conv2d(1, Window((1, 1))), (INPUT,)),), {"conv": weights})
    quantized = quantize(graph, torch.tensor([0.0, 1.0, 2.0, 2.55]).reshape(1, 2, 2, 1))
    assert quantized.quantization["conv"].scale == pytest.approx(0.01)
    assert quantized.run(np.array([-128, 0, 5, 127], dtype=np.int8))["conv"].reshape(-1).tolist() == [-128, 0, 5, 127]


def test_clusters_come_in_order_of_first_appearance() -> None:
    clusters, n = assign(np.array([3, 0, 3, 5]), cap=8)
    assert (clusters.tolist(), n) == ([0, 1, 0, 2], 3)


def test_a_full_stack_takes_the_nearest_signature_and_the_oldest_on_ties() -> None:
    # stack 0b000, 0b111; 0b011 is one bit from 111; 0b100 is one bit from 000; 0b010 one bit from 000
    clusters, n = assign(np.array([0b000, 0b111, 0b011, 0b100, 0b010]), cap=2)
    assert (clusters.tolist(), n) == ([0, 1, 1, 0, 0], 2)
    tie, _ = assign(np.array([0b00, 0b11, 0b01]), cap=2)
    assert tie.tolist() == [0, 1, 0]


def test_the_published_example_gives_two_clusters() -> None:
    rows = np.array([[1, 2, 3], [0, 0, 1], [0, 2, 1], [1, 3, 2]])
    vectors = np.array([[-1, 1], [1, 2], [0, -1]])
    bits = rows @ vectors > 0
    codes = bits @ np.array([2, 1])
    assert codes.tolist() == [3, 0, 3, 3]
    clusters, n = assign(codes, cap=4)
    assert (clusters.tolist(), n) == ([0, 1, 0, 0], 2)


def test_a_trec_layer_with_one_row_per_cluster_is_the_dense_convolution() -> None:
    # sixteen rows with the sixteen sign patterns of four values, and the unit vectors as hash: each its own cluster
    random = np.random.default_rng(0)
    patterns = np.array([[1 if code >> bit & 1 else -1 for bit in range(4)] for code in range(16)])
    images = torch.from_numpy(patterns * random.uniform(0.5, 1, (16, 4))).float().reshape(1, 4, 4, 4)
    kernels = {"weights": random.normal(size=(5, 1, 1, 4)), "bias": random.normal(size=5)}
    hashes = {"hash": np.eye(4)[np.newaxis], "thresholds": np.zeros((1, 4))}
    op = TrecConv2d(5, Window((1, 1)), TrecConfig(4, 4))
    dense = quantize(Graph((4, 4, 4), (Node("c", Conv2d(5, Window((1, 1))), (INPUT,)),), {"c": kernels}), images)
    trec = quantize(Graph((4, 4, 4), (Node("c", op, (INPUT,)),), {"c": {**kernels, **hashes}}), images)
    image = dense.quantize_images(images.numpy())[0]
    assert op.count(image, trec.weights["c"], trec.node_quantization(trec.nodes[0])) == 16
    assert np.array_equal(dense.run(image)["c"], trec.run(image)["c"])


def test_the_accumulators_of_a_long_row_stay_inside_int32() -> None:
    length = 4608
    kernels = np.full((2, 1, 1, length), 1.0)
    op = TrecConv2d(2, Window((1, 1)), TrecConfig(1, length))
    weights = {"weights": kernels, "bias": np.zeros(2), "hash": np.ones((1, length, 1)), "thresholds": np.zeros((1, 1))}
    q = NodeQuantization((Quantization(0.1, -128),), Quantization(1.0, 0))
    bits = int(op.quantize(weights, q)["fraction_bits"])
    most = 255 * 127 * length * 2  # with room for the half that is added before a product is divided
    assert most * 2**bits < 2**31 <= most * 2 ** (bits + 1)


def test_percentiles_leave_out_the_tails_and_still_hold_zero() -> None:
    values = torch.arange(1001.0)  # 0..1000: half a per cent on either side is 5 and 995
    q = observe(values, QuantizationRecipe("percentile", tail_percent=0.5))
    assert q.scale == pytest.approx(995 / 255)
    assert q.zero_point == -128


def test_the_least_squared_error_gives_up_an_outlier_for_finer_steps() -> None:
    # 10,000 values in 0..1 and one of 2: a range up to r costs (r / 255)**2 / 12 each, and (2 - r)**2 once:
    # 10000 * 2 r / (12 * 65025) = 2 (2 - r), so r = 2 / (1 + 0.0128) = 1.975
    values = torch.cat([torch.linspace(0, 1, 10_000), torch.tensor([2.0])])
    q = observe(values, QuantizationRecipe("mse"))
    assert 255 * q.scale == pytest.approx(1.975, abs=0.02)  # searched in steps of a hundredth of the range
    many = torch.cat([torch.linspace(0, 1, 1_000_000), torch.tensor([2.0])])
    assert 255 * observe(many, QuantizationRecipe("mse")).scale == pytest.approx(1.0, abs=0.2)


def test_a_tail_of_half_or_more_is_refused() -> None:
    with pytest.raises(CandidateError, match="tail_percent is 50; it must lie in"):
        QuantizationRecipe(tail_percent=50)


def test_bias_correction_takes_the_mean_error_of_rounded_weights_off() -> None:
    # 0.5 / (1.27 / 127) would be 50 levels; 0.504 rounds to 50 too and loses 0.004 per unit of input
    weights = {"weights": np.array([[1.27, 0.504]]), "bias": np.array([0.0])}
    graph = Graph((2,), (Node("fc", Dense(1), (INPUT,)),), {"fc": weights})
    images = torch.tensor([[0.0, 2.55], [2.55, 2.55]], dtype=torch.float64)  # in levels of 0.01, exactly
    ranges = calibrate(graph, images, FULL_RANGE)
    assert ranges[INPUT].scale == pytest.approx(0.01)
    corrected = correct_biases(graph, ranges, images)
    assert corrected.weights["fc"]["bias"][0] == pytest.approx(0.004 * 2.55, abs=1e-6)
    assert weights["bias"][0] == 0.0


def test_bias_correction_makes_every_layer_right_on_average() -> None:
    random = np.random.default_rng(0)
    nodes = (Node("conv", Conv2d(6, Window((3, 3)), "relu"), (INPUT,)), Node("fc", Dense(5), ("conv",)))
    weights = {
        "conv": {"weights": random.normal(size=(6, 3, 3, 2)), "bias": random.normal(size=6)},
        "fc": {"weights": random.normal(size=(5, 96)), "bias": random.normal(size=5)},
    }
    graph, images = Graph((6, 6, 2), nodes, weights), torch.from_numpy(random.normal(size=(64, 6, 6, 2)))
    ranges = calibrate(graph, images, QuantizationRecipe("percentile", tail_percent=2.0))
    wanted = graph.forward(images)["fc"].numpy().mean(axis=0)

    def error(candidate: Graph) -> float:
        quantized = quantize_with(candidate, ranges, images)
        q = quantized.quantization["fc"]
        levels = np.stack([quantized.run(image)["fc"] for image in quantized.quantize_images(images.numpy())])
        return float(np.abs((levels.mean(axis=0) - q.zero_point) * q.scale - wanted).mean())

    assert error(correct_biases(graph, ranges, images)) < 0.5 * error(graph)
