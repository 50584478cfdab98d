"""The far end of the twin's serial port: a pseudo-terminal, a TCP socket, or memory in tests."""

import os
import select
import socket
import tty
from collections import deque
from typing import Protocol

_CHUNK = 65_536
_SEND_AT = 1024
# A UART has no flow control: who does not read for this long loses bytes.
_PATIENCE_S = 2.0


class Line(Protocol):
    """Bytes towards the firmware wait in `received`; bytes from it go through `send`."""

    url: str
    received: deque[int]

    def send(self, byte: int) -> None:
        """Take one byte from the firmware."""
        ...

    def wait(self) -> bool:
        """Pass on what was sent, then sleep until bytes arrive. False: there will never be more."""
        ...

    def discard(self) -> None:
        """Lose what has arrived, as a UART does that is switched off."""
        ...


class MemoryLine:
    """Plays a fixed input and keeps the output in `sent`; ends when the firmware asks for more."""

    url = "memory"

    def __init__(self, data: bytes = b"") -> None:
        self.received: deque[int] = deque()
        self.sent = bytearray()
        self._pending = data

    def send(self, byte: int) -> None:
        """Keep it."""
        self.sent.append(byte)

    def wait(self) -> bool:
        """Hand out the whole input once."""
        self.received.extend(self._pending)
        self._pending = b""
        return bool(self.received)

    def discard(self) -> None:
        """Nothing has arrived before the firmware asked."""
        self.received.clear()


class _DescriptorLine:
    """What the pseudo-terminal and the socket share."""

    url: str

    def __init__(self) -> None:
        self.received: deque[int] = deque()
        self._unsent = bytearray()

    def send(self, byte: int) -> None:
        """Collect bytes, so that one system call carries many."""
        self._unsent.append(byte)
        if len(self._unsent) >= _SEND_AT:
            self._flush()

    def wait(self) -> bool:
        """Sleep until the host has sent something."""
        self._flush()
        while not self.received:
            self._receive(None)
        return True

    def discard(self) -> None:
        """Read and drop."""
        self._receive(0)
        self.received.clear()

    def _receive(self, timeout_s: float | None) -> None:
        raise NotImplementedError

    def _flush(self) -> None:
        raise NotImplementedError

    def _write_all(self, descriptor: int) -> None:
        while self._unsent:
            if not select.select([], [descriptor], [], _PATIENCE_S)[1]:
                break
            del self._unsent[: os.write(descriptor, self._unsent)]
        self._unsent.clear()


class PtyLine(_DescriptorLine):
    """A pseudo-terminal; `url` is the path that pyserial opens."""

    def __init__(self) -> None:
        super().__init__()
        # Our own handle on the host's side stays open: without it a host that closes would look like an error.
        self._master, self._host_side = os.openpty()
        tty.setraw(self._host_side)
        os.set_blocking(self._master, False)
        self.url = os.ttyname(self._host_side)

    def _receive(self, timeout_s: float | None) -> None:
        if select.select([self._master], [], [], timeout_s)[0]:
            self.received.extend(os.read(self._master, _CHUNK))

    def _flush(self) -> None:
        self._write_all(self._master)


class TcpLine(_DescriptorLine):
    """A socket that serves one host after the other; port 0 lets the system choose."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._host: socket.socket | None = None
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"

    def _receive(self, timeout_s: float | None) -> None:
        watched = [self._listener] if self._host is None else [self._listener, self._host]
        ready = select.select(watched, [], [], timeout_s)[0]
        if self._listener in ready:
            self._hang_up()
            self._host = self._listener.accept()[0]
            self._host.setblocking(False)
        elif self._host is not None and self._host in ready:
            self._read(self._host)

    def _read(self, host: socket.socket) -> None:
        try:
            data = host.recv(_CHUNK)
        except ConnectionError:
            data = b""
        if data:
            self.received.extend(data)
        else:
            self._hang_up()

    def _flush(self) -> None:
        if self._host is None:
            self._unsent.clear()
            return
        try:
            self._write_all(self._host.fileno())
        except ConnectionError:
            self._hang_up()

    def _hang_up(self) -> None:
        self._unsent.clear()
        if self._host is not None:
            self._host.close()
            self._host = None
