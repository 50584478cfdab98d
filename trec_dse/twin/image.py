"""A linked ELF as the twin needs it: bytes by load address, and function names for messages."""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from trec_dse.errors import ToolchainError

THUMB_BIT = 1


@dataclass(frozen=True)
class Function:
    """A function symbol; `address` without the Thumb bit, `size` in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Image:
    """What a flash tool would write, as (load address, bytes), and the functions by rising address."""

    path: Path
    segments: tuple[tuple[int, bytes], ...]
    functions: tuple[Function, ...]

    def address_of(self, name: str) -> int:
        """The address of a function. Raises `ToolchainError` if the ELF has none of that name."""
        for function in self.functions:
            if function.name == name:
                return function.address
        raise ToolchainError(f"{self.path}: no function named {name!r}")

    def name_at(self, address: int) -> str:
        """The function that holds `address`, as text for a message."""
        index = bisect_right([function.address for function in self.functions], address) - 1
        if index >= 0:
            function = self.functions[index]
            if address < function.address + max(function.size, 2):
                return f"{function.name}+0x{address - function.address:x}"
        return "no known function"


def load_image(path: Path) -> Image:
    """The ELF at `path`. Raises `ToolchainError` unless it is a linked ELF for a 32-bit ARM core."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            if elf.get_machine_arch() != "ARM" or elf.header.e_type != "ET_EXEC":
                raise ToolchainError(
                    f"{path}: an ELF of type {elf.header.e_type} for {elf.get_machine_arch()};"
                    " a linked one for ARM is needed"
                )
            # Physical addresses: the initial values of .data lie in Flash, start-up copies them.
            segments = tuple(
                (int(part.header.p_paddr), bytes(part.data()))
                for part in elf.iter_segments("PT_LOAD")
                if part.header.p_filesz
            )
            return Image(path, segments, _functions(elf))
    except OSError as problem:
        raise ToolchainError(f"{path}: cannot be read: {problem.strerror}") from problem
    except ELFError as problem:
        raise ToolchainError(f"{path}: not an ELF file: {problem}") from problem


def _functions(elf: ELFFile) -> tuple[Function, ...]:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return ()
    found = {
        Function(symbol.name, int(symbol.entry.st_value) & ~THUMB_BIT, int(symbol.entry.st_size))
        for symbol in table.iter_symbols()
        if symbol.entry.st_info.type == "STT_FUNC"
    }
    return tuple(sorted(found, key=lambda function: function.address))
