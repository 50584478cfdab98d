"""Polled serial ports: what all share, and those of the STM32 families, which differ in where their registers are."""

from collections.abc import Mapping
from dataclasses import dataclass

from trec_dse.errors import DeviceError
from trec_dse.twin.registers import Gate, Registers, Wires


@dataclass(frozen=True)
class UsartLayout:
    """Offsets that differ between the families. `enable_bits`: UE, RE and TE of CR1."""

    status: int
    receive: int
    transmit: int
    divider: int
    control: int
    enable_bits: int


OLD_USART = UsartLayout(0x00, 0x04, 0x04, 0x08, 0x0C, (1 << 13) | (1 << 2) | (1 << 3))
NEW_USART = UsartLayout(0x1C, 0x24, 0x28, 0x0C, 0x00, (1 << 0) | (1 << 2) | (1 << 3))


_PATIENCE = 1000  # looks at a port that is off


class PolledPort(Registers):
    """What every polled serial port shares. While the firmware only waits for a byte, the whole twin sleeps.

    A core looks many times before the next byte is there, so the first look at the status never shows one; the
    second waits for it. This makes the cycle count independent of when the host's bytes arrive. A firmware that
    sends finds room at its first look, and may look once whether the last byte has left before it sends the next.
    """

    def __init__(
        self,
        name: str,
        base: int,
        wires: Wires,
        *,
        size: int = 0x400,
        gate: Gate | None = None,
        at_reset: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(name, base, size=size, at_reset=at_reset, gate=gate)
        self._wires = wires
        self._line = wires.line
        self._n_looks = 0

    def reset(self) -> None:
        """Switched off."""
        super().reset()
        self._n_looks = 0

    @property
    def is_on(self) -> bool:
        """Whether it is switched on in both directions."""
        raise NotImplementedError

    def has_byte(self) -> bool:
        """A look at the status: whether a byte has arrived. Raises `DeviceError` where it is waited for in vain."""
        self._n_looks += 1
        if not self.is_on and self._n_looks > _PATIENCE:
            what = f"the firmware waits for {self.name}, which is not switched on in both directions"
            raise DeviceError(what)
        if not self.is_on or self._n_looks < 2:
            return False
        if not self._line.received and not self._line.wait():
            self._wires.on_closed()
        return bool(self._line.received)

    def take(self) -> int:
        """The byte that has arrived."""
        self._n_looks = 0
        return self._line.received.popleft() if self.is_on and self._line.received else 0

    def send(self, value: int) -> None:
        """Pass a byte on; lost while the port is off."""
        self._n_looks = -1
        if self.is_on:
            self._line.send(value & 0xFF)

    def note_switch(self, was_on: bool) -> None:
        """Called after every write to a switch: what came before the port was on is lost."""
        if self.is_on and not was_on:
            self._line.discard()
            self._wires.on_enable()


class Usart(PolledPort):
    """A USART or LPUART of an STM32."""

    _RECEIVED, _COMPLETE, _EMPTY = 1 << 5, 1 << 6, 1 << 7
    _PRESC, _PRESCALERS = 0x2C, (1, 2, 4, 6, 8, 10, 12, 16, 32, 64, 128, 256, 256, 256, 256, 256)
    _READY_FLAGS = (1 << 21) | (1 << 22)  # TEACK and REACK, which only the newer one has

    def __init__(self, name: str, base: int, gate: Gate, layout: UsartLayout, wires: Wires) -> None:
        super().__init__(name, base, wires, gate=gate)
        self.layout = layout

    @property
    def is_on(self) -> bool:
        """UE, RE and TE are set."""
        wanted = self.layout.enable_bits
        return self.words.get(self.layout.control, 0) & wanted == wanted

    def read(self, offset: int) -> int:
        """Status and received bytes; other registers as written."""
        if offset == self.layout.status:
            ready = self._READY_FLAGS if self.is_on else 0
            return self._EMPTY | self._COMPLETE | ready | self._RECEIVED * self.has_byte()
        return self.take() if offset == self.layout.receive else super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Bytes to send, and the switch."""
        if offset == self.layout.transmit:
            self.send(value)
            return
        was_on = self.is_on
        super().write(offset, value)
        self.note_switch(was_on)

    def baud(self, clock_hz: float) -> float:
        """Bits per second as programmed: an LPUART, after its prescaler, divides by 256ths, a USART by 16 or 8."""
        divider = self.words.get(self.layout.divider, 0)
        if self.name.startswith("LP"):
            prescaler = self._PRESCALERS[self.bits(self._PRESC, 0, 4)]
            return 256 * clock_hz / prescaler / max(1, divider)
        if self.bits(self.layout.control, 15, 1):
            divider = (divider >> 4) * 8 + (divider & 7)
        return clock_hz / max(1, divider)
