"""Where cycles are booked to in a profile: which step of a run, and which function."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from trec_dse.protocol import InferAnswer
from trec_dse.twin.image import Image


@dataclass(frozen=True)
class Tally:
    """What a piece of code has taken. All in raw cycles, before `CoreTiming.permille`, but for the instructions.

    Attributes:
        cycles: all of them; code_stalls, data_stalls: those lost because a line was in no cache or accelerator.
    """

    cycles: int = 0
    n_instructions: int = 0
    code_stalls: int = 0
    data_stalls: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.cycles + other.cycles,
            self.n_instructions + other.n_instructions,
            self.code_stalls + other.code_stalls,
            self.data_stalls + other.data_stalls,
        )

    def __sub__(self, other: "Tally") -> "Tally":
        return Tally(
            self.cycles - other.cycles,
            self.n_instructions - other.n_instructions,
            self.code_stalls - other.code_stalls,
            self.data_stalls - other.data_stalls,
        )


@dataclass(frozen=True)
class Places:
    """The rooms of a profile: steps 0 to `n_steps` - 1 by functions.

    A run is one call of a function that itself only calls others, one after the other. Its k-th call and what prepares
    it are step k, from 1 on; step 0 is all that happens outside of it.

    Attributes:
        starts: addresses of the functions, rising; code below the first belongs to none.
        run_first, run_bytes: where the running function lies.
    """

    starts: tuple[int, ...]
    run_first: int
    run_bytes: int
    n_steps: int

    @classmethod
    def of(cls, image: Image, run: str, n_calls: int) -> "Places":
        """The places of a firmware whose function `run` makes `n_calls` calls; one step more is for what follows."""
        function = next((function for function in image.functions if function.name == run), None)
        first = image.address_of(run) if function is None else function.address
        starts = tuple(sorted({each.address for each in image.functions}))
        return cls(starts, first, 0 if function is None else function.size, n_calls + 2)

    @property
    def n_functions(self) -> int:
        """Functions, and one more for code that is in none."""
        return len(self.starts) + 1

    def function_at(self, address: int) -> int:
        """Number of the function that holds `address`: 0 for none, k + 1 for the one that starts at `starts[k]`."""
        return bisect_right(self.starts, address)


@dataclass(frozen=True)
class Profile:
    """One inference.

    Attributes:
        answer: what the firmware said.
        steps: per call that the network makes, its first to its last, function name -> what it took in there.
    """

    answer: InferAnswer
    steps: tuple[Mapping[str, Tally], ...]


class Steps:
    """Which step of its run a firmware is in; the rules of `take_step` in hooks.c."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._return = -1
        self._is_inside = False
        self.step = 0

    def take(self, previous_end: int, address: int) -> int:
        """The step of the block at `address`; `previous_end`: address behind the block before it."""
        places = self._places
        is_inside = 0 <= address - places.run_first < places.run_bytes
        if address == places.run_first:
            self.step, self._return = 1, previous_end
        elif is_inside and not self._is_inside and self.step + 1 < places.n_steps:
            self.step += 1
        elif address == self._return:
            self.step = 0
        self._is_inside = is_inside
        return self.step
