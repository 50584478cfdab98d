"""What the tests of the search share: a quick search, and what it left behind."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from fake_evaluation import target

from trec_dse.events import Event
from trec_dse.explore import explore
from trec_dse.results import StudyRecord, TrialRecord
from trec_dse.search_space import SearchSpace
from trec_dse.settings import ExploreSettings

FAKE = ExploreSettings(n_trials=30, workers=2, function="fake_evaluation:evaluate")


def run(space: SearchSpace, folder: Path, settings: ExploreSettings = FAKE) -> list[Event]:
    """Search with the fake evaluation; returns what happened."""
    events: list[Event] = []
    explore(space, target(), folder, settings=settings, on_event=events.append)
    return events


def counted(record: StudyRecord) -> list[TrialRecord]:
    """Trials that are neither duplicates nor interrupted."""
    return [trial for trial in record.trials if not trial.message.startswith(("same candidate", "interrupted"))]


def log_of(folder: Path) -> Counter[str]:
    """How often each line was written by the fake evaluation."""
    return Counter((folder / "evaluations.log").read_text().splitlines())


def start(
    space: SearchSpace, folder: Path, n_trials: int, workers: int = 2, *, before: str = "", settings: str = ""
) -> subprocess.Popen[str]:
    """A search in a process of its own, one event a line; `before` is run first, `settings` are further arguments."""
    program = f"{before}\nimport sys, fake_evaluation\nfake_evaluation.main(*sys.argv[1:], {settings})"
    return subprocess.Popen(
        [sys.executable, "-c", program, space.given, str(folder), str(n_trials), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
    )
