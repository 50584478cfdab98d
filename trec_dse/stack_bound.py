"""How much stack a firmware can need at most, from its machine code: frames of functions along the deepest calls.

Every instruction of a function that lowers the stack pointer counts as if it were executed, once. That is the frame, or
more than it where a function has several ways in. Compilers make no loops around such instructions, and arrays of
variable length are not used here. Calls are followed by their addresses; where one goes through a register, it reaches
whom `THROUGH` says, or any function whose address the calling one loads, as compilers do that want to be short.
Recursion, and calls that nothing is known of, have no bound and are errors. Small cores make room for large frames by
adding a register to the stack pointer: it must hold a constant.

Thumb encodings: ARM DDI 0403E, A7.7.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from trec_dse.errors import ToolchainError

ENTRY = "Reset_Handler"
_FURTHEST_LITERAL = 4096 + 8
_DEEPEST = 1 << 24  # more than any stack
THROUGH = dict.fromkeys(("trec_frame_write", "put_stuffed", "put_block"), ("trec_port_write",))


@dataclass(frozen=True)
class Function:
    """What one function does to the stack. `frame`: bytes; `calls`: addresses of what it calls or jumps to; `loaded`:
    what it puts into registers and may be addresses of code."""

    name: str
    address: int
    size: int
    frame: int = 0
    calls: tuple[int, ...] = ()
    has_unknown_call: bool = False
    has_unknown_frame: bool = False
    loaded: tuple[int, ...] = ()


@dataclass(frozen=True)
class StackBound:
    """The deepest chain of calls from one function: `n_bytes`, and the functions on it with their frames."""

    n_bytes: int
    chain: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class StackOutline:
    """The stack around one function: `to` is what lies on it when that one has been entered, its own frame included;
    `elsewhere` the most that is needed by chains of calls that it is not on."""

    to: int
    elsewhere: int


@dataclass
class _Reader:
    """Walks over the instructions of one function; `code` goes on behind its `end`, with its literals."""

    code: bytes
    start: int
    end: int
    frame: int = 0
    calls: list[int] = field(default_factory=list)
    has_unknown_call: bool = False
    has_unknown_frame: bool = False
    constants: dict[int, int] = field(default_factory=dict)  # register -> what it is known to hold
    loaded: list[int] = field(
        default_factory=list
    )  # what could be addresses of code, which are odd where they are held

    def run(self, data: Sequence[tuple[int, int]]) -> None:
        """Read all instructions but for the bytes of the address ranges `data`."""
        at = self.start
        while at + 2 <= self.end:
            inside = next((end for first, end in data if first <= at < end), None)
            if inside is not None:
                at = inside
                continue
            half = self._half(at)
            if half >> 11 in (0b11101, 0b11110, 0b11111):
                self._wide(at, half, self._half(at + 2))
                at += 4
            else:
                self._narrow(at, half)
                at += 2

    def _half(self, at: int) -> int:
        offset = at - self.start
        return int.from_bytes(self.code[offset : offset + 2], "little")

    def _narrow(self, at: int, half: int) -> None:
        if half & 0xFE00 == 0xB400:  # push
            self.frame += 4 * (half & 0x1FF).bit_count()
        elif half & 0xFF80 == 0xB080:  # sub sp, #imm
            self.frame += 4 * (half & 0x7F)
        elif half & 0xF800 == 0xE000:  # b
            self._jump(at + 4 + 2 * _signed(half & 0x7FF, 11))
        elif half & 0xFF87 == 0x4780:  # blx register
            self.has_unknown_call = True
        elif half & 0xFF87 == 0x4485:  # add sp, register
            self._add(half >> 3 & 15)
        self._remember(at, half)

    def _add(self, register: int) -> None:
        """A register to the stack pointer: what is positive gives room back."""
        if register in self.constants:
            self.frame += max(0, -_signed(self.constants[register], 32))
        else:
            self.has_unknown_frame = True

    def _remember(self, at: int, half: int) -> None:
        """Constants in registers: forgotten where the instruction could have written to the register."""
        low, high, number = half & 7, half >> 8 & 7, half & 0xFF
        shifted = self.constants.get(half >> 3 & 7)
        if half & 0xFE00 == 0xBC00 or half & 0xF800 == 0xC800:  # pop, ldm
            self.constants.clear()
        self.constants.pop(low, None)
        self.constants.pop(high, None)
        if half & 0xF800 == 0x4800:  # ldr register, literal
            self._holds(high, self._word((at + 4 & ~3) + 4 * number))
        elif half & 0xF800 == 0x2000:  # movs register, #imm
            self.constants[high] = number
        elif half & 0xF800 == 0 and shifted is not None:  # lsls register, register, #imm
            self.constants[low] = shifted << (half >> 6 & 31) & 0xFFFFFFFF

    def _word(self, at: int) -> int:
        offset = at - self.start
        return int.from_bytes(self.code[offset : offset + 4], "little")

    def _remember_wide(self, at: int, first: int, second: int) -> None:
        """The same for instructions of 32 bits, of which only those that make constants are looked at."""
        register, before = second >> 8 & 15, self.constants.get(second >> 8 & 15)
        self.constants.clear()
        number = (first & 15) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
        if first & 0xFBF0 == 0xF240 and second < 0x8000:  # movw, the lower half of what movt makes whole
            self.constants[register] = number
        elif first & 0xFBF0 == 0xF2C0 and second < 0x8000 and before is not None:  # movt
            self._holds(register, number << 16 | before & 0xFFFF)
        elif first & 0xFF7F == 0xF85F:  # ldr.w register, literal
            by = second & 0xFFF if first & 0x80 else -(second & 0xFFF)
            self._holds(second >> 12, self._word((at + 4 & ~3) + by))

    def _holds(self, register: int, value: int) -> None:
        self.constants[register] = value
        if value & 1:
            self.loaded.append(value & ~1)

    def _wide(self, at: int, first: int, second: int) -> None:
        self._remember_wide(at, first, second)
        if first == 0xE92D:  # push.w
            self.frame += 4 * second.bit_count()
        elif first & 0xFFBF == 0xED2D and second & 0xE00 == 0xA00:  # vpush
            self.frame += 4 * (second & 0xFF)
        elif first == 0xF84D and second & 0xFFF == 0xD04:  # push of one register
            self.frame += 4
        elif first & 0xFBEF == 0xF1AD and second & 0x8F00 == 0x0D00:  # sub.w sp, sp, #imm
            self.frame += _expanded(first >> 10 & 1, second)
        elif first & 0xFBFF == 0xF2AD and second & 0x8F00 == 0x0D00:  # subw sp, sp, #imm
            self.frame += (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xFF
        elif first & 0xFFF0 == 0xE960 and first & 0xF == 0xD and second:  # strd with write-back to sp
            self.frame += 4 * (second & 0xFF)
        elif first >> 11 == 0b11110 and second >> 14 == 0b11 and second & 0x1000:  # bl
            self._call(_far(at, first, second))
        elif first >> 11 == 0b11110 and second & 0xD000 == 0x9000:  # b.w
            self._jump(_far(at, first, second))

    def _call(self, to: int) -> None:
        """Into the middle of the function itself bl is a far jump: small cores have no other."""
        if not self.start < to < self.end:
            self.calls.append(to)

    def _jump(self, to: int) -> None:
        """A jump out of the function is a call that does not come back."""
        if not self.start <= to < self.end:
            self.calls.append(to)


def stack_bound(path: Path, function: str = ENTRY) -> StackBound:
    """The most stack that `function` of an ELF can need, what it calls included.

    Raises ToolchainError if the file is none, lacks the function, or calls what cannot be followed.
    """
    functions = _callable(path)
    return _deepest(_named(function, functions, path), functions, (), {})


def stack_outline(path: Path, function: str) -> StackOutline:
    """What the stack of an ELF looks like around one of its functions, whatever that one calls.

    Raises ToolchainError if the file is none, lacks the function, or calls what cannot be followed.
    """
    functions = _callable(path)
    return _outline(_named(ENTRY, functions, path), _named(function, functions, path), functions)


def _outline(entry: Function, inner: Function, functions: Mapping[int, Function]) -> StackOutline:
    without = replace(inner, frame=0, calls=())
    elsewhere = _deepest(entry, {**functions, inner.address: without}, (), {}).n_bytes
    deep = replace(inner, frame=_DEEPEST, calls=())  # so deep that the deepest chain is the one that leads to it
    to = _deepest(entry, {**functions, inner.address: deep}, (), {}).n_bytes - _DEEPEST + inner.frame
    return StackOutline(to, elsewhere)


def _callable(path: Path) -> dict[int, Function]:
    """The functions of an ELF by address, with what they reach through registers."""
    functions = read_functions(path)
    by_name = {each.name: each for each in functions}
    return {each.address: _with_known_calls(each, by_name) for each in functions}


def _named(name: str, functions: Mapping[int, Function], path: Path) -> Function:
    found = next((each for each in functions.values() if each.name == name), None)
    if found is None:
        raise ToolchainError(
            f"{path}: has no function {name!r}; there are {', '.join(f.name for f in functions.values())}"
        )
    return found


def _with_known_calls(function: Function, by_name: Mapping[str, Function]) -> Function:
    """The function with what it reaches through registers, if that is known."""
    if not function.has_unknown_call:
        return function
    named = THROUGH.get(function.name.partition(".")[0])  # gcc numbers copies of a function behind a point
    addresses = {each.address for each in by_name.values()}
    reached = [address for address in function.loaded if address in addresses]
    if named is not None:
        reached = [by_name[name].address for name in named if name in by_name]
    elif not reached:
        return function
    return replace(function, calls=(*function.calls, *reached), has_unknown_call=False)


def _deepest(
    function: Function, functions: Mapping[int, Function], callers: tuple[str, ...], known: dict[int, StackBound]
) -> StackBound:
    if function.address in known:
        return known[function.address]
    if function.has_unknown_call:
        raise ToolchainError(f"{function.name} calls through a register: whom, is not known, so there is no bound")
    if function.has_unknown_frame:
        raise ToolchainError(f"{function.name} moves its stack by a register: there is no bound")
    if function.name in callers:
        raise ToolchainError(f"{' -> '.join((*callers, function.name))}: a recursion has no bound")
    best = StackBound(0, ())
    for address in function.calls:
        called = functions.get(address)
        if called is None:
            raise ToolchainError(f"{function.name} calls 0x{address:08x}, where no function begins")
        found = _deepest(called, functions, (*callers, function.name), known)
        best = max(best, found, key=lambda bound: bound.n_bytes)
    bound = StackBound(function.frame + best.n_bytes, ((function.name, function.frame), *best.chain))
    known[function.address] = bound
    return bound


def read_functions(path: Path) -> list[Function]:
    """Every function of an ELF with its frame and calls, in the order of their addresses."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise ToolchainError(f"{path}: has no symbols, so nothing says where functions are")
        symbols = list(table.iter_symbols())
        data = sorted(_data_ranges([(s["st_value"], s.name) for s in symbols if s.name[:2] in ("$t", "$d")]))
        functions = {}
        for symbol in symbols:
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]:
                start = symbol["st_value"] & ~1
                section = elf.get_section(symbol["st_shndx"])
                offset = start - section["sh_addr"]
                end = start + symbol["st_size"]
                # literals may stand behind what the symbol spans
                reader = _Reader(section.data()[offset : offset + symbol["st_size"] + _FURTHEST_LITERAL], start, end)
                reader.run(data)
                functions[start] = Function(
                    symbol.name,
                    start,
                    end - start,
                    reader.frame,
                    tuple(dict.fromkeys(reader.calls)),
                    reader.has_unknown_call,
                    reader.has_unknown_frame,
                    tuple(dict.fromkeys(reader.loaded)),
                )
    return [functions[address] for address in sorted(functions)]


def _data_ranges(marks: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int]]:
    """Where there is data among code: from every $d to the next $t (ARM IHI 0044, mapping symbols)."""
    ordered = sorted(marks)
    for (at, name), (behind, _) in zip(ordered, [*ordered[1:], (1 << 32, "")], strict=True):
        if name.startswith("$d"):
            yield at, behind


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _far(at: int, first: int, second: int) -> int:
    """The target of bl and b.w."""
    sign = first >> 10 & 1
    high = 1 - ((second >> 13 & 1) ^ sign), 1 - ((second >> 11 & 1) ^ sign)
    offset = sign << 24 | high[0] << 23 | high[1] << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1
    return at + 4 + _signed(offset, 25)


def _expanded(i: int, second: int) -> int:
    """ThumbExpandImm, as far as a frame can be: bytes and rotated bytes."""
    code = i << 11 | (second >> 12 & 7) << 8 | second & 0xFF
    if code >> 10 == 0:
        byte = code & 0xFF
        return (byte, byte << 16 | byte, byte << 24 | byte << 8, byte * 0x01010101)[code >> 8 & 3]
    unrotated, by = 0x80 | code & 0x7F, code >> 7
    return (unrotated >> by | unrotated << (32 - by)) & 0xFFFFFFFF
