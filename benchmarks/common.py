"""What the benchmarks share: random candidates of a space, linked firmware, its twin, and how figures are printed."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from trec_dse.calibrate import BUILD_ID, linked
from trec_dse.candidate import Candidate
from trec_dse.designed import smooth_image
from trec_dse.device import Firmware
from trec_dse.executors import twin
from trec_dse.graph import QuantizedGraph
from trec_dse.search_space import load_search_space, sample_at_random
from trec_dse.target import Target
from trec_dse.toolchain import Compiler

__all__ = ["BUILD_ID", "Figure", "linked", "on_twin", "random_candidates", "show", "smooth_image"]


@dataclass(frozen=True)
class Figure:
    """One line of output. `goal` and `met` are None where there is none."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    met: bool | None = None


def show(figures: Sequence[Figure]) -> None:
    """JSON lines on standard output, a table on standard error."""
    for figure in figures:
        print(json.dumps(asdict(figure)), flush=True)
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        goal = "" if figure.goal is None else f"   goal {figure.goal:g}: {'met' if figure.met else 'MISSED'}"
        print(f"{figure.name:<{width}}  {figure.value:>14,.3f} {figure.unit:<8}{goal}", file=sys.stderr)


def random_candidates(space: str, n: int, seed: int = 0) -> list[Candidate]:
    """`n` different candidates of a shipped search space, drawn at random."""
    return sample_at_random(load_search_space(space), n, seed)


@contextmanager
def on_twin(
    graph: QuantizedGraph, target: Target, compiler: Compiler | None = None
) -> Iterator[tuple[Firmware, twin.TwinExecutor]]:
    """The firmware of a network and the board's twin that runs it."""
    with linked(graph, target, compiler) as firmware, twin.open(firmware.elf, target, build_id=BUILD_ID) as executor:
        yield firmware, executor
