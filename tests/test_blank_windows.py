"""Blank windows are not multiplied and zero vectors never change a sum: the integers stay, the cycles fall."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse import datasets
from trec_dse.candidate import Candidate, KernelConfig, TrecConfig
from trec_dse.codegen import generate, kernel_sources
from trec_dse.evaluate import untrained_graph
from trec_dse.executors.host import HostNetwork
from trec_dse.graph import INPUT, Graph, Int8Array, Node, NodeQuantization, Quantization, QuantizedGraph, Window
from trec_dse.lower import lower
from trec_dse.memory import plan_memory
from trec_dse.ops import _clustering
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.sparse_conv2d import SparseConv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.sparse.apply import apply_kernels
from trec_dse.sparse.gather import GatherConv2d
from trec_dse.store import load_graph, save_graph
from trec_dse.target import load_target

M4 = load_target(data_folder("targets") / "stm32f469i-disco.toml")
ZERO = 7
SHAPE = (9, 10, 2)


def drawing(background: int, n_pixels: int, seed: int = 0) -> Int8Array:
    """An image of one level with some pixels of noise."""
    random = np.random.default_rng(seed)
    image = np.full(SHAPE, background, dtype=np.int8)
    for _ in range(n_pixels):
        image[random.integers(SHAPE[0]), random.integers(SHAPE[1])] = random.integers(-128, 128, SHAPE[2])
    return image


def sparse_graph(window: Window, blank: int | None) -> QuantizedGraph:
    """One convolution to 5 channels that leaves out windows full of `blank`."""
    random = np.random.default_rng(1)
    weights = {"weights": random.normal(size=(5, *window.kernel, SHAPE[2])), "bias": random.normal(size=5)}
    source, sink = Quantization(0.02, ZERO), Quantization(0.05, -3)
    op = SparseConv2d(5, window, "relu", blank)
    integers = op.quantize(weights, NodeQuantization((source,), sink))
    return QuantizedGraph(SHAPE, (Node("conv", op, (INPUT,)),), {"conv": integers}, {INPUT: source, "conv": sink})


def on_host(graph: QuantizedGraph, images: Int8Array) -> Int8Array:
    sizes = (int(np.prod(SHAPE)), int(np.prod(graph.shapes["conv"])), 0)
    with HostNetwork.build(generate(graph, plan_memory(graph), "0" * 16), kernel_sources(graph), sizes) as network:
        return network.run(images).outputs


PADDED, STRIDED = Window((3, 3), (1, 1), (1, 1)), Window((2, 3), (2, 3), (1, 1))
WINDOWS = [Window((3, 3)), PADDED, STRIDED, Window((5, 5), (1, 2), (2, 2))]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("blank", [None, ZERO, -20])
def test_c_gives_the_dense_convolution_s_integers(window: Window, blank: int | None) -> None:
    graph = sparse_graph(window, blank)
    backgrounds = (ZERO if blank is None else blank, 99)
    images = np.stack([drawing(b, n, seed=n) for b in backgrounds for n in (0, 1, 5, 60)])
    dense = Conv2d(5, window, "relu")
    quantization = graph.node_quantization(graph.nodes[0])
    expected = np.stack([dense.run([image], graph.weights["conv"], quantization).reshape(-1) for image in images])
    assert np.array_equal(on_host(graph, images), expected)


def test_windows_that_hold_anything_are_counted_by_hand() -> None:
    image = np.full(SHAPE, ZERO, dtype=np.int8)
    image[4, 5, 1] = 0
    inside, padded = Window((3, 3)), Window((3, 3), (1, 1), (1, 1))
    # one pixel is read by 3x3 windows; outside the image stands the zero point, which is blank here
    assert SparseConv2d(5, inside).count(image, ZERO) == 9
    assert SparseConv2d(5, padded).count(image, ZERO) == 9
    # and is not where the background is another level: 2 * (9 + 10) - 4 windows touch the padding
    assert SparseConv2d(5, padded, blank=50).count(np.full(SHAPE, 50, dtype=np.int8), ZERO) == 34


def test_calibration_finds_the_background_and_how_much_is_drawn() -> None:
    random = np.random.default_rng(0)
    images = np.full((4, *SHAPE), -0.4)
    images[:, 4, 5] = 2.0
    images[0, 0, 0] = -1.0
    weights = {"weights": random.normal(size=(5, 3, 3, SHAPE[2])), "bias": np.zeros(5)}
    graph = Graph(SHAPE, (Node("conv", SparseConv2d(5, Window((3, 3))), (INPUT,)),), {"conv": weights})
    op = quantize(graph, torch.from_numpy(images).float()).nodes[0].op
    assert isinstance(op, SparseConv2d)
    # levels of (2 - -1) / 255: -0.4 lies 51 above the lowest; one corner window more in one image of four
    assert op.blank == -128 + 51
    assert op.mean_rows == 9 + 1 / 4


def test_work_and_products_follow_what_is_drawn_and_the_worst_is_everything() -> None:
    op = SparseConv2d(8, Window((3, 3)), mean_rows=10.0)
    assert op.macs((12, 12, 4)) == 10 * 36 * 8
    mean, worst = ({item.kind: item.amount for item in op.work((12, 12, 4), worst=w)} for w in (False, True))
    assert worst["conv_mac"] / mean["conv_mac"] == (100 + 1.5) / (10 + 1.5)
    assert worst["sparse_look"] == mean["sparse_look"] == 10 * 3 * 12 * 4


def test_its_workspace_by_hand() -> None:
    # four rows of 28 (27 and one) elements of 2 bytes, sums of 6 (5 and one) channels, five outputs, 10 columns
    assert SparseConv2d(5, Window((3, 3))).scratch_bytes((9, 10, 3)) == 4 * 28 * 2 + 6 * 4 * 4 + 5 * 5 + 10


def test_a_network_asks_for_it_by_name_and_trains_as_ever() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 90, 3)).eval()
    changed = apply_kernels(model, {"0": KernelConfig("sparse")})
    assert isinstance(changed.get_submodule("0"), GatherConv2d)
    x = torch.randn(2, 2, 9, 10)
    assert torch.equal(changed(x), model(x))
    op = lower(changed, SHAPE).nodes[0].op
    assert isinstance(op, SparseConv2d) and op.activation == "relu"


def test_a_stored_network_knows_its_blank_level(tmp_path: object) -> None:
    candidate = Candidate("digits", "tiny", {"width": 8, "depth": 2}, kernels={"conv1": KernelConfig("sparse")})
    graph = untrained_graph(candidate, datasets.placeholder("digits"))
    save_graph(graph, tmp_path)  # type: ignore[arg-type]
    assert load_graph(tmp_path).nodes == graph.nodes  # type: ignore[arg-type]


def test_on_a_mostly_blank_image_it_is_priced_below_the_dense_convolution() -> None:
    shape, window = (28, 28, 1), Window((5, 5))

    def cycles(op: Conv2d | SparseConv2d) -> float:
        return sum(M4.timing[item.kind] * item.amount for item in op.work(shape, worst=False))

    dense = cycles(Conv2d(32, window))
    assert cycles(SparseConv2d(32, window, mean_rows=100.0)) < 0.6 * dense
    assert cycles(SparseConv2d(32, window)) > dense, "where nothing is blank the search is for nothing"


def clustered(scope_bits: int, thresholds: float) -> tuple[TrecConv2d, dict[str, np.ndarray], NodeQuantization]:
    random = np.random.default_rng(2)
    op = TrecConv2d(3, Window((3, 3)), TrecConfig(scope_bits, 6))
    weights = {
        "weights": random.normal(size=(3, 3, 3, 2)),
        "bias": random.normal(size=3),
        "hash": random.normal(size=(3, 6, scope_bits)),
        "thresholds": np.full((3, scope_bits), thresholds),
    }
    quantization = NodeQuantization((Quantization(0.02, ZERO),), Quantization(0.05, -3))
    return op, dict(op.quantize(weights, quantization)), quantization


@pytest.mark.parametrize("thresholds", [-1.0, 0.0, 1.0])
def test_zero_vectors_share_one_cluster_that_adds_exactly_nothing(thresholds: float) -> None:
    op, integers, quantization = clustered(4, thresholds)
    blank = np.full(SHAPE, ZERO, dtype=np.int8)
    assert op.count(blank, integers, quantization) == 3, "one per slice: no threshold splits equal vectors"
    acc, _ = _clustering.accumulate(op, blank, integers, ZERO)
    assert np.array_equal(acc, np.repeat(integers["bias"][None].astype(np.int64), len(acc), axis=0))


def test_a_threshold_can_mix_zero_vectors_with_others_and_then_the_mean_is_not_zero() -> None:
    op, integers, quantization = clustered(2, 1e3)  # no projection reaches it: all vectors have signature 0
    image = drawing(ZERO, 12)
    assert op.count(image, integers, quantization) == 3
    acc, _ = _clustering.accumulate(op, image, integers, ZERO)
    assert not np.array_equal(acc[0], integers["bias"].astype(np.int64))


def test_a_candidate_keeps_the_rest_of_the_layer_as_it_is() -> None:
    plain = Candidate("digits", "tiny", {"width": 8, "depth": 2})
    graphs = [
        untrained_graph(candidate, datasets.placeholder("digits"))
        for candidate in (plain, replace(plain, kernels={"conv1": KernelConfig("sparse")}))
    ]
    assert graphs[1].nodes[0].op.kind == "sparse_conv2d"
    for name, arrays in graphs[0].weights.items():
        assert all(np.array_equal(array, graphs[1].weights[name][key]) for key, array in arrays.items())
