"""Every operator on random shapes: float meaning ~ integer oracle == C on the host, and the same scratch bytes."""

import ctypes
import importlib
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trec_dse import plugins
from trec_dse.candidate import TrecConfig
from trec_dse.codegen import generate, generate_answers, kernel_sources, network_calls
from trec_dse.executors.host import HostNetwork
from trec_dse.graph import INPUT, Graph, Int8Array, QuantizedGraph, Window, pack
from trec_dse.memory import MemoryPlan, plan_memory
from trec_dse.ops import op_class
from trec_dse.ops._packing import pair_channels
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.quantize import quantize
from trec_dse.resources import package_folder
from trec_dse.store import load_graph, save_graph
from trec_dse.toolchain import build_host_program, find_host_compiler

OPS = plugins.names("ops")
CLUSTERING = ("trec_conv2d", "trec_strip_conv2d")
OTHER_SCRATCH = (
    "cascade_u4",
    "gru",
    "sru",
    "lookup_conv2d",
    "pattern_conv2d",
    "sparse_conv2d",
    "peeled_conv2d",
    "pruned_conv2d",
)
WITH_SCRATCH = ("conv2d", *OTHER_SCRATCH, *CLUSTERING)
FOUR_BITS = ("cascade_u4", "dense_u4")
BUILD_ID = "0123456789abcdef"


def random_network(kind: str, seed: int) -> tuple[Graph, QuantizedGraph, torch.Tensor]:
    """A random network around one operator, its int8 form, and the images that calibrated it."""
    random = np.random.default_rng([OPS.index(kind), seed])
    graph: Graph = importlib.import_module(f"trec_dse.ops.{kind}.cases").random_graph(random)
    images = torch.from_numpy(random.standard_normal((4, *graph.input_shape))).float()
    return graph, quantize(graph, images), images


def sizes_of(graph: QuantizedGraph) -> tuple[int, int, int]:
    n_layers = sum(call.kernel.counts_clusters for call in network_calls(graph))
    return graph.bytes_of(INPUT), graph.bytes_of(graph.output), n_layers


def random_images(graph: QuantizedGraph, n: int) -> Int8Array:
    """Images as they lie in memory: of the input's shape, or packed."""
    shape = graph.input_shape if graph.quantization[INPUT].bits == 8 else (graph.bytes_of(INPUT),)
    return np.random.default_rng(7).integers(-128, 128, (n, *shape)).astype(np.int8)


def answer_of(graph: QuantizedGraph, image: Int8Array) -> Int8Array:
    """The oracle's output as it lies in memory."""
    output = graph.run(image)[graph.output]
    return pack(output) if graph.quantization[graph.output].bits == 4 else output.reshape(-1)


def oracle(graph: QuantizedGraph, images: Int8Array) -> Int8Array:
    return np.stack([answer_of(graph, image) for image in images])


def on_host(graph: QuantizedGraph, plan: MemoryPlan, images: Int8Array) -> Int8Array:
    with HostNetwork.build(generate(graph, plan, BUILD_ID), kernel_sources(graph), sizes_of(graph)) as network:
        return network.run(images).outputs


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("seed", range(12))
def test_c_gives_the_oracle_s_integers(kind: str, seed: int) -> None:
    _, graph, _ = random_network(kind, seed)
    images = random_images(graph, 5)
    assert np.array_equal(on_host(graph, plan_memory(graph), images), oracle(graph, images))


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("seed", range(20))
def test_the_int8_network_is_close_to_the_float_one(kind: str, seed: int) -> None:
    graph, quantized, images = random_network(kind, seed)
    expected = graph.forward(images)[quantized.output].numpy()
    scale = quantized.quantization[quantized.output]
    levels = np.stack([quantized.run(i)[quantized.output] for i in quantized.quantize_images(images.numpy())])
    found = (levels.astype(float) - scale.zero_point) * scale.scale
    error = np.abs(found - expected) / (span_before_the_cut(graph, images) + 1e-9)
    # a bit that flips moves a row to another cluster, so a TREC layer is close in the mean, not everywhere
    # 4-bit levels err by a thirtieth of their range, layer after layer
    assert error.mean() < (0.1 if kind in (*FOUR_BITS, *CLUSTERING) else 0.01)
    # behind a layer that is blank in most places, one level of it may be a large part of the little that is left
    most = 0.1 if kind == "sparse_conv2d" else 0.03
    assert kind in (*CLUSTERING, *FOUR_BITS) or error.max() < most


def span_before_the_cut(graph: Graph, images: torch.Tensor) -> float:
    """Range of the output if nothing cuts it at 6, for what is cut off is rounded like the rest."""
    last = graph.nodes[-1]
    if getattr(last.op, "activation", "none") == "relu6":
        last = replace(last, op=replace(last.op, activation="relu"))  # type: ignore[type-var]
    values = replace(graph, nodes=(*graph.nodes[:-1], last)).forward(images)[last.name]
    return float(values.max() - values.min())


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("seed", range(4))
def test_c_is_clean_under_the_sanitizers(kind: str, seed: int, tmp_path: Path) -> None:
    compiler = find_host_compiler()
    if compiler.name == "zig":
        pytest.skip("zig has no address sanitizer for C")
    _, graph, _ = random_network(kind, 100 + seed)
    images = random_images(graph, 8)
    files = {**generate(graph, plan_memory(graph), BUILD_ID), **generate_answers(images, oracle(graph, images))}
    runtime = package_folder("runtime")
    for name, text in files.items():
        (tmp_path / Path(name).name).write_text(text)
    kernels = kernel_sources(graph)
    sources = [*tmp_path.glob("*.c"), *(path for path in kernels if path.suffix == ".c")]
    sources += [*(runtime / "common").glob("*.c"), runtime / "platform" / "host" / "kat.c"]
    include = [tmp_path, runtime / "include", runtime / "arch", runtime / "common", *{path.parent for path in kernels}]
    build_host_program(sources, include, tmp_path / "kat", compiler, sanitize=True)
    done = subprocess.run([tmp_path / "kat"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", WITH_SCRATCH)
@pytest.mark.parametrize("seed", range(8))
def test_c_needs_the_scratch_that_python_plans(kind: str, seed: int, tmp_path: Path) -> None:
    _, graph, _ = random_network(kind, 200 + seed)
    call, node = network_calls(graph)[-1], graph.nodes[-1]
    files = generate(graph, plan_memory(graph), BUILD_ID)
    function = call.kernel.function.removesuffix("_s8") + "_scratch_bytes"
    extra = f"\nint32_t needed(void);\nint32_t needed(void)\n{{\n    return {function}(&{call.name});\n}}\n"
    files["network/trec_network.c"] += extra
    with HostNetwork.build(files, kernel_sources(graph), sizes_of(graph)) as network:
        library: ctypes.CDLL = network._library
        assert library.needed() == node.op.scratch_bytes(*(graph.shapes[name] for name in node.inputs))


def test_a_convolution_keeps_a_tile_of_four_rows_and_the_sums_of_a_group() -> None:
    few, many = Conv2d(6, Window((3, 3))), Conv2d(64, Window((5, 5)))
    # K = 27: one tile of 28 elements, 4 rows of 2 bytes; 6 channels, 4 rows of 4 bytes
    assert few.scratch_bytes((8, 8, 3)) == 28 * 4 * 2 + 6 * 4 * 4
    # K = 1600 = 6 * 232 + 208: seven tiles, so the sums of all channels outlive a tile
    assert (many.tile((14, 14, 64)), many.group((14, 14, 64))) == (232, 64)
    assert many.scratch_bytes((14, 14, 64)) == 232 * 4 * 2 + 64 * 4 * 4


def test_trec_s_scratch_by_hand() -> None:
    op = TrecConv2d(64, Window((5, 5)), TrecConfig(4, 320, "per_slice", None))
    # N = 100, 16 clusters of 320 int32 sums, counts and signatures, 2**4 signatures, four rows of 320 int16 and theirs
    sums, others = 16 * 320 * 4, 16 * (2 + 2) + 16 * 2 + 4 * (320 * 2 + 2)
    # a table of the int16 products of 16 centroids with eight kernels lies over the four rows; accumulators of 64
    # channels; one id per position and the number of clusters
    one = sums + max(others, 16 * 8 * 2) + 100 * 64 * 4 + 100 + 2
    # the tables of five slices lie over the sums; per slice centroids, ids and the number of clusters
    five = max(sums + others, 5 * 16 * 8 * 2) + 5 * (16 * 320 * 2 + 100 + 2)
    assert op.scratch_bytes((14, 14, 64)) == min(one, five) == 48_846


def test_with_few_positions_one_slice_is_alive_at_a_time() -> None:
    op = TrecConv2d(10, Window((1, 1)), TrecConfig(3, 2, "kernel_reuse"))
    # N = 6 in two blocks, 4 slices, 6 clusters in two blocks of four; channels 3 to 9 lie in two tiles of eight
    # eight blocks of four rows of a pair of int16, and their signatures, are clustered together
    sums, others = 8 * 2 * 4, 8 * (4 * 4 + 4 * 2) + 2 * 6 * 2 + 8 * 2
    one = sums + max(others, 8 * 8 * 2) + 2 * 2 * 8 * 4 * 4 + 2 * 3 * 4 * 4 + 6 + 2
    four = max(sums + others, 4 * 8 * 8 * 2) + 2 * 3 * 4 * 4 + 4 * (8 * 2 * 2 + 6 + 2)
    assert (one, four) == (912, 768)
    assert (op.alive((2, 3, 8)), op.scratch_bytes((2, 3, 8))) == (4, 768)
    assert op.alive((1, 3, 64)) == 1


def test_kernels_stand_two_channels_side_by_side() -> None:
    kernels = np.array([[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]]], dtype=np.int8)  # 3 channels of one slice of 3
    assert pair_channels(kernels).reshape(2, -1).tolist() == [[1, 4, 2, 5, 3, 6, 0, 0], [7, 0, 8, 0, 9, 0, 0, 0]]


@pytest.mark.parametrize("kind", OPS)
def test_a_stored_network_is_the_same_network(kind: str, tmp_path: Path) -> None:
    _, graph, _ = random_network(kind, 0)
    save_graph(graph, tmp_path)
    plan = plan_memory(graph)
    assert generate(load_graph(tmp_path), plan, BUILD_ID) == generate(graph, plan, BUILD_ID)


@pytest.mark.parametrize("kind", OPS)
def test_an_operator_is_found_by_its_folder_s_name(kind: str) -> None:
    assert op_class(kind).kind == kind


@pytest.mark.parametrize("seed", range(6))
def test_both_schedules_of_trec_give_the_same_integers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, graph, _ = random_network("trec_conv2d", 300 + seed)
    images = random_images(graph, 3)
    plan = plan_memory(graph)
    roomy = replace(plan, size=plan.size + 65536, buffers=plan.buffers)
    answers = []
    for is_one in (True, False):
        alive = (lambda op, shape: 1) if is_one else TrecConv2d.n_slices
        monkeypatch.setattr(TrecConv2d, "alive", alive)
        answers.append(on_host(graph, _with_scratch_last(roomy), images))
    assert np.array_equal(answers[0], answers[1])


def _with_scratch_last(plan: MemoryPlan) -> MemoryPlan:
    """The same plan with the workspace moved behind everything else, where the larger schedule also fits."""
    end = max(buffer.offset + buffer.size for buffer in plan.buffers) // 4 * 4 + 4
    buffers = tuple(replace(b, offset=end) if b.kind == "scratch" else b for b in plan.buffers)
    return replace(plan, buffers=buffers)
