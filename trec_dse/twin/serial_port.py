"""The polled serial ports of the STM32 families, which differ in where their registers are."""

from dataclasses import dataclass

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


class Usart(Registers):
    """A polled serial port. While the firmware only waits for a byte, the whole twin sleeps.

    A core looks many times before the next byte is there, so the first look at the status never shows one; the
    second waits for it. This makes the cycle count independent of when the host's bytes arrive. A firmware that
    sends finds room at its first look.
    """

    _RECEIVED, _COMPLETE, _EMPTY = 1 << 5, 1 << 6, 1 << 7
    _READY_FLAGS = (1 << 21) | (1 << 22)  # TEACK and REACK, which only the newer one has

    def __init__(self, name: str, base: int, gate: Gate, layout: UsartLayout, wires: Wires) -> None:
        super().__init__(name, base, gate=gate)
        self.layout = layout
        self._wires = wires
        self._line = wires.line
        self._n_looks = 0

    def reset(self) -> None:
        """Switched off."""
        super().reset()
        self._n_looks = 0

    def read(self, offset: int) -> int:
        """Status and received bytes; other registers as written."""
        if offset == self.layout.status:
            return self._status()
        if offset == self.layout.receive:
            self._n_looks = 0
            return self._line.received.popleft() if self._is_on and self._line.received else 0
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Bytes to send, and the switch."""
        if offset == self.layout.transmit:
            self._n_looks = 0
            if self._is_on:
                self._line.send(value & 0xFF)
            return
        was_on = self._is_on
        super().write(offset, value)
        if self._is_on and not was_on:
            self._line.discard()
            self._wires.on_enable()

    def baud(self, clock_hz: float) -> float:
        """Bits per second as programmed: an LPUART divides by 256ths, a USART over-samples 16- or 8-fold."""
        divider = self.words.get(self.layout.divider, 0)
        if self.name.startswith("LP"):
            return 256 * clock_hz / max(1, divider)
        if self.bits(self.layout.control, 15, 1):
            divider = (divider >> 4) * 8 + (divider & 7)
        return clock_hz / max(1, divider)

    @property
    def _is_on(self) -> bool:
        wanted = self.layout.enable_bits
        return self.words.get(self.layout.control, 0) & wanted == wanted

    def _status(self) -> int:
        if not self._is_on:
            return self._EMPTY | self._COMPLETE
        self._n_looks += 1
        if self._n_looks < 2:
            return self._EMPTY | self._COMPLETE | self._READY_FLAGS
        if not self._line.received and not self._line.wait():
            self._wires.on_closed()
        has_byte = self._RECEIVED if self._line.received else 0
        return self._EMPTY | self._COMPLETE | self._READY_FLAGS | has_byte
