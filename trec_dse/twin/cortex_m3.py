"""Cycles of a straight piece of code on a Cortex-M3: the pipeline of the M4 with a slower multiplier.

ARM DDI 0337, "Instruction timing": MLA and MLS take 2 cycles, long products 3 to 7 by their operands. There is no
DSP extension and no floating point. Not compared with any published run time.
"""

from collections.abc import Sequence

from trec_dse.twin.cortex_m4 import in_order_cycles
from trec_dse.twin.decode import Instruction, Kind

_MAC = {"mul": 1, "mla": 2, "mls": 2, "umull": 4, "smull": 4, "umlal": 5, "smlal": 5}


def block_cycles(instructions: Sequence[Instruction]) -> int:
    """Cycles of one pass when the code comes without wait states and every exit is straight."""
    slower = sum(_MAC.get(instruction.name, 1) - 1 for instruction in instructions if instruction.kind is Kind.MAC)
    return in_order_cycles(instructions) + slower
