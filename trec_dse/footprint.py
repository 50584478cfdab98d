"""Bytes that the runtime and each kernel take in Flash, per compiler and core: known without a compiler.

`footprint.json` holds the sizes of the linked symbols. What a firmware takes is the union of the symbols of its
kernels: `trec_multiply` counts once however many convolutions call it. `benchmarks/footprint.py` measures the
table anew; a test compares it with what the installed compiler really links.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from trec_dse import codec
from trec_dse.errors import TargetError
from trec_dse.target import Target

TABLE = Path(__file__).with_name("footprint.json")
BASE = "base"


@dataclass(frozen=True)
class Footprint:
    """Sizes measured with one compiler for one core and platform.

    Attributes:
        symbols: kernel function, or "base" for the runtime alone -> symbols that it brings -> bytes.
        call_base, call_argument: `trec_net_run` and alignment take call_base bytes, and call_argument for every
            pointer that a kernel is passed.
        static_bytes: variables of the runtime in SRAM.
    """

    compiler: str
    core: str
    platform: str
    symbols: Mapping[str, Mapping[str, int]]
    call_base: float
    call_argument: float
    static_bytes: int

    def code_bytes(self, functions: Iterable[str], n_arguments: int) -> int:
        """Bytes of vector table, runtime, the given kernels and `trec_net_run` with that many pointer arguments.

        Raises TargetError for a kernel that was never measured so.
        """
        total: dict[str, int] = dict(self.symbols[BASE])
        for function in functions:
            if function not in self.symbols:
                raise TargetError(
                    f"{function}: its code size was never measured with {self.compiler} for {self.core}; run "
                    "benchmarks/footprint.py where that compiler is installed"
                )
            total |= self.symbols[function]
        return round(sum(total.values()) + self.call_base + self.call_argument * n_arguments)


def load_footprints(path: Path = TABLE) -> list[Footprint]:
    """All measured footprints."""
    return codec.structure(json.loads(path.read_text(encoding="utf-8")), list[Footprint], str(path), TargetError)


def footprint_for(target: Target, compiler: str) -> Footprint:
    """The footprint of `target` with `compiler` ("zig" or "gcc"); of another platform with that core if need be.

    Kernels that it lacks, for the compiler was not there when they were added, are taken from others with that core.
    Raises TargetError if the core was never measured.
    """
    entries = load_footprints()
    for wanted in (
        (compiler, target.core, target.platform),
        (compiler, target.core, None),
        (None, target.core, target.platform),
        (None, target.core, None),
    ):
        for entry in entries:
            values = (entry.compiler, entry.core, entry.platform)
            if all(w is None or w == v for w, v in zip(wanted, values, strict=True)):
                others = [other.symbols for other in entries if other.core == target.core]
                return replace(
                    entry, symbols={**{k: v for symbols in others for k, v in symbols.items()}, **entry.symbols}
                )
    measured = ", ".join(sorted({entry.core for entry in entries}))
    raise TargetError(
        f"{target.name}: code sizes of {target.core} were never measured; known are {measured}. "
        "Run benchmarks/footprint.py with a compiler for it"
    )
