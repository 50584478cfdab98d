"""A machine that shares no folder with the search: asks it for candidates, evaluates them, sends back what they show.

Every candidate runs in a process of its own, in a scratch folder that is laid out as a study's: networks and parents
are fetched when it is our turn to train them (mirror.py), and sent back after every epoch, checkpoints too. So whoever
gets the task of a lost machine goes on from the last epoch that had ended there.
"""

import shutil
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from trec_dse import codec
from trec_dse.errors import StudyError
from trec_dse.pools.mirror import Mirror
from trec_dse.pools.wire import Beats, Client, Door, End, Heard, Lost, Nothing, Offer, Unreachable
from trec_dse.results import EvaluateRequest
from trec_dse.workers import Answer, Died, Failed, PoolEvent, Progress, WorkerPool, n_cores

BEAT_S, LOOK_S = 2.0, 0.2
_ANSWER = "trec_dse.pools.away:evaluate_away"


@dataclass(frozen=True)
class Post:
    """Where a worker asks and how it works.

    Attributes:
        door: to the search; scratch: where its copies go, removed in the end; data_dir: of the data sets.
        n: candidates at a time; idle_s: it leaves after so long without work.
        function: what runs an `Errand` in a process of its own, as "module:function".
    """

    door: Door
    scratch: Path
    data_dir: Path | None = None
    n: int = 1
    idle_s: float = 600.0
    function: str = _ANSWER


@dataclass(frozen=True)
class Errand:
    """What one process is asked, as JSON: the search's request, and where its files come from and go to."""

    request: EvaluateRequest
    door: Door
    lease: str


@dataclass
class _Slot:
    """One candidate at a time, in a process of its own with a scratch folder of its own."""

    root: Path
    pool: WorkerPool
    lease: str | None = None
    said: str = ""
    ending: End | None = None

    def clear(self) -> None:
        self.lease, self.said, self.ending = None, "", None


@dataclass
class Worker:
    """The life of a worker; `say` is told what is taken and how it ended."""

    post: Post
    say: Callable[[str], None]
    n_ended: int = 0
    _slots: list[_Slot] = field(default_factory=list)
    _beaten_s: float = 0.0
    _is_heard: bool = True

    def run(self) -> int:
        """Work until nothing has come for a while; returns how many candidates ended. Errors: those of `Client`."""
        post = self.post
        post.scratch.mkdir(parents=True, exist_ok=True)
        with Client(post.door) as client, ExitStack() as stack:
            self._slots = [_Slot(post.scratch / f"{i}", self._pool()) for i in range(post.n)]
            stack.callback(self._close)
            idle_since = time.monotonic()
            while not self._is_over(idle_since):
                self._listen()
                if self._ask(client):
                    idle_since = time.monotonic()
                time.sleep(LOOK_S)
        return self.n_ended

    def _is_over(self, idle_since: float) -> bool:
        is_waiting = all(slot.lease is None or slot.ending is not None for slot in self._slots)
        return is_waiting and time.monotonic() - idle_since > self.post.idle_s

    def _ask(self, client: Client) -> bool:
        """Tell how it stands and take what there is; whether the search answers and there is work."""
        try:
            if time.monotonic() - self._beaten_s > BEAT_S or any(slot.ending for slot in self._slots):
                self._beat(client)
                self._beaten_s = time.monotonic()
            self._take(client)
        except Unreachable as problem:
            if self._is_heard:
                self.say(f"{problem}; asking on for {self.post.idle_s:.0f} s")
            self._is_heard = False
            return False
        self._is_heard = True
        return any(slot.lease is not None for slot in self._slots)

    def _pool(self) -> WorkerPool:
        return WorkerPool(1, self.post.scratch / "workers.log", n_threads=max(1, n_cores() // self.post.n))

    def _close(self) -> None:
        for slot in self._slots:
            slot.pool.close()

    def _take(self, client: Client) -> None:
        """Fill what is free."""
        for slot in [slot for slot in self._slots if slot.lease is None]:
            offer = client.call("take", Nothing(), Offer)
            if not offer.lease:
                return
            slot.lease = offer.lease
            try:
                self._start(slot, offer)
            except StudyError as problem:  # a search of another release
                slot.ending = End(offer.lease, "failed", str(problem))

    def _start(self, slot: _Slot, offer: Offer) -> None:
        request = codec.from_json(offer.request, EvaluateRequest, "request of the search", StudyError)
        here = slot.root / "candidates" / request.candidate.key
        data_dir = None if self.post.data_dir is None else str(self.post.data_dir)
        slot.root.mkdir(parents=True, exist_ok=True)
        request = replace(request, folder=str(here), data_dir=data_dir)
        errand = Errand(request, self.post.door, offer.lease)
        slot.pool.submit(self.post.function, codec.to_json(errand))
        self.say(f"{request.candidate.key}: taken")

    def _listen(self) -> None:
        """Hear what the processes say."""
        for slot in self._slots:
            for event in slot.pool.poll(0):
                if slot.lease is not None:
                    self._heard(slot, slot.lease, event)

    def _heard(self, slot: _Slot, lease: str, event: PoolEvent) -> None:
        match event:
            case Progress():
                slot.said = event.text
            case Answer():
                slot.ending = End(lease, "answer", event.text)
            case Failed():
                slot.ending = End(lease, "failed", event.message)
            case Died() if not event.will_retry:
                slot.ending = End(lease, "died", f"{event.reason} on {socket.gethostname()}")

    def _beat(self, client: Client) -> None:
        """Say that all are alive, give up what is lost, tell how others ended."""
        held = {slot.lease: slot.said for slot in self._slots if slot.lease is not None}
        if not held:
            return
        for slot in self._slots:
            if slot.ending is not None:
                self._end(client, slot, slot.ending)
        lost = client.call("beat", Beats(held), Lost).leases
        for slot in self._slots:
            if slot.lease in lost:
                self.say("the search has given a candidate to somebody else")
                slot.pool.close()
                slot.pool = self._pool()
                slot.clear()

    def _end(self, client: Client, slot: _Slot, ending: End) -> None:
        was_good = client.call("end", ending, Heard).was_good
        self.say(("done" if ending.kind == "answer" else ending.text) if was_good else "done, too late")
        self.n_ended += 1
        slot.clear()


def evaluate_away(text: str, progress: Callable[[str], None]) -> str:
    """JSON of an `Errand` in, JSON of an `Evaluation` out: what a process of a worker runs."""
    from trec_dse.evaluate import evaluate  # noqa: PLC0415 - the worker itself needs no PyTorch

    errand = codec.from_json(text, Errand, "errand", StudyError)
    request, root = errand.request, Path(errand.request.folder).parent.parent
    for folder in (*(root / "candidates").glob("*"), *(root / "networks").glob("*")):  # parents are worth keeping
        shutil.rmtree(folder)
    with Client(errand.door) as client:
        mirror = Mirror(client, root, errand.lease, progress)
        mirror.fetch(f"candidates/{request.candidate.key}")

        def say(line: str) -> None:
            progress(line)
            try:
                mirror.send()
            except Unreachable:
                progress(f"{line} (not sent: nobody answers)")

        return codec.to_json(evaluate(request, say, mirror.turn))
