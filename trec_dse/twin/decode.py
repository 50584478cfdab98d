"""Thumb machine code as the few facts that decide how long it takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from functools import cache, lru_cache

import capstone
from capstone import arm

from trec_dse.target import Core

CONDITION_ALWAYS = arm.ARM_CC_AL


class Kind(Enum):
    """Which part of the core an instruction occupies."""

    ALU = auto()
    SHIFT_ALU = auto()  # its second operand passes the shifter
    DSP = auto()  # packed 8- and 16-bit arithmetic
    MAC = auto()  # multiplier
    DIVIDE = auto()
    LOAD = auto()
    STORE = auto()
    LOAD_MANY = auto()
    STORE_MANY = auto()
    BRANCH = auto()
    IT = auto()
    SYSTEM = auto()  # barriers and special registers
    FLOAT = auto()
    FLOAT_MAC = auto()
    FLOAT_DIVIDE = auto()


class Exit(IntEnum):
    """How a block may end; the numbers are those of hooks.c."""

    DIRECT = 0
    CONDITIONAL = 1
    INDIRECT = 2
    RETURN = 3


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        reads, writes: registers, as capstone numbers them. addresses: those of `reads` that form an address.
        accumulator: the register that a MAC adds to, or None.
        n_transferred: registers that a load or store moves, and memory accesses that it makes.
        needs_alignment: faults at an address that is no multiple of 4, where a plain load would not.
        has_index: whether the address is a sum of two registers.
    """

    address: int
    size: int
    name: str
    kind: Kind
    reads: frozenset[int]
    writes: frozenset[int]
    addresses: frozenset[int]
    accumulator: int | None
    n_transferred: int
    has_index: bool
    needs_alignment: bool
    is_conditional: bool
    exit: Exit | None


_NAMES = {
    Kind.DIVIDE: {"sdiv", "udiv"},
    Kind.LOAD_MANY: {"ldm", "ldmdb", "pop", "ldrd", "vldmia", "vldmdb", "vpop"},
    Kind.STORE_MANY: {"stm", "stmdb", "push", "strd", "vstmia", "vstmdb", "vpush"},
    Kind.BRANCH: {"b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"},
    Kind.IT: {"it"},
    Kind.SYSTEM: {"dsb", "dmb", "isb", "mrs", "msr", "cps", "svc", "bkpt", "wfi", "wfe", "sev", "vmrs", "vmsr"},
    Kind.FLOAT_MAC: {"vmla", "vmls", "vnmla", "vnmls", "vfma", "vfms", "vfnma", "vfnms"},
    Kind.FLOAT_DIVIDE: {"vdiv", "vsqrt"},
    Kind.DSP: {"ssat", "usat", "ssat16", "usat16", "sel", "pkhbt", "pkhtb", "usad8", "usada8"},
}
_KIND_OF = {name: kind for kind, names in _NAMES.items() for name in names}
_STARTS = (
    (("ldr", "vldr"), Kind.LOAD),
    (("str", "vstr"), Kind.STORE),
    (("v",), Kind.FLOAT),
    (("mul", "mla", "mls", "smul", "smla", "smls", "smml", "smmul", "smua", "smus", "umul", "umla", "umaal"), Kind.MAC),
    (("sxt", "uxt", "sadd", "uadd", "ssub", "usub", "qadd", "qsub", "qd", "shadd", "shsub", "uhadd"), Kind.DSP),
)
_PLAIN_EXTENDS = {"sxtb", "sxth", "uxtb", "uxth"}
_ACCUMULATING = ("mla", "mls", "smla", "smls", "smmla", "smmls")


@cache
def _decoder() -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.detail = True
    return decoder


@lru_cache(maxsize=8192)  # what the core lacks and what a block costs is asked of the same instructions
def decode(code: bytes, address: int) -> tuple[Instruction, ...]:
    """The instructions in `code`, which lies at `address`; stops at bytes that are none."""
    return tuple(_instruction(item) for item in _decoder().disasm(code, address))


# ARMv6-M lacks these of the 16-bit instructions, and has these of 32 bits (ARM DDI 0419, A5). ARMv7-M has all but
# the DSP extension, of which the decoder's kinds also hold a few that every ARMv7-M has.
_V7M_NARROW = {"cbz", "cbnz", "it"}
_V6M_WIDE = {"bl", "msr", "mrs", "dsb", "dmb", "isb", "udf"}
_V7M_MAC = {"mul", "mla", "mls", "umull", "smull", "umlal", "smlal"}
_V7M_SATURATE = {"ssat", "usat"}


def missing_on(core: Core, instructions: Sequence[Instruction]) -> str:
    """The first instruction that `core` lacks, "" if it has all: the emulator runs some of them none the less."""
    for instruction in instructions:
        name, kind = instruction.name, instruction.kind
        if core == "cortex-m0plus":
            is_missing = name in _V7M_NARROW if instruction.size == 2 else name not in _V6M_WIDE
        elif core == "cortex-m3":
            is_extension = (kind is Kind.MAC and name not in _V7M_MAC) or (
                kind is Kind.DSP and name not in _V7M_SATURATE
            )
            is_missing = is_extension or name.startswith("v")
        else:
            is_missing = False
        if is_missing:
            return name
    return ""


def _instruction(item: capstone.CsInsn) -> Instruction:
    name = item.insn_name()
    reads, writes = (frozenset(registers) for registers in item.regs_access())
    kind = _kind(name, item)
    memory = [operand.mem for operand in item.operands if operand.type == arm.ARM_OP_MEM]
    addresses = frozenset(register for place in memory for register in (place.base, place.index) if register)
    if not memory and kind in (Kind.LOAD_MANY, Kind.STORE_MANY):
        addresses = reads & frozenset([item.operands[0].reg, arm.ARM_REG_SP])
    accumulates = kind is Kind.MAC and name.startswith(_ACCUMULATING) and len(item.operands) == 4
    return Instruction(
        address=item.address,
        size=item.size,
        name=name,
        kind=kind,
        reads=reads,
        writes=writes,
        addresses=addresses,
        accumulator=item.operands[3].reg if accumulates and "l" not in name[4:5] else None,
        n_transferred=_n_transferred(name, kind, item),
        has_index=any(place.index for place in memory),
        needs_alignment=kind in (Kind.LOAD_MANY, Kind.STORE_MANY) or name.startswith(("v", "ldrex", "strex")),
        is_conditional=item.cc != CONDITION_ALWAYS,
        exit=_exit(name, item, writes),
    )


def _kind(name: str, item: capstone.CsInsn) -> Kind:
    if name in _KIND_OF:
        return _KIND_OF[name]
    for starts, kind in _STARTS:
        if name.startswith(starts) and name not in _PLAIN_EXTENDS:
            return kind
    return Kind.SHIFT_ALU if any(operand.shift.type for operand in item.operands) else Kind.ALU


def _n_transferred(name: str, kind: Kind, item: capstone.CsInsn) -> int:
    if kind in (Kind.LOAD, Kind.STORE) or name in ("tbb", "tbh"):
        return 1
    if name in ("ldrd", "strd"):
        return 2
    if kind not in (Kind.LOAD_MANY, Kind.STORE_MANY):
        return 0
    with_base = name not in ("push", "pop", "vpush", "vpop")
    return len(item.operands) - with_base


def _exit(name: str, item: capstone.CsInsn, writes: frozenset[int]) -> Exit | None:
    """How control may leave here; None for an instruction that only goes on to the next."""
    if name in ("cbz", "cbnz") or (name == "b" and item.cc != CONDITION_ALWAYS):
        return Exit.CONDITIONAL
    if name in ("b", "bl"):
        return Exit.DIRECT
    if name == "pop" and arm.ARM_REG_PC in writes:
        return Exit.RETURN
    if name == "bx":
        return Exit.RETURN if item.operands[0].reg == arm.ARM_REG_LR else Exit.INDIRECT
    if name in ("blx", "tbb", "tbh") or arm.ARM_REG_PC in writes:
        return Exit.INDIRECT
    return None
