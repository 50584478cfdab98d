"""What a core and the memories behind it cost, as data for the hooks that run while the firmware does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from trec_dse.target import Target
from trec_dse.twin import cortex_m0plus, cortex_m3, cortex_m4, cortex_m7
from trec_dse.twin.decode import Exit, Instruction, decode
from trec_dse.twin.waits import Cache, in_front_of_flash, permille, slow_ranges


@dataclass(frozen=True)
class CoreTiming:
    """How a core's cycles add up.

    Attributes:
        permille: modelled cycles per thousand that the rules give; corrects what they leave out.
        taken: a branch taken; indirect: more if its target was in a register; misaligned: more if the target is
            a 32-bit instruction across two words. mispredicted: 0 on a core without predictor, which pays `taken`.
        unaligned: a data access across its natural boundary; never_unaligned: the core faults there instead.
        code, data: what is in front of slow memory; data_ranges: (first, behind) addresses of slow memory.
        is_unified: data are looked up in the cache of the code.
    """

    permille: int
    taken: int
    indirect: int
    misaligned: int
    mispredicted: int
    unaligned: int
    code: Cache
    data: Cache
    data_ranges: tuple[tuple[int, int], ...]
    block_cycles: Callable[[Sequence[Instruction]], int]
    never_unaligned: bool = False
    is_unified: bool = False


@dataclass(frozen=True)
class Block:
    """Straight code from one entry to the next exit; `cycles` of one pass without what its edges cost.

    `aligned`: bit k is set if the block's k-th memory access must be aligned to a word.
    """

    address: int
    size: int
    n_instructions: int
    cycles: int
    exit: Exit
    starts_misaligned: bool
    aligned: int


def core_timing(target: Target) -> CoreTiming:
    """The timing of a target's core and Flash."""
    if target.core == "cortex-m7":
        return _cortex_m7(target)
    timing = _in_order(target)
    if target.core == "cortex-m4":
        return timing
    if target.core == "cortex-m3":
        return replace(timing, block_cycles=cortex_m3.block_cycles)
    # A branch refills two stages, and there are no wide targets to fetch twice; faults are told by the core itself.
    return replace(
        timing,
        indirect=0,
        misaligned=0,
        never_unaligned=True,
        block_cycles=cortex_m0plus.block_cycles,
    )


def _in_order(target: Target) -> CoreTiming:
    """A Cortex-M4 and the memory in front of it: lines that the accelerator holds, or the one just read."""
    code, data = in_front_of_flash(target)
    return CoreTiming(
        permille=permille(target),
        taken=1,
        indirect=1,
        misaligned=1,
        mispredicted=0,
        unaligned=1,
        code=code,
        data=data,
        data_ranges=slow_ranges(target),
        block_cycles=cortex_m4.block_cycles,
        is_unified=target.flash.accelerator == "serial",
    )


def _cortex_m7(target: Target) -> CoreTiming:
    """Caches in front of all but the tightly coupled RAM."""
    code, data = in_front_of_flash(target)
    return CoreTiming(
        permille=permille(target),
        taken=0,
        indirect=0,
        misaligned=0,
        mispredicted=6,
        unaligned=3,
        code=code,
        data=data,
        data_ranges=slow_ranges(target),
        block_cycles=cortex_m7.block_cycles,
    )


@lru_cache(maxsize=8192)  # a machine that is made anew often runs the same firmware
def block_at(code: bytes, address: int, timing: CoreTiming) -> Block:
    """The block whose bytes are `code`."""
    instructions = decode(code, address)
    last = instructions[-1].exit if instructions else None
    return Block(
        address=address,
        size=len(code),
        n_instructions=len(instructions),
        cycles=timing.block_cycles(instructions),
        exit=Exit.DIRECT if last is None else last,
        starts_misaligned=bool(instructions) and instructions[0].size == 4 and address % 4 == 2,
        aligned=_aligned_accesses(instructions),
    )


def _aligned_accesses(instructions: Sequence[Instruction]) -> int:
    """Which of the first 64 memory accesses must be aligned; those behind one that may not happen are left out."""
    bits = index = 0
    for instruction in instructions:
        n = instruction.n_transferred
        if n and (instruction.is_conditional or instruction.name.startswith("strex")):
            break
        if instruction.needs_alignment:
            bits |= ((1 << n) - 1) << index
        index += n
    return bits & (2**64 - 1)
