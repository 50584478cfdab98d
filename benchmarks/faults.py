"""Kill a real search again and again: its driver, its workers, both at once; fill its disk; start a second driver.

Small networks are trained for real by two workers. After every fault the search is resumed, at last to its end. What
must hold then: no trial is left running, everything that was told is still known, no epoch that was finished is trained
again, so that each running candidate loses the epoch that was cut off and no more.

    python benchmarks/faults.py    # 60 kills, about a quarter of an hour
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common import Figure, show
from search_table import DIGITS, board

from trec_dse import codec, objectives, pareto, storage
from trec_dse.errors import StudyError
from trec_dse.evaluate import evaluate_json
from trec_dse.events import Event, TrialDone, TrialProgress, TrialPromoted, TrialStarted
from trec_dse.explore import explore
from trec_dse.results import EvaluateRequest
from trec_dse.search_space import load_search_space
from trec_dse.settings import ExploreSettings

TOLD, EPOCHS = "told.log", "epochs.log"
WORKERS = 2
LONGEST_WAIT = 4  # s
RESUMED, WENT_ON = "resumed", "the search went on"  # what a kill should lead to
DISK, ENDED = "named; the search stopped", "the search had ended before"
ROOM = 3000  # bytes that a full disk still has for the journal


def evaluate(text: str, progress: Callable[[str], None]) -> str:
    """What workers run: the real evaluation; every epoch that was finished is noted in the study's folder."""
    request = codec.from_json(text, EvaluateRequest, "request", StudyError)
    candidate, log = request.candidate, Path(request.folder).parent.parent / EPOCHS
    network = " ".join(map(str, candidate.network_args.values()))

    def note(said: str) -> None:
        phase, _, done, *_ = said.split()
        shared = {"dense": network, "pruned": f"{network} {dict(candidate.pruning)} rung {request.epochs}"}
        name = shared.get(phase, f"{candidate.key} rung {request.epochs}")
        _append(log, f"{name}: {phase} {done}")
        progress(said)

    return evaluate_json(text, note)


def drive(folder: Path, n_trials: int) -> None:
    """A search; what it was told is noted once it is told."""

    def on_event(event: Event) -> None:
        if isinstance(event, TrialDone | TrialPromoted) and event.record.evaluation is not None:
            rungs = [[rung.epochs, rung.error] for rung in event.record.evaluation.rungs]
            _append(folder / TOLD, json.dumps({"number": event.record.number, "rungs": rungs}))
        if isinstance(event, TrialStarted | TrialProgress):
            print("works", flush=True)

    space, settings = load_search_space(str(DIGITS.space)), ExploreSettings(
        n_trials, seed=1, workers=WORKERS, function="faults:evaluate", reduction=3
    )  # fmt: skip
    explore(space, board(), folder, settings=settings, on_event=on_event)


def _append(path: Path, line: str) -> None:
    """One line in one write, so that lines of several processes do not mix."""
    with path.open("ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


@dataclass
class Siege:
    """The faults that one study goes through. `outcomes`: how often what came of which fault."""

    folder: Path
    n_trials: int
    chance: random.Random
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def life(self, *faults: str) -> None:
        """Start or resume the search and let `faults` happen, each a random while after the last."""
        with self._start() as driver:
            assert driver.stdout is not None
            for fault in faults:
                # something is being priced or trained now
                driver.stdout.readline()
                time.sleep(self.chance.uniform(0, LONGEST_WAIT))
                if driver.poll() is not None:
                    self._note(fault, ENDED)
                    break
                self._note(fault, getattr(self, f"_{fault}")(driver))
            driver.kill()

    def full_disk(self) -> None:
        """Resume the search where no file may grow beyond what the journal has, and a little."""
        size = (self.folder / storage.JOURNAL).stat().st_size + ROOM
        with self._start("--disk", str(size)) as driver:
            _, errors = driver.communicate()
        was_named = "cannot be written" in errors and driver.returncode == 1
        self._note(
            "full_disk", DISK if was_named else ENDED if not driver.returncode else f"UNEXPECTED: {errors[-300:]}"
        )

    def finish(self) -> None:
        """Resume once more, to the end."""
        with self._start() as driver:
            _, errors = driver.communicate()
        if driver.returncode:
            raise SystemExit(f"the search cannot be resumed: {errors[-2000:]}")

    def _start(self, *more: str) -> subprocess.Popen[str]:
        args = [sys.executable, __file__, "--drive", str(self.folder), "--trials", str(self.n_trials), *more]
        return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _driver(self, driver: subprocess.Popen[str]) -> str:
        driver.kill()
        driver.wait()
        return RESUMED

    def _worker(self, driver: subprocess.Popen[str]) -> str:
        children = _children(driver.pid)
        if not children:
            return "no worker was there"
        os.kill(self.chance.choice(children), signal.SIGKILL)
        time.sleep(1)
        return WENT_ON if driver.poll() is None else "THE SEARCH DIED"

    def _everything(self, driver: subprocess.Popen[str]) -> str:
        for pid in [driver.pid, *_children(driver.pid)]:
            os.kill(pid, signal.SIGKILL)
        driver.wait()
        return RESUMED

    def _second_driver(self, driver: subprocess.Popen[str]) -> str:
        with self._start() as second:
            _, errors = second.communicate()
        refused = second.returncode == 1 and f"process {driver.pid} searches here" in errors
        return "refused by name" if refused and driver.poll() is None else f"UNEXPECTED: {errors[-300:]}"

    def _note(self, fault: str, outcome: str) -> None:
        self.outcomes[fault, outcome] += 1
        print(f"{sum(self.outcomes.values())}: {fault}: {outcome}", file=sys.stderr, flush=True)


def _children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
        except (OSError, IndexError):
            continue
    return found


def besiege(folder: Path, n_kills: int, n_trials: int, seed: int) -> list[Figure]:
    """Everything in one study: `n_kills` kills in three kinds, three full disks, three second drivers."""
    siege = Siege(folder, n_trials, random.Random(seed))
    for i in range(n_kills // 3):
        if i % 7 == 3:
            siege.full_disk()
        siege.life(*(["second_driver"] if i % 7 == 5 else []), "worker", "driver")
        siege.life("everything")
    siege.finish()
    print_table(siege.outcomes)
    return figures(folder, siege)


def print_table(outcomes: Counter[tuple[str, str]]) -> None:
    """What came of what, for a page."""
    print("| fault | outcome | times |\n|---|---|---|", file=sys.stderr)
    for (fault, outcome), n in sorted(outcomes.items()):
        print(f"| {fault} | {outcome} | {n} |", file=sys.stderr)


def figures(folder: Path, siege: Siege) -> list[Figure]:
    """What must hold of the study in the end."""
    trials = storage.load_study(folder).trials
    states = Counter(trial.state for trial in trials)
    known = {trial.number: trial.evaluation for trial in trials if trial.evaluation is not None}
    told = [json.loads(line) for line in (folder / TOLD).read_text().splitlines()]
    lost = 0
    for item in told:
        evaluation = known.get(item["number"])
        rungs = [[rung.epochs, rung.error] for rung in evaluation.rungs] if evaluation else []
        lost += not all(rung in rungs for rung in item["rungs"])
    epochs = Counter((folder / EPOCHS).read_text().splitlines())
    keys = [trial.evaluation.candidate.key for trial in trials if trial.evaluation and not trial.message]
    n_kills = sum(n for (_, outcome), n in siege.outcomes.items() if outcome in (RESUMED, WENT_ON))
    front = pareto.front(trials, objectives.DEFAULT)
    unexpected = sum(n for (_, outcome), n in siege.outcomes.items() if outcome != outcome.lower())
    return [
        Figure("kills", n_kills, "", 50, n_kills >= 50),
        Figure("faults with another outcome than they should have", unexpected, "", 0, unexpected == 0),
        Figure("trials left running", states["running"], "", 0, states["running"] == 0),
        Figure("judgements told", len(told), ""),
        Figure("judgements told and lost", lost, "", 0, lost == 0),
        Figure("candidates judged", len(keys), "", siege.n_trials, len(keys) == siege.n_trials),
        Figure("candidates that are there twice", len(keys) - len(set(keys)), "", 0, len(keys) == len(set(keys))),
        Figure("failed trials", states["failed"], "", 0, states["failed"] == 0),
        Figure("epochs finished", sum(epochs.values()), ""),
        Figure("finished epochs trained again", sum(epochs.values()) - len(epochs), "", 0, max(epochs.values()) == 1),
        Figure("candidates on the front", len(front), ""),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="kills, full disks and second drivers; what becomes of the study")
    parser.add_argument("--kills", type=int, default=60, metavar="N", help="kills in all (default 60)")
    parser.add_argument("--trials", type=int, default=600, metavar="N", help="candidates of the study (default 600)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the moments (default 0)")
    parser.add_argument("--drive", type=Path, metavar="FOLDER", help="only search: what this program starts itself")
    parser.add_argument("--disk", type=int, metavar="BYTES", help="with --drive: how large a file may grow")
    args = parser.parse_args()
    if args.disk is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (args.disk, resource.RLIM_INFINITY))
    if args.drive is not None:
        drive(args.drive, args.trials)
        return
    folder = Path(tempfile.mkdtemp())
    try:
        show(besiege(folder / "study", args.kills, args.trials, args.seed))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
