"""The RP2040 on the twin: boot ROM, second stage, cycle counter, cache, and each wrong setting with its name."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from twin_programs import build, unconnected

from trec_dse import protocol
from trec_dse.errors import DeviceError, ToolchainError
from trec_dse.firmware import build_firmware
from trec_dse.protocol import Command, Frame, Splitter
from trec_dse.resources import data_folder
from trec_dse.rp2040_image import checksum
from trec_dse.target import Oscillator, load_target
from trec_dse.twin.chips import check_serial_port, flash_refusal, make_peripherals
from trec_dse.twin.hooks import NativeCounter, PythonCounter
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine
from trec_dse.twin.registers import Registers
from trec_dse.twin.rp2040 import start_of
from trec_dse.twin.serial_flash import SerialFlash, Ssi
from trec_dse.twin.timing import core_timing
from trec_dse.twin.waits import Cache

PICO = load_target(data_folder("targets") / "raspberry-pi-pico.toml")
HELLO = protocol.encode_frame(Frame(Command.HELLO, 1))
INFER = protocol.encode_frame(Frame(Command.INFER, 2, bytes(range(12))))
RESET = protocol.encode_frame(Frame(Command.RESET, 3))


def devices() -> Mapping[str, Registers]:
    """The peripherals as correct start-up code leaves them: 12 MHz * 133 / 6 / 2."""
    found = {device.name: device for device in make_peripherals(PICO, unconnected())}
    found["RESETS"].words[0] = 0
    found["XOSC"].words[0] = 0xFAB << 12 | 0xAA0
    found["PLL_SYS"].words.update({0x0: 1, 0x4: 1 << 2, 0x8: 133, 0xC: 6 << 16 | 2 << 12})
    found["CLOCKS"].words.update({0x30: 2, 0x3C: 1, 0x48: 1 << 11})
    found["WATCHDOG"].words[0x2C] = 12 | 1 << 9
    # 133 MHz / 921600 * 4 = 577.26 64ths of a divider
    found["UART0"].words.update({0x24: 9, 0x28: 1, 0x2C: 0x70})
    found["IO_BANK0"].words.update({4: 2, 12: 2})
    found["PADS_BANK0"].words.update({4: 0x5A, 8: 0x5A})
    return found


def test_a_correct_start_is_accepted() -> None:
    check_serial_port(PICO, devices())


WRONG = {
    "core clock": ("PLL_SYS", 0x8, 125, r"the core at 125000000 Hz; .* says 133000000 Hz"),
    "oscillator": ("CLOCKS", 0x3C, 0, r"the core at 12000000 Hz; .* says 133000000 Hz"),
    "ring oscillator": ("CLOCKS", 0x30, 0, r"the timer's tick at 541667 Hz; 1000000 to 1000000 Hz"),
    "tick": ("WATCHDOG", 0x2C, 1 << 9 | 6, r"the timer's tick at 2000000 Hz"),
    "no tick": ("WATCHDOG", 0x2C, 12, r"the timer's tick at 0 Hz"),
    "PLL without power": ("PLL_SYS", 0x4, 1 << 5, r"the core at 0 Hz"),
    "baud rate": ("UART0", 0x24, 72, r"sets UART0 to 115426 baud; .* says 921600"),
    "peripheral clock": ("CLOCKS", 0x48, 0, r"sets UART0 to 0 baud"),
    "frame": ("UART0", 0x2C, 0x10, r"leaves UART0 without 8 data bits"),
    "pin": ("IO_BANK0", 12, 0x1F, r"does not lead UART0 to GP1; it must have function 2"),
    "pad": ("PADS_BANK0", 8, 0x1A, r"leaves the pad of GP1 without input"),
    "disabled pad": ("PADS_BANK0", 4, 0xDA, r"leaves the pad of GP0 without input, or its output disabled"),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_wrong_setting_has_its_own_message(what: str) -> None:
    name, offset, value, message = WRONG[what]
    found = devices()
    found[name].words[offset] = value
    with pytest.raises(DeviceError, match=message):
        check_serial_port(PICO, found)


def test_a_pll_out_of_its_range_is_named() -> None:
    found = devices()
    found["PLL_SYS"].words.update({0x8: 266, 0xC: 6 << 16 | 4 << 12})  # 3192 MHz / 24
    with pytest.raises(DeviceError, match="the PLL's oscillator at 3192000000 Hz; 750000000 to 1600000000 Hz"):
        check_serial_port(PICO, found)


def test_the_boot_rom_starts_only_what_carries_its_checksum() -> None:
    stage = bytes(range(252))
    start = start_of(stage + checksum(stage).to_bytes(4, "little") + b"more")
    assert (start.address, start.link) == (0x2004_1F00, 0)
    assert start.copied == ((0x2004_1F00, stage + checksum(stage).to_bytes(4, "little")),)
    with pytest.raises(DeviceError, match=r"checksum is 0x00000000, its bytes give 0x[0-9a-f]{8}; run board/rp2040_im"):
        start_of(stage + bytes(4))


def changed(old: str, new: str, folder: Path, file: str = "boot2.c") -> Machine:
    """The board with a firmware in which one line of its platform is another."""
    build(PICO, folder / "export")
    source = folder / "export" / "runtime" / "platform" / "rp2040" / file
    text = source.read_text(encoding="utf-8")
    assert old in text
    source.write_text(text.replace(old, new), encoding="utf-8")
    elf = build_firmware(folder / "export", PICO).elf
    return Machine(load_image(elf), PICO, MemoryLine(HELLO + RESET))


STAGE_FAULTS = {
    "SPI_NO_COMMAND;": ("SPI_NO_COMMAND;\n    ssi[SSI_SSIENR] = 1;", "the SSI is off"),
    "": ("ssi[SSI_DR0] = FLASH_READ_QUAD;\n", "the Flash expects a command before each read"),
    "#define SPI_WAITS_4 (2u << 11)": ("#define SPI_WAITS_4 (4u << 11)", "the Flash expects a command before each"),
    "#define SSI_BAUDR_HALF 3u": ("#define SSI_BAUDR_HALF 2u", "its clock is no even part of the core's"),
    "SPI_CTRLR0] = SPI_ADDRESS_AND_MODE": (
        "SPI_CTRLR0] = SPI_MODE_BYTE(FLASH_GO_ON) | SPI_ADDRESS_AND_MODE",
        "the SSI sends no address and mode byte over four lines",
    ),
}


@pytest.mark.parametrize("new", STAGE_FAULTS)
def test_a_wrong_second_stage_is_named_before_it_hangs(new: str, tmp_path: Path) -> None:
    old, message = STAGE_FAULTS[new]
    with pytest.raises(DeviceError, match=rf"read of protected 0x1000010\d, in the Flash: .*{message}"):
        changed(old, new, tmp_path).run()


def test_a_flash_whose_four_lines_are_off_is_taught(tmp_path: Path) -> None:
    elf = build(PICO, tmp_path / "export").elf
    line = MemoryLine(HELLO)
    machine = Machine(load_image(elf), PICO, line)
    ssi = machine.device("SSI")
    assert isinstance(ssi, Ssi)
    ssi.flash.has_four_lines = False
    machine.run()
    assert ssi.flash.has_four_lines
    assert line.sent


def test_writing_the_status_takes_a_permission_first() -> None:
    flash = SerialFlash(has_four_lines=False)
    for byte in (0x01, 0x00, 0x02):
        flash.exchange(byte)
    flash.deselect()
    assert not flash.has_four_lines
    flash.exchange(0x06)
    flash.deselect()
    for byte in (0x01, 0x00, 0x02):
        flash.exchange(byte)
    flash.deselect()
    assert flash.has_four_lines
    assert [flash.exchange(byte) for byte in (0x35, 0)] == [0, 2]


def test_settings_of_a_controller_that_is_on_do_not_count() -> None:
    ssi = Ssi(SerialFlash())
    ssi.write(Ssi.SSIENR, 1)
    ssi.write(Ssi.BAUDR, 2)
    assert ssi.words.get(Ssi.BAUDR) is None
    assert flash_refusal(PICO, {"SSI": ssi}).startswith("the SSI is off, or its clock")


BLOCKS = {
    "RESETS_PLL_SYS": "0x4002800., while PLL_SYS is held in reset; bit 12 of RESETS",
    "RESETS_IO_BANK0 | ": "0x400140.., while IO_BANK0 is held in reset; bit 5 of RESETS",
    "RESETS_PADS_BANK0 | ": "0x4001c0.., while PADS_BANK0 is held in reset; bit 8 of RESETS",
    " | RESETS_UART": "0x400340.., while UART0 is held in reset; bit 22 of RESETS",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_that_is_held_in_reset_is_named(block: str, tmp_path: Path) -> None:
    call = "release_from_reset(RESETS_IO_BANK0 | RESETS_PADS_BANK0 | RESETS_TIMER | RESETS_UART);"
    line = "    release_from_reset(RESETS_PLL_SYS);\n" if block == "RESETS_PLL_SYS" else call
    with pytest.raises(DeviceError, match=BLOCKS[block]):
        changed(line, line.replace(block, "0"[: block == "RESETS_PLL_SYS"]), tmp_path, "port.c").run()


def test_a_watchdog_that_resets_nothing_is_named(tmp_path: Path) -> None:
    line = "    PSM_WDSEL = PSM_WDSEL_ALL_BUT_OSCILLATORS;\n"
    with pytest.raises(DeviceError, match=r"triggers the watchdog, which resets nothing: PSM \+ 0x08 is 0"):
        changed(line, "", tmp_path, "port.c").run()


def test_a_board_without_crystal_is_not_waited_for_in_vain(tmp_path: Path) -> None:
    elf = build(PICO, tmp_path / "export").elf
    with pytest.raises(DeviceError, match="waits for a crystal; the board's oscillator: clock, 12000000 Hz"):
        Machine(load_image(elf), replace(PICO, oscillator=Oscillator("clock", 12_000_000)), MemoryLine(HELLO)).run()


def test_clocks_that_the_pll_cannot_make_do_not_compile(tmp_path: Path) -> None:
    serial = replace(PICO.serial, clock_hz=48_000_000)
    with pytest.raises(ToolchainError, match=r"TREC_CLOCK_HZ is out of the PLL\\?'s reach"):
        build(replace(PICO, clock_hz=48_000_000, serial=serial), tmp_path / "export")


def test_a_pin_that_the_port_does_not_reach_is_named() -> None:
    with pytest.raises(DeviceError, match="UART0 reaches GP1, GP13, GP17, GP29, not GP2"):
        make_peripherals(replace(PICO, serial=replace(PICO.serial, rx="GP2")), unconnected())
    with pytest.raises(DeviceError, match="no model of UART2; choose from UART0, UART1"):
        make_peripherals(replace(PICO, serial=replace(PICO.serial, usart="UART2")), unconnected())


def test_the_other_port_works_on_its_own_pins(tmp_path: Path) -> None:
    serial = replace(PICO.serial, usart="UART1", base=0x4003_8000, tx="GP4", rx="GP5")
    other = replace(PICO, serial=serial)
    line = MemoryLine(HELLO)
    Machine(load_image(build(other, tmp_path / "export").elf), other, line).run()
    assert line.sent


def test_it_answers_resets_and_answers_again_the_same(tmp_path: Path) -> None:
    line = MemoryLine(INFER + RESET)
    elf = build(PICO, tmp_path / "export").elf
    Machine(load_image(elf), PICO, line).run()
    assert [frame.command for frame in _frames(line)] == [0x82, 0x84]
    assert _frames(line)[0].payload[-3:] == bytes([6, 44, 114])


def test_cycles_are_counted_beyond_the_24_bits_of_systick(tmp_path: Path) -> None:
    # 6 million turns of 4 cycles are 24 million, more than a turn of SysTick (16.8); the Flash's misses come on top.
    build(PICO, tmp_path / "export")
    port = tmp_path / "export" / "runtime" / "platform" / "rp2040" / "port.c"
    text = port.read_text(encoding="utf-8")
    slow = text.replace(
        "void trec_port_init(void)\n", "uint32_t slow_cycles(void);\n" + _SLOW + "\nvoid trec_port_init(void)\n"
    )
    assert slow != text
    port.write_text(slow, encoding="utf-8")
    network = tmp_path / "export" / "network" / "trec_network.c"
    network.write_text(
        network.read_text(encoding="utf-8").replace("void trec_net_run(void)\n{", _CALL), encoding="utf-8"
    )
    line = MemoryLine(INFER)
    Machine(load_image(build_firmware(tmp_path / "export", PICO).elf), PICO, line).run()
    cycles = int.from_bytes(_frames(line)[0].payload[:8], "little")
    assert 4 * 6_000_000 <= cycles < 4 * 6_000_000 + 20_000


_SLOW = """
uint32_t slow_cycles(void)
{
    uint32_t i = 6000000u;
    __asm__ volatile(".syntax unified\\n1: nop\\nsubs %0, %0, #1\\nbne 1b" : "+l"(i) : : "cc");
    return i;
}
"""
_CALL = "uint32_t slow_cycles(void);\nvoid trec_net_run(void)\n{\n    (void)slow_cycles();"


def test_one_cache_holds_code_and_data_word_by_word() -> None:
    timing = core_timing(PICO)
    assert timing.is_unified
    assert timing.code == timing.data == Cache(n_sets=2048, n_ways=2, line_bytes=4, miss=50)


def test_both_counters_agree_on_one_cache_for_all(tmp_path: Path) -> None:
    elf = build(PICO, tmp_path / "export").elf
    counts = []
    for make in (NativeCounter, PythonCounter):
        machine = Machine(load_image(elf), PICO, MemoryLine(INFER), make)
        machine.run()
        counts.append(machine.counter.cycles)
    assert counts[0] == counts[1]


def _frames(line: MemoryLine) -> list[Frame]:
    return [protocol.decode_frame(piece) for piece in Splitter().feed(bytes(line.sent))]
