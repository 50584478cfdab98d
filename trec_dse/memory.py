"""Where every tensor and workspace lies in the arena, and for how long.

The plan that prices a candidate is the plan that the generated C uses, so the estimate of the arena is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trec_dse.errors import UnsupportedError
from trec_dse.graph import INPUT, LosesInput, QuantizedGraph
from trec_dse.ops.peeled_conv2d import PeeledConv2d
from trec_dse.results import Buffer, BufferKind

ALIGNMENT = 4
_RESTARTS = 64


@dataclass(frozen=True)
class MemoryPlan:
    """`size` bytes of arena; every buffer has its offset. Tensors carry their name, a workspace that of its node."""

    size: int
    buffers: tuple[Buffer, ...]

    def offset(self, name: str, *, scratch: bool = False) -> int:
        """Offset of a tensor, or of a node's workspace."""
        for buffer in self.buffers:
            if buffer.name == name and (buffer.kind == "scratch") == scratch:
                return buffer.offset
        raise KeyError(name)


def plan_memory(graph: QuantizedGraph, *, in_place: bool = True) -> MemoryPlan:
    """Lay out all buffers of `graph`.

    Greedy first fit in several orders (by size, by lifetime, by start, then shuffled with a fixed seed); the best
    wins, and the search ends early when the lower bound is reached. With `in_place` an output may grow into an
    input that nothing reads afterwards, as far as its operator's order allows.
    """
    _require_lost_inputs(graph)
    wanted = live_buffers(graph)
    pairs = overlaps(graph) if in_place else {}
    bound = most_alive(wanted, pairs)
    best: MemoryPlan | None = None
    for order in _orders(wanted):
        plan = _first_fit([wanted[i] for i in order], pairs)
        if best is None or plan.size < best.size:
            best = plan
        if best.size == bound:
            break
    assert best is not None
    return best


def settled(graph: QuantizedGraph) -> QuantizedGraph:
    """`graph` with convolutions inside their inputs only where that makes the arena smaller, dense ones elsewhere.

    All are tried together first, for a peak may need several; then each is taken back that does not matter.
    """
    last_use = _last_uses(graph)
    kept = [
        node.name
        for step, node in enumerate(graph.nodes)
        if isinstance(node.op, PeeledConv2d) and last_use[node.inputs[0]] == step
    ]
    size = plan_memory(_with_peeled(graph, kept)).size if kept else 0
    for name in list(kept):
        fewer = [other for other in kept if other != name]
        without = plan_memory(_with_peeled(graph, fewer)).size
        if without <= size:
            kept, size = fewer, without
    return _with_peeled(graph, kept)


def _with_peeled(graph: QuantizedGraph, names: Sequence[str]) -> QuantizedGraph:
    nodes = (
        replace(node, op=node.op.dense()) if isinstance(node.op, PeeledConv2d) and node.name not in names else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _require_lost_inputs(graph: QuantizedGraph) -> None:
    """What spoils its input must be the last to read it."""
    last_use = _last_uses(graph)
    for step, node in enumerate(graph.nodes):
        if isinstance(node.op, LosesInput) and any(last_use[name] > step for name in node.inputs):
            reader = graph.nodes[max(last_use[name] for name in node.inputs)].name
            raise UnsupportedError(f"{node.name} runs inside its input, which {reader} reads later: make it dense")


def overlaps(graph: QuantizedGraph) -> dict[tuple[str, str], int]:
    """(output, input) -> bytes that the input must start after the output, for inputs that die in that step."""
    shapes, last_use = graph.shapes, _last_uses(graph)
    pairs: dict[tuple[str, str], int] = {}
    for step, node in enumerate(graph.nodes):
        distance = node.op.overlap(*(shapes[name] for name in node.inputs))
        if distance is not None:
            pairs |= {(node.name, name): distance for name in node.inputs if last_use[name] == step}
    return pairs


def live_buffers(graph: QuantizedGraph) -> list[Buffer]:
    """Every buffer with its size and its first and last step, not placed yet (offset 0)."""
    shapes, last_use = graph.shapes, _last_uses(graph)
    buffers = [Buffer(INPUT, "input", 0, graph.bytes_of(INPUT), 0, last_use[INPUT])]
    for step, node in enumerate(graph.nodes):
        kind: BufferKind = "output" if node.name == graph.output else "activation"
        buffers.append(Buffer(node.name, kind, 0, graph.bytes_of(node.name), step, last_use.get(node.name, step)))
        scratch = node.op.scratch_bytes(*(shapes[name] for name in node.inputs))
        if scratch:
            buffers.append(Buffer(node.name, "scratch", 0, scratch, step, step))
    return buffers


def most_alive(buffers: Sequence[Buffer], pairs: Mapping[tuple[str, str], int] | None = None) -> int:
    """The most bytes alive in any one step, each buffer rounded up to the alignment: no plan can be smaller.

    An output and the inputs that it may run into count together, as what they span at the least.
    """
    steps = range(max(buffer.last for buffer in buffers) + 1)
    return max(_alive([b for b in buffers if b.first <= step <= b.last], pairs or {}) for step in steps)


def _alive(buffers: Sequence[Buffer], pairs: Mapping[tuple[str, str], int]) -> int:
    sizes = {(b.name, b.kind == "scratch"): _aligned(b.size) for b in buffers}
    total = sum(sizes.values())
    for (output, source), distance in pairs.items():
        if (output, False) in sizes and (source, False) in sizes:
            left, right = sizes[output, False], sizes[source, False]
            spanned = max(left, right, right + distance)
            # several inputs of one output: each can hide at most itself or the output
            total -= max(0, min(left, right, left + right - spanned))
    return total


def _last_uses(graph: QuantizedGraph) -> dict[str, int]:
    """Tensor -> the last step that reads it; the network's output outlives them all."""
    found: dict[str, int] = {}
    for step, node in enumerate(graph.nodes):
        found.update(dict.fromkeys(node.inputs, step))
    found[graph.output] = len(graph.nodes) - 1
    return found


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _orders(buffers: Sequence[Buffer]) -> list[list[int]]:
    indices = list(range(len(buffers)))
    by_size = sorted(indices, key=lambda i: -buffers[i].size)
    by_life = sorted(indices, key=lambda i: (buffers[i].first - buffers[i].last, -buffers[i].size))
    by_start = sorted(indices, key=lambda i: (buffers[i].first, -buffers[i].size))
    random = np.random.default_rng(0)
    return [by_size, by_life, by_start, *(random.permutation(indices).tolist() for _ in range(_RESTARTS))]


def _first_fit(buffers: Sequence[Buffer], pairs: Mapping[tuple[str, str], int]) -> MemoryPlan:
    """Each buffer at the lowest offset that none of those already placed, and alive at the same time, forbids."""
    placed: list[Buffer] = []
    for buffer in buffers:
        rivals = [b for b in placed if b.first <= buffer.last and buffer.first <= b.last]
        forbidden = [_forbidden(buffer, rival, pairs) for rival in rivals]
        placed.append(replace(buffer, offset=_lowest(forbidden)))
    size = _aligned(max(b.offset + b.size for b in placed))
    return MemoryPlan(size, tuple(sorted(placed, key=lambda b: (b.first, b.kind == "scratch", b.offset))))


def _forbidden(buffer: Buffer, rival: Buffer, pairs: Mapping[tuple[str, str], int]) -> tuple[int, int]:
    """Offsets strictly between these two would put `buffer` in the way of `rival`."""
    low, high = rival.offset - buffer.size, rival.offset + rival.size
    if "scratch" in (buffer.kind, rival.kind):
        return low, high
    if (buffer.name, rival.name) in pairs:  # buffer is the output: it must start early enough
        low = max(low, rival.offset - pairs[buffer.name, rival.name])
    elif (rival.name, buffer.name) in pairs:  # buffer is the input: it must start late enough
        high = min(high, rival.offset + pairs[rival.name, buffer.name])
    return low, high


def _lowest(forbidden: Sequence[tuple[int, int]]) -> int:
    """The lowest aligned offset outside all these open intervals."""
    offset = 0
    while blocking := [_aligned(high) for low, high in forbidden if low < offset < high]:
        offset = min(blocking)
    return offset
