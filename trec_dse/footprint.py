"""Bytes of the runtime and each kernel in Flash and on the stack, per compiler and core: known without a compiler.

`footprint.json` holds the sizes of the linked symbols. What a firmware takes is the union of the symbols of its
kernels: `trec_multiply` counts once however many convolutions call it. `benchmarks/footprint.py` measures the
table anew; a test compares it with what the installed compiler really links.

The stack that a firmware reserves is the deepest chain of calls that was measured for any of its kernels and a margin,
with whichever compiler needs most on that core, so that the figure does not depend on who builds it. Whether it is
enough is checked in the machine code of every ELF that is linked here (`stack_bound`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from trec_dse import codec
from trec_dse.errors import TargetError
from trec_dse.target import Optimize, Target

TABLE = Path(__file__).with_name("footprint.json")
BASE = "base"
# An exception pushes 26 words where there is an FPU, and one to align them (ARM DDI 0403E, B1.5.7): no interrupt is
# enabled, but a fault shall end in its handler. The rest is for compilers of other versions than the measured ones.
EXCEPTION_BYTES, OTHER_VERSIONS_BYTES = 4 * (26 + 1), 52
# The loop of startup.c that copies placed tables, with its literals: zig links 32 (M0+) to 52 bytes more, gcc 36.
PLACING_BYTES = 44
STACK_MARGIN = EXCEPTION_BYTES + OTHER_VERSIONS_BYTES

T = TypeVar("T")


@dataclass(frozen=True)
class Footprint:
    """Sizes measured with one compiler for one core and platform.

    Attributes:
        symbols: kernel function, or "base" for the runtime alone -> symbols that it brings -> bytes.
        call_base, call_argument: `trec_net_run` and alignment take call_base bytes, and call_argument for every
            pointer that a kernel is passed.
        static_bytes: variables of the runtime in SRAM.
        stack: kernel function -> the most that it needs of the stack; "base" -> what lies there when one is called.
        stack_elsewhere: the most that the firmware needs where no kernel runs.
        optimize: what was compiled for; slower: kernel function -> its cycles over those of a build for speed.
    """

    compiler: str
    core: str
    platform: str
    symbols: Mapping[str, Mapping[str, int]]
    call_base: float
    call_argument: float
    static_bytes: int
    stack: Mapping[str, int]
    stack_elsewhere: int
    optimize: Optimize = "speed"
    slower: Mapping[str, float] = field(default_factory=dict)

    def stack_bytes(self, functions: Iterable[str]) -> int:
        """What is reserved for the stack of a firmware with these kernels: a multiple of eight.

        Raises TargetError for a kernel that was never measured.
        """
        deepest = max((self._of(function, self.stack) for function in functions), default=0)
        needed = max(self.stack[BASE] + deepest, self.stack_elsewhere) + STACK_MARGIN
        return -(-needed // 8) * 8

    def code_bytes(self, functions: Iterable[str], n_arguments: int) -> int:
        """Bytes of vector table, runtime, the given kernels and `trec_net_run` with that many pointer arguments.

        Raises TargetError for a kernel that was never measured so.
        """
        total: dict[str, int] = dict(self.symbols[BASE])
        for function in functions:
            total |= self._of(function, self.symbols)
        return round(sum(total.values()) + self.call_base + self.call_argument * n_arguments)

    def _of(self, function: str, table: Mapping[str, T]) -> T:
        if function not in table:
            raise TargetError(
                f"{function}: its code was never measured with {self.compiler} for {self.core}; run "
                "benchmarks/footprint.py where that compiler is installed"
            )
        return table[function]


def load_footprints(path: Path = TABLE) -> list[Footprint]:
    """All measured footprints."""
    return codec.structure(json.loads(path.read_text(encoding="utf-8")), list[Footprint], str(path), TargetError)


def footprint_for(target: Target, compiler: str) -> Footprint:
    """The footprint of `target` with `compiler` ("zig" or "gcc"); of another platform with that core if need be.

    Kernels that it lacks, for the compiler was not there when they were added, are taken from others with that core.
    The stack is that of the compiler and platform with the core that needs most.
    Raises TargetError if the core was never measured.
    """
    entries = [entry for entry in load_footprints() if entry.optimize == target.optimize]
    for wanted in (
        (compiler, target.core, target.platform),
        (compiler, target.core, None),
        (None, target.core, target.platform),
        (None, target.core, None),
    ):
        for entry in entries:
            values = (entry.compiler, entry.core, entry.platform)
            if all(w is None or w == v for w, v in zip(wanted, values, strict=True)):
                others = [other for other in entries if other.core == target.core]
                symbols = {k: v for other in others for k, v in other.symbols.items()}
                slower = {k: v for other in others for k, v in other.slower.items()}
                return replace(
                    entry,
                    symbols={**symbols, **entry.symbols},
                    slower={**slower, **entry.slower},
                    stack={name: max(other.stack.get(name, 0) for other in others) for name in symbols},
                    stack_elsewhere=max(other.stack_elsewhere for other in others),
                )
    measured = ", ".join(sorted({entry.core for entry in entries}))
    raise TargetError(
        f"{target.name}: code sizes of {target.core}, for {target.optimize}, were never measured; known are {measured}."
        " Run benchmarks/footprint.py with a compiler for it"
    )
