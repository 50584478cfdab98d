"""Text of the files in an export folder that depend on the board: board.h, link.ld, Makefile, README.md."""

from collections.abc import Sequence

from trec_dse.errors import TargetError
from trec_dse.flash_tools import flash_tools
from trec_dse.resources import package_folder
from trec_dse.target import Target, pin_place
from trec_dse.toolchain import WARNINGS, Compiler, target_flags, target_libraries, target_link_flags

DEFAULT_STACK_BYTES = 2048
BOARD_FOLDER = "board"
FINISHER = "board/rp2040_image.py"  # what is run on a linked ELF of a chip with a second boot stage
_NO_FAMILY = ("host", "mps2", "stm32")  # what several share, and what is no chip
# The last word is the checksum; a stage that is too long does not link.
_SECOND_STAGE = """\
    .boot2 : {{ trec_boot2_start = .; KEEP(*(.boot2)) . = trec_boot2_start + 252; LONG(0) }} > {flash} :code =0

"""
# Behind the variables, so that the stack stays lowest whatever the region.
_PLACED = """
    /* Tables of the network that start-up copies out of Flash. */
    .placed : ALIGN(4)
    {{
        trec_placed_start = .;
        *(.trec_placed)
        . = ALIGN(4);
        trec_placed_end = .;
    }} > {region} AT > {flash} :placed
    trec_placed_load = LOADADDR(.placed);
"""
PLACEMENT_HEADER = "board/trec_placement.h"
KNOWN_ANSWERS = "network/trec_kat.c"  # for the test on the host; not part of a firmware


def runtime_folders(target: Target) -> tuple[str, ...]:
    """Folders below `runtime/` that a firmware for `target` is made of, relative to it.

    What families of one maker share lies in folders that name them: `stm32` is for every STM32, `stm32_f2_f4` for two.
    """
    platforms = sorted(path.name for path in (package_folder("runtime") / "platform").iterdir())
    if target.platform not in platforms:
        families = ", ".join(name for name in platforms if "_" not in name and name not in _NO_FAMILY)
        raise TargetError(f"{target.name}: no platform {target.platform!r}; there are {families}")
    needed = [f"platform/{name}" for name in platforms if _serves(name, target.platform)]
    return ("include", "arch", "common", "protocol", "platform/cortex_m", *needed)


def _serves(folder: str, platform: str) -> bool:
    """Whether a platform folder is part of that platform."""
    maker, *families = folder.split("_")
    return platform.startswith(maker) and (not families or platform.removeprefix(maker) in families)


def has_second_stage(target: Target) -> bool:
    """Whether the chip starts a program through a stage in its Flash that carries a checksum (`rp2040_image.py`)."""
    return (package_folder("runtime") / "platform" / target.platform / "boot2.c").is_file()


def include_folders(target: Target) -> tuple[str, ...]:
    """Include folders of a firmware, relative to the export folder."""
    return ("network", "kernels", *(f"runtime/{name}" for name in runtime_folders(target)), BOARD_FOLDER)


def source_folders(target: Target) -> tuple[str, ...]:
    """Folders whose C files are compiled into a firmware, relative to the export folder."""
    return ("network", "kernels", *(f"runtime/{name}" for name in runtime_folders(target)))


def board_header(target: Target, stack_bytes: int = DEFAULT_STACK_BYTES) -> str:
    """board.h: what differs between the boards that share a platform folder."""
    kind = target.oscillator.kind
    (tx_port, tx_pin), (rx_port, rx_pin) = pin_place(target.serial.tx), pin_place(target.serial.rx)
    start = target.region(target.flash_region).origin
    has_bootloader = any(region.kind == "flash" and region.origin < start for region in target.regions)
    return f"""\
/* {target.name}: what its platform folder cannot know. */
#ifndef TREC_BOARD_H
#define TREC_BOARD_H

#define TREC_CLOCK_HZ {target.clock_hz}u
#define TREC_OSCILLATOR_HZ {target.oscillator.hz}u
#define TREC_OSCILLATOR_IS_CLOCK {int(kind == "clock")}
#define TREC_OSCILLATOR_IS_INTERNAL {int(kind == "internal")}
#define TREC_FLASH_WAIT_STATES {target.flash.wait_states}u
#define TREC_USART_BASE 0x{target.serial.base:08x}u /* {target.serial.usart} */
#define TREC_USART_CLOCK_HZ {target.serial.clock_hz}u
#define TREC_BAUD {target.serial.baud}u
#define TREC_TX_PORT {tx_port}u /* {target.serial.tx} */
#define TREC_TX_PIN {tx_pin}u
#define TREC_RX_PORT {rx_port}u /* {target.serial.rx} */
#define TREC_RX_PIN {rx_pin}u
#define TREC_PIN_FUNCTION {target.serial.pin_function}u
#define TREC_HAS_BOOTLOADER {int(has_bootloader)}
#define TREC_STACK_BYTES {stack_bytes}u
#define TREC_PLACES_TABLES {int(target.placed_region is not None)}

#endif
"""


def marker_header(target: Target, *, at_rest: int) -> str:
    """trec_marker.h of a firmware that marks with the target's pin, which is `at_rest` 0 or 1 while nothing is marked.

    Raises `TargetError` where the board's file names no pin.
    """
    if target.marker is None:
        raise TargetError(
            f'{target.name}: its file has no [marker]; add one with a free pin of the board, such as pin = "PA8"'
        )
    port, pin = pin_place(target.marker.pin)
    return f"""\
/* The pin that tells an instrument when the network runs. Generated. */
#ifndef TREC_MARKER_H
#define TREC_MARKER_H

#include <stdint.h>

#define TREC_MARKER_PORT {port}u /* {target.marker.pin} */
#define TREC_MARKER_PIN {pin}u
#define TREC_MARKER_AT_REST {at_rest}u

void trec_mark(uint32_t level);

#endif
"""


def linker_script(target: Target) -> str:
    """link.ld: the board's limits, so that what exceeds them does not link."""
    flash, ram = target.region(target.flash_region), target.region(target.ram_region)
    placed = target.placed_region
    own = placed if placed != ram else None
    text = (package_folder("runtime") / "link.ld.in").read_text(encoding="utf-8")
    values = {
        "@FLASH@": flash.name,
        "@FLASH_ORIGIN@": f"0x{flash.origin:08x}",
        "@FLASH_SIZE@": f"0x{flash.size:x}",
        "@RAM@": ram.name,
        "@RAM_ORIGIN@": f"0x{ram.origin:08x}",
        "@RAM_SIZE@": f"0x{ram.size:x}",
        "@SECOND_STAGE@": _SECOND_STAGE.format(flash=flash.name) if has_second_stage(target) else "",
        "@PLACED_REGION@": f"    {own.name} (rw) : ORIGIN = 0x{own.first:08x}, LENGTH = 0x{own.room:x}\n"
        if own
        else "",
        "@PLACED_SEGMENT@": "    placed PT_LOAD FLAGS(6);\n" if placed else "",
        "@PLACED@": _PLACED.format(region=placed.name, flash=flash.name) if placed else "",
    }
    for word, value in values.items():
        text = text.replace(word, value)
    return text


def placement_header(target: Target) -> str:
    """trec_placement.h: where the linker puts the tables that `network/trec_network.c` marks; "" if nowhere."""
    region = target.placed_region
    if region is None:
        return ""
    return f"""\
/* Tables that start-up copies from Flash into {region.name}: link.ld says where, startup.c does it. */
#ifndef TREC_PLACEMENT_H
#define TREC_PLACEMENT_H

#define TREC_PLACED __attribute__((section(".trec_placed")))

#endif
"""


def makefile(target: Target) -> str:
    """Makefile: the same build as ours, by hand; works with arm-none-eabi-gcc and with `zig cc`."""
    gcc = Compiler("gcc", ("arm-none-eabi-gcc",), "")
    zig = Compiler("zig", ("zig", "cc"), "")
    sources = source_folders(target)
    includes = " ".join(f"-I{name}" for name in include_folders(target))
    host_includes = " ".join(f"-I{name}" for name in include_folders(target) if "platform" not in name)
    tools = flash_tools(target)
    seal = f"\n\t$(PYTHON) {FINISHER} $@" if has_second_stage(target) else ""
    return f"""\
# Firmware for {target.name} ({target.mcu}).
#   make         build/firmware.elf and its size
#   make test    known answers of this network, on this machine
#   make flash   through OpenOCD; `make {tools.rule}` {tools.hint}
# CC=arm-none-eabi-gcc or CC="python3 -m ziglang cc"; without CC the first of them that is there.

PYTHON ?= python3
HOSTCC ?= cc
OBJCOPY ?= arm-none-eabi-objcopy
BIN := build/firmware.bin
ifeq ($(origin CC),default)
CC := $(or $(shell command -v arm-none-eabi-gcc),$(PYTHON) -m ziglang cc)
endif

ifneq (,$(findstring zig,$(CC)))
CFLAGS += {_words(target_flags(zig, target.core, target.optimize))}
LDFLAGS += {_words(target_link_flags(zig, target.core))}
else
CFLAGS += {_words(target_flags(gcc, target.core, target.optimize))}
LDFLAGS += {_words(target_link_flags(gcc, target.core))}
LDLIBS += {_words(target_libraries(gcc))}
endif

INCLUDES := {includes}
SOURCES := $(sort $(filter-out {KNOWN_ANSWERS},$(wildcard {" ".join(f"{name}/*.c" for name in sources)})))
HEADERS := $(wildcard {" ".join(f"{name}/*.h" for name in include_folders(target))})
OBJECTS := $(SOURCES:%.c=build/make/%.o)
TEST_SOURCES := $(wildcard network/*.c kernels/*.c runtime/common/*.c) runtime/platform/host/kat.c

.PHONY: all test flash {tools.rule} clean
all: build/firmware.elf

build/firmware.elf: $(OBJECTS) board/link.ld
\t$(CC) $(LDFLAGS) -Tboard/link.ld $(OBJECTS) $(LDLIBS) -o $@{seal}

build/make/%.o: %.c $(HEADERS)
\t@mkdir -p $(@D)
\t$(CC) $(CFLAGS) $(INCLUDES) -c $< -o $@

build/kat: $(TEST_SOURCES) $(HEADERS)
\t@mkdir -p $(@D)
\t$(HOSTCC) -O2 {_words(WARNINGS)} {host_includes} $(TEST_SOURCES) -o $@

test: build/kat
\t./build/kat

flash: build/firmware.elf
\topenocd -f {" -f ".join(tools.openocd)} -c "program $< verify reset exit"

{tools.rule}: build/firmware.elf
\t$(OBJCOPY) -O binary $< $(BIN)
\t{tools.recipe}

clean:
\trm -rf build
"""


def readme(target: Target) -> str:
    """README.md: what is in the folder and what to do with it."""
    flash, ram = target.region(target.flash_region), target.region(target.ram_region)
    tools = flash_tools(target)
    return f"""\
# An int8 network for {target.name}

C11 source of one network, its firmware for the {target.mcu} ({target.core}, {target.clock_hz / 1e6:g} MHz, \
{flash.size // 1024} KiB Flash, {ram.size // 1024} KiB SRAM) and the answers it has to give.
Nothing here allocates memory or needs a C library.

| folder | content |
|---|---|
| `manifest.json` | where this network comes from; `build_id` is what the running firmware says it is |
| `network/` | generated: the graph as calls (`trec_network.c`), known answers (`trec_kat.c`) |
| `kernels/` | the operators that this network uses |
| `runtime/` | start-up code, serial protocol, arithmetic that depends on the core |
| `board/` | `board.h` (clock, USART, pins, stack) and `link.ld` (memory) |
| `build/` | `firmware.elf`, `firmware.bin` |
| `CMakeLists.txt` `library.json` `zephyr/` | the same library for CMake, PlatformIO (`lib_deps`) and Zephyr |
| `single/trec_net.h` | all of the network in one file, for sketches |
| `examples/classify.c` | a program that uses it |

    make          # build/firmware.elf, with arm-none-eabi-gcc or zig
    make test     # the known answers, computed on this machine
    make flash    # through OpenOCD
    make {tools.rule}   # {tools.hint}

The firmware answers on {target.serial.usart} at {target.serial.baud} baud, 8N1; it sends on {target.serial.tx} and \
receives on {target.serial.rx}.
`trec_arena`, the stack and every weight are visible in the symbol table of the ELF.{_placing(target)}

To use the network in a program of your own, take it in by one of these, or compile `network/trec_network.c`,
`kernels/`, `runtime/arch/` and `runtime/common/` with
`-Inetwork -Ikernels -Iruntime/include -Iruntime/arch -Iruntime/common`. Then write the image to
`trec_arena + TREC_INPUT_OFFSET`, call `trec_net_run()` and read `trec_arena + TREC_OUTPUT_OFFSET`.
"""


def _placing(target: Target) -> str:
    region = target.placed_region
    if region is None:
        return ""
    return f"""
Tables marked `TREC_PLACED` are copied into {region.name} by `startup.c`. Only this folder's own firmware does so \
(`make`, CMake with `board/toolchain.cmake`); taken into another project (PlatformIO, Zephyr, the single header) they \
stay in Flash, and the answers are the same."""


def _words(flags: Sequence[str]) -> str:
    return " ".join(flags)
