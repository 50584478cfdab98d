"""What a trial costs beside its training: sampler, storage, files and bookkeeping over a replayed study of many trials.

The engine as it is, its journal and its candidates on disk, every trial answered at once from a made-up model. The
goal is at most 0.3 s a trial, and no more than twice as much around trial 10,000 as around trial 100. CPU time is what
counts; the wall clock is shown beside it.

    python benchmarks/overhead.py --trials 10000
"""

import argparse
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import Figure, show
from replay import InstantPool, coordinator

from trec_dse.events import Event, TrialDone
from trec_dse.progress import SearchState
from trec_dse.results import Cost, EvaluateRequest, Evaluation, RungResult
from trec_dse.search_space import load_search_space
from trec_dse.settings import ExploreSettings

CLOCK_HZ = 180_000_000
HALF = 50  # trials before and after the one of which the time is told


def made_up(request: EvaluateRequest) -> Evaluation:
    """Instant and smooth: larger networks err less and cost more, finer clustering errs less and saves less."""
    candidate, trec = request.candidate, request.candidate.trec
    args = candidate.network_args
    width, depth = int(args["width"]), int(args["depth"])
    kept = 1 - candidate.pruning.get("*", 0.0)
    bits = (trec.hash_bits_early + trec.hash_bits_late) / 2 if trec else 8.0
    size = width * depth * int(args["kernel_size"]) * kept
    work = size * (1.0 if trec is None else 0.2 + 0.1 * bits)
    clustering = 0.0 if trec is None else 2.0**-bits
    epochs, total = request.epochs or 0, candidate.recipe.epochs
    error = 0.01 + 0.3 * np.exp(-size / 60) + clustering / 3 + (0.3 / (1 + epochs) if epochs < total else 0)
    cost = Cost(
        round(1000 * work), round(1000 * size), round(9000 * work), round(9000 * work), CLOCK_HZ,
        round(100 * size), 0, round(400 * width + 30 * bits * depth), 0, 0,
    )  # fmt: skip
    rungs = (RungResult(0, clustering, 0), *([RungResult(epochs, float(error), epochs)] if epochs else []))
    fits = {"sram": cost.sram_bytes / 9000 - 1}
    accuracy = float(1 - error) if epochs else 0.1
    return Evaluation(candidate, candidate.key, request.target.name, cost, fits, accuracy, accuracy, rungs=rungs,
                      fidelity=epochs / total)  # fmt: skip


def seconds_per_trial(n_trials: int, folder: Path, reduction: int) -> tuple[list[float], list[float]]:
    """CPU and wall seconds of each trial, from its predecessor's end to its own."""
    cpu, wall = [time.process_time()], [time.perf_counter()]
    state = SearchState()

    def watch(event: Event) -> None:
        state.update(event)
        if isinstance(event, TrialDone):
            cpu.append(time.process_time())
            wall.append(time.perf_counter())

    settings = ExploreSettings(n_trials=n_trials, reduction=reduction)
    space = load_search_space("digits_tiny")
    with coordinator(folder, settings, InstantPool(made_up), space, watch) as search:
        search.run(threading.Event())
    return list(np.diff(cpu)), list(np.diff(wall))


def main() -> None:
    parser = argparse.ArgumentParser(description="seconds of overhead per trial")
    parser.add_argument("--trials", type=int, default=10_000, metavar="N", help="trials of the study (10,000)")
    parser.add_argument("--reduction", type=int, default=3, metavar="N", help="one in N goes on (3)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        cpu, wall = seconds_per_trial(args.trials, folder / "study", args.reduction)
        journal = (folder / "study" / "study.journal").stat().st_size
    finally:
        shutil.rmtree(folder)
    found = []
    marks = [n for n in (100, 300, 1000, 3000, 5000, 10_000) if n <= len(cpu)]
    around = {n: float(np.mean(cpu[n - HALF : n + HALF])) for n in marks}
    found += [Figure(f"around trial {n}, CPU", seconds, "s/trial") for n, seconds in around.items()]
    found.append(
        Figure(
            "most in any hundred, CPU",
            max(float(np.mean(c)) for c in np.array_split(cpu, max(1, len(cpu) // 100))),
            "s/trial",
            0.3,
        )
    )
    found[-1] = Figure(found[-1].name, found[-1].value, found[-1].unit, 0.3, found[-1].value <= 0.3)
    growth = around[marks[-1]] / around[marks[0]]
    found.append(Figure(f"trial {marks[-1]} against trial {marks[0]}", growth, "x", 2.0, growth <= 2))
    found.append(Figure("all trials, wall clock", float(np.mean(wall)), "s/trial"))
    found.append(Figure("journal", journal / 1024 / len(cpu), "KiB/trial"))
    show(found)


if __name__ == "__main__":
    main()
