"""The checksum that the RP2040's boot ROM wants, and the file that its USB drive takes."""

import os
import runpy
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from twin_programs import build

from trec_dse import protocol
from trec_dse.device import Firmware
from trec_dse.errors import ToolchainError
from trec_dse.firmware import build_firmware
from trec_dse.flash import DRIVE, flash, flash_command
from trec_dse.protocol import Command, Frame
from trec_dse.resources import data_folder
from trec_dse.rp2040_image import FLASH_ORIGIN, checksum, seal, uf2
from trec_dse.target import load_target
from trec_dse.toolchain import find_target_compiler
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine
from trec_dse.twin.rp2040 import start_of

PICO = load_target(data_folder("targets") / "raspberry-pi-pico.toml")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    return build(PICO, tmp_path_factory.mktemp("pico") / "export")


def small_elf(address: int, data: bytes) -> bytes:
    """An ELF of one segment: 52 bytes of header, 32 of the segment's, then its bytes."""
    head = b"\x7fELF\x01\x01" + bytes(10) + struct.pack("<2H5I6H", 2, 40, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    return head + struct.pack("<8I", 1, 84, address, address, len(data), len(data), 5, 4) + data


def test_the_checksum_is_the_published_one_of_123456789() -> None:
    assert checksum(b"123456789") == 0x0376_E6E7  # CRC-32/MPEG-2 in every list of such sums


def test_the_checksum_of_no_bytes_is_its_start() -> None:
    assert checksum(b"") == 0xFFFF_FFFF


def test_a_seal_changes_four_bytes_and_nothing_else() -> None:
    elf = small_elf(FLASH_ORIGIN, bytes(range(256)) + b"program")
    sealed = seal(elf)
    assert len(sealed) == len(elf)
    assert [i - 84 for i, (old, new) in enumerate(zip(elf, sealed, strict=True)) if old != new] == [252, 253, 254, 255]
    assert sealed[84 + 252 : 84 + 256] == struct.pack("<I", checksum(bytes(range(252))))
    assert seal(sealed) == sealed


def test_what_has_no_second_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is loaded at 0x10000000"):
        seal(small_elf(0x2000_0000, bytes(300)))
    with pytest.raises(ValueError, match="nothing is loaded at 0x10000000"):
        seal(small_elf(FLASH_ORIGIN, bytes(255)))
    with pytest.raises(ValueError, match="not an ELF file"):
        seal(b"text")


def test_a_drive_file_has_a_block_for_each_256_bytes() -> None:
    blocks = uf2(small_elf(FLASH_ORIGIN, bytes(256) + b"abc"))
    assert len(blocks) == 2 * 512
    first, second = (struct.unpack_from("<8I", blocks, at) for at in (0, 512))
    assert first == (0x0A32_4655, 0x9E5D_5157, 0x2000, FLASH_ORIGIN, 256, 0, 2, 0xE48B_FF56)
    assert second[3:7] == (FLASH_ORIGIN + 256, 256, 1, 2)
    assert blocks[512 + 32 : 512 + 36] == b"abc\0"
    assert blocks[1020:] == struct.pack("<I", 0x0AB1_6F30)


def test_a_linked_firmware_is_sealed_in_all_its_files(firmware: Firmware) -> None:
    image = firmware.elf.with_suffix(".bin").read_bytes()
    assert start_of(image).address == 0x2004_1F00  # raises if the sum is wrong
    drive = firmware.elf.with_suffix(".uf2").read_bytes()
    pages = [drive[at + 32 : at + 288] for at in range(0, len(drive), 512)]
    assert b"".join(pages)[: len(image)] == image


@pytest.mark.parametrize("name", ["zig", "gcc"])
def test_the_second_stage_fits_and_starts_the_program_with_either_compiler(name: str, tmp_path: Path) -> None:
    try:
        compiler = find_target_compiler(name)
    except ToolchainError:
        pytest.skip(f"{name} is not installed")
    build(PICO, tmp_path / "export")
    elf = build_firmware(tmp_path / "export", PICO, compiler).elf
    assert len(elf.with_suffix(".bin").read_bytes()[:252].rstrip(b"\0")) <= 248
    line = MemoryLine(protocol.encode_frame(Frame(Command.HELLO, 1)))
    Machine(load_image(elf), PICO, line).run()
    assert line.sent


def test_an_exported_folder_seals_by_itself(firmware: Firmware, tmp_path: Path) -> None:
    script = firmware.folder / "board" / "rp2040_image.py"
    sealed = firmware.elf.read_bytes()
    broken = tmp_path / "firmware.elf"
    broken.write_bytes(sealed.replace(firmware.elf.with_suffix(".bin").read_bytes()[248:256], bytes(8), 1))
    assert broken.read_bytes() != sealed
    subprocess.run([sys.executable, str(script), str(broken)], check=True, env={"PATH": os.environ["PATH"]})
    assert (tmp_path / "firmware.uf2").read_bytes()[:4] == b"UF2\n"
    makefile = (firmware.folder / "Makefile").read_text(encoding="utf-8")
    assert "$(PYTHON) board/rp2040_image.py $@" in makefile
    assert "board/rp2040_image.py $<TARGET_FILE:firmware.elf>" in (firmware.folder / "CMakeLists.txt").read_text()
    assert runpy.run_path(str(script))["checksum"](b"123456789") == 0x0376_E6E7


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_links_the_same_sealed_image(firmware: Firmware, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(firmware.folder, folder)
    shutil.rmtree(folder / "build")
    subprocess.run(
        ["make", "-C", str(folder), f"PYTHON={sys.executable}"],
        check=True,
        capture_output=True,
    )
    assert (folder / "build" / "firmware.uf2").read_bytes() == firmware.elf.with_suffix(".uf2").read_bytes()


def test_a_stage_that_is_too_long_does_not_link(tmp_path: Path) -> None:
    build(PICO, tmp_path / "export")
    stage = tmp_path / "export" / "runtime" / "platform" / "rp2040" / "boot2.c"
    old = "ssi[SSI_RX_SAMPLE_DLY] = 1;\n"
    text = stage.read_text(encoding="utf-8")
    assert old in text
    stage.write_text(text.replace(old, old + 32 * "    (void)ssi[SSI_DR0];\n"), encoding="utf-8")
    with pytest.raises(ToolchainError, match=r"boot2|backward"):
        build_firmware(tmp_path / "export", PICO)


def test_the_drive_of_the_chip_gets_the_drive_file(firmware: Firmware, tmp_path: Path) -> None:
    (tmp_path / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\n")
    assert flash(firmware.elf, PICO, DRIVE, drives=[tmp_path]) == DRIVE
    assert (tmp_path / "firmware.uf2").read_bytes() == firmware.elf.with_suffix(".uf2").read_bytes()


def test_each_tool_is_told_the_chip() -> None:
    nano = load_target(data_folder("targets") / "arduino-nano33-ble.toml")
    elf = Path("firmware.elf")
    assert flash_command("openocd", elf, PICO)[2:5] == ["interface/cmsis-dap.cfg", "-f", "target/rp2040.cfg"]
    assert flash_command("openocd", elf, nano)[4] == "target/nrf52.cfg"
    assert flash_command("pyocd", elf, PICO)[3] == "rp2040"
    assert flash_command("pyocd", elf, nano)[3] == "nrf52840"
    for board in (PICO, nano):
        with pytest.raises(ToolchainError, match=f"st-flash writes to STM32 chips only, not to a {board.mcu}"):
            flash_command("st-flash", elf, board)


def test_a_chip_of_another_maker_needs_no_seal(tmp_path: Path) -> None:
    nano = load_target(data_folder("targets") / "arduino-nano33-ble.toml")
    other = build(replace(nano, name="mine"), tmp_path / "export")
    assert not other.elf.with_suffix(".uf2").exists()
    assert not (other.folder / "board" / "rp2040_image.py").exists()
