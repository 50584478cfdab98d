"""What a built network is, and what anything that can run it must offer."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Firmware:
    """A linked ELF in its export folder, with the sizes that its sections and symbols show.

    Attributes:
        build_id: 16 hex digits that the running firmware repeats in its banner.
        flash_bytes: every loaded byte in Flash, initial values of `.data` included.
        sram_bytes: `.data` + `.bss` + arena + reserved stack.
        stack_bytes: what is reserved for the stack; stack_bound_bytes: the most that it can need, run_stack_bytes: the
            most that a call of `trec_net_run` alone can. None where machine code could not be followed.
        placed_bytes: tables that start-up copies out of Flash; part of `sram_bytes` only if they go into that region.
    """

    folder: Path
    elf: Path
    build_id: str
    flash_bytes: int
    sram_bytes: int
    arena_bytes: int
    stack_bytes: int
    static_bytes: int
    stack_bound_bytes: int | None
    run_stack_bytes: int | None
    placed_bytes: int = 0


@dataclass(frozen=True)
class Inference:
    """One answer. `output`: int8 (n_outputs,); `n_clusters`: per TREC layer, N_c summed over the slices."""

    output: Int8Array
    cycles: int
    stack_bytes: int
    n_clusters: tuple[int, ...]


class Executor(Protocol):
    """Runs a network somewhere. Used as a context manager; `infer` raises a `DeviceError` rather than guess."""

    name: str

    def infer(self, image: Int8Array) -> Inference:
        """One inference of an int8 image in NHWC order without batch, flattened or not."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
