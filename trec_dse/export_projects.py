"""Text of the files by which other build systems take an exported network in: CMake, PlatformIO, Zephyr, one header."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from trec_dse.export_files import FINISHER, KNOWN_ANSWERS, has_second_stage, include_folders, source_folders
from trec_dse.target import Target
from trec_dse.toolchain import Compiler, target_flags, target_libraries, target_link_flags

LIBRARY_FOLDERS = ("network", "kernels", "runtime/include", "runtime/arch", "runtime/common")
HEADER = "single/trec_net.h"
_CALLS, _PUBLIC = "network/trec_network.c", "network/trec_network.h"
_INCLUDE = re.compile(r'^#include "([^"]+)".*\n', re.MULTILINE)
_COMMENTS_AND_TEXTS = re.compile(r'(/\*.*?\*/|"(?:[^"\\]|\\.)*")', re.DOTALL)
# What a file keeps to itself: functions and data, types, constants of an enum.
_OWN = (
    re.compile(r"^static (?:inline )?(?:const )?(?:struct )?\w+ \**\(?\**(\w+)", re.MULTILINE),
    re.compile(r"^\} (\w+);", re.MULTILINE),
)
_ENUM = re.compile(r"^enum \{(.*?)\};", re.MULTILINE | re.DOTALL)
_MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)


def project_files(target: Target, library: Sequence[str]) -> dict[str, str]:
    """What stands beside the Makefile. `library`: the files below `LIBRARY_FOLDERS`, relative to the export folder."""
    sources = [name for name in sorted(library) if name.endswith(".c") and name != KNOWN_ANSWERS]
    return {
        "CMakeLists.txt": _cmake(target, sources),
        "board/toolchain.cmake": _toolchain(target),
        "library.json": _platformio(sources),
        "zephyr/module.yml": "# A Zephyr module: add this folder to ZEPHYR_EXTRA_MODULES.\nname: trec_network\nbuild:\n"
        "  cmake: zephyr\n",
        "zephyr/CMakeLists.txt": _zephyr(sources),
        "examples/classify.c": _EXAMPLE,
    }


def single_header(texts: Mapping[str, str]) -> str:
    """trec_net.h: the library in one file, for sketches and other projects that take single files.

    `texts`: file below `LIBRARY_FOLDERS` -> its text. Names that a C file keeps to itself get that file's name in
    front, so that all files can be one translation unit, beside whatever else is in it.
    """
    headers = {name.rpartition("/")[2]: text for name, text in texts.items() if name.endswith(".h")}
    seen: set[str] = {"trec_network.h"}
    parts = [_inlined('#include "trec_types.h"\n', headers, seen)]
    sources = sorted(name for name in texts if name.endswith(".c") and name != KNOWN_ANSWERS)
    for name in (*(n for n in sources if n != _CALLS), _CALLS):
        parts.append(f"/* ---- {name} ---- */\n" + _inlined(_renamed(name, texts[name]), headers, seen))
        parts += [f"#undef {macro}\n" for macro in _MACRO.findall(texts[name])]
    return _SINGLE.format(public=texts[_PUBLIC].strip(), implementation="\n".join(parts).strip())


def _inlined(text: str, headers: Mapping[str, str], seen: set[str]) -> str:
    """`text` with every header of ours in the place where it is first included."""

    def replace(found: re.Match[str]) -> str:
        name = found[1]
        if name in seen or name not in headers:
            return ""
        seen.add(name)
        return _inlined(headers[name], headers, seen) + "\n"

    return _INCLUDE.sub(replace, text)


def _renamed(name: str, text: str) -> str:
    """`text` of a C file, what is its own under longer names; members of structs, behind a point, keep theirs."""
    stem = name.rpartition("/")[2].removesuffix(".c").removeprefix("trec_").removesuffix("_s8")
    own = sorted({word for word in _own_names(text) if not word.startswith("trec_")})
    if not own:
        return text
    word = re.compile(rf"(?<![\w.])(?<!->)({'|'.join(own)})(?!\w)")
    pieces = _COMMENTS_AND_TEXTS.split(text)
    return "".join(piece if i % 2 else word.sub(rf"{stem}_\1", piece) for i, piece in enumerate(pieces))


def _own_names(text: str) -> Iterator[str]:
    for pattern in _OWN:
        yield from pattern.findall(text)
    for constants in _ENUM.findall(text):
        yield from (part.partition("=")[0].strip() for part in constants.split(",") if part.strip())


def _cmake(target: Target, sources: Sequence[str]) -> str:
    firmware = " ".join(f"{name}/*.c" for name in source_folders(target))
    return f"""\
# The network as a library. In a project of your own:
#   add_subdirectory(this_folder)
#   target_link_libraries(your_program PRIVATE trec_network)
# By itself, for this machine:   cmake -B build/host && cmake --build build/host && ctest --test-dir build/host
# The firmware for {target.name}:   cmake -B build/board -DCMAKE_TOOLCHAIN_FILE=board/toolchain.cmake && cmake --build \
build/board
cmake_minimum_required(VERSION 3.16)
project(trec_network LANGUAGES C)

add_library(trec_network OBJECT
{_lines(sources)})
target_include_directories(trec_network PUBLIC {" ".join(LIBRARY_FOLDERS)})
target_compile_features(trec_network PUBLIC c_std_11)

if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  if(CMAKE_SYSTEM_NAME STREQUAL "Generic")
    file(GLOB firmware_sources RELATIVE ${{CMAKE_CURRENT_SOURCE_DIR}} {firmware})
    list(REMOVE_ITEM firmware_sources {KNOWN_ANSWERS})
    add_executable(firmware.elf ${{firmware_sources}})
    target_include_directories(firmware.elf PRIVATE {" ".join(include_folders(target))})
    target_compile_options(firmware.elf PRIVATE ${{TREC_FLAGS}})
    target_link_options(firmware.elf PRIVATE ${{TREC_LINK_FLAGS}} -T${{CMAKE_CURRENT_SOURCE_DIR}}/board/link.ld)
    target_link_libraries(firmware.elf PRIVATE ${{TREC_LIBRARIES}}){_finish(target)}
  else()
    enable_testing()
    add_executable(known_answers runtime/platform/host/kat.c {KNOWN_ANSWERS})
    target_link_libraries(known_answers PRIVATE trec_network)
    add_test(NAME known_answers COMMAND known_answers)
    add_executable(classify examples/classify.c)
    target_link_libraries(classify PRIVATE trec_network)
  endif()
endif()
"""


def _finish(target: Target) -> str:
    """What CMake does to a linked firmware of a chip with a second boot stage."""
    if not has_second_stage(target):
        return ""
    return f"""
    find_program(PYTHON NAMES python3 python REQUIRED)
    add_custom_command(TARGET firmware.elf POST_BUILD
      COMMAND ${{PYTHON}} ${{CMAKE_CURRENT_SOURCE_DIR}}/{FINISHER} $<TARGET_FILE:firmware.elf>)"""


def _toolchain(target: Target) -> str:
    gcc, zig = Compiler("gcc", ("arm-none-eabi-gcc",), ""), Compiler("zig", ("zig", "cc"), "")
    return f"""\
# For CMake: a compiler for the {target.core}. arm-none-eabi-gcc where it is on the path, else zig (-DZIG=its path).
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR {target.core})
find_program(TREC_GCC arm-none-eabi-gcc)
if(TREC_GCC)
  set(CMAKE_C_COMPILER ${{TREC_GCC}})
  set(TREC_FLAGS {" ".join(target_flags(gcc, target.core))})
  set(TREC_LINK_FLAGS {" ".join(target_link_flags(gcc, target.core))})
  set(TREC_LIBRARIES {" ".join(target_libraries(gcc))})
else()
  find_program(ZIG zig REQUIRED)
  set(CMAKE_C_COMPILER ${{ZIG}} cc)
  set(TREC_FLAGS {" ".join(target_flags(zig, target.core))})
  set(TREC_LINK_FLAGS {" ".join(target_link_flags(zig, target.core))})
  set(TREC_LIBRARIES)
endif()
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG)
set(CMAKE_C_COMPILER_WORKS TRUE)
"""


def _platformio(sources: Sequence[str]) -> str:
    library = {
        "name": "trec_network",
        "version": "1.0.0",
        "description": "An int8 network with its kernels: C11, no allocation, no C library.",
        "frameworks": "*",
        "platforms": "*",
        "headers": "trec_network.h",
        "build": {
            "srcDir": ".",
            "includeDir": "network",
            "srcFilter": ["-<*>", *(f"+<{name}>" for name in sources)],
            "flags": [f"-I{name}" for name in LIBRARY_FOLDERS],
        },
    }
    return json.dumps(library, indent=2) + "\n"


def _zephyr(sources: Sequence[str]) -> str:
    return f"""\
# The network as a library of a Zephyr application, which then includes trec_network.h.
zephyr_library_named(trec_network)
zephyr_library_sources(
{_lines(["../" + name for name in sources])})
zephyr_include_directories({" ".join("../" + name for name in LIBRARY_FOLDERS)})
"""


def _lines(names: Sequence[str]) -> str:
    return "\n".join(f"  {name}" for name in names)


_EXAMPLE = """\
/* Classifies one image: bytes from standard input, as the network reads them, to the number of the class. */
#include <stdio.h>

#include "trec_network.h"

int main(void)
{
    if (fread(trec_arena + TREC_INPUT_OFFSET, 1, TREC_INPUT_BYTES, stdin) != TREC_INPUT_BYTES) {
        return 1;
    }
    trec_net_run();
    const int8_t *scores = (const int8_t *)trec_arena + TREC_OUTPUT_OFFSET;
    int best = 0;
    for (int i = 1; i < TREC_OUTPUT_BYTES; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    printf("%d\\n", best);
    return 0;
}
"""

_SINGLE = """\
/* An int8 network in one file. Generated.
 *
 * Include it wherever the network is used. In one C file (not C++: the initialisers are C11) define
 * TREC_NET_IMPLEMENTATION before that. Nothing here allocates memory or needs a C library:
 *
 *     memcpy(trec_arena + TREC_INPUT_OFFSET, image, TREC_INPUT_BYTES);
 *     trec_net_run();
 *     const int8_t *scores = (const int8_t *)trec_arena + TREC_OUTPUT_OFFSET;
 */
#ifdef __cplusplus
extern "C" {{
#endif
{public}
#ifdef __cplusplus
}}
#endif

#ifdef TREC_NET_IMPLEMENTATION
{implementation}
#endif
"""
