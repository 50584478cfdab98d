"""Writing to a board: the right command for each tool, the probe's drive, and the tool's own words when it fails."""

from pathlib import Path

import pytest
from twin_programs import M0_PLUS, M4

from trec_dse.errors import DeviceError, ToolchainError
from trec_dse.flash import DRIVE, flash, flash_command


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.elf"
    path.write_bytes(b"elf")
    path.with_suffix(".bin").write_bytes(b"image")
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def probe(folder: Path, name: str = "NODE_F446RE") -> Path:
    (folder / name).mkdir()
    (folder / name / "MBED.HTM").touch()
    return folder / name


def test_each_tool_gets_its_own_words(elf: Path) -> None:
    assert flash_command("openocd", elf, M4) == [
        *("openocd", "-f", "interface/stlink.cfg", "-f", "target/stm32f4x.cfg"),
        *("-c", f"program {elf} verify reset exit"),
    ]
    assert flash_command("st-flash", elf, M0_PLUS)[1:] == [
        "--reset",
        "write",
        f"{elf.with_suffix('.bin')}",
        "0x08000000",
    ]
    assert flash_command("pyocd", elf, M4) == ["pyocd", "flash", "-t", "stm32f469nihx", str(elf)]
    with pytest.raises(ToolchainError, match="no flash tool 'dfu'; choose from openocd, st-flash, pyocd, drive"):
        flash_command("dfu", elf, M4)


def test_the_first_tool_that_is_installed_is_run(elf: Path, path: Path, tmp_path: Path) -> None:
    tool(path, "st-flash", f'echo "$@" > {tmp_path}/said')
    assert flash(elf, M4) == "st-flash"
    assert (tmp_path / "said").read_text() == f"--reset write {elf.with_suffix('.bin')} 0x08000000\n"


def test_a_tool_that_fails_is_quoted(elf: Path, path: Path) -> None:
    tool(path, "openocd", 'echo "Info : hello"; echo "Error: open failed" >&2; exit 1')
    with pytest.raises(DeviceError, match=r"openocd could not write to stm32f469i-disco: .*Error: open failed"):
        flash(elf, M4)


def test_a_tool_that_is_not_there_comes_with_its_command(elf: Path, path: Path) -> None:
    with pytest.raises(ToolchainError, match="pyocd is not on PATH; run: pip install pyocd"):
        flash(elf, M4, "pyocd")
    assert not list(path.iterdir())


def test_without_any_tool_the_image_is_copied_to_the_probe(elf: Path, path: Path, tmp_path: Path) -> None:
    drive = probe(tmp_path)
    assert flash(elf, M4, drives=[drive, path]) == DRIVE
    assert (drive / "firmware.bin").read_bytes() == b"image"


def test_no_probe_two_probes_and_a_probe_that_refuses_are_told_apart(elf: Path, path: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="none of openocd, st-flash, pyocd on PATH and no probe's drive mounted"):
        flash(elf, M4, drives=[path])
    drives = [probe(tmp_path), probe(tmp_path, "DIS_F746NG")]
    with pytest.raises(DeviceError, match=r"2 probes' drives are mounted: .*DIS_F746NG, .*NODE_F446RE; unplug all"):
        flash(elf, M4, DRIVE, drives=drives)
    (drives[0] / "FAIL.TXT").write_text("The interface firmware FAILED to reset/halt the target MCU\r\n")
    with pytest.raises(DeviceError, match=r"refused firmware\.bin: The interface firmware FAILED to reset"):
        flash(elf, M4, DRIVE, drives=drives[:1])
