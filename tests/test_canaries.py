"""Kernels write to their output and their workspace and to no other byte: watched call by call, in a shared arena."""

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_every_op import BUILD_ID, OPS, answer_of, random_images, random_network, sizes_of

from trec_dse.codegen import generate, kernel_sources, network_calls
from trec_dse.executors.host import HostNetwork
from trec_dse.graph import INPUT, FloatWeights, Graph, Int8Array, LosesInput, Node, QuantizedGraph, Window
from trec_dse.memory import MemoryPlan, plan_memory
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.quantize import quantize

GUARD = 64  # bytes on either side of the arena's buffers; a multiple of every alignment


def guarded(plan: MemoryPlan) -> MemoryPlan:
    """The plan with room around it that nobody owns."""
    buffers = tuple(replace(buffer, offset=buffer.offset + GUARD) for buffer in plan.buffers)
    return MemoryPlan(plan.size + 2 * GUARD, buffers)


def in_steps(text: str) -> str:
    """The generated source with one function more: a single call of `trec_net_run`."""
    body = re.search(r"void trec_net_run\(void\)\n\{\n(.*?)\n\}", text, re.DOTALL)
    assert body is not None
    cases = [f"    case {i}:\n    {line}\n        break;" for i, line in enumerate(body.group(1).splitlines())]
    head = "\nvoid trec_net_step(int32_t i);\nvoid trec_net_step(int32_t i)\n{\n    switch (i) {\n"
    return text + head + "\n".join(cases) + "\n    default:\n        break;\n    }\n}\n"


def owned(graph: QuantizedGraph, plan: MemoryPlan, name: str) -> np.ndarray:
    """Which bytes of the arena the calls of a node may write: its output and workspace; its input, if it loses that."""
    node = next(node for node in graph.nodes if node.name == name)
    names = [name, *(node.inputs if isinstance(node.op, LosesInput) else ())]
    mask = np.zeros(plan.size, dtype=bool)
    for buffer in plan.buffers:
        if buffer.name in names:
            mask[buffer.offset : buffer.offset + buffer.size] = True
    return mask


def watch(graph: QuantizedGraph, plan: MemoryPlan, image: Int8Array) -> Int8Array:
    """The answer to one image; AssertionError as soon as a call writes a byte that is not its own."""
    files = generate(graph, plan, BUILD_ID)
    files["network/trec_network.c"] = in_steps(files["network/trec_network.c"])
    with HostNetwork.build(files, kernel_sources(graph), sizes_of(graph)) as network:
        library: ctypes.CDLL = network._library
        arena = np.ctypeslib.as_array((ctypes.c_uint8 * plan.size).in_dll(library, "trec_arena"))
        arena[:] = np.random.default_rng(1).integers(0, 256, plan.size)
        flat = image.reshape(-1).view(np.uint8)
        arena[plan.offset(INPUT) : plan.offset(INPUT) + flat.size] = flat
        for i, call in enumerate(network_calls(graph)):
            before = arena.copy()
            library.trec_net_step(i)
            changed = np.flatnonzero((arena != before) & ~owned(graph, plan, call.node))
            assert not changed.size, f"{call.kernel.function} wrote byte {changed[0]}, which is not its own"
        size = sizes_of(graph)[1]
        return arena[plan.offset(graph.output) : plan.offset(graph.output) + size].view(np.int8).copy()


def chain(seed: int) -> QuantizedGraph:
    """Convolutions and a pooling of random windows, each of which may grow into the one before."""
    random = np.random.default_rng(seed)
    channels = [int(n) for n in random.integers(1, 9, 4)]
    convs = [
        (
            Conv2d(channels[i], Window((3, 3), (1 + i % 2, 1), (i % 2, 1))),
            random.normal(size=(channels[i], 3, 3, before)),
        )
        for i, before in zip((1, 2, 3), channels[:3], strict=True)
    ]
    nodes = [
        Node("a", convs[0][0], (INPUT,)),
        Node("b", convs[1][0], ("a",)),
        Node("pool", MaxPool2d(Window((2, 2), (2, 1))), ("b",)),
        Node("c", convs[2][0], ("pool",)),
    ]
    weights: dict[str, FloatWeights] = {"pool": {}}
    for name, (op, kernels) in zip("abc", convs, strict=True):
        weights[name] = {"weights": kernels, "bias": random.normal(size=op.out_channels)}
    return quantized(Graph((11, 9, channels[0]), tuple(nodes), weights))


def quantized(graph: Graph) -> QuantizedGraph:
    """Its int8 form."""
    return quantize(graph, torch.from_numpy(np.random.default_rng(2).normal(size=(4, *graph.input_shape))).float())


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("seed", range(2))
def test_an_operator_writes_nothing_but_its_output_and_its_workspace(kind: str, seed: int) -> None:
    _, graph, _ = random_network(kind, 500 + seed)
    image = random_images(graph, 1)[0]
    answer = watch(graph, guarded(plan_memory(graph)), image)
    assert np.array_equal(answer, answer_of(graph, image))


@pytest.mark.parametrize("seed", range(6))
def test_a_chain_in_one_arena_overwrites_nothing_that_is_still_read(seed: int) -> None:
    graph = chain(seed)
    plan = plan_memory(graph)
    image = random_images(graph, 1)[0]
    assert plan.size < plan_memory(graph, in_place=False).size
    assert np.array_equal(watch(graph, guarded(plan), image), graph.run(image)[graph.output].reshape(-1))


def test_the_watch_sees_a_byte_that_is_not_its_own() -> None:
    graph = chain(0)
    plan = guarded(plan_memory(graph))
    shorter = replace(plan, buffers=tuple(replace(b, size=b.size - 1) if b.name == "b" else b for b in plan.buffers))
    with pytest.raises(AssertionError, match="which is not its own"):
        watch(graph, shorter, random_images(graph, 1)[0])
