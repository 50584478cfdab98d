"""The arena planner: who lives when, where nobody overlaps, and how small it gets."""

from itertools import combinations

import numpy as np
import pytest
import torch

from trec_dse.candidate import TrecConfig
from trec_dse.graph import INPUT, Graph, Node, QuantizedGraph, Window
from trec_dse.memory import ALIGNMENT, live_buffers, most_alive, overlaps, plan_memory
from trec_dse.ops._in_place import BLOCK, raster_distance
from trec_dse.ops.add import Add
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.quantize import quantize


def conv(channels: int, inputs: int, kernel: int = 1) -> tuple[Conv2d, dict[str, np.ndarray]]:
    pad = (kernel // 2, kernel // 2)
    weights = {"weights": np.ones((channels, kernel, kernel, inputs)), "bias": np.zeros(channels)}
    return Conv2d(channels, Window((kernel, kernel), padding=pad)), weights


def chain() -> QuantizedGraph:
    """4x4x2 -> conv 3x3 to 4 channels -> 2x2 pool -> dense 3: hand-computed below."""
    first, weights = conv(4, 2, kernel=3)
    nodes = (
        Node("conv", first, (INPUT,)),
        Node("pool", MaxPool2d(Window((2, 2), (2, 2))), ("conv",)),
        Node("fc", Dense(3), ("pool",)),
    )
    dense = {"weights": np.ones((3, 16)), "bias": np.zeros(3)}
    graph = Graph((4, 4, 2), nodes, {"conv": weights, "pool": {}, "fc": dense})
    return quantize(graph, torch.ones(1, 4, 4, 2))


def residual() -> QuantizedGraph:
    """input -> a -> b -> b + a: a must outlive b."""
    op, weights = conv(2, 2)
    nodes = (Node("a", op, (INPUT,)), Node("b", op, ("a",)), Node("sum", Add(), ("b", "a")))
    return quantize(Graph((2, 2, 2), nodes, {"a": weights, "b": weights, "sum": {}}), torch.ones(1, 2, 2, 2))


def test_every_tensor_lives_from_its_maker_to_its_last_reader() -> None:
    lives = {(b.name, b.kind): (b.size, b.first, b.last) for b in live_buffers(residual())}
    assert lives[INPUT, "input"] == (8, 0, 0)
    assert lives["a", "activation"] == (8, 0, 2)
    assert lives["b", "activation"] == (8, 1, 2)
    assert lives["sum", "output"] == (8, 2, 2)
    assert lives["a", "scratch"] == (2, 0, 0)


def test_the_arena_of_a_chain_is_its_fullest_step() -> None:
    # step 0: input 32 + conv 64 + one row of 9 * 2 = 18, rounded up to 20; step 1: 64 + 16; step 2: 16 + 3 -> 20
    graph = chain()
    assert most_alive(live_buffers(graph)) == 32 + 64 + 20
    assert plan_memory(graph, in_place=False).size == 32 + 64 + 20


def test_an_output_grows_into_an_input_that_dies() -> None:
    # the convolution has written 64 bytes when its last block of four positions, the bottom row of the image, still
    # needs the input from row 2 on, byte 16: the input must start 48 bytes after the output
    graph = chain()
    assert overlaps(graph)["conv", INPUT] == 48
    assert plan_memory(graph).size == 48 + 32 + 20


def test_a_tensor_that_is_read_again_is_not_grown_into() -> None:
    # "a" is read by "b" and again by the sum: only the sum, its last reader, may write over it. The four positions
    # of a 2x2 image are one block: all eight bytes of "a" are out before the input counts as dead
    assert overlaps(residual()) == {("a", INPUT): 8, ("sum", "b"): 0, ("sum", "a"): 0}


def test_a_trec_layer_may_write_over_its_whole_input() -> None:
    op = TrecConv2d(4, Window((1, 1)), TrecConfig(2, 2))
    weights = {"weights": np.ones((4, 1, 1, 2)), "bias": np.zeros(4)}
    hashes = {"hash": np.ones((1, 2, 2)), "thresholds": np.zeros((1, 2))}
    graph = quantize(Graph((4, 4, 2), (Node("t", op, (INPUT,)),), {"t": {**weights, **hashes}}), torch.ones(1, 4, 4, 2))
    plan = plan_memory(graph)
    assert plan.size == 64 + -(-op.scratch_bytes((4, 4, 2)) // 4) * 4
    assert plan.offset(INPUT) == plan.offset("t")


@pytest.mark.parametrize("graph", [chain(), residual()], ids=["chain", "residual"])
@pytest.mark.parametrize("in_place", [True, False])
def test_buffers_alive_together_share_bytes_only_where_allowed(graph: QuantizedGraph, in_place: bool) -> None:
    plan, pairs = plan_memory(graph, in_place=in_place), overlaps(graph) if in_place else {}
    for left, right in combinations(plan.buffers, 2):
        if left.last < right.first or right.last < left.first:
            continue
        if left.offset + left.size <= right.offset or right.offset + right.size <= left.offset:
            continue
        assert "scratch" not in (left.kind, right.kind)
        output, source = (left, right) if (left.name, right.name) in pairs else (right, left)
        assert source.offset >= output.offset + pairs[output.name, source.name]
    assert all(b.offset % ALIGNMENT == 0 for b in plan.buffers)
    assert max(b.offset + b.size for b in plan.buffers) <= plan.size


@pytest.mark.parametrize(
    ("shape", "kernel", "channels", "published"),
    [((14, 14, 1), 3, 5, 555), ((12, 12, 5), 3, 8, 215)],
)
def test_the_walk_never_exceeds_the_published_bound_by_more_than_a_block(
    shape: tuple[int, int, int], kernel: int, channels: int, published: int
) -> None:
    # row order, valid, stride 1: h (w f_b - w_a f_a) + k f_a, an upper bound of one position at a time
    window = Window((kernel, kernel))
    distance = raster_distance(window, shape, channels)
    slack = max(0, distance + shape[0] * shape[1] * shape[2]) - shape[0] * shape[1] * shape[2]
    assert slack <= published + BLOCK * channels


def test_the_walk_is_the_largest_overwrite_of_a_simulated_kernel() -> None:
    random = np.random.default_rng(3)
    for _ in range(40):
        shape = tuple(int(n) for n in random.integers(3, 9, 3))
        kernel, stride = int(random.integers(1, 4)), int(random.integers(1, 3))
        window = Window((kernel, kernel), (stride, stride), (kernel // 2, kernel // 2))
        channels = int(random.integers(1, 9))
        assert raster_distance(window, shape, channels) == simulated(window, shape, channels)


def simulated(window: Window, shape: tuple[int, ...], channels: int) -> int:
    """The smallest distance at which no byte is written before its last reading, by trying every byte."""
    out_h, out_w = window.positions(shape)
    last_read = np.full(shape, -1)
    for i in range(out_h * out_w):
        y, x = i // out_w * window.stride[0] - window.padding[0], i % out_w * window.stride[1] - window.padding[1]
        last_read[max(0, y) : y + window.kernel[0], max(0, x) : x + window.kernel[1]] = i // BLOCK
    # byte j of the output is written while block j // (channels * BLOCK) is; it may fall on an input byte whose last
    # reading is of an earlier block
    needed = [(address, block) for address, block in enumerate(last_read.reshape(-1)) if block >= 0]
    distance = 0
    for block in range(-(-out_h * out_w // BLOCK)):
        written = min((block + 1) * BLOCK, out_h * out_w) * channels
        alive = [address for address, last in needed if last >= block]
        distance = max(distance, written - min(alive, default=shape[0] * shape[1] * shape[2]))
    return distance


def test_the_plan_is_the_same_every_time() -> None:
    assert plan_memory(chain()) == plan_memory(chain())
