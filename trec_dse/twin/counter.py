"""What the emulator asks of whoever counts its cycles, whichever language that is written in (hooks.py)."""

from collections.abc import Callable
from typing import Protocol

from trec_dse.twin.engine import Engine
from trec_dse.twin.places import Places, Tally
from trec_dse.twin.timing import Block, CoreTiming

Learn = Callable[[int, int], Block]
"""The block of an address and a size, decoded when it runs for the first time."""

Refuse = Callable[[int], None]
"""Told the address of an access that the core would refuse."""


class Counter(Protocol):
    """Counts from the moment it is attached; `cycles` are raw, before `CoreTiming.permille`."""

    @property
    def cycles(self) -> int:
        """Raw cycles so far, the block under way included."""
        ...

    @property
    def n_instructions(self) -> int:
        """Instructions so far, the block under way included."""
        ...

    @property
    def latest(self) -> int | None:
        """Address of the block under way; None in code that is not timed."""
        ...

    def attach(self, engine: Engine) -> None:
        """Start to count what this engine executes."""
        ...

    def forget_caches(self) -> None:
        """Start with cold caches and predictors, as after a reset; the counts go on."""
        ...

    def watch(self, places: Places) -> None:
        """Book what is counted from now on to these places; before anything has run."""
        ...

    def tallies(self) -> dict[tuple[int, int], Tally]:
        """What was booked so far, by step and function; places where nothing happened are left out."""
        ...


CounterMaker = Callable[[CoreTiming, tuple[int, int], Learn, Refuse], Counter]
