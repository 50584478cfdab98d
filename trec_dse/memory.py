"""Where every tensor and workspace lies in the arena, and for how long.

The plan that prices a candidate is the plan that the generated C uses, so the estimate of the arena is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from trec_dse.graph import INPUT, QuantizedGraph
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


def plan_memory(graph: QuantizedGraph) -> MemoryPlan:
    """Lay out all buffers of `graph`.

    Greedy first fit in several orders (by size, by lifetime, by start, then shuffled with a fixed seed); the best
    wins, and the search ends early when the lower bound, the most bytes alive in any step, is reached.
    """
    wanted = live_buffers(graph)
    bound = most_alive(wanted)
    best: MemoryPlan | None = None
    for order in _orders(wanted):
        plan = _first_fit([wanted[i] for i in order])
        if best is None or plan.size < best.size:
            best = plan
        if best.size == bound:
            break
    assert best is not None
    return best


def live_buffers(graph: QuantizedGraph) -> list[Buffer]:
    """Every buffer with its size and its first and last step, not placed yet (offset 0)."""
    shapes, last_use = graph.shapes, {}
    for step, node in enumerate(graph.nodes):
        last_use.update(dict.fromkeys(node.inputs, step))
    last_use[graph.output] = len(graph.nodes) - 1
    buffers = [Buffer(INPUT, "input", 0, _size(shapes[INPUT]), 0, last_use[INPUT])]
    for step, node in enumerate(graph.nodes):
        kind: BufferKind = "output" if node.name == graph.output else "activation"
        buffers.append(Buffer(node.name, kind, 0, _size(shapes[node.name]), step, last_use.get(node.name, step)))
        scratch = node.op.scratch_bytes(*(shapes[name] for name in node.inputs))
        if scratch:
            buffers.append(Buffer(node.name, "scratch", 0, scratch, step, step))
    return buffers


def most_alive(buffers: Sequence[Buffer]) -> int:
    """The most bytes alive in any one step, each buffer rounded up to the alignment: no plan can be smaller."""
    steps = range(max(buffer.last for buffer in buffers) + 1)
    return max(sum(_aligned(b.size) for b in buffers if b.first <= step <= b.last) for step in steps)


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _orders(buffers: Sequence[Buffer]) -> list[list[int]]:
    indices = list(range(len(buffers)))
    by_size = sorted(indices, key=lambda i: -buffers[i].size)
    by_life = sorted(indices, key=lambda i: (buffers[i].first - buffers[i].last, -buffers[i].size))
    by_start = sorted(indices, key=lambda i: (buffers[i].first, -buffers[i].size))
    random = np.random.default_rng(0)
    return [by_size, by_life, by_start, *(random.permutation(indices).tolist() for _ in range(_RESTARTS))]


def _first_fit(buffers: Sequence[Buffer]) -> MemoryPlan:
    """Each buffer at the lowest offset where it meets none of those already placed that live at the same time."""
    placed: list[Buffer] = []
    for buffer in buffers:
        offset = 0
        rivals = [b for b in placed if b.first <= buffer.last and buffer.first <= b.last]
        for rival in sorted(rivals, key=lambda b: b.offset):
            if offset + buffer.size <= rival.offset:
                break
            offset = max(offset, _aligned(rival.offset + rival.size))
        placed.append(replace(buffer, offset=offset))
    size = _aligned(max(b.offset + b.size for b in placed))
    return MemoryPlan(size, tuple(sorted(placed, key=lambda b: (b.first, b.kind == "scratch", b.offset))))
