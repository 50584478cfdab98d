"""Peripherals as words in memory, and what every model of one is built from."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trec_dse.twin.lines import Line


@dataclass(frozen=True)
class Gate:
    """The bit that lets a peripheral work: `offset` in the block `owner`, where it must be `value`."""

    offset: int
    bit: int
    owner: str = "RCC"
    value: int = 1


@dataclass(frozen=True)
class Wires:
    """What peripherals are connected to.

    Attributes:
        line: the far end of the serial port. on_enable: called when the port is switched on.
        on_closed: called when the line will never bring another byte. cycles: core cycles since power-on.
        on_reset: called when firmware asks for the whole chip's reset.
    """

    line: Line
    on_enable: Callable[[], None]
    on_closed: Callable[[], None]
    cycles: Callable[[], int]
    on_reset: Callable[[], None]


@dataclass(frozen=True)
class Start:
    """Where a core begins after a reset.

    Attributes:
        stack, address, link: what its registers hold. copied: (address, bytes) that a boot ROM has put into memory.
    """

    stack: int
    address: int
    link: int = 0xFFFF_FFFF
    copied: tuple[tuple[int, bytes], ...] = ()


class Registers:
    """Words that read back what was written; models override what has a meaning.

    Attributes:
        gate: without this clock a real peripheral ignores every access; None: it always has one.
    """

    def __init__(
        self,
        name: str,
        base: int,
        *,
        size: int = 0x400,
        at_reset: Mapping[int, int] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.name = name
        self.base = base
        self.size = size
        self.gate = gate
        self._at_reset = dict(at_reset or {})
        self.words = dict(self._at_reset)

    def reset(self) -> None:
        """Back to the values after a reset."""
        self.words = dict(self._at_reset)

    def read(self, offset: int) -> int:
        """The word at `offset`, a multiple of 4."""
        return self.words.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Store a word at `offset`, a multiple of 4."""
        self.words[offset] = value

    def bits(self, offset: int, at: int, n: int) -> int:
        """The field of `n` bits from bit `at` of the word at `offset`, as written."""
        return self.words.get(offset, 0) >> at & ((1 << n) - 1)


@dataclass(frozen=True)
class Edge:
    """A pin that was driven to another level: `cycles` of the core after power-on; port and number as `pin_place`'s."""

    cycles: int
    place: tuple[int, int]
    level: int


class Outputs(Registers):
    """Pins, with what an instrument at them would see; `edges` holds the last of it.

    A write within a block of instructions is seen at the block's end, as far as cycles go.
    """

    N_KEPT = 4096

    def __init__(self, name: str, base: int, wires: Wires, **more: Any) -> None:
        super().__init__(name, base, **more)
        self._cycles = wires.cycles
        self._seen: dict[int, tuple[int, int]] = {}
        self.edges: deque[Edge] = deque(maxlen=self.N_KEPT)

    def reset(self) -> None:
        """No pin is driven."""
        super().reset()
        self._seen = {}

    def note(self, port: int, driven: int, levels: int) -> None:
        """What a port drives now, a bit per pin. A pin that becomes an output makes no edge."""
        before, levels_before = self._seen.get(port, (0, 0))
        changed = (levels ^ levels_before) & driven & before
        self._seen[port] = (driven, levels)
        for pin in range(changed.bit_length()):
            if changed >> pin & 1:
                self.edges.append(Edge(self._cycles(), (port, pin), levels >> pin & 1))


class Following(Registers):
    """Status bits that follow bits elsewhere: whatever is asked for is ready at once.

    `follows`: offset of a status word -> its (bit, offset of what is asked, bit there).
    """

    def __init__(
        self,
        name: str,
        base: int,
        follows: Mapping[int, tuple[tuple[int, int, int], ...]],
        *,
        at_reset: Mapping[int, int] | None = None,
        gate: Gate | None = None,
    ) -> None:
        super().__init__(name, base, at_reset=at_reset, gate=gate)
        self._follows = follows

    def read(self, offset: int) -> int:
        """The word, with status bits as they follow from what was asked."""
        word = super().read(offset)
        for bit, source, source_bit in self._follows.get(offset, ()):
            word = word & ~(1 << bit) | self.bits(source, source_bit, 1) << bit
        return word


class Timer(Registers):
    """TIM2: 32 bits that count core cycles while CR1.CEN is set."""

    CR1, CNT = 0x00, 0x24

    def __init__(self, base: int, gate: Gate, wires: Wires) -> None:
        super().__init__("TIM2", base, gate=gate)
        self._cycles = wires.cycles
        self._counted = 0
        self._since = 0

    def reset(self) -> None:
        """Stopped at 0."""
        super().reset()
        self._counted = 0

    def read(self, offset: int) -> int:
        """The count, or a register as written."""
        if offset != self.CNT:
            return super().read(offset)
        self._catch_up()
        return self._counted & 0xFFFF_FFFF

    def write(self, offset: int, value: int) -> None:
        """Set the count, start or stop it."""
        self._catch_up()
        if offset == self.CNT:
            self._counted = value
        else:
            super().write(offset, value)

    def _catch_up(self) -> None:
        now = self._cycles()
        if self.bits(self.CR1, 0, 1):
            self._counted += now - self._since
        self._since = now
