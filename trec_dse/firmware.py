"""Write an export folder, link its firmware, and read from the ELF how large it became."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection, SymbolTableSection

from trec_dse import export_files, export_projects, rp2040_image
from trec_dse.device import Firmware
from trec_dse.errors import DoesNotFitError, InputError, ToolchainError
from trec_dse.resources import package_folder
from trec_dse.stack_bound import stack_bound
from trec_dse.target import Core, Region, Target
from trec_dse.toolchain import (
    Compiler,
    compile_objects,
    find_target_compiler,
    run_compiler,
    target_flags,
    target_libraries,
    target_link_flags,
)

_MANIFEST = "manifest.json"
_MARKER, _MARK = "trec_marker.h", "trec_mark"
ENERGY_BAUD = 9600  # of MLPerf Tiny's interface board, fixed
_ARENA, _STACK, _RUN = "trec_arena", "trec_stack", "trec_net_run"
_PLACED = ".placed"
# ARMv6-M, ARMv6S-M, ARMv7 (of which only the M profile can be linked here), ARMv7E-M
_CORE_OF_ARCHITECTURE: Mapping[int, Core] = {11: "cortex-m0plus", 12: "cortex-m0plus", 10: "cortex-m3", 13: "cortex-m4"}
# GNU ld: region `SRAM' overflowed by 12 bytes; lld: will not fit in region 'SRAM': overflowed by 12 bytes
_OVERFLOW = re.compile(r"region [`']([^`']+)'(?:: | )overflowed by (\d+) bytes?")


def write_export(
    folder: Path,
    target: Target,
    files: Mapping[str, str],
    kernels: Sequence[Path],
    *,
    stack_bytes: int = export_files.DEFAULT_STACK_BYTES,
) -> None:
    """Write a folder from which the firmware can be built: here, by `make`, or in another project.

    `files`: relative path -> text of what was generated. `kernels`: C files and headers, copied flat. An earlier
    export in `folder` is replaced as a whole; anything else there raises `InputError`. Until the last step the new
    folder has another name, so a folder with the right name is always complete.
    """
    folder = folder.absolute()
    _require_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "new"
        fresh.mkdir()
        _copy_runtime(fresh, target)
        _copy_files(kernels, fresh / "kernels")
        for name, text in {**_board_files(target, stack_bytes), **files}.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        _write_projects(fresh, target)
        if folder.exists():
            folder.rename(Path(scratch) / "old")
        fresh.rename(folder)


def mark_inferences(folder: Path, target: Target, *, at_rest: int = 0) -> None:
    """Make an export folder's firmware mark with the target's pin when the network runs: high then, low otherwise."""
    text = export_files.marker_header(target, at_rest=at_rest)
    (folder / "runtime" / "include" / _MARKER).write_text(text, encoding="utf-8")


def marks_inferences(firmware: Firmware) -> bool:
    """Whether the ELF drives a pin while the network runs."""
    with _Elf(firmware.elf) as elf:
        return any(symbol.name == _MARK for symbol in elf.symbols)


def for_energy(target: Target) -> Target:
    """`target` with a port as slow as the board between runner and device is, where energy is measured."""
    return replace(target, serial=replace(target.serial, baud=ENERGY_BAUD))


def speak_text(folder: Path, model: str, energy_of: Target | None = None) -> None:
    """Make an export folder's firmware one that answers the text commands of MLPerf Tiny's runner.

    It says that it is for the benchmark `model`, such as "ic01". The frames of the other protocol are gone from it.
    With `energy_of`, its target, it is for the runner's energy mode: it tells moments by that board's marker pin.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,32}", model):
        raise InputError(f"{model!r} is no name of a benchmark; ic01, kws01 or vww01 would be")
    protocol = folder / "runtime" / "protocol"
    shutil.rmtree(protocol)
    _copy_files(sorted((package_folder("runtime") / "text").glob("*.[ch]")), protocol)
    if energy_of is not None:
        mark_inferences(folder, energy_of, at_rest=1)
    (protocol / "trec_model.h").write_text(
        f'/* Which benchmark this network is for, and what is measured. Generated. */\n#define TREC_MODEL "{model}"\n'
        f"#define TREC_MEASURES_ENERGY {int(energy_of is not None)}u\n",
        encoding="utf-8",
    )


def build_firmware(folder: Path, target: Target, compiler: Compiler | None = None) -> Firmware:
    """Compile and link `folder/build/firmware.elf` (and .bin, and .uf2 for an RP2040) and read its sizes.

    Raises `DoesNotFitError` with the bytes too many per region, `ToolchainError` with the compiler's first errors.
    """
    folder = folder.absolute()
    build_id = _build_id(folder)
    compiler = compiler or find_target_compiler()
    include = [folder / name for name in export_files.include_folders(target)]
    flags = target_flags(compiler, target.core, target.optimize)
    objects = compile_objects(_sources(folder, target), include, flags, compiler)
    build = folder / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".link-", dir=build) as scratch:
        fresh = Path(scratch) / "firmware.elf"
        _link(objects, folder / export_files.BOARD_FOLDER / "link.ld", fresh, target, compiler)
        if export_files.has_second_stage(target):
            _finish(fresh, build)
        image = _flash_image(fresh, target.region(target.flash_region))
        (Path(scratch) / "firmware.bin").write_bytes(image)
        (Path(scratch) / "firmware.bin").replace(build / "firmware.bin")
        fresh.replace(build / "firmware.elf")
    return _measure(folder, build / "firmware.elf", build_id, len(image), target)


def core_needed(path: Path) -> Core:
    """The simplest core that runs the ELF, by what its compiler noted (ARM IHI 0045, Tag_CPU_arch).

    Raises `ToolchainError` if it notes no M-profile architecture.
    """
    with _Elf(path) as elf:
        section = elf.file.get_section_by_name(".ARM.attributes")
        if not isinstance(section, ARMAttributesSection):
            raise ToolchainError(f"{path}: has no .ARM.attributes, so nothing says which core it is for")
        tags = [
            attribute.value
            for part in section.iter_subsections()
            for unit in part.iter_subsubsections()
            for attribute in unit.iter_attributes("TAG_CPU_ARCH")
        ]
    if not tags or tags[0] not in _CORE_OF_ARCHITECTURE:
        raise ToolchainError(f"{path}: is for architecture {tags}; ARMv6-M, ARMv7-M or ARMv7E-M would be right")
    return _CORE_OF_ARCHITECTURE[tags[0]]


def code_sizes(firmware: Firmware) -> Mapping[str, int]:
    """Bytes in Flash of every function and constant, by symbol; the values add up to `firmware.flash_bytes`.

    What belongs to no symbol (literals, alignment, initial values of `.data`) stands under "(.section)" or "(gaps)".
    """
    with _Elf(firmware.elf) as elf:
        sections = [section for section in elf.file.iter_sections() if _fills_flash(section)]
        sizes: dict[str, int] = {}
        for index, section in enumerate(elf.file.iter_sections()):
            if not _fills_flash(section):
                continue
            named = _symbol_sizes(elf.symbols, index)
            for name, size in named.items():
                sizes[name] = sizes.get(name, 0) + size
            rest = section["sh_size"] - sum(named.values())
            if rest:
                sizes[f"({section.name})"] = rest
        gaps = firmware.flash_bytes - sum(section["sh_size"] for section in sections)
    return {**sizes, "(gaps)": gaps} if gaps else sizes


@dataclass(frozen=True)
class _Placed:
    """A symbol of the ELF; `section` is its section's index, or a word for special ones."""

    name: str
    kind: str
    section: int | str
    address: int
    size: int


class _Elf:
    """An open ELF file and its symbols; raises `ToolchainError` if it is none."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("rb")
        try:
            self.file = ELFFile(self._stream)
            self.symbols = _symbols(self.file)
        except ELFError as problem:
            self._stream.close()
            raise ToolchainError(f"{path}: not a whole ELF file: {problem}") from problem

    def __enter__(self) -> "_Elf":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _symbols(elf: Any) -> tuple[_Placed, ...]:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        raise ELFError("it has no symbol table")
    return tuple(
        _Placed(s.name, s["st_info"]["type"], s["st_shndx"], s["st_value"], s["st_size"]) for s in table.iter_symbols()
    )


def _symbol_sizes(symbols: Sequence[_Placed], section: int) -> dict[str, int]:
    """Name -> bytes of the section's functions and objects; of several names for one place the first counts."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    for symbol in symbols:
        is_content = symbol.kind in ("STT_FUNC", "STT_OBJECT") and symbol.size > 0
        address = symbol.address & ~1 if symbol.kind == "STT_FUNC" else symbol.address  # bit 0 marks Thumb code
        if symbol.section != section or not is_content or address in seen:
            continue
        seen.add(address)
        sizes[symbol.name] = sizes.get(symbol.name, 0) + symbol.size
    return sizes


def _fills_flash(section: Any) -> bool:
    return bool(section["sh_flags"] & 2) and section["sh_type"] != "SHT_NOBITS" and section["sh_size"] > 0


def _flash_image(path: Path, flash: Region) -> bytes:
    """What a programmer writes from the start of `flash` on; holes are erased Flash, 0xFF."""
    image = bytearray()
    with _Elf(path) as elf:
        for segment in elf.file.iter_segments("PT_LOAD"):
            if segment["p_filesz"] == 0:
                continue
            start = segment["p_paddr"] - flash.origin
            if start < 0 or start + segment["p_filesz"] > flash.size:
                raise ToolchainError(
                    f"{path.name}: a segment is loaded at {segment['p_paddr']:#x}, outside {flash.name}"
                )
            image.extend(b"\xff" * (start + segment["p_filesz"] - len(image)))
            image[start : start + segment["p_filesz"]] = segment.data()
    return bytes(image)


def _measure(folder: Path, path: Path, build_id: str, flash_bytes: int, target: Target) -> Firmware:
    ram = target.region(target.ram_region)
    with _Elf(path) as elf:
        end = max(
            (
                s["sh_addr"] + s["sh_size"]
                for s in elf.file.iter_sections()
                if 0 <= s["sh_addr"] - ram.origin < ram.size
            ),
            default=ram.origin,
        )
        placed = elf.file.get_section_by_name(_PLACED)
        n_placed = 0 if placed is None else placed["sh_size"]
        sizes = {symbol.name: symbol.size for symbol in elf.symbols if symbol.name in (_ARENA, _STACK)}
    for name in (_ARENA, _STACK):
        if name not in sizes:
            raise ToolchainError(f"{path}: has no symbol {name!r}, from which its SRAM is measured")
    used = end - ram.origin
    static = used - sizes[_ARENA] - sizes[_STACK]
    bound, of_run = _stack_bounds(path, sizes[_STACK])
    of_stack = (sizes[_STACK], static, bound, of_run)
    return Firmware(folder, path, build_id, flash_bytes, used, sizes[_ARENA], *of_stack, n_placed)


def _stack_bounds(path: Path, reserved: int) -> tuple[int | None, int | None]:
    """The most stack that the firmware, and an inference alone, can need; DoesNotFitError if it is not reserved."""
    try:
        bound, of_run = stack_bound(path), stack_bound(path, _RUN)
    except ToolchainError:  # code of a compiler whose calls cannot be followed
        return None, None
    if bound.n_bytes > reserved:
        chain = " -> ".join(f"{name} ({frame})" for name, frame in bound.chain)
        raise DoesNotFitError(
            f"the stack can grow to {bound.n_bytes} bytes, {reserved} are reserved: {chain}. "
            f"board/board.h says how many; benchmarks/footprint.py measures what this compiler needs"
        )
    return bound.n_bytes, of_run.n_bytes


def _link(objects: Sequence[Path], script: Path, output: Path, target: Target, compiler: Compiler) -> None:
    flags = [*target_link_flags(compiler, target.core), f"-T{script}"]
    arguments = [*flags, *map(str, objects), *target_libraries(compiler), "-o", str(output)]
    done = run_compiler(compiler, arguments)
    excess: dict[str, int] = {}
    for region, n_bytes in _OVERFLOW.findall(done.messages):
        # reported section by section; the last section shows the whole excess
        excess[region] = max(excess.get(region, 0), int(n_bytes))
    if excess:
        details = "; ".join(
            f"{region} (of {target.region(region).size} bytes) by {n} bytes" for region, n in excess.items()
        )
        raise DoesNotFitError(f"the firmware exceeds {target.name}: {details}")
    done.check()


def _sources(folder: Path, target: Target) -> list[Path]:
    """In the order of the Makefile, so that both link the same image."""
    found = (path for name in export_files.source_folders(target) for path in (folder / name).glob("*.c"))
    names = {path.relative_to(folder).as_posix() for path in found} - {export_files.KNOWN_ANSWERS}
    return [folder / name for name in sorted(names)]


def _finish(elf: Path, build: Path) -> None:
    """What the boot ROM and the USB drive of an RP2040 want: a checksum in the ELF, and a UF2 file in `build`."""
    try:
        rp2040_image.main(elf)
    except ValueError as problem:
        raise ToolchainError(f"{elf.name}: {problem}") from problem
    elf.with_suffix(".uf2").replace(build / "firmware.uf2")


def _build_id(folder: Path) -> str:
    path = folder / _MANIFEST
    try:
        build_id = json.loads(path.read_text(encoding="utf-8"))["build_id"]
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}; is this an export folder?") from problem
    except (ValueError, TypeError, KeyError) as problem:
        raise InputError(f"{path}: not a JSON object with the key 'build_id'") from problem
    if not isinstance(build_id, str) or not re.fullmatch("[0-9a-f]{16}", build_id):
        raise InputError(f"{path}: build_id is {build_id!r}, not 16 hexadecimal digits")
    return build_id


def _require_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / _MANIFEST).is_file()):
        raise InputError(f"{folder}: exists and is not an earlier export; choose another folder or remove it")


def _board_files(target: Target, stack_bytes: int) -> dict[str, str]:
    placing = export_files.placement_header(target)
    return {
        "board/board.h": export_files.board_header(target, stack_bytes),
        "board/link.ld": export_files.linker_script(target),
        "Makefile": export_files.makefile(target),
        "README.md": export_files.readme(target),
        **({export_files.PLACEMENT_HEADER: placing} if placing else {}),
    }


def _write_projects(folder: Path, target: Target) -> None:
    """What other build systems need, from the library that lies in `folder`."""
    paths = (path for name in export_projects.LIBRARY_FOLDERS for path in sorted((folder / name).glob("*.[ch]")))
    texts = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    files = export_projects.project_files(target, list(texts))
    for name, text in {**files, export_projects.HEADER: export_projects.single_header(texts)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _copy_runtime(folder: Path, target: Target) -> None:
    if export_files.has_second_stage(target):
        _copy_files([Path(rp2040_image.__file__)], (folder / export_files.FINISHER).parent)
    for name in (*export_files.runtime_folders(target), "platform/host"):
        source = package_folder("runtime") / name
        _copy_files(sorted(source.glob("*.[chS]")), folder / "runtime" / name)


def _copy_files(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, folder / path.name)
