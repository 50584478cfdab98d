"""The firmware's half of the serial protocol, compiled for this machine and compared with a reference in Python."""

import ctypes
import random
import struct
import subprocess
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from trec_dse.resources import package_folder
from trec_dse.toolchain import Compiler, build_host_library, build_host_program, find_host_compiler

C_FOLDER = Path(__file__).parent / "c"
RUNTIME = package_folder("runtime")
PROTOCOL = RUNTIME / "protocol"
REQUEST, FAULTY = 1, 2
HELLO, INFER, ECHO, RESET, FAULT = 1, 2, 3, 4, 0x7F
DAMAGED, TOO_LONG, UNKNOWN, WRONG_LENGTH, WRONG_VERSION = 1, 2, 3, 4, 5
NO_SEQUENCE = 0xFFFF


def cobs(data: bytes) -> bytes:
    """Every zero becomes the distance to the next one; a distance of 255 means 254 bytes and no zero."""
    out = bytearray()
    parts = data.split(b"\0")
    for number, part in enumerate(parts):
        rest = part
        while len(rest) > 254 or (len(rest) == 254 and number < len(parts) - 1):
            out += b"\xff" + rest[:254]
            rest = rest[254:]
        out += bytes([len(rest) + 1]) + rest
    return bytes(out)


def uncobs(data: bytes) -> bytes:
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        assert code > 0
        assert at + code <= len(data)
        out += data[at + 1 : at + code]
        at += code
        if code < 255 and at < len(data):
            out.append(0)
    return bytes(out)


def frame(command: int, sequence: int, payload: bytes = b"", version: int = 1) -> bytes:
    raw = struct.pack("<BBH", version, command, sequence) + payload
    return cobs(raw + struct.pack("<I", zlib.crc32(raw))) + b"\0"


def unframe(stuffed: bytes) -> tuple[int, int, bytes]:
    """Command, sequence, payload."""
    raw = uncobs(stuffed)
    assert struct.unpack("<I", raw[-4:])[0] == zlib.crc32(raw[:-4])
    version, command, sequence = struct.unpack("<BBH", raw[:4])
    assert version == 1
    return command, sequence, raw[4:-4]


class Piece(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_char_p), ("size", ctypes.c_uint32))


class Target(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_void_p), ("size", ctypes.c_uint32))


class CEvent(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sequence", ctypes.c_uint16),
        ("event", ctypes.c_uint8),
        ("fault", ctypes.c_uint8),
        ("command", ctypes.c_uint8),
    )


@dataclass(frozen=True)
class Event:
    event: int
    fault: int
    command: int
    sequence: int
    payload: bytes


class FrameCode:
    """The C code behind plain Python calls."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def crc32(self, data: bytes) -> int:
        self._library.harness_crc32.restype = ctypes.c_uint32
        return int(self._library.harness_crc32(data, len(data)))

    def write(self, command: int, sequence: int, pieces: Sequence[bytes]) -> bytes:
        array = (Piece * max(len(pieces), 1))(*(Piece(piece, len(piece)) for piece in pieces))
        out = ctypes.create_string_buffer(70_000)
        header = struct.pack("<BH", command, sequence)
        n = self._library.harness_write(header, array, len(pieces), out, len(out))
        assert n <= len(out)
        return out.raw[:n]

    def read(self, stream: bytes, limit: int = 4096) -> list[Event]:
        guard = 64
        memory = ctypes.create_string_buffer(b"\xee" * (limit + guard), limit + guard)
        events = (CEvent * 64)()
        n = self._library.harness_read(
            stream, len(stream), Target(ctypes.addressof(memory), limit), events, len(events)
        )
        assert memory.raw[limit:] == b"\xee" * guard, "wrote past the limit"
        return [Event(e.event, e.fault, e.command, e.sequence, memory.raw[: e.size]) for e in events[:n]]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> FrameCode:
    output = tmp_path_factory.mktemp("frame") / "frame.so"
    sources = [PROTOCOL / "trec_frame.c", C_FOLDER / "frame_harness.c"]
    build_host_library(sources, [PROTOCOL], output, find_host_compiler())
    return FrameCode(ctypes.CDLL(str(output)))


@pytest.fixture(scope="module")
def sanitizer() -> Compiler:
    compiler = find_host_compiler()
    if compiler.name == "zig":
        pytest.skip("zig has no address sanitizer for C")
    return compiler


def build_firmware_for_host(folder: Path, compiler: Compiler, header: str) -> Path:
    """main.c with the tiny network behind standard input and output."""
    (folder / "trec_network.h").write_text(header)
    sources = [
        PROTOCOL / "trec_frame.c",
        PROTOCOL / "main.c",
        RUNTIME / "platform" / "host" / "port.c",
        C_FOLDER / "tiny_network.c",
    ]
    build_host_program(sources, [folder, PROTOCOL, RUNTIME / "include"], folder / "firmware", compiler, sanitize=True)
    return folder / "firmware"


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory, sanitizer: Compiler) -> Path:
    folder = tmp_path_factory.mktemp("firmware")
    return build_firmware_for_host(folder, sanitizer, (C_FOLDER / "tiny_network.h").read_text())


def talk(program: Path, requests: bytes) -> list[tuple[int, int, bytes]]:
    """All answers to a stream of requests."""
    done = subprocess.run([program], input=requests, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"" or done.stdout.endswith(b"\0")
    return [unframe(stuffed) for stuffed in done.stdout.split(b"\0")[:-1]]


def test_the_reference_agrees_with_the_examples_that_define_cobs() -> None:
    assert cobs(b"") == b"\x01"
    assert cobs(b"\0") == b"\x01\x01"
    assert cobs(b"\x11\x22\x00\x33") == b"\x03\x11\x22\x02\x33"
    assert cobs(b"\x11\x00\x00\x00") == b"\x02\x11\x01\x01\x01"
    assert cobs(bytes(range(1, 255))) == b"\xff" + bytes(range(1, 255))
    assert cobs(bytes(range(1, 256))) == b"\xff" + bytes(range(1, 255)) + b"\x02\xff"


def test_the_crc_is_zlibs(code: FrameCode) -> None:
    assert code.crc32(b"123456789") == 0xCBF43926
    rng = random.Random(1)
    for _ in range(200):
        data = rng.randbytes(rng.randrange(300))
        assert code.crc32(data) == zlib.crc32(data)


def test_frames_of_any_content_and_split_are_written_as_the_reference_writes_them(code: FrameCode) -> None:
    rng = random.Random(2)
    for _ in range(1500):
        payload = bytes(rng.choices(range(rng.choice((2, 3, 256))), k=rng.randrange(700)))
        cuts = sorted(rng.randrange(len(payload) + 1) for _ in range(rng.randrange(4)))
        pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        command, sequence = rng.randrange(256), rng.randrange(65536)
        assert code.write(command, sequence, pieces) == frame(command, sequence, payload)


@pytest.mark.parametrize("run", [252, 253, 254, 255, 256, 507, 508, 509, 510])
@pytest.mark.parametrize("around", [b"", b"\0"])
def test_long_runs_without_a_zero_are_written_and_read(code: FrameCode, run: int, around: bytes) -> None:
    payload = around + b"\xa5" * run + around
    written = code.write(ECHO, 0x0101, [payload])
    assert written == frame(ECHO, 0x0101, payload)
    assert 0 not in written[:-1]
    assert code.read(written) == [Event(REQUEST, 0, ECHO, 0x0101, payload)]


def test_every_length_around_a_full_block_survives_the_round_trip(code: FrameCode) -> None:
    for size in range(240, 262):
        payload = bytes(1 + i % 255 for i in range(size))
        assert code.read(code.write(2, 7, [payload])) == [Event(REQUEST, 0, 2, 7, payload)]


def test_random_payloads_are_read_as_they_were_sent(code: FrameCode) -> None:
    rng = random.Random(3)
    for _ in range(1500):
        payload = bytes(rng.choices(range(rng.choice((2, 256))), k=rng.randrange(700)))
        command, sequence = rng.randrange(256), rng.randrange(65536)
        assert code.read(frame(command, sequence, payload)) == [Event(REQUEST, 0, command, sequence, payload)]


def test_an_encoder_that_closes_a_full_block_with_an_empty_one_is_understood(code: FrameCode) -> None:
    payload = next(p for i in range(1, 256) if 0 not in uncobs(frame(9, 0x0909, p := bytes([i]) * 246)[:-1]))
    stuffed = frame(9, 0x0909, payload)
    assert len(stuffed) == 256  # one full block of 254, its code, the delimiter
    assert code.read(stuffed[:-1] + b"\x01\0") == [Event(REQUEST, 0, 9, 0x0909, payload)]


def test_a_flipped_bit_is_never_a_request(code: FrameCode) -> None:
    good = frame(INFER, 0x1234, bytes([1, 0, 0, 255, 7, 0, 128, 3, 9, 0, 0, 0]))
    for at in range(len(good) - 1):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            events = code.read(bytes(bad) + good)
            assert events[-1].event == REQUEST, "the next frame is read"
            assert [e.event for e in events[:-1]] in ([FAULTY], [FAULTY, FAULTY])
            assert all(e.fault == DAMAGED and e.sequence == NO_SEQUENCE for e in events[:-1])


def test_a_truncated_frame_is_never_a_request(code: FrameCode) -> None:
    good = frame(INFER, 0x1234, bytes(range(20)))
    for size in range(1, len(good) - 1):
        events = code.read(good[:size] + b"\0" + good)
        assert [e.event for e in events] == [FAULTY, REQUEST]
        assert (events[0].fault, events[0].sequence) == (DAMAGED, NO_SEQUENCE)


def test_a_frame_too_short_for_its_own_header_is_damaged_even_if_its_crc_fits(code: FrameCode) -> None:
    for size in range(4):
        raw = b"\x01\x02\x03"[:size]
        events = code.read(cobs(raw + struct.pack("<I", zlib.crc32(raw))) + b"\0")
        assert [(e.event, e.fault) for e in events] == [(FAULTY, DAMAGED)]


def test_zeros_between_frames_mean_nothing(code: FrameCode) -> None:
    stream = b"\0\0\0" + frame(1, 1) + b"\0\0" + frame(1, 2) + b"\0"
    assert [e.sequence for e in code.read(stream)] == [1, 2]


def test_a_payload_at_the_limit_is_taken_and_one_byte_more_is_refused(code: FrameCode) -> None:
    assert code.read(frame(ECHO, 5, bytes(100)), limit=100)[0].event == REQUEST
    (refused,) = code.read(frame(ECHO, 5, bytes(101)), limit=100)
    assert (refused.event, refused.fault, refused.sequence) == (FAULTY, TOO_LONG, 5)
    (far_too_long,) = code.read(frame(ECHO, 6, b"\x55" * 60_000), limit=100)
    assert (far_too_long.fault, far_too_long.sequence) == (TOO_LONG, 6)


def test_an_overlong_frame_that_is_also_damaged_counts_as_damaged(code: FrameCode) -> None:
    bad = bytearray(frame(ECHO, 5, b"\x55" * 300))
    bad[150] ^= 1
    (refused,) = code.read(bytes(bad), limit=100)
    assert (refused.fault, refused.sequence) == (DAMAGED, NO_SEQUENCE)


def test_another_protocol_version_is_refused_with_the_sequence_it_came_with(code: FrameCode) -> None:
    (refused,) = code.read(frame(HELLO, 77, version=2))
    assert (refused.event, refused.fault, refused.sequence) == (FAULTY, WRONG_VERSION, 77)


def test_a_fault_does_not_stick_to_the_next_frame(code: FrameCode) -> None:
    stream = frame(HELLO, 1, version=9) + frame(ECHO, 2, bytes(500)) + frame(ECHO, 3, b"ok")
    assert [(e.event, e.fault) for e in code.read(stream, limit=10)] == [
        (FAULTY, WRONG_VERSION),
        (FAULTY, TOO_LONG),
        (REQUEST, 0),
    ]


def test_noise_and_damage_of_any_kind_stay_within_memory(tmp_path: Path, sanitizer: Compiler) -> None:
    sources = [PROTOCOL / "trec_frame.c", C_FOLDER / "frame_fuzz.c"]
    build_host_program(sources, [PROTOCOL], tmp_path / "fuzz", sanitizer, sanitize=True)
    arguments = ["100000", "20000", "1"]
    done = subprocess.run([tmp_path / "fuzz", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["100000", "20000", "0"]


def test_hello_describes_the_network(firmware: Path) -> None:
    ((command, sequence, payload),) = talk(firmware, frame(HELLO, 0xBEEF))
    assert (command, sequence) == (0x81, 0xBEEF)
    build_id, *numbers = struct.unpack("<16s6I", payload)
    assert build_id == b"0123456789abcdef"
    # clock (this machine has none to tell), input, output, arena, largest payload max(12, 64), TREC layers
    assert numbers == [0, 12, 3, 96, 64, 2]


def test_an_inference_answers_cycles_stack_clusters_and_output(firmware: Path) -> None:
    image = struct.pack("12b", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -12)
    ((command, sequence, payload),) = talk(firmware, frame(INFER, 7, image))
    assert (command, sequence) == (0x82, 7)
    cycles, stack, *clusters = struct.unpack("<QIII", payload[:20])
    assert (cycles, stack, clusters) == (0, 0, [12, 7])
    assert struct.unpack("3b", payload[20:]) == (10, 52, 54)  # 1+2+3+4, 2*(5+..+8), 3*(9+10+11-12)


def test_echo_gives_back_any_payload_up_to_the_largest(firmware: Path) -> None:
    payloads = [b"", b"\0", b"\xff" * 64, bytes(64), bytes(range(64))]
    stream = b"".join(frame(ECHO, i, payload) for i, payload in enumerate(payloads))
    assert talk(firmware, stream) == [(0x83, i, payload) for i, payload in enumerate(payloads)]


@pytest.mark.parametrize(
    ("request_frame", "sequence", "fault"),
    [
        (frame(INFER, 1, bytes(11)), 1, WRONG_LENGTH),
        (frame(INFER, 2, bytes(13)), 2, WRONG_LENGTH),
        (frame(HELLO, 3, b"x"), 3, WRONG_LENGTH),
        (frame(RESET, 4, b"x"), 4, WRONG_LENGTH),
        (frame(0, 5), 5, UNKNOWN),
        (frame(5, 6), 6, UNKNOWN),
        (frame(0x81, 7), 7, UNKNOWN),
        (frame(ECHO, 8, bytes(65)), 8, TOO_LONG),
        (frame(HELLO, 9, version=0), 9, WRONG_VERSION),
        (frame(HELLO, 10)[1:], NO_SEQUENCE, DAMAGED),
    ],
)
def test_what_cannot_be_done_is_refused_and_the_next_request_is_served(
    firmware: Path, request_frame: bytes, sequence: int, fault: int
) -> None:
    refusal, answer = talk(firmware, request_frame + frame(ECHO, 99, b"still here"))
    assert refusal == (FAULT, sequence, bytes([fault]))
    assert answer == (0x83, 99, b"still here")


def test_reset_answers_before_it_resets(firmware: Path) -> None:
    # on this machine the program ends there, so the second request finds nobody
    assert talk(firmware, frame(RESET, 3) + frame(HELLO, 4)) == [(0x84, 3, b"")]


def test_hello_admits_when_the_arena_leaves_less_room_than_the_protocol_wants(
    tmp_path: Path, sanitizer: Compiler
) -> None:
    header = (C_FOLDER / "tiny_network.h").read_text().replace("TREC_ARENA_BYTES 96", "TREC_ARENA_BYTES 40")
    program = build_firmware_for_host(tmp_path, sanitizer, header)
    hello, taken, refused = talk(program, frame(HELLO, 1) + frame(ECHO, 2, bytes(24)) + frame(ECHO, 3, bytes(25)))
    assert struct.unpack("<16s6I", hello[2])[4:6] == (40, 24)  # 40 bytes of arena, of which the input starts at 16
    assert taken == (0x83, 2, bytes(24))
    assert refused == (FAULT, 3, bytes([TOO_LONG]))
