"""Find C compilers for the host and for Cortex-M, and compile with them.

Object files are kept in the user's cache under a hash of everything that shapes them (source, the headers it reaches,
flags, compiler), so thirty firmware builds compile the runtime and the kernels once.
"""

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trec_dse.errors import ToolchainError
from trec_dse.resources import cache_folder
from trec_dse.target import Core, Optimize

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")

_TARGET_GCC = "arm-none-eabi-gcc"
_TIME_LIMIT_S = 300.0
_CACHE_BYTES = 512 * 2**20
_FORGETTING = "0"  # only after an object whose key begins so: to look at the whole cache outlasts most builds
_SANITIZE = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]+"([^"\n]+)"', re.MULTILINE)
# GNU ld does not call a missing function an error
_ERROR = re.compile(r"\berror\b|undefined reference|multiple definition")

# gcc may use the single-precision FPU (the M7 of the STM32F74x has no other); zig's compiler never touches it.
_GCC_CORE = {
    "cortex-m0plus": ("-mcpu=cortex-m0plus", "-mfloat-abi=soft"),
    "cortex-m3": ("-mcpu=cortex-m3", "-mfloat-abi=soft"),
    "cortex-m4": ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "cortex-m7": ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
}
_ZIG_CORE = {
    "cortex-m0plus": ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0plus"),
    "cortex-m3": ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m3"),
    "cortex-m4": ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4"),
    "cortex-m7": ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m7"),
}
_SMALL = ("-ffunction-sections", "-fdata-sections", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")


@dataclass(frozen=True)
class Compiler:
    """A C compiler. `name`: "gcc", "clang" or "zig"; `command`: what to run, before any flag."""

    name: str
    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class CompilerRun:
    """What became of one call; `messages` is all it wrote to standard error."""

    compiler: Compiler
    succeeded: bool
    messages: str

    def check(self) -> None:
        """Raise `ToolchainError` with the first error lines if the call failed."""
        if not self.succeeded:
            raise ToolchainError(f"{self.compiler.version}: {_first_errors(self.messages)}")


def find_target_compiler(preferred: str | None = None) -> Compiler:
    """A compiler for Cortex-M: arm-none-eabi-gcc if it is on PATH, else zig.

    `preferred` is "gcc", "zig" or a program (name or path) that takes gcc's options. Raises `ToolchainError` if there
    is none.
    """
    if preferred not in (None, "gcc", "zig"):
        return _named(preferred)
    found = None if preferred == "zig" else _program(_TARGET_GCC)
    if found is None and preferred != "gcc":
        found = _zig()
    if found is None:
        raise ToolchainError(
            f"no C compiler for Cortex-M: {_wanted(preferred, _TARGET_GCC)} not found. "
            "Run `pip install 'trec_dse[toolchain]'`, or install the package gcc-arm-none-eabi"
        )
    return found


def find_host_compiler(preferred: str | None = None) -> Compiler:
    """A compiler for this machine: cc, gcc or clang on PATH, else zig.

    `preferred` is "zig" or a program (name or path) that takes gcc's options. Raises `ToolchainError` if there is none.
    """
    if preferred not in (None, "zig"):
        return _named(preferred)
    found = None if preferred == "zig" else _program("cc") or _program("gcc") or _program("clang")
    found = found or _zig()
    if found is None:
        raise ToolchainError(
            f"no C compiler for this machine: {_wanted(preferred, 'cc, gcc, clang')} not found. "
            "Run `pip install 'trec_dse[toolchain]'`, or install the package gcc"
        )
    return found


def target_flags(compiler: Compiler, core: Core, optimize: Optimize = "speed") -> tuple[str, ...]:
    """Flags that compile freestanding C for `core`, warnings included, include folders not."""
    if compiler.name == "zig":
        # LLVM spills in the 2x2 dot product at -O2; -Os is smaller and faster there. `zig cc` takes -Oz for -Os
        level = ("-Os",) if optimize == "speed" else ("-Os", "-Xclang", "-Oz")
        return (*_ZIG_CORE[core], *level, *_SMALL, "-fno-stack-protector", "-fno-sanitize=undefined", *WARNINGS)
    # no -ffreestanding: it would turn four-byte __builtin_memcpy loads into calls
    return (*_GCC_CORE[core], "-mthumb", "-O2" if optimize == "speed" else "-Os", *_SMALL, *WARNINGS)


def target_link_flags(compiler: Compiler, core: Core) -> tuple[str, ...]:
    """Flags that link objects of `target_flags`; the linker script comes on top."""
    common = ("-nostdlib", "-Wl,--gc-sections", "-Wl,-e,Reset_Handler")
    if compiler.name == "zig":
        # without -g zig strips the symbols; link.ld drops the debug information again
        return (*_ZIG_CORE[core], "-Os", "-g", *common, "-rtlib=compiler-rt")
    return (*_GCC_CORE[core], "-mthumb", "-O2", *common)


def target_libraries(compiler: Compiler) -> tuple[str, ...]:
    """Link flags that must follow the objects: the compiler's own helpers, such as 64-bit division."""
    return () if compiler.name == "zig" else ("-lgcc",)


def build_host_library(
    sources: Sequence[Path],
    include: Sequence[Path],
    output: Path,
    compiler: Compiler,
    *,
    sanitize: bool = False,
    flags: Sequence[str] = (),
) -> None:
    """Compile `sources` into a shared library for ctypes; `flags` come last and so override the usual ones.

    Raises `ToolchainError` with the compiler's first errors.
    """
    _build_host(sources, include, output, compiler, (*_host_flags(compiler, sanitize), "-fPIC", *flags), ("-shared",))


def build_host_program(
    sources: Sequence[Path], include: Sequence[Path], output: Path, compiler: Compiler, *, sanitize: bool = False
) -> None:
    """Compile `sources` into a program for this machine. Raises `ToolchainError` with the compiler's first errors."""
    _build_host(sources, include, output, compiler, _host_flags(compiler, sanitize), ())


def compile_objects(
    sources: Sequence[Path], include: Sequence[Path], flags: Sequence[str], compiler: Compiler
) -> list[Path]:
    """Object files of `sources`, in their order, from the cache where nothing that shapes them has changed."""
    folder = cache_folder() / "objects"
    _make_folder(folder)
    contents: dict[Path, bytes] = {}
    keys = [_object_key(source, include, flags, compiler, contents) for source in sources]
    objects = [folder / f"{key}.o" for key in keys]
    missing = [(source, path) for source, path in zip(sources, objects, strict=True) if not _is_kept(path)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [pool.submit(_compile, source, include, flags, path, compiler) for source, path in missing]
        for job in jobs:
            job.result()
    if any(path.name.startswith(_FORGETTING) for _, path in missing):
        _forget_oldest(folder, _CACHE_BYTES)
    return objects


def run_compiler(compiler: Compiler, arguments: Sequence[str]) -> CompilerRun:
    """Run it. Raises `ToolchainError` only if it cannot be run at all or does not end."""
    command = [*compiler.command, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME_LIMIT_S,
            env={**os.environ, "LC_ALL": "C"},  # messages in English: region overflows are read from them
            check=False,
        )
    except OSError as problem:
        raise ToolchainError(f"{compiler.command[0]}: cannot be run: {problem.strerror}") from problem
    except subprocess.TimeoutExpired as problem:
        raise ToolchainError(f"{compiler.command[0]}: no result after {_TIME_LIMIT_S:.0f} s") from problem
    return CompilerRun(compiler, done.returncode == 0, done.stderr)


def _host_flags(compiler: Compiler, sanitize: bool) -> tuple[str, ...]:
    if sanitize and compiler.name == "zig":
        raise ToolchainError("zig has no address sanitizer for C; sanitized builds need gcc or clang on PATH")
    return (*WARNINGS, *(_SANITIZE if sanitize else ("-O2",)))


def _build_host(
    sources: Sequence[Path],
    include: Sequence[Path],
    output: Path,
    compiler: Compiler,
    flags: Sequence[str],
    link_flags: Sequence[str],
) -> None:
    objects = compile_objects(sources, include, flags, compiler)
    _make_folder(output.parent)
    with tempfile.TemporaryDirectory(prefix=".link-", dir=output.parent) as scratch:
        # linked apart and renamed: a process that has the old library open keeps a whole one
        fresh = Path(scratch) / output.name
        run_compiler(compiler, [*flags, *link_flags, *map(str, objects), "-o", str(fresh)]).check()
        fresh.replace(output)


def _compile(source: Path, include: Sequence[Path], flags: Sequence[str], output: Path, compiler: Compiler) -> None:
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=output.parent) as scratch:
        fresh = Path(scratch) / output.name
        folders = [f"-I{folder}" for folder in include]
        run_compiler(compiler, [*flags, *folders, "-c", str(source), "-o", str(fresh)]).check()
        fresh.replace(output)


def _is_kept(path: Path) -> bool:
    """Whether the object is in the cache; being asked for makes it the last to be forgotten."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _forget_oldest(folder: Path, limit_bytes: int) -> None:
    """Remove the objects that were not used for longest, until the rest holds at most `limit_bytes`."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another build may be forgetting, too
                if entry.name.endswith(".o"):
                    status = entry.stat()
                    found.append((status.st_mtime_ns, status.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit_bytes:
            return
        Path(path).unlink(missing_ok=True)
        total -= size


def _object_key(
    source: Path, include: Sequence[Path], flags: Sequence[str], compiler: Compiler, contents: dict[Path, bytes]
) -> str:
    """Hash of all that shapes the object file, but not of the folders' places. `contents` remembers files read."""
    digest = hashlib.sha256("\0".join([*compiler.command, compiler.version, *flags, source.name]).encode())
    waiting, seen = [source], {source}
    while waiting:
        path = waiting.pop()
        text = _read(path, contents)
        digest.update(path.name.encode() + hashlib.sha256(text).digest())
        for name in _INCLUDE.findall(text):
            header = _resolve(name.decode(), (path.parent, *include))
            if header is not None and header not in seen:
                seen.add(header)
                waiting.append(header)
    return digest.hexdigest()


def _resolve(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that `#include "name"` finds; None if the compiler will have to complain or knows better."""
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _read(path: Path, contents: dict[Path, bytes]) -> bytes:
    if path not in contents:
        try:
            contents[path] = path.read_bytes()
        except OSError as problem:
            raise ToolchainError(f"{path}: cannot be read: {problem.strerror}") from problem
    return contents[path]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ToolchainError(
            f"{folder}: cannot be made: {problem.strerror}. Set XDG_CACHE_HOME to a folder that can be written"
        ) from problem


def _named(program: str) -> Compiler:
    found = _program(program)
    if found is None:
        raise ToolchainError(f"the C compiler {program!r} was asked for but is neither on PATH nor a program's path")
    return found


def _program(name: str) -> Compiler | None:
    path = shutil.which(name)
    if path is None:
        return None
    banner = _banner(path, "--version")
    return Compiler("clang" if "clang" in banner else "gcc", (path,), banner)


def _zig() -> Compiler | None:
    """The zig of the ziglang wheel, else one on PATH; run directly, which saves a Python start per file."""
    wheel = importlib.util.find_spec("ziglang")
    packed = None if wheel is None or wheel.origin is None else Path(wheel.origin).with_name("zig")
    path = str(packed) if packed is not None and packed.is_file() else shutil.which("zig")
    if path is None:
        return None
    return Compiler("zig", (path, "cc"), "zig " + _banner(path, "version"))


@functools.cache
def _banner(path: str, option: str) -> str:
    """First line that the program says about its version; asked once per process."""
    try:
        done = subprocess.run([path, option], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as problem:
        raise ToolchainError(f"{path}: found, but `{path} {option}` fails: {problem}") from problem
    return (done.stdout.strip().splitlines() or ["unknown"])[0]


def _first_errors(text: str, n_lines: int = 6) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("collect2:")]
    errors = [line for line in lines if _ERROR.search(line)]
    return "\n".join((errors or lines)[:n_lines]) or "failed without a message"


def _wanted(preferred: str | None, programs: str) -> str:
    if preferred == "zig":
        return "zig"
    return programs if preferred == "gcc" else f"{programs} and zig"
