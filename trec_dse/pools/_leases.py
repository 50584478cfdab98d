"""Who has which task, and until when: a task whose holder falls silent is offered to somebody else.

Time is that of the search alone, so clocks of other machines do not matter. A lease is a name that cannot be guessed:
whoever names it has the task, and nobody else is heard. With a lease comes the right to wait for one's turn in a folder
that tasks have in common; a turn ends with its lease at the latest, so whoever waits for the lost waits no longer.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from trec_dse.errors import StudyError
from trec_dse.workers import MAX_ATTEMPTS, Died, Progress


@dataclass
class _Given:
    """A task that is out. `lease`: None while nobody has it; `seen_s`: when its holder was last heard."""

    number: int
    request: str
    attempt: int = 0
    lease: str | None = None
    said: str = ""
    seen_s: float = 0.0


class Leases:
    """Tasks by number and by lease, folders by whose turn it is; not safe to be used by several threads at once."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._out: dict[int, _Given] = {}
        self._held: dict[str, _Given] = {}
        self._turns: dict[str, str] = {}  # by folder, the lease whose turn it is

    def offer(self, number: int, request: str) -> None:
        """A task that anybody may take."""
        self._out[number] = _Given(number, request)

    def take(self, now_s: float) -> tuple[str, str] | None:
        """The lease and the request of the oldest task that nobody has; None if there is none."""
        given = next((given for given in self._out.values() if given.lease is None), None)
        if given is None:
            return None
        given.lease, given.said = secrets.token_hex(8), ""
        given.attempt, given.seen_s = given.attempt + 1, now_s
        self._held[given.lease] = given
        return given.lease, given.request

    def holds(self, lease: str) -> bool:
        """Whether a lease is still good."""
        return lease in self._held

    def _require(self, lease: str) -> None:
        """StudyError if a lease is not good any more."""
        if not self.holds(lease):
            raise StudyError("the lease has run out; somebody else has the task")

    def enter(self, lease: str, folder: str) -> bool:
        """Whether it is now this lease's turn in `folder`, until it leaves or ends. StudyError if it is not good."""
        self._require(lease)
        holder = self._turns.setdefault(folder, lease)
        return holder == lease

    def require_turn(self, lease: str, folder: str) -> None:
        """StudyError if a lease is not good any more, or another one's turn is now."""
        self._require(lease)
        if self._turns.get(folder) != lease:
            raise StudyError(f"{folder} is written by whoever has its turn there, and this is not our turn")

    def leave(self, lease: str, folder: str) -> None:
        """Let others have their turn."""
        if self._turns.get(folder) == lease:
            del self._turns[folder]

    def beat(self, said: Mapping[str, str], now_s: float) -> list[Progress]:
        """Holders are alive and have said so much; returns what is new. Leases that are not good are passed over."""
        news = []
        for lease, text in said.items():
            given = self._held.get(lease)
            if given is None:
                continue
            given.seen_s = now_s
            if text != given.said:
                given.said = text
                news.append(Progress(given.number, text))
        return news

    def end(self, lease: str) -> int | None:
        """The number of the task that has ended, or None if the lease is not good."""
        given = self._held.get(lease)
        if given is None:
            return None
        self._forget(lease)
        del self._out[given.number]
        return given.number

    def reap(self, now_s: float) -> list[Died]:
        """Take tasks from whom was not heard for the length of a lease; a task lost too often is given up."""
        lost = []
        for lease, given in list(self._held.items()):
            if now_s - given.seen_s <= self._lease_s:
                continue
            self._forget(lease)
            given.lease = None
            will_retry = given.attempt < MAX_ATTEMPTS
            if not will_retry:
                del self._out[given.number]
            lost.append(Died(given.number, f"its worker gave no sign of life for {self._lease_s:.0f} s", will_retry))
        return lost

    def _forget(self, lease: str) -> None:
        """A lease is good no more, and neither are its turns."""
        del self._held[lease]
        self._turns = {folder: holder for folder, holder in self._turns.items() if holder != lease}
