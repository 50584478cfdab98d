"""What the benchmarks share: random candidates of a space, linked firmware, its twin, and how figures are printed."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from trec_dse.calibrate import BUILD_ID, linked
from trec_dse.candidate import Candidate
from trec_dse.designed import smooth_image
from trec_dse.device import Firmware
from trec_dse.executors import twin
from trec_dse.graph import QuantizedGraph
from trec_dse.protocol import (
    Command,
    Frame,
    InferAnswer,
    Splitter,
    decode_frame,
    encode_frame,
    parse_hello,
    parse_infer,
)
from trec_dse.search_space import load_search_space, sample_at_random
from trec_dse.target import Target
from trec_dse.toolchain import Compiler
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import LINK_REGISTER, Machine

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


@dataclass(frozen=True)
class Counted:
    """One inference on the twin; instructions are those of `trec_net_run`."""

    answer: InferAnswer
    n_instructions: int


def counted(firmware: Firmware, target: Target, image: npt.NDArray[np.int8]) -> Counted:
    """Run one inference in this process, where the twin's count of instructions can be seen."""
    frames = [Frame(Command.HELLO, 1, b""), Frame(Command.INFER, 2, image.tobytes())]
    line = MemoryLine(b"".join(map(encode_frame, frames)))
    image_of = load_image(firmware.elf)
    machine = Machine(image_of, target, line)
    start = image_of.address_of("trec_net_run") & ~1
    machine.run(until=start)
    before = machine.counter.n_instructions
    machine.run(until=machine.register(LINK_REGISTER) & ~1)
    n_instructions = machine.counter.n_instructions - before
    machine.run()
    hello, answer = (decode_frame(part).payload for part in Splitter().feed(bytes(line.sent)))
    return Counted(parse_infer(answer, parse_hello(hello)), n_instructions)


@contextmanager
def on_twin(
    graph: QuantizedGraph, target: Target, compiler: Compiler | None = None, *, stack_bytes: int | None = None
) -> Iterator[tuple[Firmware, twin.TwinExecutor]]:
    """The firmware of a network and the board's twin that runs it."""
    with (
        linked(graph, target, compiler, stack_bytes=stack_bytes) as firmware,
        twin.open(firmware.elf, target, build_id=BUILD_ID) as executor,
    ):
        yield firmware, executor
