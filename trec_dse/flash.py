"""Write a firmware to a board with whatever tool is installed, or by copying it to the debug probe's drive."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from trec_dse.errors import DeviceError, ToolchainError
from trec_dse.flash_tools import flash_tools
from trec_dse.target import Target

DRIVE = "drive"
TOOLS = ("openocd", "st-flash", "pyocd")
_TIME_LIMIT_S = 180.0
# Where desktops mount a drive that was plugged in.
_MOUNTS = ("/media/*/*", "/run/media/*/*", "/Volumes/*", "/media/*")


def flash_command(tool: str, elf: Path, target: Target) -> list[str]:
    """What to run so that `tool` writes, checks and starts `elf`; firmware.bin lies beside it."""
    if tool == "openocd":
        script = f"program {elf} verify reset exit"
        probe, chip = flash_tools(target).openocd
        return [tool, "-f", probe, "-f", chip, "-c", script]
    if tool == "st-flash" and not target.platform.startswith("stm32"):
        raise ToolchainError(f"st-flash writes to STM32 chips only, not to a {target.mcu}; take openocd or pyocd")
    if tool == "st-flash":
        origin = target.region(target.flash_region).origin
        return [tool, "--reset", "write", str(elf.with_suffix(".bin")), f"0x{origin:08x}"]
    if tool == "pyocd":
        return [tool, "flash", "-t", flash_tools(target).pyocd, str(elf)]
    raise ToolchainError(f"no flash tool {tool!r}; choose from {', '.join((*TOOLS, DRIVE))}")


def flash(elf: Path, target: Target, tool: str | None = None, *, drives: Iterable[Path] | None = None) -> str:
    """Write `elf` to the board and start it; the name of the tool that did.

    Without `tool`, the first one installed, else the probe's drive. `drives`: where to look for that; None: everywhere.
    Raises `ToolchainError` if there is no way to write, `DeviceError` with the tool's words if it fails.
    """
    usable = (name for name in TOOLS if name != "st-flash" or target.platform.startswith("stm32"))
    chosen = tool or next((name for name in usable if shutil.which(name)), DRIVE)
    if chosen == DRIVE:
        ways = flash_tools(target)
        _copy(elf.with_name(ways.image), target, _drives_with(ways.drive_files, drives))
        return DRIVE
    command = flash_command(chosen, elf, target)
    if shutil.which(chosen) is None:
        raise ToolchainError(f"{chosen} is not on PATH; run: {_INSTALL[chosen]}")
    _run(command, target)
    return chosen


_INSTALL = {
    "openocd": "sudo apt-get install openocd",
    "st-flash": "sudo apt-get install stlink-tools",
    "pyocd": "pip install pyocd",
}


def _run(command: Sequence[str], target: Target) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIME_LIMIT_S, check=False
        )
    except OSError as problem:
        raise ToolchainError(f"{command[0]}: cannot be run: {problem.strerror}") from problem
    except subprocess.TimeoutExpired as problem:
        raise DeviceError(
            f"{command[0]} did not end within {_TIME_LIMIT_S:g} s; unplug the board and retry"
        ) from problem
    if done.returncode != 0:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = " / ".join(lines[-3:]) or f"exit code {done.returncode}"
        raise DeviceError(f"{command[0]} could not write to {target.name}: {said}")


def _drives_with(files: Sequence[str], drives: Iterable[Path] | None) -> list[Path]:
    places = [path for pattern in _MOUNTS for path in Path("/").glob(pattern[1:])] if drives is None else drives
    return sorted({path for path in places if any((path / name).is_file() for name in files)})


def _copy(image: Path, target: Target, drives: Sequence[Path]) -> None:
    if not drives:
        tools = ", ".join(TOOLS)
        raise ToolchainError(f"no way to write to {target.name}: none of {tools} on PATH and no probe's drive mounted")
    if len(drives) > 1:
        raise DeviceError(
            f"{len(drives)} probes' drives are mounted: {', '.join(map(str, drives))}; unplug all but one"
        )
    try:
        with (drives[0] / image.name).open("wb") as file:
            file.write(image.read_bytes())
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        raise DeviceError(f"{drives[0]}: cannot be written: {problem.strerror}; plug the board in anew") from problem
    fault = drives[0] / "FAIL.TXT"
    if fault.is_file():
        raise DeviceError(f"{drives[0]}: the probe refused {image.name}: {fault.read_text(errors='replace').strip()}")
