"""What the benchmarks share: random candidates of a space, images without data files, and how figures are printed."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import optuna

from trec_dse.candidate import Candidate
from trec_dse.datasets import Dataset, Split
from trec_dse.search_space import load_search_space, sample

SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


@dataclass(frozen=True)
class Figure:
    """One line of output. `goal` and `met` are None where there is none."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    met: bool | None = None


def show(figures: Sequence[Figure]) -> None:
    """JSON lines on standard output, a table on standard error."""
    for figure in figures:
        print(json.dumps(asdict(figure)), flush=True)
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        goal = "" if figure.goal is None else f"   goal {figure.goal:g}: {'met' if figure.met else 'MISSED'}"
        print(f"{figure.name:<{width}}  {figure.value:>14,.3f} {figure.unit:<8}{goal}", file=sys.stderr)


def random_candidates(space_name: str, n: int, seed: int = 0) -> list[Candidate]:
    """`n` different candidates of a shipped search space, drawn at random."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_search_space(space_name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found: dict[str, Candidate] = {}
    while len(found) < n:
        candidate = sample(space, study.ask())
        found[candidate.key] = candidate
    return list(found.values())


def synthetic_dataset(name: str, n: int = 64) -> Dataset:
    """Smooth random images in the shape of a data set: enough for sizes and speed, not for accuracy."""
    height, width, channels = SHAPES[name]
    random = np.random.default_rng(0)
    coarse = random.normal(size=(n, height // 4 + 1, width // 4 + 1, channels))
    images = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)[:, :height, :width]
    images = np.clip(128 + 50 * images + 8 * random.normal(size=images.shape), 0, 255).astype(np.uint8)
    split = Split(images, np.arange(n, dtype=np.int64) % 10)
    return Dataset.of(name, split, split, split)
