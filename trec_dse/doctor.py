"""Look at everything around this package that a user may lack, and say for each how to get it."""

import grp
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

from trec_dse.errors import ToolchainError
from trec_dse.resources import cache_folder
from trec_dse.toolchain import Compiler, find_host_compiler, find_target_compiler

UNICORN_VERSION = "2.1.3"
BROKEN_UNICORN_VERSION = "2.1.4"
NEEDED_DISK_GIB = 2.0
_FLASH_TOOLS = ("openocd", "st-flash", "pyocd")
_SERIAL_GROUP = "dialout"
_SECOND_ENGINE = "qemu-system-arm"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `fix` is what to do, empty where nothing is amiss.

    Attributes:
        is_needed: whether the search and the twin cannot work without it; the rest is for real boards, or a second
            opinion.
    """

    name: str
    ok: bool
    found: str
    fix: str = ""
    is_needed: bool = True


def checks() -> tuple[Check, ...]:
    """All checks; reads this machine, changes nothing."""
    return (
        _python(sys.version_info[:3]),
        package_check("torch", "pip install torch"),
        _compiler("compiler for this machine", find_host_compiler),
        _compiler("compiler for the boards", find_target_compiler),
        unicorn_check(_version("unicorn")),
        package_check("capstone", "pip install 'trec_dse[twin]'"),
        second_engine_check(shutil.which(_SECOND_ENGINE)),
        disk_check(cache_folder()),
        cache_check(cache_folder()),
        ports_check([str(port.device) for port in list_ports.comports()]),
        _permission(),
        flash_tools_check({tool: shutil.which(tool) for tool in _FLASH_TOOLS}),
    )


def _python(version: tuple[int, int, int]) -> Check:
    ok = version >= (3, 11)
    return Check("python", ok, ".".join(map(str, version)), "" if ok else "use Python 3.11 or later")


def package_check(name: str, fix: str) -> Check:
    """Whether a package is installed, in any version."""
    version = _version(name)
    return Check(name, bool(version), version or "not installed", "" if version else f"run: {fix}")


def unicorn_check(version: str) -> Check:
    """The emulator; "" if it is not installed. One release is known to be wrong, the others were not tried."""
    fix = f"run: pip install unicorn=={UNICORN_VERSION}"
    if version == BROKEN_UNICORN_VERSION:
        return Check("unicorn", False, f"{version}, which skips instructions behind IT blocks", fix)
    if not version:
        return Check("unicorn", False, "not installed", fix)
    if version != UNICORN_VERSION:
        return Check("unicorn", True, f"{version}; the twin was checked with {UNICORN_VERSION}", fix)
    return Check("unicorn", True, version)


def disk_check(folder: Path) -> Check:
    """Room for data sets, studies and compiled firmware."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 2**30
    ok = free >= NEEDED_DISK_GIB
    fix = "" if ok else f"free {NEEDED_DISK_GIB - free:.1f} GiB, or set XDG_CACHE_HOME to a larger disk"
    return Check("disk", ok, f"{free:.1f} GiB free at {existing}", fix)


def cache_check(folder: Path) -> Check:
    """Whether downloads and compiled helpers can be kept."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    ok = os.access(existing, os.W_OK)
    return Check("cache", ok, str(folder), "" if ok else "set XDG_CACHE_HOME to a folder that can be written")


def ports_check(ports: list[str]) -> Check:
    """Serial ports in sight; none is needed for the twin."""
    fix = "" if ports else "plug a board in; the twin works without"
    return Check("serial ports", bool(ports), ", ".join(ports) or "none", fix, is_needed=False)


def second_engine_check(path: str | None) -> Check:
    """QEMU, on which tests and `benchmarks/twin.py` run the firmware once more."""
    fix = "" if path else f"run: sudo apt-get install {_SECOND_ENGINE}; only a cross-check of the twin needs it"
    return Check("second emulator", bool(path), path or "none", fix, is_needed=False)


def flash_tools_check(tools: dict[str, str | None]) -> Check:
    """Programs that write a firmware to a board; one is enough."""
    found = [tool for tool, path in tools.items() if path]
    fix = "" if found else "run: sudo apt-get install openocd (or copy firmware.bin to the probe's USB drive)"
    return Check("flash tools", bool(found), ", ".join(found) or "none", fix, is_needed=False)


def _permission() -> Check:
    try:
        group = grp.getgrnam(_SERIAL_GROUP)
    except KeyError:
        return Check("serial permission", True, f"no group {_SERIAL_GROUP} here", is_needed=False)
    ok = os.geteuid() == 0 or group.gr_gid in os.getgroups()
    found = "granted" if ok else f"you are not in the group {_SERIAL_GROUP}"
    fix = "" if ok else f"run: sudo usermod -aG {_SERIAL_GROUP} $USER, then log in anew"
    return Check("serial permission", ok, found, fix, is_needed=False)


def _compiler(name: str, find: Callable[[], Compiler]) -> Check:
    try:
        compiler = find()
    except ToolchainError as problem:
        return Check(name, False, "none", str(problem))
    return Check(name, True, f"{compiler.name} {compiler.version}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
