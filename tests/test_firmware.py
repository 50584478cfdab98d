"""Export folders are whole, firmware links within the board's limits, and sizes are what the ELF shows."""

import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from tiny_network import ARENA_BYTES, BUILD_ID, tiny_files, write_tiny_export

from trec_dse.device import Firmware
from trec_dse.errors import DoesNotFitError, InputError, ToolchainError
from trec_dse.firmware import build_firmware, code_sizes, write_export
from trec_dse.resources import data_folder, package_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import Compiler, find_target_compiler

STACK_BYTES = 2048


def compilers() -> list[Compiler]:
    """Every compiler for Cortex-M that this machine has."""
    found = []
    for name in ("gcc", "zig"):
        try:
            found.append(find_target_compiler(name))
        except ToolchainError:
            continue
    return found


@pytest.fixture(scope="module", params=compilers(), ids=lambda compiler: compiler.name)
def compiler(request: pytest.FixtureRequest) -> Compiler:
    found: Compiler = request.param
    return found


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(data_folder("targets") / "stm32f469i-disco.toml")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory, target: Target, compiler: Compiler) -> Firmware:
    folder = tmp_path_factory.mktemp("export") / "tiny"
    write_tiny_export(folder, target)
    return build_firmware(folder, target, compiler)


def shrunk(target: Target, **sizes: int) -> Target:
    """The board with smaller memories."""
    return replace(target, regions=tuple(replace(r, size=sizes.get(r.name, r.size)) for r in target.regions))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_export_holds_everything_that_its_firmware_is_made_of(tmp_path: Path, target: Target) -> None:
    kernels = sorted((package_folder("ops") / "conv2d").glob("*.[ch]"))
    write_export(tmp_path / "out", target, tiny_files(), kernels)
    names = set(content(tmp_path / "out"))
    assert {"manifest.json", "Makefile", "README.md", "board/board.h", "board/link.ld"} <= names
    assert {"network/trec_network.c", "network/trec_network.h", "network/trec_kat.c", "network/trec_kat.h"} <= names
    assert {f"kernels/{path.name}" for path in kernels} <= names
    assert {"runtime/protocol/main.c", "runtime/include/trec_types.h", "runtime/arch/portable.h"} <= names
    assert {
        "runtime/platform/stm32/port.c",
        "runtime/platform/stm32f4/trec_family.h",
        "runtime/platform/host/kat.c",
    } <= names
    assert not any("stm32f7" in name for name in names), "another board's platform is not copied"


def test_nothing_but_the_export_is_left_beside_it(tmp_path: Path, target: Target) -> None:
    write_tiny_export(tmp_path / "out", target)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path, target: Target) -> None:
    write_tiny_export(tmp_path / "a", target)
    write_tiny_export(tmp_path / "b", target)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path: Path, target: Target) -> None:
    write_tiny_export(tmp_path / "out", target)
    (tmp_path / "out" / "kernels" / "stale.c").write_text("int stale;\n")
    write_tiny_export(tmp_path / "out", target)
    assert "kernels/stale.c" not in content(tmp_path / "out")


def test_a_folder_that_is_no_export_is_left_alone(tmp_path: Path, target: Target) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    with pytest.raises(InputError, match="thesis: exists and is not an earlier export"):
        write_tiny_export(tmp_path / "thesis", target)
    assert content(tmp_path / "thesis") == {"chapter1.tex": b"precious"}


def test_an_export_that_fails_leaves_the_earlier_one_as_it_was(tmp_path: Path, target: Target) -> None:
    write_tiny_export(tmp_path / "out", target)
    before = content(tmp_path / "out")
    with pytest.raises(OSError, match="gone"):
        write_export(tmp_path / "out", target, tiny_files(), [tmp_path / "gone.c"])
    assert content(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_sizes_are_those_of_the_sections(firmware: Firmware) -> None:
    with firmware.elf.open("rb") as stream:
        sections = {s.name: s for s in ELFFile(stream).iter_sections() if s["sh_flags"] & 2}
    ram = sections[".stack"]["sh_size"] + sections[".bss"]["sh_size"]
    ram += sections[".data"]["sh_size"] if ".data" in sections else 0
    assert firmware.sram_bytes == ram
    assert firmware.sram_bytes == firmware.arena_bytes + firmware.stack_bytes + firmware.static_bytes
    assert (firmware.arena_bytes, firmware.stack_bytes) == (ARENA_BYTES, STACK_BYTES)
    assert firmware.static_bytes == 8, "two cluster counters, nothing else"
    assert firmware.flash_bytes == (firmware.folder / "build" / "firmware.bin").stat().st_size
    assert 1000 < firmware.flash_bytes < 4000


def test_initial_values_count_in_flash_and_in_sram(tmp_path: Path, target: Target, compiler: Compiler) -> None:
    write_tiny_export(tmp_path / "plain", target)
    words = {"trec_n_clusters[TREC_N_COUNTERS];\n\n/*": "trec_n_clusters[TREC_N_COUNTERS] = {5};\n\n/*"}
    write_tiny_export(tmp_path / "filled", target, words)
    plain = build_firmware(tmp_path / "plain", target, compiler)
    filled = build_firmware(tmp_path / "filled", target, compiler)
    assert filled.sram_bytes == plain.sram_bytes
    assert 8 <= filled.flash_bytes - plain.flash_bytes < 12
    assert filled.elf.with_suffix(".bin").read_bytes().endswith(struct.pack("<II", 5, 0))


def test_code_sizes_add_up_to_the_flash(firmware: Firmware) -> None:
    sizes = code_sizes(firmware)
    assert sum(sizes.values()) == firmware.flash_bytes
    assert sizes["factors"] == 3
    assert sizes["trec_net_run"] > 40
    assert all(size > 0 for size in sizes.values())


def test_the_build_id_is_in_the_image(firmware: Firmware) -> None:
    assert firmware.build_id == BUILD_ID
    assert BUILD_ID.encode() in firmware.elf.with_suffix(".bin").read_bytes()


def test_no_segment_is_writable_and_executable(firmware: Firmware) -> None:
    with firmware.elf.open("rb") as stream:
        flags = [segment["p_flags"] for segment in ELFFile(stream).iter_segments("PT_LOAD")]
    assert flags
    assert not any(flag & 1 and flag & 2 for flag in flags)


def test_a_build_is_reproducible(tmp_path: Path, firmware: Firmware, target: Target, compiler: Compiler) -> None:
    write_tiny_export(tmp_path / "elsewhere", target)
    again = build_firmware(tmp_path / "elsewhere", target, compiler)
    assert again.elf.with_suffix(".bin").read_bytes() == firmware.elf.with_suffix(".bin").read_bytes()


def test_a_board_of_exactly_the_firmware_s_size_is_large_enough(
    tmp_path: Path, firmware: Firmware, target: Target, compiler: Compiler
) -> None:
    small = shrunk(target, FLASH=firmware.flash_bytes, SRAM=firmware.sram_bytes)
    write_tiny_export(tmp_path / "out", small)
    assert build_firmware(tmp_path / "out", small, compiler).flash_bytes == firmware.flash_bytes


@pytest.mark.parametrize("excess", [1, 100])
def test_one_byte_too_many_does_not_fit_and_is_counted(
    tmp_path: Path, firmware: Firmware, target: Target, compiler: Compiler, excess: int
) -> None:
    sram = firmware.sram_bytes - excess
    write_tiny_export(tmp_path / "ram", shrunk(target, SRAM=sram))
    with pytest.raises(DoesNotFitError, match=rf"SRAM \(of {sram} bytes\) by {excess} bytes"):
        build_firmware(tmp_path / "ram", shrunk(target, SRAM=sram), compiler)
    flash = firmware.flash_bytes - excess
    write_tiny_export(tmp_path / "flash", shrunk(target, FLASH=flash))
    with pytest.raises(DoesNotFitError, match=rf"stm32f469i-disco: FLASH \(of {flash} bytes\) by {excess} bytes"):
        build_firmware(tmp_path / "flash", shrunk(target, FLASH=flash), compiler)
    assert not (tmp_path / "flash" / "build" / "firmware.elf").exists()


def test_an_arena_larger_than_the_board_names_the_sram(tmp_path: Path, target: Target, compiler: Compiler) -> None:
    write_tiny_export(tmp_path / "out", target, {"TREC_ARENA_BYTES 96": "TREC_ARENA_BYTES 400000"})
    # 400000 + 8 + 2048 - 327680
    with pytest.raises(DoesNotFitError, match=r"SRAM \(of 327680 bytes\) by 74376 bytes"):
        build_firmware(tmp_path / "out", target, compiler)


def test_c_that_does_not_compile_is_a_toolchain_error_with_its_place(
    tmp_path: Path, target: Target, compiler: Compiler
) -> None:
    write_tiny_export(tmp_path / "out", target, {"int32_t sum = 0;": "int32_t sum = missing;"})
    with pytest.raises(ToolchainError, match=r"trec_network\.c:\d+:\d+: error: .*missing"):
        build_firmware(tmp_path / "out", target, compiler)


def test_a_function_that_is_nowhere_is_a_toolchain_error(tmp_path: Path, target: Target, compiler: Compiler) -> None:
    words = {"int32_t sum = 0;": "int32_t sum = nowhere();", "static const": "int32_t nowhere(void);\nstatic const"}
    write_tiny_export(tmp_path / "out", target, words)
    with pytest.raises(ToolchainError, match="nowhere"):
        build_firmware(tmp_path / "out", target, compiler)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (None, "is this an export folder"),
        ("{", "not a JSON"),
        ("{}", "build_id"),
        ('{"build_id": "XY"}', "'XY', not 16"),
    ],
)
def test_a_folder_without_a_build_id_is_no_export(
    tmp_path: Path, target: Target, manifest: str | None, words: str
) -> None:
    write_tiny_export(tmp_path / "out", target)
    (tmp_path / "out" / "manifest.json").unlink()
    if manifest is not None:
        (tmp_path / "out" / "manifest.json").write_text(manifest)
    with pytest.raises(InputError, match=words):
        build_firmware(tmp_path / "out", target)


def test_the_stack_can_be_larger(tmp_path: Path, firmware: Firmware, target: Target, compiler: Compiler) -> None:
    write_export(tmp_path / "out", target, tiny_files(), [], stack_bytes=4096)
    larger = build_firmware(tmp_path / "out", target, compiler)
    assert larger.stack_bytes == 4096
    assert larger.sram_bytes - firmware.sram_bytes == 2048


def test_the_known_answers_hold_on_this_machine(tmp_path: Path, target: Target) -> None:
    for program in ("make", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    write_tiny_export(tmp_path / "out", target)
    done = subprocess.run(["make", "test"], cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{BUILD_ID}: 8 of 8 known answers are right" in done.stdout


def test_a_wrong_known_answer_fails_make_test(tmp_path: Path, target: Target) -> None:
    for program in ("make", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    write_tiny_export(tmp_path / "out", target, {"{4, 8, 12}": "{4, 8, 13}"})
    done = subprocess.run(["make", "test"], cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "image 1: the output differs" in done.stdout
    assert "7 of 8" in done.stdout


def test_make_builds_the_same_image_as_the_library(
    tmp_path: Path, firmware: Firmware, target: Target, compiler: Compiler
) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    write_tiny_export(tmp_path / "out", target)
    command = ["make", f"CC={' '.join(compiler.command)}"]
    done = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "build" / "firmware.elf").open("rb") as stream:
        segments = [s.data() for s in ELFFile(stream).iter_segments("PT_LOAD") if s["p_filesz"]]
    assert b"".join(segments) == firmware.elf.with_suffix(".bin").read_bytes()
