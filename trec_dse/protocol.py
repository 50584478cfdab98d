"""The serial protocol between host and firmware, version 1: bytes in, messages out, no port in sight.

A frame on the wire is COBS(raw) followed by one zero byte, with
raw = version u8 | command u8 | sequence u16 | payload | CRC-32 of all before it, little endian throughout.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from trec_dse.device import Int8Array
from trec_dse.errors import ProtocolError

VERSION = 1
ANSWER_BIT = 0x80
ERROR_COMMAND = 0x7F
UNKNOWN_SEQUENCE = 0xFFFF
DELIMITER = b"\0"
OVERHEAD_BYTES = 8

_HEADER = struct.Struct("<BBH")
_CRC = struct.Struct("<I")
_HELLO = struct.Struct("<16s6I")
_INFER = struct.Struct("<QI")
_COBS_RUN = 254


class Command(IntEnum):
    """What the host can ask for."""

    HELLO = 1
    INFER = 2
    ECHO = 3
    RESET = 4


class FaultCode(IntEnum):
    """Why a device refused a request."""

    BAD_FRAME = 1
    TOO_LONG = 2
    UNKNOWN_COMMAND = 3
    WRONG_LENGTH = 4
    WRONG_VERSION = 5


FAULT_TEXT = {
    FaultCode.BAD_FRAME: "the request arrived damaged",
    FaultCode.TOO_LONG: "the request exceeds the device's largest payload",
    FaultCode.UNKNOWN_COMMAND: "the device does not know the command",
    FaultCode.WRONG_LENGTH: "the request has the wrong length for its command",
    FaultCode.WRONG_VERSION: "the device speaks another protocol version",
}


@dataclass(frozen=True)
class Frame:
    """One intact message. `command` carries `ANSWER_BIT` in answers; `sequence` pairs them with their request."""

    command: int
    sequence: int
    payload: bytes = b""


@dataclass(frozen=True)
class Hello:
    """The banner of a firmware. `max_payload` and the other sizes in bytes."""

    build_id: str
    clock_hz: int
    input_bytes: int
    output_bytes: int
    arena_bytes: int
    max_payload: int
    n_trec_layers: int


@dataclass(frozen=True)
class InferAnswer:
    """The result of one inference. `cycles` is 0 on a core without counter; `output` int8 (output_bytes,)."""

    cycles: int
    stack_bytes: int
    n_clusters: tuple[int, ...]
    output: Int8Array


@dataclass(frozen=True)
class DeviceFault:
    """A refusal. `sequence` is `UNKNOWN_SEQUENCE` where the request was too damaged to have one."""

    sequence: int
    code: FaultCode

    @property
    def text(self) -> str:
        """The refusal in words."""
        return FAULT_TEXT[self.code]


def cobs_encode(data: bytes) -> bytes:
    """`data` without zero bytes: each run of up to 254 non-zero bytes gets its length + 1 in front."""
    out = bytearray()
    pieces = data.split(DELIMITER)
    for index, piece in enumerate(pieces):
        start = 0
        while len(piece) - start >= _COBS_RUN:
            out.append(_COBS_RUN + 1)
            out += piece[start : start + _COBS_RUN]
            start += _COBS_RUN
        # A full run at the very end needs no empty one behind it: the frame's end closes it.
        if start < len(piece) or start == 0 or index < len(pieces) - 1:
            out.append(len(piece) - start + 1)
            out += piece[start:]
    return bytes(out)


def cobs_decode(data: bytes) -> bytes:
    """The inverse of `cobs_encode`; `data` is what stands between two delimiters. Raises `ProtocolError`."""
    out = bytearray()
    position = 0
    while position < len(data):
        code = data[position]
        end = position + code
        run = data[position + 1 : end]
        if code == 0 or end > len(data) or 0 in run:
            raise ProtocolError(
                f"damaged frame: the run at byte {position} of {len(data)} has the impossible code {code}"
            )
        out += run
        position = end
        if code <= _COBS_RUN and position < len(data):
            out.append(0)
    return bytes(out)


def encode_frame(frame: Frame) -> bytes:
    """The bytes that go over the wire, delimiter included."""
    raw = _HEADER.pack(VERSION, frame.command, frame.sequence) + frame.payload
    return cobs_encode(raw + _CRC.pack(zlib.crc32(raw))) + DELIMITER


def decode_frame(data: bytes) -> Frame:
    """The message in `data`, the bytes between two delimiters. Raises `ProtocolError` unless all of it is intact."""
    raw = cobs_decode(data)
    if len(raw) < OVERHEAD_BYTES:
        raise ProtocolError(f"damaged frame: {len(raw)} bytes, the shortest frame has {OVERHEAD_BYTES}")
    body, (crc,) = raw[: -_CRC.size], _CRC.unpack(raw[-_CRC.size :])
    if zlib.crc32(body) != crc:
        raise ProtocolError(f"damaged frame: CRC-32 is {zlib.crc32(body):08x}, the frame says {crc:08x}")
    version, command, sequence = _HEADER.unpack_from(body)
    if version != VERSION:
        raise ProtocolError(f"the device speaks protocol version {version}; this host speaks version {VERSION}")
    return Frame(command, sequence, body[_HEADER.size :])


class Splitter:
    """Cuts a byte stream at the delimiters, however its bytes were grouped on arrival."""

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The encoded frames that `data` completes; empty ones are only line noise and are left out.

        A frame beyond `limit` bytes is cut short, so that noise without end cannot fill the memory; its CRC
        then shows the damage.
        """
        *complete, rest = (bytes(self._pending) + data).split(DELIMITER)
        self._pending = bytearray(rest[: self._limit])
        yield from (piece for piece in complete if piece)

    def clear(self) -> None:
        """Forget a frame that has begun."""
        self._pending.clear()


def parse_hello(payload: bytes) -> Hello:
    """The banner in a hello answer."""
    _expect_length("hello", payload, _HELLO.size)
    build_id, *numbers = _HELLO.unpack(payload)
    if not build_id.isascii():
        raise ProtocolError(f"hello answer: the build id {build_id!r} is not ASCII text")
    return Hello(build_id.decode("ascii"), *numbers)


def pack_hello(hello: Hello) -> bytes:
    """The payload of a hello answer, as the firmware sends it."""
    sizes = (hello.input_bytes, hello.output_bytes, hello.arena_bytes, hello.max_payload, hello.n_trec_layers)
    return _HELLO.pack(hello.build_id.encode("ascii"), hello.clock_hz, *sizes)


def parse_infer(payload: bytes, hello: Hello) -> InferAnswer:
    """The result in an infer answer of the firmware that introduced itself with `hello`."""
    n = hello.n_trec_layers
    _expect_length("infer", payload, _INFER.size + 4 * n + hello.output_bytes)
    cycles, stack_bytes = _INFER.unpack_from(payload)
    n_clusters = struct.unpack_from(f"<{n}I", payload, _INFER.size)
    output = np.frombuffer(payload, dtype=np.int8, offset=_INFER.size + 4 * n)
    return InferAnswer(cycles, stack_bytes, n_clusters, output)


def pack_infer(answer: InferAnswer) -> bytes:
    """The payload of an infer answer, as the firmware sends it."""
    counts = struct.pack(f"<{len(answer.n_clusters)}I", *answer.n_clusters)
    return _INFER.pack(answer.cycles, answer.stack_bytes) + counts + answer.output.tobytes()


def parse_fault(frame: Frame) -> DeviceFault:
    """The refusal in an error frame."""
    _expect_length("error", frame.payload, 1)
    try:
        return DeviceFault(frame.sequence, FaultCode(frame.payload[0]))
    except ValueError as problem:
        known = ", ".join(str(code.value) for code in FaultCode)
        raise ProtocolError(f"error answer with code {frame.payload[0]}; version 1 has {known}") from problem


def _expect_length(what: str, payload: bytes, expected: int) -> None:
    if len(payload) != expected:
        raise ProtocolError(f"{what} answer with {len(payload)} bytes; {expected} would be right")
