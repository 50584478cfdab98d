"""Hypervolume against epochs spent: random, plain NSGA-II, plain TPE and the engine, over several seeds.

Replayed over a table of `search_table.py`, every network of which was trained for real: minutes instead of hours.

A plain search trains every network on its own and to the end. What is counted are epochs of all phases; a network that
was trained before costs nothing in any of them. Only what was trained to the end counts as found.

    python benchmarks/search_efficiency.py --seeds 5
    python benchmarks/search_efficiency.py --seeds 5 --table cifar10
"""

import argparse
import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from common import Figure, show
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from replay import InstantPool, Replay, Volume, coordinator, scaled, table_losses, table_space
from search_table import DIGITS, TABLES, board

from trec_dse import objectives
from trec_dse.lineage import Trained, lineage
from trec_dse.pareto import hypervolume, non_dominated
from trec_dse.results import EvaluateRequest
from trec_dse.search_space import sample
from trec_dse.settings import ExploreSettings, SamplerName, SamplerSettings

N_PLAIN, N_ENGINE, MOST_EPOCHS = 400, 400, 2000
MARKS = (100, 200, 400, 800, 1600, 3200, 6400)
NSGA2, ENGINE = "plain NSGA-II", "the engine"
SHARING = ", sharing parents"


@dataclass(frozen=True)
class Curve:
    """One search: the hypervolume, as a share of the table's, after so many epochs. `spent`: epochs of all of it."""

    method: str
    seed: int
    epochs: tuple[int, ...]
    volumes: tuple[float, ...]
    spent: int

    def at(self, epochs: int) -> float:
        """The volume that was reached by then."""
        before = [volume for spent, volume in zip(self.epochs, self.volumes, strict=True) if spent <= epochs]
        return before[-1] if before else 0.0

    def reaches(self, volume: float) -> int | None:
        """Epochs until that volume, or None."""
        return next((e for e, v in zip(self.epochs, self.volumes, strict=True) if v >= volume), None)


def plain(sampler: BaseSampler, replay: Replay, n_trials: int) -> None:
    """Ask, train to the end, tell; no more."""
    space, target = table_space(replay.kind), board()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize"] * 4, sampler=sampler)
    for _ in range(n_trials):
        trial = study.ask()
        evaluation = replay.evaluate(EvaluateRequest(sample(space, trial), target, None, "/nowhere/at/all"))
        study.tell(trial, [objective.value(evaluation) for objective in objectives.DEFAULT])


def engine(replay: Replay, settings: ExploreSettings) -> None:
    """The engine itself, its study on disk in a folder that goes again."""
    root = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        with coordinator(folder / "study", settings, InstantPool(replay.evaluate), table_space(replay.kind)) as search:
            search.run(threading.Event())
    finally:
        shutil.rmtree(folder)


def rungs(sampler: SamplerName) -> Callable[[Replay, int], None]:
    """The engine with rungs, its candidates from `sampler`."""

    def run(replay: Replay, seed: int) -> None:
        settings = ExploreSettings(
            N_ENGINE, seed, sampler=SamplerSettings(sampler), reduction=3, max_epochs=MOST_EPOCHS
        )
        engine(replay, settings)

    return run


def to_the_end(replay: Replay, seed: int) -> None:
    """The engine without rungs."""
    engine(replay, ExploreSettings(N_PLAIN // 2, seed, max_epochs=MOST_EPOCHS))


def oracle(replay: Replay, seed: int) -> None:
    """Who knows the table: of the front's networks the one that adds most for each epoch that it takes, until all are
    trained. Greedy, so that less might do. The same for every seed.
    """
    named = {replay.kind.name_of(candidate): candidate for candidate in replay.kind.candidates()}
    names = [name for name in named if name in replay.table]
    y = scaled(table_losses(replay.table[name] for name in names), replay.kind.most_error)
    y, reference = (y - y.min(axis=0)) / np.ptp(y, axis=0), np.ones(4)
    lines = [lineage(named[name], replay.table[name].costs.network) for name in names]
    trained, taken, left, target = Trained(), np.empty((0, 4)), np.flatnonzero(non_dominated(y)).tolist(), board()
    while left:
        volume = hypervolume(taken, reference)
        gains = {i: hypervolume(np.vstack([taken, y[i]]), reference) - volume for i in left}
        best = max(left, key=lambda i: gains[i] / trained.left(lines[i]))
        replay.evaluate(EvaluateRequest(named[names[best]], target, None, "/nowhere/at/all"))
        trained.note(lines[best], 1)
        taken = np.vstack([taken, y[best]])
        left = [i for i in left if not trained.knows(lines[i])]


METHODS: dict[str, Callable[[Replay, int], None]] = {
    "random": lambda replay, seed: plain(RandomSampler(seed), replay, N_PLAIN),
    NSGA2: lambda replay, seed: plain(NSGAIISampler(seed=seed), replay, N_PLAIN),
    "plain TPE": lambda replay, seed: plain(TPESampler(seed=seed), replay, N_PLAIN // 2),
    f"{NSGA2}{SHARING}": lambda replay, seed: plain(NSGAIISampler(seed=seed), replay, N_PLAIN),
    ENGINE: rungs("auto"),
    f"an oracle{SHARING}": oracle,
    f"{ENGINE}, sharing nothing": rungs("auto"),
    f"{ENGINE} without rungs{SHARING}": to_the_end,
    f"{ENGINE} with random candidates{SHARING}": rungs("random"),
    f"{ENGINE} with NSGA-II's candidates{SHARING}": rungs("nsga2"),
}


def curve(method: str, seed: int, replay: Replay, volume: Volume) -> Curve:
    """Run one search; `replay` is new."""
    METHODS[method](replay, seed)
    steps, found, best = [], [], 0.0
    for spent, evaluation in replay.finished:
        found.append(evaluation)
        reached = volume(found)
        if reached > best:
            best = reached
            steps.append((spent, round(reached, 5)))
    epochs, volumes = zip(*steps, strict=True)
    return Curve(method, seed, epochs, volumes, replay.epochs)


def figures(curves: list[Curve]) -> list[Figure]:
    """Volumes as means over the seeds; epochs that each method needs for what plain NSGA-II reaches in the end."""
    found = []
    for method in METHODS:
        each = [c for c in curves if c.method == method]
        for epochs in MARKS:
            # a search that had ended by then says nothing
            values = [c.at(epochs) for c in each if c.spent >= epochs]
            if each and len(values) == len(each):
                found.append(Figure(f"{method}, {epochs} epochs", float(np.mean(values)), "of HV"))
        if each:
            found.append(Figure(f"{method}, in the end", float(np.mean([c.volumes[-1] for c in each])), "of HV"))
            found.append(Figure(f"{method}, epochs in the end", float(np.mean([c.spent for c in each])), "epochs"))
    return [*found, *savings(curves)]


def savings(curves: list[Curve]) -> list[Figure]:
    """Seed by seed: epochs until plain NSGA-II had its last volume, over epochs until a method had it too."""
    reference, found = {c.seed: c for c in curves if c.method == NSGA2}, []
    for method in METHODS:
        pairs = [(reference[c.seed], c) for c in curves if c.method == method and c.seed in reference]
        if method == NSGA2 or not pairs:
            continue
        spent = [c.reaches(base.volumes[-1]) for base, c in pairs]
        ratios = sorted(base.epochs[-1] / n if n else 0.0 for (base, _), n in zip(pairs, spent, strict=True))
        goal = 10.0 if method == ENGINE else None
        name = f"{method}: times fewer epochs for the last volume of {NSGA2}"
        median = float(np.median(ratios))
        found.append(Figure(f"{name}, median", median, "x", goal, None if goal is None else median >= goal))
        found.append(Figure(f"{name}, worst seed (0: not reached)", ratios[0], "x"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="hypervolume against epochs spent")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="searches of each kind (default 5)")
    parser.add_argument("--table", choices=list(TABLES), default=DIGITS.name, help="which one is replayed (digits)")
    parser.add_argument("--only", choices=list(METHODS), help="one kind of search")
    parser.add_argument("--curves", type=Path, metavar="FILE", help="append the curves, as JSON lines, to this file")
    parser.add_argument("--show", action="store_true", help="run nothing: the figures of the curves in that file")
    args = parser.parse_args()
    curves = []
    if args.show:
        lines = args.curves.read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        curves = [Curve(r["method"], r["seed"], tuple(r["epochs"]), tuple(r["volumes"]), r["spent"]) for r in rows]
    else:
        kind = TABLES[args.table]
        table = kind.read()
        volume = Volume(table, kind.most_error)
        for method in [args.only] if args.only else list(METHODS):
            for seed in range(args.seeds):
                replay = Replay(table, shares=method == ENGINE or method.endswith(SHARING), kind=kind)
                curves.append(curve(method, seed, replay, volume))
                if args.curves:
                    with args.curves.open("a") as file:
                        file.write(json.dumps(vars(curves[-1])) + "\n")
    show(figures(curves))


if __name__ == "__main__":
    main()
