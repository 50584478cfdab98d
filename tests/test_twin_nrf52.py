"""The nRF52840 on the twin: its start behind a bootloader, its cache, and each wrong setting with its name."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from twin_programs import assemble, build, unconnected

from trec_dse import protocol
from trec_dse.errors import DeviceError, ToolchainError
from trec_dse.firmware import build_firmware
from trec_dse.protocol import Command, Frame
from trec_dse.resources import data_folder
from trec_dse.target import Oscillator, load_target
from trec_dse.twin.chips import check_serial_port, make_peripherals
from trec_dse.twin.counter import CounterMaker
from trec_dse.twin.hooks import NativeCounter, PythonCounter
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine
from trec_dse.twin.registers import Registers

NANO = load_target(data_folder("targets") / "arduino-nano33-ble.toml")
HELLO = protocol.encode_frame(Frame(Command.HELLO, 1))
BOTH_COUNTERS = pytest.mark.parametrize("make", [NativeCounter, PythonCounter])


def devices() -> Mapping[str, Registers]:
    """The peripherals as correct start-up code leaves them."""
    found = {device.name: device for device in make_peripherals(NANO, unconnected())}
    found["CLOCK"].write(0x000, 1)
    found["NVMC"].write(0x540, 1)
    found["UART0"].words.update({0x50C: 1 << 5 | 3, 0x514: 1 << 5 | 10, 0x524: 0x1000_0000})
    found["GPIO"].words.update({0x300 + 0x700 + 4 * 3: 3, 0x300 + 0x700 + 4 * 10: 3 << 2})
    return found


def test_a_correct_start_is_accepted() -> None:
    check_serial_port(NANO, devices())


WRONG = {
    "crystal": ("CLOCK", 0x000, 0, "runs from the chip's own oscillator; .* has a crystal of 32000000 Hz"),
    "cache": ("NVMC", 0x540, 0, "leaves the instruction cache off; set bit 0 of NVMC"),
    "baud rate": ("UART0", 0x524, 0x0EBE_D000, "sets UART0 to 941176 baud; .* says 1000000"),
    "a value that no document names": ("UART0", 0x524, 0x1000_0001, "sets UART0 to 0 baud"),
    "pin": ("UART0", 0x50C, 3, r"does not lead UART0 to P1\.03; it must be an output"),
    "disconnected pin": ("UART0", 0x514, 1 << 31 | 1 << 5 | 10, r"does not lead UART0 to P1\.10; it must be an input"),
    "direction": ("GPIO", 0x300 + 0x700 + 4 * 3, 0, r"does not lead UART0 to P1\.03; it must be an output"),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_wrong_setting_has_its_own_message(what: str) -> None:
    name, offset, value, message = WRONG[what]
    found = devices()
    found[name].words[offset] = value
    with pytest.raises(DeviceError, match=message):
        check_serial_port(NANO, found)


def test_another_core_clock_is_named() -> None:
    with pytest.raises(DeviceError, match=r"runs the core at 64000000 Hz; .* says 32000000 Hz"):
        check_serial_port(replace(NANO, clock_hz=32_000_000), devices())


def test_another_port_is_named() -> None:
    with pytest.raises(DeviceError, match="no model of UARTE1; choose from UART0"):
        make_peripherals(replace(NANO, serial=replace(NANO.serial, usart="UARTE1")), unconnected())


def test_a_board_without_crystal_is_not_waited_for_in_vain(tmp_path: Path) -> None:
    elf = build(NANO, tmp_path / "export").elf
    bare = replace(NANO, oscillator=Oscillator("internal", 64_000_000))
    message = "starts a crystal of 32000000 Hz and waits for it; the board has a internal of 64000000 Hz"
    with pytest.raises(DeviceError, match=message):
        Machine(load_image(elf), bare, MemoryLine(HELLO)).run()


def test_a_rate_that_the_port_cannot_make_does_not_compile(tmp_path: Path) -> None:
    odd = replace(NANO, serial=replace(NANO.serial, baud=750_000))
    with pytest.raises(ToolchainError, match="TREC_BAUD: 9600, 115200, 230400, 460800, 921600 or 1000000"):
        build(odd, tmp_path / "export")


def test_a_forgotten_direction_of_the_port_is_silence_with_a_name(tmp_path: Path) -> None:
    build(NANO, tmp_path / "export")
    port = tmp_path / "export" / "runtime" / "platform" / "nrf52" / "port.c"
    text = port.read_text(encoding="utf-8")
    port.write_text(text.replace("UART_TASKS_STARTTX = 1;", ""), encoding="utf-8")
    elf = build_firmware(tmp_path / "export", NANO).elf
    with pytest.raises(DeviceError, match="waits for UART0, which is not switched on in both directions"):
        Machine(load_image(elf), NANO, MemoryLine(HELLO)).run()


def test_the_program_lies_behind_the_bootloader(tmp_path: Path) -> None:
    firmware = build(NANO, tmp_path / "export")
    (first, *_), *_ = load_image(firmware.elf).segments
    assert first == 0x1_0000
    header = (tmp_path / "export" / "board" / "board.h").read_text(encoding="utf-8")
    assert "#define TREC_HAS_BOOTLOADER 1\n" in header


def run(program: str, folder: Path, make: CounterMaker) -> int:
    """Raw cycles of a program in the board's Flash."""
    image = assemble(program, NANO, folder)
    machine = Machine(image, NANO, MemoryLine(), make)
    machine.run(until=image.address_of("done"))
    return machine.counter.cycles


@BOTH_COUNTERS
def test_a_missed_line_of_code_waits_three_cycles_and_stays(make: CounterMaker, tmp_path: Path) -> None:
    # From 0x10010: 4 + 2 + 2 + 2 + 2 bytes lie in one line of 16.
    program = "movw r0, #1000\n loop: nop\n nop\n subs r0, #1\n bne loop"
    assert run(program, tmp_path, make) == 5000 + 3


@BOTH_COUNTERS
def test_words_of_data_are_not_cached(make: CounterMaker, tmp_path: Path) -> None:
    # Words 0, 1, 0, 1 of the vector table: each waits for 2 cycles; byte 1 of a word that was just read does not.
    program = """
        mov.w r1, #0x10000
        nop
        ldr r2, [r1]
        ldr r3, [r1, #4]
        ldr r2, [r1]
        ldr r3, [r1, #4]
        ldrb r2, [r1, #5]
    """
    # 1 + 1 + 2 + 1 + 1 + 1 + 1 cycles of the core; code from 0x10010 to 0x1001d: one line.
    assert run(program, tmp_path, make) == 8 + 4 * 2 + 3


@BOTH_COUNTERS
def test_a_loop_of_two_kilobytes_and_a_line_no_longer_fits(make: CounterMaker, tmp_path: Path) -> None:
    # 130 lines over 64 sets of 2 ways. Two sets hold three lines each that chase each other: they miss in each pass,
    # 6 lines of 130; all others miss once.
    body = "movs r0, #3\n loop: .rept 1035\n nop\n .endr\n subs r0, #1\n bne.w loop"
    cycles = 1 + 3 * (1035 + 2) + 2
    assert run(body, tmp_path, make) == cycles + (130 + 2 * 6) * 3
