"""The firmware's own memcpy, memmove and memset, compiled for this machine."""

import ctypes
import random
from pathlib import Path

import pytest

from trec_dse.resources import package_folder
from trec_dse.toolchain import build_host_library, find_host_compiler

C_FOLDER = Path(__file__).parent / "c"
SIZE = 96


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    output = tmp_path_factory.mktemp("memory") / "memory.so"
    include = [package_folder("runtime") / "platform" / "cortex_m"]
    build_host_library([C_FOLDER / "memory_harness.c"], include, output, find_host_compiler())
    loaded = ctypes.CDLL(str(output))
    loaded.trec_memcpy.restype = loaded.trec_memmove.restype = loaded.trec_memset.restype = ctypes.c_void_p
    return loaded


def buffer_of(content: bytes) -> tuple[ctypes.Array[ctypes.c_char], int]:
    memory = ctypes.create_string_buffer(content, len(content))
    return memory, ctypes.addressof(memory)


def test_memcpy_copies_any_size_at_any_alignment(library: ctypes.CDLL) -> None:
    source, source_at = buffer_of(bytes(range(1, SIZE + 1)))
    for size in range(20):
        for start in range(5):
            for end in range(5):
                memory, at = buffer_of(bytes(SIZE))
                to, of = ctypes.c_void_p(at + end), ctypes.c_void_p(source_at + start)
                assert library.trec_memcpy(to, of, ctypes.c_size_t(size)) == at + end
                assert memory.raw == bytes(end) + source.raw[start : start + size] + bytes(SIZE - end - size)


def test_memmove_moves_overlapping_bytes_in_both_directions(library: ctypes.CDLL) -> None:
    rng = random.Random(4)
    for _ in range(2000):
        content = rng.randbytes(SIZE)
        size = rng.randrange(40)
        start, end = rng.randrange(SIZE - size), rng.randrange(SIZE - size)
        memory, at = buffer_of(content)
        to, of = ctypes.c_void_p(at + end), ctypes.c_void_p(at + start)
        assert library.trec_memmove(to, of, ctypes.c_size_t(size)) == at + end
        expected = bytearray(content)
        expected[end : end + size] = content[start : start + size]
        assert memory.raw == bytes(expected)


@pytest.mark.parametrize("value", [0, 1, 0x80, 0xFF, 0x1A5, -1])
def test_memset_takes_the_lowest_byte_of_its_value(library: ctypes.CDLL, value: int) -> None:
    for size in range(12):
        for start in range(5):
            memory, at = buffer_of(b"\x55" * SIZE)
            assert library.trec_memset(ctypes.c_void_p(at + start), value, ctypes.c_size_t(size)) == at + start
            assert memory.raw == b"\x55" * start + bytes([value & 0xFF]) * size + b"\x55" * (SIZE - start - size)


def test_the_names_of_the_arm_run_time_abi_do_the_same(library: ctypes.CDLL) -> None:
    memory, at = buffer_of(b"abcdefgh")
    library.__getattr__("__aeabi_memcpy4")(ctypes.c_void_p(at), ctypes.c_void_p(at + 4), ctypes.c_size_t(4))
    assert memory.raw == b"efghefgh"
    # size and value have changed places against memset
    library.__getattr__("__aeabi_memset8")(ctypes.c_void_p(at), ctypes.c_size_t(3), ord("x"))
    library.__getattr__("__aeabi_memclr")(ctypes.c_void_p(at + 6), ctypes.c_size_t(2))
    assert memory.raw == b"xxxhef\0\0"
    library.__getattr__("__aeabi_memmove")(ctypes.c_void_p(at + 1), ctypes.c_void_p(at), ctypes.c_size_t(5))
    assert memory.raw == b"xxxxhe\0\0"
