"""Work that every operator has, and the geometry that some of it is counted by."""

import importlib

import numpy as np
import pytest

from trec_dse import plugins
from trec_dse.candidate import TrecConfig
from trec_dse.graph import Op, Shape, Window
from trec_dse.ops._work import edge_positions, loose_outputs, taps_inside, wide_share, work_of
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.resources import data_folder
from trec_dse.target import load_target

SAME = Window((3, 3), (1, 1), (1, 1))


def amounts(op: Op, shape: Shape) -> dict[str, float]:
    return {item.kind: item.amount for item in op.work(shape, worst=False)}


def by_hand(window: Window, shape: Shape) -> tuple[int, int]:
    """Positions at the edge and pixels read, position by position."""
    edges = taps = 0
    height, width = window.positions(shape)
    for y in range(height):
        for x in range(width):
            rows = range(
                y * window.stride[0] - window.padding[0], y * window.stride[0] - window.padding[0] + window.kernel[0]
            )
            columns = range(
                x * window.stride[1] - window.padding[1], x * window.stride[1] - window.padding[1] + window.kernel[1]
            )
            inside = sum(0 <= row < shape[0] and 0 <= column < shape[1] for row in rows for column in columns)
            taps += inside
            edges += inside < window.kernel[0] * window.kernel[1]
    return edges, taps


def test_a_padded_three_by_three_window_leaves_the_border_of_a_four_by_four_image() -> None:
    # 16 positions, 4 of them inside; 4 * 9 + 8 * 6 + 4 * 4 pixels
    assert (edge_positions(SAME, (4, 4, 5)), taps_inside(SAME, (4, 4, 5))) == (12, 100)


@pytest.mark.parametrize(
    "window",
    [
        SAME,
        Window((2, 2), (2, 2)),
        Window((4, 1), (3, 2), (2, 0)),
        Window((2, 3), (1, 3), (1, 0), (-1, 2)),
        Window((1, 1)),
    ],
)
def test_edges_and_pixels_are_those_counted_one_by_one(window: Window) -> None:
    assert (edge_positions(window, (7, 9, 2)), taps_inside(window, (7, 9, 2))) == by_hand(window, (7, 9, 2))


def test_a_pooling_reads_its_channels_by_fours() -> None:
    # 2 x 2 windows of 2 x 2 pixels; 7 channels are one word and three more
    found = amounts(MaxPool2d(Window((2, 2), (2, 2))), (4, 4, 7))
    assert found == {"max_word": 16, "max_rest": 48, "max_tap": 16, "max_window": 4}


def test_only_a_padded_convolution_has_edges() -> None:
    assert amounts(Conv2d(8, SAME), (4, 4, 5))["gather_edge"] == 12 * 3
    assert amounts(Conv2d(8, Window((3, 3))), (4, 4, 5))["gather_edge"] == 0


def test_reused_kernels_add_up_their_channels_for_every_slice() -> None:
    reuse = amounts(TrecConv2d(8, Window((3, 3)), TrecConfig(3, 9, "kernel_reuse")), (6, 6, 2))
    # 16 positions in 4 blocks, 2 slices, 3 channels; vectors of 5 pairs: a batch of 8 blocks, so one per slice
    assert (reuse["slice_exact"], reuse["slice_exact_output"]) == (16 * 2 * 3, 16 * 3)
    assert (reuse["slice_batch"], reuse["slice_start"]) == (2, 2)
    own = amounts(TrecConv2d(8, Window((3, 3)), TrecConfig(3, 9)), (6, 6, 2))
    assert (own["slice_exact"], own["slice_exact_output"]) == (0, 0)


def test_every_layer_is_a_call_and_may_have_outputs_that_take_longer() -> None:
    work = {item.kind: item.amount for item in work_of(Conv2d(8, Window((1, 1))), [(2, 2, 3)], 0.25, worst=False)}
    assert (work["kernel_call"], work["wide_output"]) == (1, 8)  # a quarter of 2 x 2 x 8
    plain = {item.kind for item in work_of(Conv2d(8, Window((1, 1))), [(2, 2, 3)], 0.0, worst=False)}
    assert "wide_output" not in plain


def test_outputs_take_longer_where_their_factor_is_a_half_or_more() -> None:
    factors = np.array([1, 2])
    assert wide_share({"factors": factors, "shift": np.array(31)}) == 1.0
    assert wide_share({"factors": factors, "shift": np.array(32)}) == 0.0
    # a sum and a recurrence have shifts of their own
    assert wide_share({"shift": np.array(14)}) == 0.0


def test_outputs_beside_fours_of_rows_and_channels_are_rescaled_one_by_one() -> None:
    assert loose_outputs(9, 10) == 9 * 10 - 8 * 8
    assert loose_outputs(8, 16) == 0
    found = amounts(Conv2d(10, Window((1, 1))), (3, 3, 4))
    assert (found["conv_output"], found["loose_output"]) == (90, 26)


def test_clustered_channels_of_tiles_that_are_not_whole_are_finished_later() -> None:
    # 20 channels of which 3 are exact: 5 others of the first tile, 4 of the third
    reuse = amounts(TrecConv2d(20, Window((3, 3)), TrecConfig(3, 9, "kernel_reuse")), (6, 6, 2))
    assert reuse["slice_loose"] == 16 * (5 + 4)
    assert amounts(TrecConv2d(16, Window((3, 3)), TrecConfig(3, 9)), (6, 6, 2))["slice_loose"] == 0
    strips = amounts(TrecStripConv2d(12, Window((3, 3)), TrecConfig(3, 6, "strip_shared")), (6, 6, 2))
    # 4 x 4 outputs in 2 tiles, one pass
    assert (strips["strip_loose"], strips["strip_row"], strips["strip_pass"]) == (16 * 4, 2 * 4, 0)


def test_a_depthwise_convolution_skips_taps_outside_and_takes_channels_by_fours() -> None:
    found = amounts(DepthwiseConv2d(SAME), (4, 4, 5))
    # 100 taps lie inside, see above; a word of channels and one more; 3 lines in each of 16 windows
    assert (found["depthwise_mac"], found["depthwise_line"], found["depthwise_output"]) == (400, 48, 64)
    assert (found["depthwise_loose_mac"], found["depthwise_loose"], found["depthwise_window"]) == (100, 16, 16)


def test_every_board_has_a_cost_for_the_work_of_every_operator() -> None:
    kinds = {"kernel_call", "wide_output"}
    for kind in plugins.names("ops"):
        for i in range(3):
            graph = importlib.import_module(f"trec_dse.ops.{kind}.cases").random_graph(np.random.default_rng([1, i]))
            shapes = graph.shapes
            for node in graph.nodes:
                kinds |= {item.kind for item in node.op.work(*(shapes[n] for n in node.inputs), worst=True)}
    for path in sorted(data_folder("targets").glob("*.toml")):
        assert kinds <= set(load_target(path).timing), path.name
