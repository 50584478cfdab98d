"""Published run times on silicon beside the twin's: how far its cycle model is off per core, and how fast others are.

`data/silicon.csv` holds one published run time a line, in milliseconds, with its source. Its `role` says what the
twin's figure beside it is worth:

    fitted        the very firmware or sources that were measured, and a constant of the core's model was set on it
    held out      the very firmware or sources too, and nothing was set on it
    shape         the same layers from a compiler or with flags that the source does not tell
    other engine  the same network by another engine; ours is measured here, and nothing is said about the model

`model` is the cycle model that gave `twin_ms`: "today" (2026-11-26), or "earlier" for the predecessor that was fitted.

    python benchmarks/silicon.py
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from pathlib import Path

import torch
from common import Figure, counted, linked, show, smooth_image

from trec_dse.candidate import Candidate
from trec_dse.datasets import placeholder
from trec_dse.errors import StudyError
from trec_dse.evaluate import untrained_graph
from trec_dse.resources import data_folder
from trec_dse.target import load_target

DATA = Path(__file__).resolve().parent / "data" / "silicon.csv"
MODEL_ROLES = ("fitted", "held out", "shape")
OTHER_ENGINE = "other engine"
GOAL = 5.0  # per cent rms over whole networks
GOAL_CORES = ("cortex-m4", "cortex-m7")
TARGETS = {"NUCLEO-L4R5ZI": "nucleo-l4r5zi", "F746G-DISCO": "stm32f746g-disco", "NUCLEO-G0B1RE": "nucleo-g0b1re"}


@dataclass(frozen=True)
class Published:
    """One line of the table; `twin_ms` is None where our own code is measured instead, `model` is "" there."""

    source: str
    board: str
    core: str
    clock_mhz: int
    network: str
    engine: str
    compiler: str
    published_ms: float
    twin_ms: float | None
    role: str
    model: str
    note: str


@dataclass(frozen=True)
class Errors:
    """Twin over silicon: the mean of the ratios, and the root of the mean square of ratio - 1 in per cent."""

    n: int
    mean_ratio: float
    rms_percent: float


def read(path: Path = DATA) -> list[Published]:
    """The table. Raises `StudyError` with the line's number if a figure or a role is none."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_published(path, number, line) for number, line in enumerate(csv.DictReader(file), start=2)]


def _published(path: Path, number: int, line: dict[str, str]) -> Published:
    try:
        twin_ms = float(line["twin_ms"]) if line["twin_ms"] else None
        figures = {"published_ms": float(line["published_ms"]), "twin_ms": twin_ms, "clock_mhz": int(line["clock_mhz"])}
        row = Published(**{**line, **figures})  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as problem:
        raise StudyError(f"{path}: line {number}: {problem}; one published run time is wanted") from problem
    if row.role not in (*MODEL_ROLES, OTHER_ENGINE):
        raise StudyError(f"{path}: line {number}: role {row.role!r}; one of {', '.join(MODEL_ROLES)}, {OTHER_ENGINE}")
    if (row.role == OTHER_ENGINE) != (row.twin_ms is None):
        raise StudyError(f"{path}: line {number}: twin_ms {row.twin_ms}; only another engine's line has none")
    return row


def errors_of(rows: Sequence[Published]) -> Errors:
    """How far the twin is from these; at least one, each with a figure of the twin."""
    ratios = [row.twin_ms / row.published_ms for row in rows if row.twin_ms is not None]
    return Errors(
        n=len(ratios),
        mean_ratio=sum(ratios) / len(ratios),
        rms_percent=100 * sqrt(sum((ratio - 1) ** 2 for ratio in ratios) / len(ratios)),
    )


def model_figures(rows: Sequence[Published]) -> list[Figure]:
    """Mean ratio and rms error of each core, role and model that the table has."""
    figures = list[Figure]()
    for core, role, model in sorted({(row.core, row.role, row.model) for row in rows if row.role in MODEL_ROLES}):
        found = errors_of([row for row in rows if (row.core, row.role, row.model) == (core, role, model)])
        title = f"{core}, {role}, model of {model}, {found.n} run times"
        goal = GOAL if core in GOAL_CORES and role != "shape" and model == "today" else None
        is_met = None if goal is None else found.rms_percent <= goal
        figures.append(Figure(f"{title}: twin / silicon, mean", found.mean_ratio, ""))
        figures.append(Figure(f"{title}: rms error", found.rms_percent, "%", goal, is_met))
    return figures


def engine_figures(rows: Sequence[Published]) -> list[Figure]:
    """How many times as long our dense kernels take on the twin as each published engine on silicon."""
    return [
        Figure(f"{row.board}, {row.network}: ours on the twin / {row.engine} on silicon", ours / row.published_ms, "")
        for row in rows
        if row.role == OTHER_ENGINE
        for ours in [our_ms(row.board)]
    ]


@lru_cache
def our_ms(board: str) -> float:
    """Milliseconds of ResNet-8 of MLPerf Tiny, dense, with our kernels on this board's twin; weights are random."""
    target = load_target(data_folder("targets") / f"{TARGETS[board]}.toml")
    graph = untrained_graph(Candidate("cifar10", "resnet8", {}, None), placeholder("cifar10"))
    with linked(graph, target) as firmware:
        return 1000 * counted(firmware, target, smooth_image(graph.input_shape)).answer.cycles / target.clock_hz


def main() -> None:
    """The model's errors, then the engines."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    rows = read()
    show(model_figures(rows))
    ours = [Figure(f"{board}, ResNet-8: ours on the twin", our_ms(board), "ms") for board in TARGETS]
    show([*ours, *engine_figures(rows)])


if __name__ == "__main__":
    main()
