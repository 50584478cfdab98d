"""Cycles of a straight piece of code on a Cortex-M7: in order, two instructions a cycle where they do not collide.

A scoreboard: an instruction issues once its operands are ready and its unit is free. ARM publishes no timing
tables for this core; the rules condense public measurements of its pipeline, and the constants were chosen so
that eight published firmware run times come out within 6 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from trec_dse.twin.decode import Instruction, Kind

# Cycles from issue until a late consumer (an ALU) can use the result.
_RESULT_AFTER = {Kind.MAC: 2, Kind.DIVIDE: 7, Kind.FLOAT: 3, Kind.FLOAT_MAC: 4, Kind.FLOAT_DIVIDE: 16}
# A loaded value reaches an address, a shifter or the multiplier one cycle later than an ALU.
_EARLY_KINDS = {Kind.MAC, Kind.SHIFT_ALU, Kind.DSP, Kind.DIVIDE}
_LOADS = {Kind.LOAD, Kind.LOAD_MANY}
_STORES = {Kind.STORE, Kind.STORE_MANY}
_ALONE = {Kind.SYSTEM, Kind.DIVIDE, Kind.LOAD_MANY, Kind.STORE_MANY, Kind.FLOAT_DIVIDE}
_SINGLE_UNITS = ({Kind.MAC}, {Kind.BRANCH}, _STORES, {Kind.FLOAT, Kind.FLOAT_MAC})


@dataclass
class _Board:
    """What is under way: the cycle being filled, who issued in it, and when each register is ready."""

    cycle: int = 0
    issued: list[Instruction] = field(default_factory=list)
    late_ready: dict[int, int] = field(default_factory=dict)
    early_ready: dict[int, int] = field(default_factory=dict)
    chain_ready: dict[int, int] = field(default_factory=dict)

    def issue(self, instruction: Instruction) -> None:
        earliest = max((self._ready(register, instruction) for register in instruction.reads), default=0)
        if earliest > self.cycle or not self._fits(instruction):
            self.cycle = max(earliest, self.cycle + 1) if self.issued else max(earliest, self.cycle)
            self.issued = []
        self.issued.append(instruction)
        if instruction.kind in (Kind.LOAD_MANY, Kind.STORE_MANY):
            # Two words a cycle; the last of them is where the next instruction may join.
            self.cycle += max(0, (instruction.n_transferred + 1) // 2 - 1)
        self._write(instruction)

    def _fits(self, instruction: Instruction) -> bool:
        if len(self.issued) >= 2:
            return False
        if not self.issued:
            return True
        other = self.issued[0]
        if instruction.kind in _ALONE or other.kind in _ALONE or instruction.kind is Kind.DSP:
            return False
        if other.writes & instruction.writes:
            return False
        return not any(instruction.kind in unit and other.kind in unit for unit in _SINGLE_UNITS)

    def _ready(self, register: int, reader: Instruction) -> int:
        if reader.kind is Kind.MAC and register == reader.accumulator:
            return self.chain_ready.get(register, self.late_ready.get(register, 0))
        if register in reader.addresses or reader.kind in _EARLY_KINDS:
            return self.early_ready.get(register, 0)
        return self.late_ready.get(register, 0)

    def _write(self, instruction: Instruction) -> None:
        late = self.cycle + _RESULT_AFTER.get(instruction.kind, 1)
        early = late + 1 if instruction.kind in _LOADS else late
        for register in instruction.writes:
            # A base register that is only moved on comes from the address adder, not from memory.
            moved_on = instruction.kind in _LOADS | _STORES and register in instruction.addresses
            self.late_ready[register] = self.cycle + 1 if moved_on else late
            self.early_ready[register] = self.cycle + 1 if moved_on else early
            self.chain_ready.pop(register, None)
            if instruction.kind is Kind.MAC:
                self.chain_ready[register] = self.cycle + 1


def block_cycles(instructions: Sequence[Instruction]) -> int:
    """Cycles of one pass when caches hit and branches are predicted; results under way at its end are free."""
    board = _Board()
    for instruction in instructions:
        if instruction.kind is not Kind.IT:
            board.issue(instruction)
    return board.cycle + 1 if instructions else 0
