"""The serial executor against devices that are silent, damaged, late, busy or the wrong ones."""

import errno
import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import fake_device
import numpy as np
import pytest
import serial as pyserial
from fake_device import HELLO, OUTPUT, FakeDevice, good_answer
from serial.tools import list_ports

from trec_dse.device import Int8Array
from trec_dse.errors import NoAnswerError, PortError, ProtocolError, WrongFirmwareError
from trec_dse.executors import serial
from trec_dse.protocol import Frame, Splitter, decode_frame, encode_frame
from trec_dse.resources import data_folder
from trec_dse.target import load_target

IMAGE: Int8Array = np.array([1, 2, 3, 4], np.int8)
SHORT_S = 0.08


def test_a_device_introduces_itself_and_infers() -> None:
    with FakeDevice() as device, serial.open(device.port, build_id=HELLO.build_id) as executor:
        assert executor.hello == HELLO
        assert executor.name == device.port
        answer = executor.infer(IMAGE.reshape(2, 2, 1))
        assert (answer.output.tolist(), answer.cycles, answer.stack_bytes) == (OUTPUT, 1234, 200)
        assert answer.n_clusters == (3, 4)
        assert device.requests[0].payload == bytes([1, 2, 3, 4])


def test_echo_and_reset_are_answered() -> None:
    with FakeDevice() as device, serial.open(device.port) as executor:
        assert executor.echo(b"\0\1\2\0") == b"\0\1\2\0"
        executor.reset()
        assert executor.hello == HELLO


def test_a_silent_device_is_asked_four_times_with_fresh_sequence_numbers() -> None:
    with (
        FakeDevice([_nothing] * 9) as device,
        serial.open(device.port, timeout_s=SHORT_S) as executor,
        pytest.raises(NoAnswerError, match=r"infer request, sent 4 times, was not answered within 0.08 s"),
    ):
        executor.infer(IMAGE)
    assert len({request.sequence for request in device.requests}) == 4


def test_a_corrupt_frame_is_never_an_answer() -> None:
    with FakeDevice([_corrupt]) as device, serial.open(device.port) as executor:
        assert executor.infer(IMAGE).output.tolist() == OUTPUT
        assert len(device.requests) == 2


def test_only_corrupt_frames_are_an_error_that_says_so() -> None:
    with (
        FakeDevice([_corrupt] * 9) as device,
        serial.open(device.port) as executor,
        pytest.raises(ProtocolError, match=r"only unusable answers.*CRC-32.*check baud rate and cable"),
    ):
        executor.infer(IMAGE)


def test_a_stale_answer_is_dropped() -> None:
    def stale_then_good(request: Frame) -> bytes:
        stale = Frame(0x82, request.sequence - 1, bytes(len(good_answer(request))))
        return encode_frame(stale) + good_answer(request)

    with FakeDevice([stale_then_good]) as device, serial.open(device.port) as executor:
        assert executor.infer(IMAGE).output.tolist() == OUTPUT
        assert len(device.requests) == 1


def test_a_late_answer_belongs_to_nobody() -> None:
    late: list[bytes] = []

    def withhold(request: Frame) -> bytes:
        late.append(encode_frame(Frame(0x83, request.sequence, b"one")))
        return b""

    with (
        FakeDevice([withhold, lambda request: late[0] + good_answer(request)]) as device,
        serial.open(device.port, timeout_s=SHORT_S) as executor,
    ):
        assert executor.echo(b"two") == b"two"


def test_a_request_that_arrived_damaged_is_sent_again_at_once() -> None:
    def damaged(request: Frame) -> bytes:
        return encode_frame(Frame(0x7F, 0xFFFF, b"\x01"))

    with FakeDevice([damaged]) as device, serial.open(device.port, timeout_s=60) as executor:
        assert executor.infer(IMAGE).output.tolist() == OUTPUT
        assert len(device.requests) == 2


def test_a_refusal_that_would_only_come_again_is_not_repeated() -> None:
    def too_long(request: Frame) -> bytes:
        return encode_frame(Frame(0x7F, request.sequence, b"\x02"))

    with FakeDevice([too_long]) as device, serial.open(device.port) as executor:
        with pytest.raises(ProtocolError, match="refused request 3 with 5 bytes: the request exceeds"):
            executor.echo(b"12345")
        assert len(device.requests) == 1


def test_the_right_sequence_with_the_wrong_command_is_no_answer() -> None:
    def confused(request: Frame) -> bytes:
        return encode_frame(Frame(0x83, request.sequence, b""))

    with (
        FakeDevice([confused]) as device,
        serial.open(device.port) as executor,
        pytest.raises(ProtocolError, match="answered with command 0x83; 0x82 would be right"),
    ):
        executor.infer(IMAGE)


def test_an_echo_that_changes_bytes_is_an_error() -> None:
    def other(request: Frame) -> bytes:
        return encode_frame(Frame(0x83, request.sequence, b"abd"))

    with (
        FakeDevice([other]) as device,
        serial.open(device.port) as executor,
        pytest.raises(ProtocolError, match="echo of 3 bytes came back"),
    ):
        executor.echo(b"abc")


def test_another_network_on_the_board_is_named() -> None:
    with FakeDevice(hello=fake_device.banner(HELLO, build_id="f" * 16)) as device:
        with pytest.raises(WrongFirmwareError, match="runs firmware ffffffffffffffff, asked for 0123456789abcdef"):
            serial.open(device.port, build_id=HELLO.build_id)
        serial.open(device.port).close()


def test_an_image_of_the_wrong_size_never_reaches_the_line() -> None:
    with FakeDevice() as device, serial.open(device.port) as executor:
        with pytest.raises(ProtocolError, match=r"image of 5 int8 values; .* takes 4 int8 values"):
            executor.infer(np.zeros(5, np.int8))
        assert device.requests == []


def test_noise_before_the_banner_is_thrown_away() -> None:
    with (
        FakeDevice(hello=lambda request: b"\x55\xaaboot\r\n\0" + good_answer(request)) as device,
        pytest.raises(ProtocolError, match="hello request, sent 4 times, got only unusable answers"),
    ):
        serial.open(device.port)
    with FakeDevice() as device:
        os.write(device._device, b"\x55\xaaboot\r\n")
        serial.open(device.port).close()


def test_a_missing_port_lists_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", lambda: [SimpleNamespace(device="/dev/ttyACM7")])
    with pytest.raises(PortError, match=r"/dev/nothing: no such port.*Seen now: /dev/ttyACM7"):
        serial.open("/dev/nothing")


def test_a_busy_port_says_who_to_look_for() -> None:
    with (
        FakeDevice() as device,
        serial.open(device.port),
        pytest.raises(PortError, match=r"in use by another program; close it .lsof"),
    ):
        serial.open(device.port)


def test_a_forbidden_port_says_which_group_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise pyserial.SerialException(errno.EACCES, "no")

    monkeypatch.setattr(pyserial, "serial_for_url", refuse)
    with pytest.raises(PortError, match=r"permission denied.*dialout"):
        serial.open("/dev/ttyACM0")


def test_a_nonsense_port_is_refused_with_an_example() -> None:
    with pytest.raises(PortError, match="give a device such as /dev/ttyACM0"):
        serial.open("sockets://127.0.0.1:1")


def test_a_board_unplugged_in_use_is_a_port_error() -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    device = threading.Thread(target=_answer_once, args=(master,))
    device.start()
    executor = serial.open(name)
    device.join()
    os.close(slave)
    os.close(master)
    with executor, pytest.raises(PortError, match="was lost while in use"):
        executor.infer(IMAGE)


def test_a_socket_is_a_port_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = threading.Thread(target=_serve_socket, args=(listener,))
        server.start()
        with serial.open(f"socket://127.0.0.1:{port}") as executor:
            assert executor.infer(IMAGE).output.tolist() == OUTPUT
        server.join()


def test_the_boards_port_is_found_by_its_usb_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    target = load_target(data_folder("targets") / "stm32f469i-disco.toml")
    other = SimpleNamespace(device="/dev/ttyUSB0", vid=0x1A86, pid=0x7523)
    board = SimpleNamespace(device="/dev/ttyACM0", vid=0x0483, pid=0x374B)
    bare = SimpleNamespace(device="/dev/ttyS0", vid=None, pid=None)
    monkeypatch.setattr(list_ports, "comports", lambda: [other, board, bare])
    assert serial.find_port("auto", target) == "/dev/ttyACM0"
    assert serial.find_port("/dev/pts/5", target) == "/dev/pts/5"
    monkeypatch.setattr(list_ports, "comports", lambda: [other, bare])
    with pytest.raises(PortError, match=r"no port of a stm32f469i-disco \(0483:374b.*Seen: /dev/ttyUSB0, /dev/ttyS0"):
        serial.find_port("auto", target)
    monkeypatch.setattr(list_ports, "comports", lambda: [board, board])
    with pytest.raises(PortError, match="2 ports could be a stm32f469i-disco"):
        serial.find_port("auto", target)


def test_shipped_targets_name_the_usb_ids_of_their_probe() -> None:
    for path in Path(data_folder("targets")).glob("*.toml"):
        assert load_target(path).serial.vid_pid


def _nothing(request: Frame) -> bytes:
    return b""


def _corrupt(request: Frame) -> bytes:
    damaged = bytearray(good_answer(request))
    damaged[7] ^= 0x10
    return bytes(damaged)


def _answer_once(descriptor: int) -> None:
    splitter = Splitter()
    while not (pieces := list(splitter.feed(os.read(descriptor, 100)))):
        pass
    os.write(descriptor, good_answer(decode_frame(pieces[0])))


def _serve_socket(listener: socket.socket) -> None:
    host, _ = listener.accept()
    splitter = Splitter()
    with host:
        while data := host.recv(100):
            for piece in splitter.feed(data):
                host.sendall(good_answer(decode_frame(piece)))
