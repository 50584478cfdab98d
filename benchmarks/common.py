"""What the benchmarks share: random candidates of a space, linked firmware, its twin, and how figures are printed."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trec_dse.candidate import Candidate
from trec_dse.codegen import generate, kernel_sources
from trec_dse.device import Firmware
from trec_dse.evaluate import stack_of
from trec_dse.executors import twin
from trec_dse.firmware import build_firmware, write_export
from trec_dse.graph import QuantizedGraph
from trec_dse.memory import plan_memory
from trec_dse.search_space import load_search_space, sample_at_random
from trec_dse.target import Target
from trec_dse.toolchain import Compiler

BUILD_ID = "0123456789abcdef"


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


def smooth_image(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.int8]:
    """An int8 image whose neighbouring pixels resemble each other, as those of real layers do."""
    random = np.random.default_rng(seed)
    image = random.normal(0, 50, shape)
    if len(shape) == 3:
        for axis in (0, 1):
            image = (image + np.roll(image, 1, axis) + np.roll(image, 2, axis)) / 1.7
    return np.clip(image, -128, 127).astype(np.int8)


def random_candidates(space: str, n: int, seed: int = 0) -> list[Candidate]:
    """`n` different candidates of a shipped search space, drawn at random."""
    return sample_at_random(load_search_space(space), n, seed)


@contextmanager
def linked(
    graph: QuantizedGraph, target: Target, compiler: Compiler | None = None, *, stack_bytes: int | None = None
) -> Iterator[Firmware]:
    """The firmware of a network, in a folder that goes when the block ends; `stack_bytes` if not what is estimated."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "firmware"
        manifest = {"manifest.json": json.dumps({"build_id": BUILD_ID})}
        files = {**generate(graph, plan_memory(graph), BUILD_ID), **manifest}
        reserved = stack_of(graph, target) if stack_bytes is None else stack_bytes
        write_export(folder, target, files, kernel_sources(graph), stack_bytes=reserved)
        yield build_firmware(folder, target, compiler)


@contextmanager
def on_twin(
    graph: QuantizedGraph, target: Target, compiler: Compiler | None = None
) -> Iterator[tuple[Firmware, twin.TwinExecutor]]:
    """The firmware of a network and the board's twin that runs it."""
    with linked(graph, target, compiler) as firmware, twin.open(firmware.elf, target, build_id=BUILD_ID) as executor:
        yield firmware, executor
