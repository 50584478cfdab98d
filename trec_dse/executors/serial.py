"""Run a network on a board through its serial port; the twin is reached by the same code.

One request is under way at a time and each carries a fresh sequence number, so an answer that comes late
belongs to nobody and is dropped. A damaged frame is never an answer: the request is repeated.
"""

import errno
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import serial
from serial.tools import list_ports

from trec_dse.device import Inference, Int8Array
from trec_dse.errors import DeviceError, NoAnswerError, PortError, ProtocolError, WrongFirmwareError
from trec_dse.protocol import (
    ANSWER_BIT,
    ERROR_COMMAND,
    UNKNOWN_SEQUENCE,
    Command,
    FaultCode,
    Frame,
    Hello,
    Splitter,
    decode_frame,
    encode_frame,
    parse_fault,
    parse_hello,
    parse_infer,
)
from trec_dse.target import Target

DEFAULT_BAUD = 921_600
DEFAULT_TIMEOUT_S = 10.0
HELLO_TIMEOUT_S = 2.0
N_TRIES = 4
POLL_S = 0.05
DRAIN_S = 0.02


class _Damaged(DeviceError):
    """Internal: a frame arrived that cannot be an answer; the request is worth repeating."""


class SerialExecutor:
    """A device behind a port. Use `open`; as a context manager it closes the port.

    Attributes:
        name: the port. hello: the banner that the firmware gave when the port was opened.
        n_tries: how often a request is sent; hello_timeout_s: how long the banner may take.
    """

    hello: Hello
    n_tries = N_TRIES
    hello_timeout_s = HELLO_TIMEOUT_S

    def __init__(self, line: serial.Serial, name: str, timeout_s: float) -> None:
        self.name = name
        self._line = line
        self._timeout_s = timeout_s
        self._splitter = Splitter()
        self._sequence = 0

    def introduce(self, build_id: str | None) -> None:
        """Ask for the banner and keep it. Raises `WrongFirmwareError` if its build id is not `build_id`."""
        self._drain()
        self.hello = parse_hello(self._ask(Command.HELLO, b"", min(self.hello_timeout_s, self._timeout_s)))
        if build_id is not None and self.hello.build_id != build_id:
            raise WrongFirmwareError(
                f"{self.name} runs firmware {self.hello.build_id}, asked for {build_id}; flash the export folder first"
            )

    def infer(self, image: Int8Array) -> Inference:
        """One inference. `image`: int8, as many values as the network's input, NHWC order."""
        if image.dtype != "int8" or image.size != self.hello.input_bytes:
            raise ProtocolError(
                f"image of {image.size} {image.dtype} values; firmware {self.hello.build_id} takes"
                f" {self.hello.input_bytes} int8 values"
            )
        answer = parse_infer(self._ask(Command.INFER, image.tobytes(), self._timeout_s), self.hello)
        return Inference(answer.output, answer.cycles, answer.stack_bytes, answer.n_clusters)

    def echo(self, payload: bytes) -> bytes:
        """Send bytes and get them back, to test the line."""
        answer = self._ask(Command.ECHO, payload, self._timeout_s)
        if answer != payload:
            raise ProtocolError(f"{self.name}: echo of {len(payload)} bytes came back as {len(answer)} other bytes")
        return answer

    def reset(self) -> None:
        """Restart the device and wait until it introduces itself again; it must run the same firmware."""
        self._ask(Command.RESET, b"", self._timeout_s)
        self.introduce(self.hello.build_id)

    def close(self) -> None:
        """Give the port back."""
        unclosed = getattr(self._line, "_socket", None)
        self._line.close()
        if unclosed is not None:
            unclosed.close()  # pyserial forgets a socket whose other end is gone

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, command: Command, payload: bytes, timeout_s: float) -> bytes:
        """The payload of the answer to a request, repeated with a new sequence number while none comes."""
        problem: DeviceError | None = None
        for _ in range(self.n_tries):
            self._sequence = (self._sequence + 1) % UNKNOWN_SEQUENCE
            request = Frame(command, self._sequence, payload)
            try:
                self._write(encode_frame(request))
                answer = self._answer(request, timeout_s)
                if problem is not None and command is Command.INFER:
                    self._recognize()
                return answer
            except (_Damaged, NoAnswerError) as failure:
                problem = failure
                self._drain()
        assert problem is not None
        raise self._final(command, problem, timeout_s) from problem

    def _recognize(self) -> None:
        """After a fault: who answers now must be who answered before, not a board reset into another firmware."""
        now = parse_hello(self._ask(Command.HELLO, b"", min(self.hello_timeout_s, self._timeout_s)))
        if now != self.hello:
            raise WrongFirmwareError(
                f"{self.name} came back with firmware {now.build_id}, before it ran {self.hello.build_id};"
                " flash the export folder again"
            )

    def _final(self, command: Command, problem: DeviceError, timeout_s: float) -> DeviceError:
        asked = f"{self.name}: {command.name.lower()} request, sent {self.n_tries} times"
        if isinstance(problem, NoAnswerError):
            return NoAnswerError(
                f"{asked}, was not answered within {timeout_s:g} s; check that the board has power, that the firmware"
                f" is flashed and that the port is the board's"
            )
        return ProtocolError(f"{asked}, got only unusable answers; the last: {problem}; check baud rate and cable")

    def _answer(self, request: Frame, timeout_s: float) -> bytes:
        for data in self._frames(time.monotonic() + timeout_s):
            try:
                frame = decode_frame(data)
            except ProtocolError as problem:
                raise _Damaged(str(problem)) from problem
            if frame.command == ERROR_COMMAND and frame.sequence in (request.sequence, UNKNOWN_SEQUENCE):
                self._refused(request, frame)
            if frame.sequence != request.sequence:
                continue
            if frame.command != request.command | ANSWER_BIT:
                raise ProtocolError(
                    f"{self.name}: request {request.command} was answered with command 0x{frame.command:02x};"
                    f" 0x{request.command | ANSWER_BIT:02x} would be right"
                )
            return frame.payload
        raise NoAnswerError(f"no answer within {timeout_s:g} s")

    def _refused(self, request: Frame, frame: Frame) -> None:
        """Line damage is worth another try; any other refusal would only come again."""
        fault = parse_fault(frame)
        if fault.code is FaultCode.BAD_FRAME:
            raise _Damaged(fault.text)
        raise ProtocolError(
            f"{self.name} refused request {request.command} with {len(request.payload)} bytes: {fault.text}"
        )

    def _frames(self, deadline: float) -> Iterator[bytes]:
        """Encoded frames as they arrive, until `deadline` (monotonic seconds)."""
        while time.monotonic() < deadline:
            yield from self._splitter.feed(self._read())

    def _read(self) -> bytes:
        try:
            data: bytes = self._line.read(max(1, self._line.in_waiting))
        except (serial.SerialException, OSError) as problem:
            raise self._lost(problem) from problem
        return data

    def _write(self, data: bytes) -> None:
        try:
            self._line.write(data)
        except serial.SerialTimeoutException as problem:
            raise NoAnswerError(f"{self.name} takes no bytes") from problem
        except (serial.SerialException, OSError) as problem:
            raise self._lost(problem) from problem

    def _lost(self, problem: Exception) -> DeviceError:
        return PortError(f"{self.name} was lost while in use: {problem}; check cable and power, then open it again")

    def _drain(self) -> None:
        """Throw away what is still under way, so that the next answer starts on clean ground."""
        self._line.timeout = DRAIN_S
        while self._read():
            pass
        self._line.timeout = POLL_S
        self._splitter.clear()


def open(
    port: str, *, baud: int = DEFAULT_BAUD, timeout_s: float = DEFAULT_TIMEOUT_S, build_id: str | None = None
) -> SerialExecutor:
    """The device behind `port` (/dev/ttyACM0, /dev/pts/3, socket://host:port), introduced and ready.

    `timeout_s` bounds one inference, transfer included. Raises `PortError`, `NoAnswerError`, `ProtocolError`
    or, if `build_id` is given and the device runs another one, `WrongFirmwareError`.
    """
    executor = SerialExecutor(open_line(port, baud, timeout_s), port, timeout_s)
    try:
        executor.introduce(build_id)
    except DeviceError:
        executor.close()
        raise
    return executor


def open_line(port: str, baud: int, timeout_s: float) -> serial.Serial:
    """The bare port. Raises `PortError` that says what to do about a missing, busy or forbidden one."""
    try:
        return serial.serial_for_url(port, baudrate=baud, timeout=POLL_S, write_timeout=timeout_s, exclusive=True)
    except (serial.SerialException, OSError) as problem:
        raise PortError(f"{port}: {_advice(port, problem)}") from problem
    except ValueError as problem:
        raise PortError(f"{port}: {problem}; give a device such as /dev/ttyACM0 or a socket://HOST:PORT") from problem


def _advice(port: str, problem: Exception) -> str:
    number = getattr(problem, "errno", None)
    if number == errno.ENOENT:
        return f"no such port; plug the board in. Seen now: {_seen()}"
    if number in (errno.EACCES, errno.EPERM):
        return "permission denied; add yourself to its group, usually: sudo usermod -aG dialout $USER, then log in anew"
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"in use by another program; close it (lsof {port} names it)"
    return f"cannot be opened: {problem}"


def find_port(name: str, target: Target) -> str:
    """`name` itself, or for "auto" the one port whose USB ids the target lists. Raises `PortError` unless it is one."""
    if name != "auto":
        return name
    wanted = {ids.lower() for ids in target.serial.vid_pid}
    found = [port.device for port in list_ports.comports() if _usb_ids(port.vid, port.pid) in wanted]
    if len(found) == 1:
        return str(found[0])
    listed = ", ".join(sorted(wanted)) or "no USB ids"
    if not found:
        raise PortError(f"no port of a {target.name} ({listed}); plug the board in or name the port. Seen: {_seen()}")
    raise PortError(f"{len(found)} ports could be a {target.name}: {', '.join(found)}; name one of them")


def board_id(port: str) -> str:
    """What tells one board from another: the serial number of its probe, or the port where that has none."""
    for found in list_ports.comports():
        if found.device == port and found.serial_number:
            return str(found.serial_number)
    return port


def _usb_ids(vid: int | None, pid: int | None) -> str:
    return f"{vid:04x}:{pid:04x}" if vid is not None and pid is not None else ""


def _seen() -> str:
    return ", ".join(port.device for port in list_ports.comports()) or "none"
