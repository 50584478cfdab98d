"""What a core and the memories behind it cost, as data for the hooks that run while the firmware does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from trec_dse.target import FlashTiming, Target
from trec_dse.twin import cortex_m0plus, cortex_m3, cortex_m4, cortex_m7
from trec_dse.twin.decode import Exit, Instruction, decode


@dataclass(frozen=True)
class Cache:
    """A set-associative cache with least-recently-used replacement; `miss` in cycles.

    `reads_ahead`: the line behind the latest one is fetched meanwhile and costs nothing.
    """

    n_sets: int
    n_ways: int
    line_bytes: int
    miss: int
    reads_ahead: bool = False


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


# Cortex-M4: the manual's rules give 0.927 of twelve published run times on average; 1078/1000 centres them.
_M4_PERMILLE = 1078
# Cortex-M7: effective cost of a 32-byte line from Flash or SRAM1, set on seven published run times.
_M7_LINE = 4
_DTCM_ORIGIN = 0x2000_0000
_DTCM_BYTES: Mapping[str, int] = {"stm32f7": 64 * 1024, "stm32h7": 128 * 1024}
_LINE_BYTES: Mapping[str, int] = {"none": 8, "prefetch": 8, "art": 16}


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
        permille=1000,
        indirect=0,
        misaligned=0,
        never_unaligned=True,
        block_cycles=cortex_m0plus.block_cycles,
    )


def _in_order(target: Target) -> CoreTiming:
    """A Cortex-M4 and the memory in front of it: lines that the accelerator holds, or the one just read."""
    flash = target.region(target.flash_region)
    code, data = _in_front_of_flash(target.flash)
    return CoreTiming(
        permille=_M4_PERMILLE,
        taken=1,
        indirect=1,
        misaligned=1,
        mispredicted=0,
        unaligned=1,
        code=code,
        data=data,
        data_ranges=((flash.origin, flash.origin + flash.size),),
        block_cycles=cortex_m4.block_cycles,
        is_unified=target.flash.accelerator == "serial",
    )


def _in_front_of_flash(flash: FlashTiming) -> tuple[Cache, Cache]:
    """For code and for data. What rests on no document is said in docs/boards.md."""
    wait = flash.wait_states
    if flash.accelerator == "code_cache":  # nRF52: a miss is noticed one cycle late; every word of data is waited for
        return Cache(flash.code_bytes // 32, 2, 16, wait + 1), Cache(1, 1, 4, wait)
    if flash.accelerator == "serial":  # RP2040: two ways; each word is a transfer of its own
        both = Cache(flash.code_bytes // 8, 2, 4, wait)
        return both, both
    line = _LINE_BYTES[flash.accelerator]
    n_code, n_data = (max(1, size // line) for size in (flash.code_bytes, flash.data_bytes))
    reads_ahead = flash.accelerator == "prefetch"
    return Cache(1, n_code, line, wait, reads_ahead=reads_ahead), Cache(1, n_data, line, wait)


def _cortex_m7(target: Target) -> CoreTiming:
    """Caches of 32-byte lines, 2 and 4 ways (AN4667), in front of all but the tightly coupled RAM."""
    flash, ram = target.region(target.flash_region), target.region(target.ram_region)
    coupled_end = _DTCM_ORIGIN + _DTCM_BYTES.get(target.platform, 0)
    slow_ram = (min(max(ram.origin, coupled_end), ram.origin + ram.size), ram.origin + ram.size)
    return CoreTiming(
        permille=1000,
        taken=0,
        indirect=0,
        misaligned=0,
        mispredicted=6,
        unaligned=3,
        code=Cache(target.flash.code_bytes // 64, 2, 32, _M7_LINE),
        data=Cache(target.flash.data_bytes // 128, 4, 32, _M7_LINE),
        data_ranges=((flash.origin, flash.origin + flash.size), slow_ram),
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
