"""An exported network is taken in by CMake, PlatformIO, Zephyr and single-file projects, and answers the same there."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_every_op import OPS, oracle, random_images, random_network
from tiny_network import tiny_files, write_tiny_export

from trec_dse.codegen import generate, kernel_sources
from trec_dse.export_projects import HEADER, LIBRARY_FOLDERS, single_header
from trec_dse.firmware import write_export
from trec_dse.memory import plan_memory
from trec_dse.resources import data_folder, package_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import WARNINGS, find_host_compiler, find_target_compiler

BUILD_ID = "00112233445566aa"
SKETCH = """
#include <stdio.h>
#define TREC_NET_IMPLEMENTATION
#include "trec_net.h"
static int smaller(int a, int b) { return a < b ? a : b; } /* names that kernels have for themselves, too */
int main(void)
{
    while (fread(trec_arena + TREC_INPUT_OFFSET, 1, TREC_INPUT_BYTES, stdin) == TREC_INPUT_BYTES) {
        trec_net_run();
        fwrite(trec_arena + TREC_OUTPUT_OFFSET, 1, TREC_OUTPUT_BYTES, stdout);
    }
    return smaller(0, 1);
}
"""
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="no cmake on the path")


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(data_folder("targets") / "stm32f469i-disco.toml")


@pytest.fixture
def tiny(tmp_path: Path, target: Target) -> Path:
    write_tiny_export(tmp_path / "tiny", target)
    return tmp_path / "tiny"


def run(*command: str | Path, folder: Path, text: bytes = b"") -> bytes:
    done = subprocess.run(list(map(str, command)), cwd=folder, input=text, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout


def compile_program(folder: Path, source: str, include: list[str]) -> Path:
    (folder / "program.c").write_text(source)
    flags = [*WARNINGS, "-std=c11", "-O1", *(f"-I{name}" for name in include)]
    run(*find_host_compiler().command, *flags, "program.c", "-o", "program", folder=folder)
    return folder / "program"


@pytest.mark.parametrize("kind", OPS)
def test_one_header_is_the_whole_network(kind: str, tmp_path: Path, target: Target) -> None:
    _, graph, _ = random_network(kind, 3)
    write_export(tmp_path / "net", target, generate(graph, plan_memory(graph), BUILD_ID), kernel_sources(graph))
    program = compile_program(tmp_path / "net", SKETCH, ["single"])
    images = random_images(graph, 3)
    answers = np.frombuffer(run(program, folder=tmp_path, text=images.tobytes()), np.int8)
    assert np.array_equal(answers, oracle(graph, images).reshape(-1))


def test_the_kernels_of_all_operators_are_one_translation_unit(tmp_path: Path, target: Target) -> None:
    kernels = [path for kind in OPS for path in sorted((package_folder("ops") / kind).glob("*.[ch]"))]
    write_export(tmp_path / "net", target, tiny_files(), kernels)
    text = (tmp_path / "net" / HEADER).read_text()
    assert text.count("/* ---- kernels/") == len(OPS)
    compile_program(tmp_path / "net", SKETCH, ["single"])


def test_names_of_a_file_get_its_name_in_front_and_members_keep_theirs() -> None:
    source = """#include "trec_add_s8.h"
enum { TILE = 4, MOST = 2 };
typedef struct {
    int32_t start;
} workspace;
/* start begins */
static void start(workspace *w) { w->start = TILE; }
static const int32_t table[MOST] = {1, 2};
#define TWICE(x) (2 * (x))
int32_t trec_add(workspace w) { start(&w); return w.start + TWICE(table[0]); }
"""
    files = {
        "kernels/trec_add_s8.c": source,
        "kernels/trec_add_s8.h": "/* the header */\n",
        "runtime/include/trec_types.h": "/* types */\n",
        "network/trec_network.c": '#include "trec_network.h"\n#include "trec_add_s8.h"\nint last;\n',
        "network/trec_network.h": "/* public */",
    }
    text = single_header(files)
    assert "static void add_start(add_workspace *w) { w->start = add_TILE; }" in text
    assert "/* start begins */" in text
    assert "static const int32_t add_table[add_MOST] = {1, 2};" in text
    assert "add_start(&w); return w.start + TWICE(add_table[0]);" in text
    assert "#undef TWICE\n" in text
    assert text.count("/* the header */") == text.count("/* public */") == 1
    assert text.index("/* types */") < text.index("/* the header */") < text.index("int last;")


@needs_cmake
def test_cmake_builds_the_library_and_asks_it_for_the_known_answers(tiny: Path) -> None:
    run("cmake", "-B", "build/host", folder=tiny)
    run("cmake", "--build", "build/host", folder=tiny)
    assert b"100% tests passed" in run("ctest", "--test-dir", "build/host", folder=tiny)
    image = (tiny / "manifest.json").read_bytes()[: 1 << 16] * 40
    assert run("./build/host/classify", folder=tiny, text=image).strip().isdigit()


@needs_cmake
def test_cmake_links_the_firmware_of_the_board(tiny: Path) -> None:
    compiler = find_target_compiler()
    options = ["-DCMAKE_TOOLCHAIN_FILE=board/toolchain.cmake", f"-DZIG={compiler.command[0]}"]
    run("cmake", "-B", "build/board", *options, folder=tiny)
    run("cmake", "--build", "build/board", folder=tiny)
    assert (tiny / "build/board/firmware.elf").read_bytes()[:4] == b"\x7fELF"


@needs_cmake
def test_zephyr_finds_its_sources(tiny: Path) -> None:
    (tiny.parent / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(application LANGUAGES C)\n"
        "macro(zephyr_library_named name)\n  set(LIBRARY ${name})\n  add_library(${name} STATIC)\nendmacro()\n"
        "macro(zephyr_library_sources)\n  target_sources(${LIBRARY} PRIVATE ${ARGN})\nendmacro()\n"
        "macro(zephyr_include_directories)\n  target_include_directories(${LIBRARY} PUBLIC ${ARGN})\nendmacro()\n"
        "add_subdirectory(tiny/zephyr)\n"
    )
    run("cmake", "-B", "build", folder=tiny.parent)
    run("cmake", "--build", "build", folder=tiny.parent)
    assert list((tiny.parent / "build").rglob("libtrec_network.a"))


def test_platformio_names_files_and_folders_that_are_there(tiny: Path) -> None:
    build = json.loads((tiny / "library.json").read_text())["build"]
    excluded, *names = build["srcFilter"]
    sources = [name.removeprefix("+<").removesuffix(">") for name in names]
    assert excluded == "-<*>"
    assert "network/trec_network.c" in sources
    assert "network/trec_kat.c" not in sources
    assert build["flags"] == [f"-I{name}" for name in LIBRARY_FOLDERS]
    run(*find_host_compiler().command, "-std=c11", *build["flags"], "-c", *sources, folder=tiny)
