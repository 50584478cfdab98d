"""Cycles of a straight piece of code on a Cortex-M4: one instruction at a time, loads back to back overlap.

The rules are those of the ARM Cortex-M4 Technical Reference Manual, section 3.3; what the branch between two
blocks costs is added where it is taken (hooks.c).
"""

from collections.abc import Sequence

from trec_dse.twin.decode import Instruction, Kind

_FIXED = {
    Kind.ALU: 1,
    Kind.SHIFT_ALU: 1,
    Kind.DSP: 1,
    Kind.MAC: 1,
    Kind.DIVIDE: 6,  # 2 to 12, by the operands
    Kind.BRANCH: 1,
    Kind.IT: 0,  # folded into the instruction in front of it
    Kind.SYSTEM: 1,
    Kind.FLOAT: 1,
    Kind.FLOAT_MAC: 3,
    Kind.FLOAT_DIVIDE: 14,
}


def block_cycles(instructions: Sequence[Instruction]) -> int:
    """Cycles of one pass when the code comes without wait states and every exit is straight."""
    return in_order_cycles(instructions)


def in_order_cycles(instructions: Sequence[Instruction]) -> int:
    """The same, for any core with this pipeline."""
    cycles = 0
    previous: Instruction | None = None
    for instruction in instructions:
        cycles += _cycles(instruction, previous)
        previous = instruction
    return cycles


def _cycles(instruction: Instruction, previous: Instruction | None) -> int:
    behind_load = previous is not None and previous.kind is Kind.LOAD
    if instruction.kind is Kind.LOAD:
        chained = behind_load and previous is not None and not previous.writes & instruction.addresses
        return 1 if chained else 2
    if instruction.kind is Kind.STORE:
        if instruction.has_index:
            return 2
        return 0 if behind_load else 1
    if instruction.kind in (Kind.LOAD_MANY, Kind.STORE_MANY):
        return 1 + instruction.n_transferred
    if instruction.name in ("tbb", "tbh"):
        return 2
    return _FIXED[instruction.kind]
