"""Generated C: stable bytes, exact counts of constants, right order of calls."""

import numpy as np
import torch

from trec_dse.codegen import constant_bytes, generate, generate_answers, kernel_sources, network_calls
from trec_dse.graph import INPUT, Graph, Node, Window
from trec_dse.memory import plan_memory
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.quantize import quantize


def network() -> Graph:
    nodes = (Node("conv1", Conv2d(2, Window((3, 3)), "relu"), (INPUT,)), Node("fc", Dense(3), ("conv1",)))
    random = np.random.default_rng(0)
    conv = {"weights": random.normal(size=(2, 3, 3, 1)), "bias": np.zeros(2)}
    dense = {"weights": random.normal(size=(3, 8)), "bias": np.zeros(3)}
    return Graph((4, 4, 1), nodes, {"conv1": conv, "fc": dense})


QUANTIZED = quantize(network(), torch.randn(2, 4, 4, 1, generator=torch.Generator().manual_seed(0)))
PLAN = plan_memory(QUANTIZED)
FILES = generate(QUANTIZED, PLAN, "0123456789abcdef")


def test_the_same_network_gives_the_same_bytes() -> None:
    assert generate(QUANTIZED, PLAN, "0123456789abcdef") == FILES


def test_the_header_says_what_the_runtime_needs() -> None:
    header = FILES["network/trec_network.h"]
    for line in (
        '#define TREC_BUILD_ID "0123456789abcdef"',
        "#define TREC_INPUT_BYTES 16",
        "#define TREC_OUTPUT_BYTES 3",
        f"#define TREC_ARENA_BYTES {PLAN.size}",
        "#define TREC_N_TREC_LAYERS 0",
        "#define TREC_N_COUNTERS 1",
    ):
        assert line in header


def test_kernels_are_called_in_order_with_the_planned_offsets() -> None:
    source = FILES["network/trec_network.c"]
    row, middle = PLAN.offset("conv1", scratch=True), PLAN.offset("conv1")
    conv = f"trec_conv2d_s8(&conv1, at({PLAN.offset(INPUT)}), at({row}), at({middle}));"
    dense = f"trec_dense_s8(&fc, at({middle}), at({PLAN.offset('fc')}));"
    assert source.index(conv) < source.index(dense)


def test_constants_are_counted_as_the_compiler_lays_them_out() -> None:
    found = constant_bytes(QUANTIZED)
    # conv1: 2 * 9 weights, filled up to pairs of 10: 20, 2 biases 8, 2 factors 8; struct: window 11
    # words, out_c, in_zero, tile, group, weights, bias, rescale 5
    assert found["conv1"].tables == 20 + 8 + 8
    assert found["conv1"].structs == 4 * (11 + 6 + 5)
    # fc: 24 weights, 3 * 4, 3 * 4; struct: in_n, out_n, weights, bias, rescale 5
    assert found["fc"].tables == 24 + 12 + 12
    assert found["fc"].structs == 4 * (4 + 5)


def test_only_kernels_in_use_are_copied() -> None:
    names = {path.name for path in kernel_sources(QUANTIZED)}
    assert names == {"trec_conv2d_s8.c", "trec_conv2d_s8.h", "trec_dense_s8.c", "trec_dense_s8.h"}


def test_known_answers_are_written_out_in_full() -> None:
    files = generate_answers(np.array([[1, -2], [3, 4]], np.int8), np.array([[5], [-6]], np.int8))
    assert "#define TREC_KAT_IMAGES 2" in files["network/trec_kat.h"]
    assert "{1, -2}," in files["network/trec_kat.c"]
    assert "{-6}," in files["network/trec_kat.c"]


def test_every_call_has_a_c_identifier() -> None:
    assert [call.name for call in network_calls(QUANTIZED)] == ["conv1", "fc"]
