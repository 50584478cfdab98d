"""A published study in small: hypervolume of the engine, of NSGA-II and of random candidates after as many evaluations.

Deutel et al. prune and quantise for a Raspberry Pi Pico and an Arduino Nano 33 BLE, by error, Flash, SRAM and FLOPs,
and compare samplers by the hypervolume up to the corner of their limits. Their networks train for hours; this one for
the 8x8 digits (`spaces/digits_pruning.py`) for about a second, so that several seeds of each search are trained for
real. Every candidate is trained to its end, as theirs were, and counts once; what one search has trained the others
take over.

    python benchmarks/published_study.py
    python benchmarks/published_study.py --price    # what their own network takes on both boards, in seconds
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from common import Figure, show
from replay import InstantPool, coordinator

from trec_dse import datasets, plugins
from trec_dse.errors import TargetError
from trec_dse.evaluate import evaluate, price
from trec_dse.objectives import select
from trec_dse.pareto import hypervolume, losses, non_dominated
from trec_dse.results import EvaluateRequest, Evaluation
from trec_dse.search_space import SearchSpace, load_search_space, sample_at_random
from trec_dse.settings import ExploreSettings, SamplerName, SamplerSettings
from trec_dse.target import Target, load_target

SPACE = Path(__file__).resolve().parent / "spaces" / "digits_pruning.py"
BOARDS = ("raspberry-pi-pico", "arduino-nano33-ble")
OBJECTIVES = ("error", "flash", "sram", "macs")
SAMPLERS: dict[str, SamplerName] = {"the engine": "auto", "NSGA-II": "nsga2", "random": "random"}


@dataclass
class Trained:
    """Answers as a worker does, and trains no candidate twice. `folder`: where networks are kept."""

    folder: Path
    known: dict[str, Evaluation] = field(default_factory=dict)

    def evaluate(self, request: EvaluateRequest) -> Evaluation:
        """The evaluation of a candidate that was trained to its end, or that does not fit."""
        key = request.candidate.key
        if key not in self.known:
            own = replace(request, folder=str(self.folder / "candidates" / key))
            self.known[key] = evaluate(own, lambda _: None)
        return self.known[key]


def corner(space: SearchSpace) -> list[float]:
    """The reference of the hypervolume, in the objectives' units: every answer wrong, every limit used up."""
    limits = space.limits
    assert limits.flash_bytes and limits.sram_bytes and limits.macs
    return [100.0, limits.flash_bytes / 1024, limits.sram_bytes / 1024, limits.macs / 1e6]


def volume(evaluations: Sequence[Evaluation], reference: Sequence[float]) -> float:
    """What those that fit dominate, as a share of the box between the ideal point and the corner."""
    fitting = [evaluation for evaluation in evaluations if evaluation.is_feasible]
    if not fitting:
        return 0.0
    y = losses(fitting, select(OBJECTIVES)) / np.array(reference)
    return hypervolume(y[non_dominated(y)], np.ones(len(reference)))


def search(name: SamplerName, seed: int, n: int, target: Target, trained: Trained) -> list[Evaluation]:
    """The evaluations of one search, in their order."""
    found: list[Evaluation] = []

    def answer(request: EvaluateRequest) -> Evaluation:
        found.append(trained.evaluate(request))
        return found[-1]

    settings = ExploreSettings(n, seed, objectives=OBJECTIVES, sampler=SamplerSettings(name))
    with tempfile.TemporaryDirectory() as folder:
        pool = InstantPool(answer)
        with coordinator(
            Path(folder) / "study", settings, pool, load_search_space(str(SPACE)), target=target
        ) as engine:
            engine.run(threading.Event())
    return found


def figures(name: str, searches: Sequence[Sequence[Evaluation]], reference: Sequence[float]) -> list[Figure]:
    """Means over the seeds at a quarter, half and all of the evaluations, and the spread in the end."""
    n = min(map(len, searches))
    found = []
    for mark in (n // 4, n // 2, n):
        values = [volume(evaluations[:mark], reference) for evaluations in searches]
        found.append(Figure(f"{name}: volume after {mark}", float(np.mean(values)), "of box"))
    final = [volume(evaluations[:n], reference) for evaluations in searches]
    misfits = [sum(not evaluation.is_feasible for evaluation in evaluations) for evaluations in searches]
    return [
        *found,
        Figure(f"{name}: volume in the end, least and most apart", max(final) - min(final), "of box"),
        Figure(f"{name}: evaluations that do not fit", float(np.mean(misfits)), "of all"),
    ]


def prices(board: Target) -> list[Figure]:
    """What the study's network takes whole, and in the median of 16 candidates drawn at random those that fit."""
    space, images = load_search_space("cifar10_resnet_pruning"), datasets.placeholder("cifar10")
    candidates = sample_at_random(space, 16, seed=1)
    whole = price(replace(candidates[0], pruning={}), board, images, space.limits)
    drawn = [price(candidate, board, images, space.limits) for candidate in candidates]
    fitting = [item.cost for item in drawn if max(item.violations.values()) <= 0]
    rows = [[c.flash_bytes / 1e3, c.sram_bytes / 1e3, c.macs / 1e6, c.latency_ms / 1e3] for c in fitting]
    found = [Figure(f"{board.name}: whole, over its limit", 100 * max(whole.violations.values()), "% of Flash")]
    cost = whole.cost
    values = (cost.flash_bytes / 1e3, cost.sram_bytes / 1e3, cost.macs / 1e6, cost.latency_ms / 1e3)
    shown = ("Flash", "kB"), ("SRAM", "kB"), ("MACs", "million"), ("latency", "s")
    for (what, unit), value, column in zip(shown, values, zip(*rows, strict=True), strict=True):
        found += [
            Figure(f"{board.name}: {what}, whole", value, unit),
            Figure(f"{board.name}: {what}, median of {len(fitting)} that fit", float(np.median(column)), unit),
            Figure(f"{board.name}: {what}, least", min(column), unit),
            Figure(f"{board.name}: {what}, most", max(column), unit),
        ]
    return found


def board_named(name: str) -> Target:
    """A shipped board."""
    return load_target(plugins.data_file("targets", name, ".toml", TargetError))


def main() -> None:
    """Search with each sampler and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=BOARDS[0], help="a shipped board (default %(default)s)")
    parser.add_argument("--trials", type=int, default=100, metavar="N", help="evaluations of each search (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="searches with each sampler (%(default)s)")
    parser.add_argument("--price", action="store_true", help="search nothing: what the study's own network takes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.price:
        show([figure for name in BOARDS for figure in prices(board_named(name))])
        return
    target = board_named(args.target)
    reference = corner(load_search_space(str(SPACE)))
    with tempfile.TemporaryDirectory() as folder:
        trained = Trained(Path(folder))
        found = []
        for name, sampler in SAMPLERS.items():
            searches = [search(sampler, seed, args.trials, target, trained) for seed in range(args.seeds)]
            print(f"{name}: {len(trained.known)} candidates in all so far", file=sys.stderr, flush=True)
            found += figures(name, searches, reference)
    everything = list(trained.known.values())
    show([*found, Figure("all candidates of all searches together", volume(everything, reference), "of box")])


if __name__ == "__main__":
    main()
