"""Small firmware for the twin's tests: assembly of a few lines, and the network of `tests/c`."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from trec_dse.device import Firmware
from trec_dse.firmware import build_firmware, write_export
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import find_target_compiler, run_compiler, target_flags
from trec_dse.twin.counter import CounterMaker
from trec_dse.twin.hooks import NativeCounter
from trec_dse.twin.image import Image, load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine
from trec_dse.twin.registers import Wires

BUILD_ID = "0123456789abcdef"
M4 = load_target(data_folder("targets") / "stm32f469i-disco.toml")
M7 = load_target(data_folder("targets") / "nucleo-f746zg.toml")
M3 = load_target(data_folder("targets") / "nucleo-f207zg.toml")
M0_PLUS = load_target(data_folder("targets") / "nucleo-g0b1re.toml")

_SCRIPT = """
MEMORY {{
    FLASH (rx) : ORIGIN = {origin}, LENGTH = 64K
    RAM (rw) : ORIGIN = 0x20000000, LENGTH = 64K
}}
SECTIONS {{
    .text : {{ KEEP(*(.text*)) }} > FLASH
    /DISCARD/ : {{ *(.ARM.*) }}
}}
"""
# Stack and start, then the program at 0x10 in the Flash: the first address of a Flash line and of a cache line's half.
_FRAME = """
    .syntax unified
    .cpu {core}
{fpu}
    .thumb
    .text
    .word 0x20001000
    .word Reset_Handler
    .word 0
    .word 0
    .globl Reset_Handler
    .thumb_func
    .type Reset_Handler, %function
Reset_Handler:
{program}
    .globl done
    .type done, %function
done:
    b done
    .size Reset_Handler, . - Reset_Handler
    .ltorg
"""
_FPU = {"cortex-m4": ".fpu fpv4-sp-d16", "cortex-m7": ".fpu fpv5-sp-d16"}


def without_wait_states(target: Target) -> Target:
    """The same board with Flash as fast as the core, so that only the core's own rules count."""
    return replace(target, flash=replace(target.flash, wait_states=0))


def assemble(program: str, target: Target, folder: Path) -> Image:
    """A linked program that starts at `program` and ends at the function `done`."""
    origin = target.region(target.flash_region).origin
    (folder / "script.ld").write_text(_SCRIPT.format(origin=origin), encoding="utf-8")
    text = _FRAME.format(program=program, core=target.core, fpu=_FPU.get(target.core, ""))
    (folder / "program.s").write_text(text, encoding="utf-8")
    compiler = find_target_compiler()
    flags = [flag for flag in target_flags(compiler, target.core) if not flag.startswith("-W")]
    # without -g zig strips the symbols
    link = ["-g", "-nostdlib", "-Wl,-e,Reset_Handler", f"-Wl,-T,{folder / 'script.ld'}"]
    elf = folder / "program.elf"
    run_compiler(compiler, [*flags, *link, str(folder / "program.s"), "-o", str(elf)]).check()
    return load_image(elf)


def execute(program: str, target: Target, folder: Path, make: CounterMaker = NativeCounter) -> Machine:
    """A machine that has run `program` to its end."""
    image = assemble(program, target, folder)
    machine = Machine(image, target, MemoryLine(), make)
    machine.run(until=image.address_of("done"))
    return machine


def unconnected() -> Wires:
    """Wires for peripherals that no firmware runs with."""
    return Wires(MemoryLine(), _nothing, _nothing, int, _nothing)


def _nothing() -> None:
    """No port is switched on here."""


@cache
def tiny_files() -> dict[str, str]:
    """The generated part of an export folder: 12 bytes in, 3 bytes out, two TREC layers."""
    folder = Path(__file__).parent / "c"
    names = [f"{part}.{ending}" for part in ("network", "kat") for ending in ("c", "h")]
    files = {f"network/trec_{name}": (folder / f"tiny_{name}").read_text(encoding="utf-8") for name in names}
    return {"manifest.json": json.dumps({"build_id": BUILD_ID}), **files}


def build(target: Target, folder: Path, old: str = "", new: str = "") -> Firmware:
    """The firmware of the tiny network, with the text `old` in its trec_network.c replaced by `new`."""
    files = dict(tiny_files())
    files["network/trec_network.c"] = files["network/trec_network.c"].replace(old, new)
    write_export(folder, target, files, [])
    return build_firmware(folder, target)
