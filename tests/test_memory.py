"""The arena planner: who lives when, where nobody overlaps, and how small it gets."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from trec_dse.graph import INPUT, Graph, Node, QuantizedGraph, Window
from trec_dse.memory import ALIGNMENT, live_buffers, most_alive, plan_memory
from trec_dse.ops.add import Add
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.max_pool2d import MaxPool2d
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
    assert plan_memory(graph).size == 32 + 64 + 20


@pytest.mark.parametrize("graph", [chain(), residual()], ids=["chain", "residual"])
def test_buffers_alive_together_never_overlap(graph: QuantizedGraph) -> None:
    plan = plan_memory(graph)
    for step in range(len(graph.nodes)):
        alive = sorted((b.offset, b.offset + b.size) for b in plan.buffers if b.first <= step <= b.last)
        assert all(left[1] <= right[0] for left, right in pairwise(alive))
    assert all(b.offset % ALIGNMENT == 0 for b in plan.buffers)
    assert max(b.offset + b.size for b in plan.buffers) <= plan.size


def test_a_buffer_that_is_dead_gives_its_place_away() -> None:
    plan = plan_memory(chain())
    total = sum(buffer.size for buffer in plan.buffers)
    assert total == 32 + 64 + 18 + 16 + 3
    assert plan.size < total


def test_the_plan_is_the_same_every_time() -> None:
    assert plan_memory(chain()) == plan_memory(chain())
