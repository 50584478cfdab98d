"""Compilers are found, refuse bad C with their own words, and never compile the same thing twice."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest

from trec_dse.errors import ToolchainError
from trec_dse.target import Core
from trec_dse.toolchain import (
    Compiler,
    build_host_library,
    build_host_program,
    compile_objects,
    find_host_compiler,
    find_target_compiler,
    run_compiler,
    target_flags,
)

ADD = '#include "twice.h"\nint add(int a, int b);\nint add(int a, int b) { return TWICE(a) + b; }\n'
HAS_ZIG = importlib.util.find_spec("ziglang") is not None


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own; for compilers other than zig, which would fill it with its library first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trec_dse" / "objects"


@pytest.fixture
def host() -> Compiler:
    compiler = find_host_compiler()
    if compiler.name == "zig":
        pytest.skip("needs cc, gcc or clang")
    return compiler


@pytest.fixture
def add(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "twice.h").write_text("#define TWICE(x) (2 * (x))\n")
    (tmp_path / "add.c").write_text(ADD)
    return tmp_path / "add.c"


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_target_gcc_on_the_path_comes_before_zig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "arm-none-eabi-gcc", "echo 'arm-none-eabi-gcc (test) 12.2.1'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = find_target_compiler()
    assert found == Compiler("gcc", (str(tmp_path / "bin" / "arm-none-eabi-gcc"),), "arm-none-eabi-gcc (test) 12.2.1")
    assert find_target_compiler("gcc") == found


@pytest.mark.skipif(not HAS_ZIG, reason="needs the ziglang wheel")
def test_without_any_program_on_the_path_the_zig_wheel_serves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    for found in (find_target_compiler(), find_host_compiler(), find_target_compiler("zig"), find_host_compiler("zig")):
        assert found.name == "zig"
        assert found.command[1] == "cc"
        assert found.version.startswith("zig 0.")


def test_no_compiler_at_all_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ToolchainError, match=r"arm-none-eabi-gcc and zig not found.*pip install 'trec_dse\[toolchain\]'"
    ):
        find_target_compiler()
    with pytest.raises(ToolchainError, match="arm-none-eabi-gcc not found"):
        find_target_compiler("gcc")
    with pytest.raises(ToolchainError, match=r"cc, gcc, clang and zig not found.*package gcc"):
        find_host_compiler()
    with pytest.raises(ToolchainError, match="'tcc-99' was asked for"):
        find_host_compiler("tcc-99")


def test_a_compiler_named_by_its_path_is_recognized(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "my-cc", "echo 'Debian clang version 14.0.6'; echo more")
    assert find_host_compiler(str(path)) == Compiler("clang", (str(path),), "Debian clang version 14.0.6")


def test_a_compiler_that_does_not_start_is_reported(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "broken-cc", "exit 1")
    with pytest.raises(ToolchainError, match=r"broken-cc: found, but .* fails"):
        find_host_compiler(str(path))
    with pytest.raises(ToolchainError, match="cannot be run: No such file"):
        run_compiler(Compiler("gcc", (str(tmp_path / "gone"),), "gone"), [])


def test_a_host_library_answers_through_ctypes(tmp_path: Path, add: Path) -> None:
    build_host_library([add], [tmp_path / "include"], tmp_path / "out" / "add.so", find_host_compiler())
    assert ctypes.CDLL(str(tmp_path / "out" / "add.so")).add(20, 2) == 42
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["add.so"]


@pytest.mark.skipif(not HAS_ZIG, reason="needs the ziglang wheel")
def test_zig_builds_host_libraries_too(tmp_path: Path, add: Path) -> None:
    build_host_library([add], [tmp_path / "include"], tmp_path / "add.so", find_host_compiler("zig"))
    assert ctypes.CDLL(str(tmp_path / "add.so")).add(1, 1) == 3


def test_a_sanitized_program_stops_at_the_first_wrong_access(tmp_path: Path, host: Compiler) -> None:
    (tmp_path / "wrong.c").write_text("int main(int n, char **v) { int a[2] = {1, 2}; return v[0] ? a[n + 1] : 0; }\n")
    build_host_program([tmp_path / "wrong.c"], [], tmp_path / "wrong", host, sanitize=True)
    done = subprocess.run([tmp_path / "wrong"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "runtime error: index 2 out of bounds" in done.stderr


def test_zig_cannot_sanitize_and_says_so(tmp_path: Path, add: Path) -> None:
    zig = Compiler("zig", ("zig", "cc"), "zig 0")
    with pytest.raises(ToolchainError, match="no address sanitizer"):
        build_host_program([add], [tmp_path / "include"], tmp_path / "add", zig, sanitize=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int f(void) { int unused; return 0; }", "unused"),
        ("int f(long a); int f(long a) { return a; }", "conversion"),
        ("int f(void) { return missing; }", "missing"),
    ],
)
def test_warnings_are_errors_and_come_with_their_place(
    tmp_path: Path, cache: Path, host: Compiler, text: str, words: str
) -> None:
    (tmp_path / "bad.c").write_text(text + "\n")
    with pytest.raises(ToolchainError, match=rf"bad\.c:1:.*error.*{words}"):
        compile_objects([tmp_path / "bad.c"], [], ["-Wall", "-Wextra", "-Wconversion", "-Werror"], host)
    assert list(cache.iterdir()) == [], "a failed compilation leaves nothing behind"


def test_a_long_list_of_errors_is_cut_short(tmp_path: Path, cache: Path, host: Compiler) -> None:
    (tmp_path / "bad.c").write_text("".join(f"int f{i}(void) {{ return missing{i}; }}\n" for i in range(50)))
    with pytest.raises(ToolchainError) as caught:
        compile_objects([tmp_path / "bad.c"], [], [], host)
    assert len(str(caught.value).splitlines()) == 6


def test_what_is_unchanged_is_not_compiled_again(
    tmp_path: Path, cache: Path, add: Path, host: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = compile_objects([add], [tmp_path / "include"], ["-O2"], host)
    assert first.parent == cache
    elsewhere = shutil.copytree(tmp_path / "include", tmp_path / "elsewhere" / "include")
    copy = shutil.copy(add, tmp_path / "elsewhere")
    absent = Compiler(host.name, host.command, host.version)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("the compiler was called"))
    assert compile_objects([Path(copy)], [elsewhere], ["-O2"], absent) == [first]


def test_a_changed_header_flag_or_source_compiles_anew(tmp_path: Path, cache: Path, add: Path, host: Compiler) -> None:
    include = [tmp_path / "include"]
    seen = compile_objects([add], include, ["-O2"], host)
    seen += compile_objects([add], include, ["-O1"], host)
    (tmp_path / "include" / "twice.h").write_text('#include "deeper.h"\n#define TWICE(x) (FACTOR * (x))\n')
    (tmp_path / "include" / "deeper.h").write_text("#define FACTOR 2\n")
    seen += compile_objects([add], include, ["-O2"], host)
    (tmp_path / "include" / "deeper.h").write_text("#define FACTOR 3\n")
    seen += compile_objects([add], include, ["-O2"], host)
    add.write_text(ADD.replace("+ b", "- b"))
    seen += compile_objects([add], include, ["-O2"], host)
    assert len(set(seen)) == 5


def test_objects_come_in_the_order_of_their_sources(tmp_path: Path, cache: Path, host: Compiler) -> None:
    sources = []
    for i in range(5):
        sources.append(tmp_path / f"f{i}.c")
        sources[-1].write_text(f"int f{i}(void);\nint f{i}(void) {{ return {i}; }}\n")
    forwards = compile_objects(sources, [], [], host)
    assert compile_objects(sources[::-1], [], [], host) == forwards[::-1]
    assert len(list(cache.iterdir())) == 5


def test_several_builds_may_share_the_cache_at_the_same_moment(
    tmp_path: Path, cache: Path, add: Path, host: Compiler
) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(compile_objects, [add], [tmp_path / "include"], ["-O2"], host) for _ in range(8)]
        objects = {tuple(job.result()) for job in jobs}
    assert len(objects) == 1
    assert len(list(cache.iterdir())) == 1


def test_the_cache_forgets_what_was_not_used_for_longest(
    tmp_path: Path, cache: Path, host: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = []
    for i in range(4):
        sources.append(tmp_path / f"f{i}.c")
        sources[-1].write_text(f"int f{i}(void);\nint f{i}(void) {{ return {i}; }}\n")
    objects = compile_objects(sources[:3], [], [], host)
    for age, path in zip((30, 10, 20), objects, strict=True):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    monkeypatch.setattr("trec_dse.toolchain._CACHE_BYTES", 3 * objects[0].stat().st_size + 100)
    monkeypatch.setattr("trec_dse.toolchain._FORGETTING", "")
    (newest,) = compile_objects(sources[3:], [], [], host)
    assert set(cache.iterdir()) == {objects[1], objects[2], newest}


def test_the_cache_is_looked_through_after_one_new_object_in_sixteen(
    tmp_path: Path, cache: Path, host: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    monkeypatch.setattr("trec_dse.toolchain._forget_oldest", lambda folder, _: looks.append(folder))
    found: list[Path] = []
    while not looks:
        source = tmp_path / f"g{len(found)}.c"
        source.write_text("int g(void);\nint g(void) { return 1; }\n")
        found += compile_objects([source], [], [], host)
    assert [path.name.startswith("0") for path in found] == [False] * (len(found) - 1) + [True]
    assert looks == [cache]


def test_a_cache_that_cannot_be_written_is_an_error_with_the_fix(
    tmp_path: Path, add: Path, host: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ToolchainError, match="Set XDG_CACHE_HOME"):
        compile_objects([add], [tmp_path / "include"], [], host)


def test_a_source_that_is_not_there_is_named(tmp_path: Path, cache: Path, host: Compiler) -> None:
    with pytest.raises(ToolchainError, match=r"gone\.c: cannot be read"):
        compile_objects([tmp_path / "gone.c"], [], [], host)


@pytest.mark.parametrize("core", get_args(Core))
def test_every_core_has_flags_for_both_compilers(core: Core) -> None:
    for name in ("gcc", "zig"):
        flags = target_flags(Compiler(name, (name,), ""), core)
        assert any(core.replace("-", "_") in flag.replace("-", "_") for flag in flags)
        assert "-Werror" in flags
        assert "-ffreestanding" not in flags


def test_size_is_another_level_of_the_same_compiler() -> None:
    gcc, zig = (Compiler(name, (name,), "") for name in ("gcc", "zig"))
    assert ("-O2" in target_flags(gcc, "cortex-m4"), "-Os" in target_flags(gcc, "cortex-m4")) == (True, False)
    assert ("-O2" in target_flags(gcc, "cortex-m4", "size"), "-Os" in target_flags(gcc, "cortex-m4", "size")) == (
        False,
        True,
    )
    # zig's own -Oz is its -Os, so clang is asked behind its back
    assert set(target_flags(zig, "cortex-m4", "size")) - set(target_flags(zig, "cortex-m4")) == {"-Xclang", "-Oz"}


@pytest.mark.skipif(not HAS_ZIG, reason="needs the ziglang wheel")
@pytest.mark.parametrize("core", get_args(Core))
def test_zig_compiles_for_every_core(tmp_path: Path, add: Path, core: Core) -> None:
    zig = find_target_compiler("zig")
    (path,) = compile_objects([add], [tmp_path / "include"], target_flags(zig, core), zig)
    header = path.read_bytes()[:20]
    assert header[:6] == b"\x7fELF\x01\x01"  # 32 bits, little endian
    assert header[18:20] == b"\x28\x00"  # EM_ARM = 40
