"""Board files of PlatformIO: their facts over the nearest board's, and each file that is none refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_network import write_tiny_export

from trec_dse.cli import main
from trec_dse.errors import TargetError
from trec_dse.firmware import build_firmware
from trec_dse.platformio import BoardFile, Imported, import_board, read_board, to_toml
from trec_dse.plugins import data_file, data_names
from trec_dse.target import Target, load_target

KNOWN = [load_target(data_file("targets", name, ".toml", TargetError)) for name in data_names("targets", ".toml")]
F407 = BoardFile(
    path=Path("disco_f407vg.json"),
    name="ST STM32F4DISCOVERY",
    vendor="ST",
    mcu="stm32f407vgt6",
    cpu="cortex-m4",
    clock_hz=168_000_000,
    flash_bytes=1024 * 1024,
    ram_bytes=128 * 1024,
)
L4R5 = replace(F407, mcu="stm32l4r5zit6", clock_hz=120_000_000, flash_bytes=2048 * 1024, ram_bytes=640 * 1024)


def text_of(board: BoardFile, **build: object) -> str:
    chip = {"mcu": board.mcu, "cpu": board.cpu, "f_cpu": f"{board.clock_hz}L", "variant": "a key of others", **build}
    sizes = {"maximum_ram_size": board.ram_bytes, "maximum_size": board.flash_bytes, "protocol": "stlink"}
    return json.dumps({"build": chip, "name": board.name, "vendor": board.vendor, "upload": sizes})


def read(folder: Path, text: str) -> BoardFile:
    (folder / "disco_f407vg.json").write_text(text)
    return read_board(folder / "disco_f407vg.json")


def imported(**changes: Any) -> Imported:
    return import_board(replace(F407, **changes), KNOWN)


def test_a_board_file_is_read_and_what_we_do_not_know_is_passed_over(tmp_path: Path) -> None:
    assert replace(read(tmp_path, text_of(F407)), path=F407.path) == F407


def test_usb_ids_are_written_as_our_files_do(tmp_path: Path) -> None:
    ids = [["0x2341", "0x005A"], ["0x2341", "0x805A"]]
    assert read(tmp_path, text_of(F407, hwids=ids)).vid_pid == ("2341:005a", "2341:805a")
    assert imported(vid_pid=("2341:005a",)).target.serial.vid_pid == ("2341:005a",)


def test_the_nearest_board_is_the_one_whose_chip_has_the_longest_common_name() -> None:
    assert imported(mcu="stm32f469bit6").nearest == "stm32f469i-disco"
    assert imported(mcu="stm32f446vet6").nearest == "nucleo-f446re"
    assert imported(mcu="stm32f303k8t6", clock_hz=64_000_000).nearest == "nucleo-f303re"
    assert imported(mcu="nrf52840", clock_hz=64_000_000).nearest == "arduino-nano33-ble"
    assert imported(mcu="rp2040", cpu="cortex-m0plus", clock_hz=133_000_000).nearest == "raspberry-pi-pico"


def test_chip_clock_and_sizes_are_the_files() -> None:
    target = imported().target
    assert (target.name, target.mcu, target.clock_hz) == ("disco_f407vg", "STM32F407VGT6", 168_000_000)
    assert (target.flash_bytes, target.sram_bytes) == (1024 * 1024, 128 * 1024)


def test_the_bus_of_the_serial_port_follows_the_clock() -> None:
    assert imported().target.serial.clock_hz == 42_000_000  # a quarter of 168 MHz, as 45 is of 180


def test_memory_that_only_the_nearest_board_has_does_not_come_along() -> None:
    assert [region.name for region in imported().target.regions] == ["FLASH", "SRAM"]


def test_the_figure_of_another_chip_or_clock_does_not_come_along() -> None:
    assert import_board(L4R5, KNOWN).target.power is not None
    assert import_board(replace(L4R5, clock_hz=80_000_000), KNOWN).target.power is None
    assert import_board(replace(L4R5, mcu="stm32l4r9zit6"), KNOWN).target.power is None


def test_of_the_same_chip_no_more_memory_is_taken_than_its_start_up_code_opens() -> None:
    board = replace(F407, mcu="stm32g0b1ret6", cpu="", clock_hz=64_000_000, ram_bytes=144 * 1024)
    result = import_board(board, KNOWN)
    assert result.target.sram_bytes == 128 * 1024  # the rest is there only without parity
    assert any("says 147456" in note for note in result.notes)


def test_the_notes_say_which_facts_are_the_files_and_which_the_familys() -> None:
    result = imported()
    assert "from disco_f407vg.json: mcu, clock_hz, size of FLASH and SRAM." in result.notes
    assert any(note.startswith(f"from {result.nearest}: core, platform") for note in result.notes)
    assert result.target.sources[0] == "PlatformIO, disco_f407vg.json: chip, clock, memory sizes"


@pytest.mark.parametrize("target", KNOWN, ids=lambda target: target.name)
def test_every_board_is_written_so_that_it_is_read_back_the_same(target: Target, tmp_path: Path) -> None:
    path = tmp_path / f"{target.name}.toml"
    path.write_text(to_toml(target, ["a remark"]))
    assert load_target(path) == target


def test_the_firmware_of_an_imported_board_links(tmp_path: Path) -> None:
    target = imported().target
    write_tiny_export(tmp_path / "export", target)
    assert build_firmware(tmp_path / "export", target).flash_bytes < target.flash_bytes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cpu": "cortex-m33"}, "build.cpu is 'cortex-m33'; there are kernels for cortex-m0plus"),
        (
            {"mcu": "esp32", "cpu": ""},
            "no start-up code for build.mcu 'esp32'; there is some for nrf52, rp2040, stm32f2, stm32f3",
        ),
        ({"mcu": "stm32u575zit6"}, "no start-up code for build.mcu 'stm32u575zit6'"),
        ({"cpu": "cortex-m7"}, "build.cpu is 'cortex-m7', but the stm32f4 is a cortex-m4"),
        ({"clock_hz": 240_000_000}, r"build.f_cpu is 240000000 Hz; .* whole MHz up to 180"),
        ({"clock_hz": 167_999_999}, "whole MHz"),
    ],
)
def test_a_board_that_we_cannot_serve_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        imported(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"build": ', "not valid JSON"),
        ("[]", "a board file is one JSON object"),
        ("{}", "build.f_cpu is None"),
        (text_of(F407, f_cpu="fast"), "build.f_cpu is 'fast'; 180000000L would be a clock"),
        (text_of(F407, mcu=""), "build.mcu is ''"),
        (text_of(replace(F407, ram_bytes=1000)), "upload.maximum_ram_size is 1000; it would be whole KiB"),
    ],
)
def test_a_file_that_is_no_board_is_refused_with_the_key(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=message):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"gone\.json: cannot be read"):
        read_board(tmp_path / "gone.json")


def test_the_command_writes_a_board_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disco_f407vg.json").write_text(text_of(F407))
    assert main(["targets", "import", "disco_f407vg.json"]) == 0
    assert "compare with the board's manual" in capsys.readouterr().out
    assert load_target(tmp_path / "disco_f407vg.toml").clock_hz == 168_000_000
    assert main(["targets", "import", "disco_f407vg.json"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_the_command_asks_for_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "import"]) == 2
    assert "needs a board file" in capsys.readouterr().err
