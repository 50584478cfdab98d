"""What each board file owes the linker, the port and the reader, whichever there are."""

import re
import struct
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from tiny_network import BUILD_ID, write_tiny_export
from twin_programs import unconnected

from trec_dse import datasets
from trec_dse.candidate import Candidate
from trec_dse.device import Firmware
from trec_dse.errors import TargetError
from trec_dse.evaluate import cost_of, untrained_graph
from trec_dse.export_files import (
    board_header,
    has_second_stage,
    include_folders,
    linker_script,
    makefile,
    readme,
    runtime_folders,
)
from trec_dse.firmware import build_firmware
from trec_dse.flash_tools import flash_tools
from trec_dse.plugins import data_file, data_names
from trec_dse.resources import package_folder
from trec_dse.target import Target, load_target
from trec_dse.twin.chips import make_peripherals


@pytest.fixture(scope="module", params=data_names("targets", ".toml"))
def target(request: pytest.FixtureRequest) -> Target:
    return load_target(data_file("targets", request.param, ".toml", TargetError))


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory, target: Target) -> Firmware:
    folder = tmp_path_factory.mktemp("export") / target.name
    write_tiny_export(folder, target)
    return build_firmware(folder, target)


def symbol_values(path: Path) -> dict[str, int]:
    with path.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


def test_it_says_where_its_figures_come_from(target: Target) -> None:
    assert target.sources
    assert all(":" in source for source in target.sources)


def test_its_platform_defines_every_function_of_the_port(target: Target) -> None:
    folders = [package_folder("runtime") / name for name in runtime_folders(target) if "platform" in name]
    text = "".join(path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*.c")))
    header = (package_folder("runtime") / "include" / "trec_port.h").read_text(encoding="utf-8")
    for name in re.findall(r"(trec_port_\w+)\(", header):
        n_found = len(re.findall(rf"^\w+ {name}\(void\)\n|^\w+ {name}\(uint8_t byte\)\n", text, re.MULTILINE))
        assert n_found >= 1, name


def test_the_twin_knows_its_platform_and_its_pins(target: Target) -> None:
    assert make_peripherals(target, unconnected())


def test_its_memories_are_of_a_plausible_size(target: Target) -> None:
    assert 16 * 1024 <= target.sram_bytes < target.flash_bytes <= 16 * 1024 * 1024
    assert all(region.origin % 1024 == 0 and region.size % 1024 == 0 for region in target.regions)


def test_its_serial_line_can_be_divided_to_the_baud_rate(target: Target) -> None:
    divider = (target.serial.clock_hz + target.serial.baud // 2) // target.serial.baud
    assert divider >= 16, "a USART samples each bit sixteen times"
    actual = target.serial.clock_hz / divider
    # 8N1 tolerates about 3 %, half of it belongs to the other side
    assert abs(actual / target.serial.baud - 1) < 0.015


def test_its_usb_ids_are_four_digits_each(target: Target) -> None:
    for pair in target.serial.vid_pid:
        vendor, product = pair.split(":")
        assert len(vendor) == len(product) == 4
        assert int(vendor, 16) and int(product, 16)


def test_a_firmware_for_it_links_and_its_sizes_add_up(firmware: Firmware, target: Target) -> None:
    assert firmware.build_id == BUILD_ID
    assert firmware.sram_bytes == firmware.arena_bytes + firmware.stack_bytes + firmware.static_bytes
    assert 0 < firmware.flash_bytes <= target.flash_bytes
    assert firmware.sram_bytes <= target.sram_bytes
    # start-up, protocol and a network of three outputs: if this grows, something was linked by accident
    assert firmware.flash_bytes < 4096
    assert firmware.static_bytes <= 16


def test_it_starts_at_the_reset_handler_with_the_whole_stack(firmware: Firmware, target: Target) -> None:
    image = firmware.elf.with_suffix(".bin").read_bytes()
    values = symbol_values(firmware.elf)
    flash = target.region(target.flash_region).origin
    stack, reset, *exceptions = struct.unpack_from("<16I", image, values["vectors"] - flash)
    ram = target.region(target.ram_region).origin
    assert values["trec_stack"] == ram, "the stack is lowest: an overflow leaves the RAM and faults"
    assert stack == ram + firmware.stack_bytes
    assert reset == values["Reset_Handler"] | 1
    assert exceptions == [values["trec_fault"] | 1] * 14
    assert flash < reset < flash + len(image)
    assert values["vectors"] == flash + (256 if has_second_stage(target) else 0)


def test_a_candidate_can_be_priced_for_it(target: Target) -> None:
    graph = untrained_graph(Candidate("digits", "tiny", {"width": 8, "depth": 2}), datasets.placeholder("digits"))
    cost = cost_of(graph, target)
    assert 0 < cost.cycles <= cost.worst_cycles
    # every board is slower than one MAC per cycle and faster than one per forty
    assert cost.macs < cost.cycles < 40 * cost.macs
    assert cost.flash_bytes < target.flash_bytes


def test_the_arena_is_aligned_for_any_type(firmware: Firmware) -> None:
    assert symbol_values(firmware.elf)["trec_arena"] % 8 == 0


def test_its_generated_files_speak_of_this_board(target: Target) -> None:
    header = board_header(target, 1024)
    assert f"#define TREC_CLOCK_HZ {target.clock_hz}u\n" in header
    assert f"#define TREC_USART_BASE 0x{target.serial.base:08x}u" in header
    assert "#define TREC_STACK_BYTES 1024u\n" in header
    script = linker_script(target)
    assert "@" not in script
    for name in (target.flash_region, target.ram_region):
        region = target.region(name)
        assert f"{name} (" in script
        assert f"ORIGIN = 0x{region.origin:08x}, LENGTH = 0x{region.size:x}" in script
    assert target.mcu in readme(target)
    assert flash_tools(target).recipe in makefile(target)
    assert all(f"-I{name}" in makefile(target) for name in include_folders(target))
