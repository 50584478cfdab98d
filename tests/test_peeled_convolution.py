"""Convolutions inside their own input: the same integers in a buffer of the very size, chosen where it is smaller."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_every_op import on_host, oracle, random_images

from trec_dse import datasets
from trec_dse.candidate import Candidate, KernelConfig
from trec_dse.errors import UnsupportedError
from trec_dse.evaluate import untrained_graph
from trec_dse.graph import INPUT, FloatWeights, Graph, Node, Op, QuantizedGraph, Window
from trec_dse.lower import lower
from trec_dse.memory import MemoryPlan, plan_memory, settled
from trec_dse.ops.add import Add
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.ops.peeled_conv2d import PeeledConv2d
from trec_dse.quantize import quantize
from trec_dse.results import Buffer
from trec_dse.sparse.apply import apply_kernels
from trec_dse.store import load_graph, save_graph

SQUARE = Window((3, 3))
IN_PLACE = {"*": KernelConfig("in_place")}


def network(shape: tuple[int, int, int], *ops: Op, adds: str | None = None) -> QuantizedGraph:
    """Operators one behind the other, named a, b, c ...; `adds`: at the end the last and that tensor are added."""
    random, nodes, source = np.random.default_rng(3), [], INPUT
    weights: dict[str, FloatWeights] = {}
    at: tuple[int, ...] = shape
    for name, op in zip("abcdef", ops, strict=False):
        nodes.append(Node(name, op, (source,)))
        weights[name] = {}
        if isinstance(op, Conv2d):
            weights[name] = {
                "weights": random.standard_normal((op.out_channels, *op.window.kernel, at[2])),
                "bias": random.standard_normal(op.out_channels),
            }
        at, source = op.output_shape(at), name
    if adds is not None:
        nodes.append(Node("sum", Add(), (source, adds)))
        weights["sum"] = {}
    images = torch.from_numpy(random.standard_normal((3, *shape))).float()
    return quantize(Graph(shape, tuple(nodes), weights), images)


def packed(graph: QuantizedGraph, distance: int) -> MemoryPlan:
    """One convolution: the output from 0 on, the input `distance` behind that, the workspace behind both."""
    (node,) = graph.nodes
    sizes = graph.bytes_of(INPUT), graph.bytes_of(node.name)
    end = -(-max(distance + sizes[0], sizes[1]) // 4) * 4
    scratch = node.op.scratch_bytes(graph.input_shape)
    buffers = (
        Buffer(INPUT, "input", distance, sizes[0], 0, 0),
        Buffer(node.name, "output", 0, sizes[1], 0, 0),
        Buffer(node.name, "scratch", end, scratch, 0, 0),
    )
    return MemoryPlan(end + scratch, buffers)


def test_the_runs_of_the_published_convolutions() -> None:
    # 12 x 12 outputs of 14 x 14: eleven rows, then eight positions of the last row as columns, then four at once
    assert PeeledConv2d(5, SQUARE).runs((14, 14, 1)) == (11, 8, 1)
    assert PeeledConv2d(1, SQUARE).runs((14, 14, 1)) == (12,), "rows alone, where they need nothing"
    for shape, channels in (((12, 12, 5), 8), ((10, 10, 8), 11)):
        runs = PeeledConv2d(channels, SQUARE).runs(shape)
        rows, columns = sum(runs[0::2]), sum(runs[1::2])
        assert rows == shape[0] - 2 or columns == shape[1] - 2


def test_its_workspace_is_four_whole_rows_and_the_sums_of_a_group() -> None:
    # K = 45, filled up to 46: 4 rows of 2 bytes; 8 channels, 4 rows of 4 bytes
    assert PeeledConv2d(8, SQUARE).scratch_bytes((12, 12, 5)) == 46 * 4 * 2 + 8 * 4 * 4
    # all of K at once, where a dense convolution takes tiles; 40 channels in groups of 16
    assert PeeledConv2d(40, Window((5, 5))).scratch_bytes((14, 14, 64)) == 1600 * 4 * 2 + 16 * 4 * 4


@pytest.mark.parametrize("seed", range(12))
def test_a_buffer_of_the_very_size_is_enough(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = (int(random.integers(5, 11)), int(random.integers(5, 11)), int(random.integers(1, 6)))
    pads = (int(random.integers(0, 2)), int(random.integers(0, 2)))
    op = PeeledConv2d(shape[2] + int(random.integers(0, 7)), Window((3, 3), (1, int(random.integers(1, 3))), pads))
    graph = network(shape, op)
    images = random_images(graph, 3)
    distance = op.overlap(shape)
    assert distance is not None
    assert np.array_equal(on_host(graph, packed(graph, distance), images), oracle(graph, images))


def test_one_byte_fewer_is_not() -> None:
    n_spoiled = 0
    for shape, channels in (((14, 14, 1), 5), ((12, 12, 5), 8), ((10, 10, 8), 11), ((9, 7, 2), 6)):
        graph = network(shape, PeeledConv2d(channels, SQUARE))
        images = random_images(graph, 3)
        distance = graph.nodes[0].op.overlap(shape)
        assert distance is not None
        answers = on_host(graph, packed(graph, distance - 1), images)
        n_spoiled += not np.array_equal(answers, oracle(graph, images))
    assert n_spoiled >= 3  # of four: a byte that is lost may be the one that was there before


def test_it_is_chosen_where_the_arena_becomes_smaller_and_only_there() -> None:
    growing = network((12, 12, 5), PeeledConv2d(8, SQUARE))
    assert [node.op.kind for node in settled(growing).nodes] == ["peeled_conv2d"]
    dense = replace(growing, nodes=(replace(growing.nodes[0], op=Conv2d(8, SQUARE)),))
    assert plan_memory(settled(growing)).size < plan_memory(dense).size
    # K = 576 whole rows take more workspace than tiles of a dense convolution, and there is nothing to save
    shrinking = network((12, 12, 64), PeeledConv2d(8, SQUARE))
    assert [node.op.kind for node in settled(shrinking).nodes] == ["conv2d"]
    # the second is nowhere near the most that is alive
    small = network((12, 12, 5), PeeledConv2d(8, SQUARE), MaxPool2d(Window((2, 2), (2, 2))), PeeledConv2d(9, SQUARE))
    assert [node.op.kind for node in settled(small).nodes] == ["peeled_conv2d", "max_pool2d", "conv2d"]


def test_what_is_read_later_is_never_lost() -> None:
    same = Window((3, 3), padding=(1, 1))
    graph = network((8, 8, 4), Conv2d(4, same), PeeledConv2d(4, same), adds="a")
    with pytest.raises(UnsupportedError, match="b runs inside its input, which sum reads later: make it dense"):
        plan_memory(graph)
    assert [node.op.kind for node in settled(graph).nodes] == ["conv2d", "conv2d", "add"]


def test_a_candidate_asks_for_it_and_its_answers_stay_the_same(tmp_path: Path) -> None:
    dense = Candidate("cifar10", "cifarnet", {"width": 0.125})
    data = datasets.placeholder("cifar10")
    graphs = [untrained_graph(candidate, data) for candidate in (dense, replace(dense, kernels=IN_PLACE))]
    kinds = [[node.op.kind for node in graph.nodes if "conv" in node.op.kind] for graph in graphs]
    assert kinds == [["conv2d", "conv2d"], ["peeled_conv2d", "conv2d"]]
    sizes = [plan_memory(graph).size for graph in graphs]
    assert sizes[1] < sizes[0]
    images = random_images(graphs[0], 2)
    expected = oracle(graphs[0], images)
    save_graph(graphs[1], tmp_path)
    for graph in (graphs[1], load_graph(tmp_path)):
        assert np.array_equal(on_host(graph, plan_memory(graph), images), expected)


def test_a_layer_that_shall_run_in_place_is_trained_as_all_are() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.ReLU())
    changed = apply_kernels(model, {"0": KernelConfig("in_place")})
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(changed(image), model(image))
    (node,) = lower(changed, (8, 8, 3)).nodes
    assert isinstance(node.op, PeeledConv2d)
    assert node.op.dense() == Conv2d(5, Window((3, 3), padding=(1, 1)), "relu")


def test_its_work_counts_what_is_copied_looked_up_and_moved() -> None:
    work = {item.kind: item.amount for item in PeeledConv2d(5, SQUARE).work((14, 14, 1), worst=False)}
    # runs (11, 8, 1): eleven rows of twelve in three blocks of four, eight columns of one, one row of four
    blocks = 11 * 12 + 8 * 4 + 4
    assert work["peel_tap"] == 9 * blocks
    assert work["peel_byte"] == 9 * blocks
    assert work["conv_output"] == 12 * 12 * 5
    # turned to columns when 3 x 14 pixels are left, and back for the last ones, when 3 x 6 are
    assert work["peel_move"] == 3 * 14 + 3 * 6 + 12 * 12 * 5
