"""A network with strip-shared layers from torch to the board's twin: the integers stay the same all the way."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse.candidate import TrecConfig
from trec_dse.codegen import generate, kernel_sources
from trec_dse.cost import estimate
from trec_dse.errors import UnsupportedError
from trec_dse.executors import twin
from trec_dse.firmware import build_firmware, write_export
from trec_dse.footprint import footprint_for
from trec_dse.graph import QuantizedGraph, Window
from trec_dse.lower import lower
from trec_dse.memory import plan_memory
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.target import load_target
from trec_dse.toolchain import find_target_compiler
from trec_dse.trec.apply import apply_trec

BUILD_ID = "0123456789abcdef"
BOARDS = ("stm32f469i-disco", "nucleo-f746zg")


@pytest.fixture(scope="module")
def graph() -> QuantizedGraph:
    """8x8x3 -> strips of a kernel row, 8 channels -> strips of one pixel in two groups, 6 channels, stride 2."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.ReLU())
    images = torch.randn(8, 3, 8, 8)
    configs = {
        "0": TrecConfig(4, 9, "strip_shared", max_clusters=11),
        "2": TrecConfig(3, 4, "strip_shared", channel_groups=2, clustering="batch"),
    }
    return quantize(lower(apply_trec(model.eval(), configs, images).eval(), (8, 8, 3)), images.permute(0, 2, 3, 1))


def test_lowering_makes_strip_nodes_that_cluster_single_images(graph: QuantizedGraph) -> None:
    ops = [node.op for node in graph.nodes]
    assert all(isinstance(op, TrecStripConv2d) and op.activation == "relu" for op in ops)
    assert [op.config.clustering for op in ops if isinstance(op, TrecStripConv2d)] == ["image", "image"]


@pytest.mark.parametrize("board", BOARDS)
def test_the_twin_gives_the_oracle_s_integers_and_clusters(board: str, graph: QuantizedGraph, tmp_path: Path) -> None:
    target = load_target(data_folder("targets") / f"{board}.toml")
    plan = plan_memory(graph)
    files = {**generate(graph, plan, BUILD_ID), "manifest.json": f'{{"build_id": "{BUILD_ID}"}}'}
    write_export(tmp_path / "export", target, files, kernel_sources(graph))
    firmware = build_firmware(tmp_path / "export", target)
    cost = estimate(graph, plan, target, footprint_for(target, find_target_compiler().name))
    assert abs(cost.flash_bytes - firmware.flash_bytes) < 64
    images = np.random.default_rng(5).integers(-128, 128, (3, 8, 8, 3)).astype(np.int8)
    shapes = graph.shapes
    with twin.open(firmware.elf, target, build_id=BUILD_ID) as executor:
        for image in images:
            answer, tensors = executor.infer(image), graph.run(image)
            assert np.array_equal(answer.output, tensors[graph.output].reshape(-1))
            counts = [
                node.op.count(tensors[node.inputs[0]], graph.weights[node.name], graph.node_quantization(node))
                for node in graph.nodes
                if isinstance(node.op, TrecStripConv2d)
            ]
            assert list(answer.n_clusters) == counts
            assert max(counts) > 6
            assert 0.5 < cost.cycles / answer.cycles < 2
    assert [layer.trec is not None for layer in cost.layers] == [True] * len(shapes.keys() - {"input"})


def test_counts_of_work_and_memory_are_those_worked_out_by_hand() -> None:
    # CifarNet conv2 at a quarter of its width: 14x14x16, 5x5, strips of one pixel in 4 groups, so L = 4
    from_16 = TrecStripConv2d(16, _window(5), TrecConfig(5, 4, "strip_shared", channel_groups=4))
    shape = (14, 14, 16)
    assert from_16.n_strips(shape) == 196
    assert from_16.n_parts(shape) == 25
    assert from_16.cap(shape) == 32
    assert from_16.macs(shape) == 196 * 16 * 5 + 4 * 25 * 16 * (4 * 32)
    # three lines of five parts are a pass: products of 32 clusters and a row of zeros with 8 channels, and the
    # sums of 100 positions; for each group 32 centroids of 4, its number of clusters and its ids
    outputs = 2 * (33 * 15 * 8) + 4 * (100 * 8)
    assert from_16.scratch_bytes(shape) == outputs + 4 * (2 * 32 * 4 + 2 + 14 * 14)
    # one pass: no sums. Clustering needs more: int32 stack, 4 vectors, counts, signatures, reverse table, 14 columns
    narrow = TrecStripConv2d(16, _window(3), TrecConfig(7, 48, "strip_shared", 64))
    clustering = 4 * (64 * 48) + 4 * 2 * 48 + 2 * (64 + 64 + 128) + 12
    assert narrow.scratch_bytes(shape) == clustering + 2 * 64 * 48 + 2 + 14 * 12
    # with padding 2 the grid has 18x18 places, of which the outer two rings hold padding alone
    padded = TrecStripConv2d(16, _window(5, 2), TrecConfig(5, 16, "strip_shared"))
    assert padded.grid(shape) == (18, 18)
    assert padded.n_strips(shape) == 196


def test_a_kernel_of_twelve_rows_is_refused_with_the_reason() -> None:
    op = TrecStripConv2d(4, Window((12, 1)), TrecConfig(2, 3, "strip_shared"))
    with pytest.raises(UnsupportedError, match="at most 11 rows, this one has 12"):
        op.output_shape((16, 16, 3))


def _window(kernel: int, padding: int = 0) -> Window:
    return Window((kernel, kernel), (1, 1), (padding, padding))
