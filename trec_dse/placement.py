"""Which layers' tables start-up copies out of Flash into another memory: what saves most cycles in the room there is.

Choosing is a knapsack over the layers, solved exactly: all tables of a layer go, or none. A layer's gain is what the
core would have waited for them: lines that an inference reads of them (`ops/_work.py`) through whatever is in front of
the Flash, at what a missing one costs there (`twin/waits.py`). Tables that a cache holds whole are waited for once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trec_dse.codegen import constant_bytes
from trec_dse.errors import TargetError
from trec_dse.graph import Node, QuantizedGraph
from trec_dse.ops._work import lines_read
from trec_dse.target import Region, Target
from trec_dse.twin.waits import in_front_of_flash, permille, slow_ranges

_WORD = 4


@dataclass(frozen=True)
class Placement:
    """What goes where.

    Attributes:
        region: name of the memory; "" if the board's choice is to place nothing.
        room: bytes that there were; tables: bytes by node of what is placed, in the order of execution.
    """

    region: str = ""
    room: int = 0
    tables: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """Of all tables that are placed."""
        return sum(self.tables.values())


ALL_IN_FLASH = Placement()


def place(graph: QuantizedGraph, target: Target, sram_in_use: int) -> Placement:
    """The tables that are worth most in the region that `target.place` names. Layers that have no room stay in Flash.

    `sram_in_use`: bytes of `ram_region` that other things take. Raises TargetError if there is no such region, or if
    data there are waited for as those in Flash are.
    """
    region = target.placed_region
    if region is None:
        return ALL_IN_FLASH
    _require_fast(region, target)
    room = max(0, region.room - (sram_in_use if region.name == target.ram_region else 0))
    sizes = {name: item.tables for name, item in constant_bytes(graph).items()}
    gains = {node.name: saved_cycles(node, graph, target, sizes[node.name]) for node in graph.nodes}
    wanted = [name for name, gain in gains.items() if gain > 0]
    chosen = knapsack([sizes[name] // _WORD for name in wanted], [gains[name] for name in wanted], room // _WORD)
    return Placement(region.name, room, {wanted[i]: sizes[wanted[i]] for i in chosen})


def saved_cycles(node: Node, graph: QuantizedGraph, target: Target, table_bytes: int) -> float:
    """Cycles of an inference that wait for a node's tables in Flash; 0 for operators whose reads are not known."""
    if not table_bytes:
        return 0.0
    shapes = graph.shapes
    cache = in_front_of_flash(target)[1]
    shape = {"line_bytes": cache.line_bytes, "n_lines": cache.n_sets * cache.n_ways}
    lines = lines_read(node.op, [shapes[name] for name in node.inputs], **shape)
    if lines is None:
        return 0.0
    once = table_bytes / cache.line_bytes
    lines = min(lines, once) if table_bytes <= cache.size else max(lines, once)
    return lines * cache.miss * permille(target) / 1000


def knapsack(sizes: Sequence[int], gains: Sequence[float], room: int) -> list[int]:
    """Indices, rising, of what fits into `room` and gains most together; of equal sums the one without later items."""
    best = np.zeros(room + 1)
    takes = np.zeros((len(sizes), room + 1), dtype=bool)
    for i, (size, gain) in enumerate(zip(sizes, gains, strict=True)):
        if size <= room:
            with_it = best[: room + 1 - size] + gain
            takes[i, size:] = with_it > best[size:]
            best[size:] = np.maximum(best[size:], with_it)
    chosen, left = [], room
    for i in reversed(range(len(sizes))):
        if takes[i, left]:
            chosen.append(i)
            left -= sizes[i]
    return chosen[::-1]


def _require_fast(region: Region, target: Target) -> None:
    end = region.origin + region.size
    if any(first < end and region.origin < behind for first, behind in slow_ranges(target)):
        raise TargetError(
            f"{target.name}: data in {region.name} come through the same cache as those in Flash, so nothing would be "
            "won; tightly coupled memory would be right (--place auto)"
        )
