"""Every shipped board's own start-up code on its twin, and what the twin says when a board file is wrong."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from twin_programs import build, unconnected

from trec_dse import protocol
from trec_dse.errors import DeviceError, TargetError, ToolchainError
from trec_dse.firmware import build_firmware
from trec_dse.plugins import data_file, data_names
from trec_dse.protocol import Command, Frame
from trec_dse.target import Oscillator, Target, load_target, pin_place
from trec_dse.twin.chips import make_peripherals
from trec_dse.twin.clocks import ClocksF3, ClocksG0, ClocksH7, ClocksL4, Limits
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine

HELLO = protocol.encode_frame(Frame(Command.HELLO, 1))
ANY = Limits(1e9, 1e9, 1e9, (0, 1e9), (0, 1e9))
CRYSTAL = Oscillator("crystal", 8_000_000)
OTHER_PIN = {"nrf52": "P0.09", "rp2040": "GP13"}


BOARDS = [load_target(data_file("targets", name, ".toml", TargetError)) for name in data_names("targets", ".toml")]
STM32 = [board for board in BOARDS if board.platform.startswith("stm32")]


@pytest.fixture(params=BOARDS, ids=lambda board: str(board.name))
def target(request: pytest.FixtureRequest) -> Target:
    board: Target = request.param
    return board


@pytest.fixture(params=STM32, ids=lambda board: str(board.name))
def stm32(request: pytest.FixtureRequest) -> Target:
    board: Target = request.param
    return board


def start(built_for: Target, runs_on: Target, folder: Path) -> None:
    """Build the firmware with one board file and start it on the twin of another."""
    elf = build(built_for, folder / "export").elf
    Machine(load_image(elf), runs_on, MemoryLine(HELLO)).run()


def test_pins_with_another_function_are_named(stm32: Target, tmp_path: Path) -> None:
    wrong = replace(stm32, serial=replace(stm32.serial, pin_function=stm32.serial.pin_function + 1))
    message = f"does not lead {stm32.serial.usart} to {stm32.serial.tx}; it must have alternate function"
    with pytest.raises(DeviceError, match=message):
        start(wrong, stm32, tmp_path)


def test_another_receiving_pin_is_named(target: Target, tmp_path: Path) -> None:
    wrong = replace(target, serial=replace(target.serial, rx=OTHER_PIN.get(target.platform, "PE1")))
    with pytest.raises(DeviceError, match=f"does not lead {target.serial.usart} to {target.serial.rx}"):
        start(wrong, target, tmp_path)


def test_a_pin_that_the_port_does_not_reach_is_named(stm32: Target) -> None:
    wrong = replace(stm32, serial=replace(stm32.serial, rx="PE1"))
    with pytest.raises(DeviceError, match=f"{stm32.serial.usart} reaches .*{stm32.serial.rx}.*, not PE1"):
        make_peripherals(wrong, unconnected())


def test_too_few_wait_states_are_named(stm32: Target, tmp_path: Path) -> None:
    states = stm32.flash.wait_states
    wrong = replace(stm32, flash=replace(stm32.flash, wait_states=states - 1))
    with pytest.raises(DeviceError, match=f"sets {states - 1} Flash wait states; {stm32.clock_hz} Hz need {states}"):
        start(wrong, stm32, tmp_path)


def test_an_oscillator_that_does_not_start_is_named(stm32: Target, tmp_path: Path) -> None:
    if stm32.oscillator.kind == "internal":
        # its start-up code knows no other: that is a compiler error
        with pytest.raises(ToolchainError, match="HSI16 only"):
            start(replace(stm32, oscillator=CRYSTAL), stm32, tmp_path)
        return
    other = Oscillator("clock" if stm32.oscillator.kind == "crystal" else "crystal", stm32.oscillator.hz)
    message = f"chip's own oscillator; {stm32.name} has a {stm32.oscillator.kind} of {stm32.oscillator.hz} Hz"
    with pytest.raises(DeviceError, match=message):
        start(replace(stm32, oscillator=other), stm32, tmp_path)


def test_another_baud_rate_is_named(target: Target, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=rf"sets {target.serial.usart} to \d+ baud; {target.name} says 230400"):
        start(target, replace(target, serial=replace(target.serial, baud=230_400)), tmp_path)


def test_a_port_that_the_platform_does_not_know_does_not_compile(target: Target, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match="add this USART's enable bit here"):
        start(replace(target, serial=replace(target.serial, base=0x4000_0000)), target, tmp_path)


def test_a_clock_that_the_buses_cannot_follow_does_not_compile(target: Target, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"the USART\\?'s bus runs at"):
        start(replace(target, serial=replace(target.serial, clock_hz=1_000_000, baud=9600)), target, tmp_path)


# What the firmware of a board turns on by itself: with that step left out, on the board nothing would say why.
STEPS = {
    "nucleo-l4r5zi": ("PWR_CR2 |= PWR_CR2_IOSV;", "leaves PG7 without supply; set bit 9 of PWR"),
    "nucleo-h743zi": ("PWR_D3CR |= PWR_D3CR_SCALE1;", "at 400000000 Hz without voltage scale 1; set both bits VOS"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_forgotten_step_of_the_power_control_is_named(name: str, tmp_path: Path) -> None:
    board = load_target(data_file("targets", name, ".toml", TargetError))
    line, message = STEPS[name]
    build(board, tmp_path / "export")
    clock = tmp_path / "export" / "runtime" / "platform" / board.platform / "clock.c"
    text = clock.read_text(encoding="utf-8")
    assert line in text
    clock.write_text(text.replace(line, ""), encoding="utf-8")
    elf = build_firmware(tmp_path / "export", board).elf
    with pytest.raises(DeviceError, match=message):
        Machine(load_image(elf), board, MemoryLine(HELLO)).run()


def test_the_board_of_the_page_about_boards_starts(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    page = (root / "docs" / "boards.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("    ") for line in page.splitlines() if line.startswith("    ")]
    begin, end = (next(i for i, line in enumerate(lines) if line.startswith(w)) for w in ("[oscillator]", "vid_pid"))
    written = "\n".join(lines[begin : end + 1])
    assert sum("=" in line for line in written.splitlines()) <= 10, "ten lines"
    original = (root / "targets" / "nucleo-f446re.toml").read_text(encoding="utf-8")
    text = re.sub(r"\[oscillator\].*(?=\[flash\])", written + "\n\n", original, flags=re.DOTALL)
    (tmp_path / "my_board.toml").write_text(text, encoding="utf-8")
    mine = load_target(tmp_path / "my_board.toml")
    assert (mine.oscillator.hz, mine.serial.tx) == (25_000_000, "PA9")
    start(mine, mine, tmp_path)


def test_the_f3_tree_by_hand() -> None:
    rcc = ClocksF3(0, CRYSTAL, ANY)
    rcc.words[0x04] = 2 | 4 << 8 | 2 << 15 | 7 << 18  # PLL, APB1 / 2, HSE / 1, times 9
    assert (rcc.core_hz, rcc.bus_hz(1), rcc.bus_hz(2)) == (72_000_000, 36_000_000, 72_000_000)
    rcc.words[0x2C] = 1  # HSE / 2
    assert rcc.core_hz == 36_000_000


def test_the_l4_tree_by_hand() -> None:
    rcc = ClocksL4(0, CRYSTAL, ANY)
    assert rcc.core_hz == 4_000_000, "it starts on MSI"
    rcc.words.update({0x08: 3 | 8 << 4, 0x0C: 2 | 3 << 4 | 60 << 8 | 1 << 24})  # HSI16 / 4 * 60 / 2, AHB / 2
    assert (rcc.vco_input_hz, rcc.vco_hz, rcc.core_hz) == (4_000_000, 240_000_000, 60_000_000)


def test_the_g0_tree_by_hand() -> None:
    rcc = ClocksG0(0, CRYSTAL, ANY)
    assert rcc.core_hz == 16_000_000
    rcc.words.update({0x08: 2 | 4 << 12, 0x0C: 2 | 8 << 8 | 1 << 28 | 1 << 29})  # HSI16 * 8 / 2, APB / 2
    assert (rcc.vco_hz, rcc.core_hz, rcc.bus_hz(1)) == (128_000_000, 64_000_000, 32_000_000)


def test_the_h7_tree_by_hand() -> None:
    rcc = ClocksH7(0, CRYSTAL, ANY)
    assert rcc.core_hz == 64_000_000
    rcc.words.update({0x10: 3, 0x18: 8, 0x1C: 4 << 4, 0x28: 2 | 2 << 4, 0x2C: 1 << 16, 0x30: 199 | 1 << 9})
    assert (rcc.core_hz, rcc.axi_hz, rcc.bus_hz(1), rcc.bus_hz(2)) == (400e6, 200e6, 100e6, 200e6)


def test_pins_are_read_as_their_makers_write_them() -> None:
    assert pin_place("PB10") == (1, 10)
    assert pin_place("P1.03") == (1, 3)
    assert pin_place("GP28") == (0, 28)
    for wrong in ("PB16", "B10", "PZ1", "P1.32", "GP30", "GP01", ""):
        with pytest.raises(TargetError, match=r"is no pin; PB10, P1\.03 or GP1 would be"):
            pin_place(wrong)
