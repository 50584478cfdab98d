"""The serial protocol: what goes in comes out, and nothing else ever does."""

import random
import zlib

import numpy as np
import pytest

from trec_dse.errors import ProtocolError
from trec_dse.protocol import (
    DeviceFault,
    FaultCode,
    Frame,
    Hello,
    InferAnswer,
    Splitter,
    cobs_decode,
    cobs_encode,
    decode_frame,
    encode_frame,
    pack_hello,
    pack_infer,
    parse_fault,
    parse_hello,
    parse_infer,
)

HELLO = Hello("0123456789abcdef", 180_000_000, 3072, 10, 65_536, 3072, 2)


def test_known_byte_strings_have_their_known_cobs_form() -> None:
    known = {
        b"": b"\x01",
        b"\0": b"\x01\x01",
        b"\0\0": b"\x01\x01\x01",
        b"\x11\x22\0\x33": b"\x03\x11\x22\x02\x33",
        b"\x11\0\0\0": b"\x02\x11\x01\x01\x01",
        bytes(range(1, 255)): b"\xff" + bytes(range(1, 255)),
        bytes(range(256)): b"\x01\xff" + bytes(range(1, 255)) + b"\x02\xff",
    }
    for data, encoded in known.items():
        assert cobs_encode(data) == encoded
        assert cobs_decode(encoded) == data


@pytest.mark.parametrize("length", [*range(12), 253, 254, 255, 256, 507, 508, 509, 762, 763, 3072])
def test_every_byte_string_survives_cobs(length: int) -> None:
    source = random.Random(length)
    for values in (range(1, 256), range(256), (0, 1), (0,)):
        data = bytes(source.choice(values) for _ in range(length))
        encoded = cobs_encode(data)
        assert 0 not in encoded
        assert cobs_decode(encoded) == data


def test_a_full_run_may_be_followed_by_an_empty_one() -> None:
    # Both forms of 254 bytes without zero are in use; a decoder takes either.
    run = bytes(range(1, 255))
    assert cobs_decode(b"\xff" + run + b"\x01") == run


@pytest.mark.parametrize("damaged", [b"\x05\x11", b"\xff\x01", b"\x03\x11\x00", b"\x00"])
def test_impossible_cobs_codes_are_refused(damaged: bytes) -> None:
    with pytest.raises(ProtocolError, match="damaged frame"):
        cobs_decode(damaged)


def test_a_frame_has_the_documented_bytes() -> None:
    raw = bytes([1, 3, 0x34, 0x12, 0xAA])
    expected = cobs_encode(raw + zlib.crc32(raw).to_bytes(4, "little")) + b"\0"
    assert encode_frame(Frame(3, 0x1234, b"\xaa")) == expected
    assert decode_frame(expected[:-1]) == Frame(3, 0x1234, b"\xaa")


def test_no_single_flipped_bit_is_ever_an_answer() -> None:
    frame = encode_frame(Frame(0x82, 0x0102, bytes([0, 1, 2, 0, 255, 7])))
    for position in range(len(frame)):
        for bit in range(8):
            damaged = bytearray(frame)
            damaged[position] ^= 1 << bit
            assert _frames(bytes(damaged)) == []


def test_no_truncated_frame_is_ever_an_answer() -> None:
    frame = encode_frame(Frame(0x82, 9, bytes(range(40))))
    for length in range(len(frame) - 1):
        assert _frames(frame[:length] + b"\0") == []
        assert _frames(frame[length + 1 :]) == []


def test_a_duplicated_frame_arrives_twice_and_unchanged() -> None:
    frame = Frame(0x83, 5, b"\0\0hello\0")
    assert _frames(2 * encode_frame(frame)) == [frame, frame]


def test_no_doubled_or_swapped_byte_is_ever_an_answer() -> None:
    frame = encode_frame(Frame(0x82, 0x0102, bytes([9, 1, 2, 0, 255, 7])))
    for position in range(len(frame) - 1):
        doubled = frame[:position] + frame[position : position + 1] + frame[position:]
        assert _frames(doubled) == []
        pair = frame[position : position + 2]
        if pair[0] != pair[1]:
            assert Frame(0x82, 0x0102, bytes([9, 1, 2, 0, 255, 7])) not in _frames(
                frame[:position] + pair[::-1] + frame[position + 2 :]
            )


def test_frames_are_found_however_their_bytes_are_grouped() -> None:
    sent = [Frame(1, 1), Frame(2, 2, bytes(300)), Frame(3, 3, b"x")]
    stream = b"".join(encode_frame(frame) for frame in sent)
    for step in (1, 2, 7, 100, len(stream)):
        splitter = Splitter()
        found = [
            piece for start in range(0, len(stream), step) for piece in splitter.feed(stream[start : start + step])
        ]
        assert [decode_frame(piece) for piece in found] == sent


def test_endless_noise_does_not_fill_the_memory() -> None:
    splitter = Splitter(limit=100)
    for _ in range(1000):
        assert list(splitter.feed(b"\x55" * 50)) == []
    (piece,) = splitter.feed(b"\0")
    assert len(piece) == 100
    splitter.clear()
    assert [decode_frame(piece) for piece in splitter.feed(encode_frame(Frame(1, 1)))] == [Frame(1, 1)]


def test_another_protocol_version_is_named() -> None:
    raw = bytes([2, 1, 0, 0])
    with pytest.raises(ProtocolError, match="version 2; this host speaks version 1"):
        decode_frame(cobs_encode(raw + zlib.crc32(raw).to_bytes(4, "little")))


def test_too_short_a_frame_is_damaged() -> None:
    with pytest.raises(ProtocolError, match="7 bytes, the shortest frame has 8"):
        decode_frame(cobs_encode(bytes(7)))


def test_the_banner_survives_the_line() -> None:
    payload = pack_hello(HELLO)
    assert len(payload) == 16 + 6 * 4
    assert parse_hello(payload) == HELLO


def test_a_banner_of_the_wrong_length_or_text_is_refused() -> None:
    payload = pack_hello(HELLO)
    with pytest.raises(ProtocolError, match="39 bytes; 40 would be right"):
        parse_hello(payload[:-1])
    with pytest.raises(ProtocolError, match="not ASCII"):
        parse_hello(b"\xff" + payload[1:])


def test_an_inference_survives_the_line() -> None:
    answer = InferAnswer(2**33 + 5, 640, (17, 2**31), np.array([-128, 0, 127, 1, 2, 3, 4, 5, 6, 7], np.int8))
    payload = pack_infer(answer)
    assert len(payload) == 8 + 4 + 2 * 4 + 10
    found = parse_infer(payload, HELLO)
    assert (found.cycles, found.stack_bytes, found.n_clusters) == (2**33 + 5, 640, (17, 2**31))
    assert found.output.tolist() == answer.output.tolist()


def test_an_inference_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ProtocolError, match="29 bytes; 30 would be right"):
        parse_infer(bytes(29), HELLO)


def test_a_refusal_says_what_was_wrong() -> None:
    assert parse_fault(Frame(0x7F, 3, b"\x04")) == DeviceFault(3, FaultCode.WRONG_LENGTH)
    assert parse_fault(Frame(0x7F, 3, b"\x04")).text == "the request has the wrong length for its command"
    with pytest.raises(ProtocolError, match="code 9; version 1 has 1, 2, 3, 4, 5"):
        parse_fault(Frame(0x7F, 3, b"\x09"))
    with pytest.raises(ProtocolError, match="0 bytes; 1 would be right"):
        parse_fault(Frame(0x7F, 3))


def _frames(stream: bytes) -> list[Frame]:
    """All intact frames in a stream, as a host sees it."""
    found = []
    for piece in Splitter().feed(stream):
        try:
            found.append(decode_frame(piece))
        except ProtocolError:
            continue
    return found
