"""A serial Flash of the W25Q kind and the RP2040's controller of it, as the second boot stage sets them up.

W25Q16JV data sheet, chapter 8 (instructions); RP2040 Datasheet, 4.10 (SSI). Transfers happen at once; one ends when the
controller is found idle. Of the Flash's memory nothing is read here: the twin maps it once both sides agree.
"""

from trec_dse.twin.registers import Registers

_MODE_GO_ON = 0xA0


class SerialFlash:
    """Its status, and in which form it expects the next read.

    Attributes:
        has_four_lines: QE of status register 2. goes_on: reads come without a command.
    """

    def __init__(self, *, has_four_lines: bool = True) -> None:
        self.has_four_lines = has_four_lines
        self.goes_on = False
        self._can_write = False
        self._sent: list[int] = []

    def exchange(self, byte: int) -> int:
        """One byte each way over single lines."""
        self._sent.append(byte)
        command, n = self._sent[0], len(self._sent)
        if command == 0x35 and n == 2:
            return 2 * self.has_four_lines
        return 0

    def deselect(self) -> None:
        """The end of a transfer, at which commands that write take effect."""
        command, data = (self._sent or [0])[0], self._sent[1:]
        if command == 0x01 and self._can_write and len(data) == 2:
            self.has_four_lines = bool(data[1] & 2)
        self._can_write = command == 0x06
        self._sent = []

    def read_over_four_lines(self, mode: int) -> None:
        """A read EBh with this mode byte; without four lines the Flash takes it for nothing."""
        self.goes_on = self.has_four_lines and mode >> 4 == _MODE_GO_ON >> 4


class Ssi(Registers):
    """The controller: bytes over one line, or words over four."""

    CTRLR0, CTRLR1, SSIENR, SER, BAUDR, SR, DR0, SPI_CTRLR0 = 0x00, 0x04, 0x08, 0x10, 0x14, 0x28, 0x60, 0xF4
    _BYTES, _WORDS = 7 << 16, 2 << 21 | 31 << 16 | 3 << 8
    _EMPTY, _ARRIVED = 1 << 2, 1 << 3
    _FIRST_READ, _NEXT_READS = 8 << 2 | 4 << 11 | 2 << 8 | 1, _MODE_GO_ON << 24 | 8 << 2 | 4 << 11 | 2

    def __init__(self, flash: SerialFlash) -> None:
        super().__init__("SSI", 0x1800_0000)
        self.flash = flash
        self._received: list[int] = []
        self._words: list[int] = []

    def reset(self) -> None:
        """As the boot ROM leaves it: the Flash no longer goes on, whatever came before."""
        super().reset()
        self.flash.goes_on = False
        self._received, self._words = [], []

    def read(self, offset: int) -> int:
        """Status and received bytes; other registers as written."""
        if offset == self.SR:
            self.flash.deselect()
            return self._EMPTY | self._ARRIVED * bool(self._received)
        if offset == self.DR0:
            return self._received.pop(0) if self._received else 0
        return super().read(offset)

    def write(self, offset: int, value: int) -> None:
        """Send, or set up; settings do not count while the controller is on."""
        if offset == self.DR0:
            self._send(value)
        elif offset == self.SSIENR or not self.words.get(self.SSIENR):
            super().write(offset, value)
            if offset == self.SSIENR:
                self._received, self._words = [], []

    def refusal(self) -> str:
        """Why a read of the Flash as memory would bring garbage; "" if it would not."""
        divider = self.words.get(self.BAUDR, 0)
        if not self.words.get(self.SSIENR) or not divider or divider % 2:
            return "the SSI is off, or its clock is no even part of the core's"
        if not self.flash.goes_on:
            return "the Flash expects a command before each read; read once with the mode byte 0xa0"
        if (self.words.get(self.CTRLR0), self.words.get(self.SPI_CTRLR0)) != (self._WORDS, self._NEXT_READS):
            return "the SSI sends no address and mode byte over four lines, or reads no 32 bits"
        return ""

    def _send(self, value: int) -> None:
        if not self.words.get(self.SSIENR) or not self.words.get(self.SER):
            return
        if self.words.get(self.CTRLR0) == self._BYTES:
            self._received.append(self.flash.exchange(value & 0xFF))
            return
        self._words.append(value)
        is_quad = self.words.get(self.CTRLR0) == self._WORDS and self.words.get(self.SPI_CTRLR0) == self._FIRST_READ
        if is_quad and len(self._words) == 2 and self._words[0] == 0xEB:
            self.flash.read_over_four_lines(value & 0xFF)
