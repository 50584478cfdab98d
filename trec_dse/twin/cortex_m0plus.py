"""Cycles of a straight piece of code on a Cortex-M0+ with the one-cycle multiplier.

ARM DDI 0484, table 3-1; what a taken branch costs beyond its own cycle is added where it is taken (hooks.c).
"""

from collections.abc import Sequence

from trec_dse.twin.decode import Exit, Instruction, Kind


def block_cycles(instructions: Sequence[Instruction]) -> int:
    """Cycles of one pass when the code comes without wait states and every exit is straight."""
    return sum(map(_cycles, instructions))


def _cycles(instruction: Instruction) -> int:
    if instruction.kind in (Kind.LOAD, Kind.STORE):
        return 2
    if instruction.kind in (Kind.LOAD_MANY, Kind.STORE_MANY):
        # POP with the program counter: 3 + N, of which the hooks add one
        return 1 + instruction.n_transferred + (instruction.exit is Exit.RETURN)
    if instruction.name == "bl":
        return 2  # of 3
    return 3 if instruction.kind is Kind.SYSTEM else 1
