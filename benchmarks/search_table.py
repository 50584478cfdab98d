"""Write the table that benchmarks of the search replay: every candidate of `spaces/digits_table.py`, trained for real.

Costs and the untrained error are those of the pipeline before training; errors and cycles after 1, 5 and 15 dense
epochs are what `evaluate` answers at these rungs. Training is deterministic, so a replayed search is the search that
would have trained.

    python benchmarks/search_table.py --price    # 1,170 candidates, minutes: data/digits_costs.csv
    python benchmarks/search_table.py --train    # their 903 networks, an hour: data/digits_trained.csv
    python benchmarks/search_table.py            # how well each rung foretells the next
    python benchmarks/search_table.py --check 10 # evaluates ten candidates anew and compares
"""

import argparse
import csv
import itertools
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna
import torch
from common import Figure, show

from trec_dse import plugins
from trec_dse.candidate import Candidate
from trec_dse.errors import TargetError
from trec_dse.evaluate import clustering_error, evaluate, load_dataset, price
from trec_dse.foresight import Foresight
from trec_dse.pareto import Floats
from trec_dse.results import EvaluateRequest
from trec_dse.rungs import name_of as name_of_rung
from trec_dse.rungs import spearman
from trec_dse.search_space import load_search_space, sample
from trec_dse.target import Target, load_target

HERE = Path(__file__).resolve().parent
SPACE = HERE / "spaces" / "digits_table.py"
COSTS, TRAINED = (HERE / "data" / f"digits_{name}.csv" for name in ("costs", "trained"))
RUNGS = (1, 5, 15)
CLOCK_HZ = 180_000_000
CHOICES: dict[str, list[Any]] = {
    "width": [4, 8, 16],
    "depth": [1, 2, 3],
    "pruning": [0.0, 0.5],
    "use_trec": [True, False],
    "hash_bits": [3, 4, 5, 6],
    "slice_policy": ["kernel_row", "channels", "whole"],
    "scope": ["per_slice", "shared", "strip_shared"],
    "n_kernel_reuse": [0, 1],
}


@dataclass(frozen=True)
class Costs:
    """What is known of a candidate before training. `name`: by `name_of`; `network`: hash of what it trains."""

    name: str
    network: str
    width: int
    depth: int
    pruning: float
    sram: int
    flash: int
    cycles: int
    macs: int
    dense_macs: int
    clustering_error: float


@dataclass(frozen=True)
class Result:
    """What a network shows after `epochs` dense epochs: the C code's error, a share of the images, and its cycles."""

    network: str
    epochs: int
    error: float
    cycles: int


@dataclass(frozen=True)
class Entry:
    """A candidate of the table, and what it shows at each of `RUNGS`."""

    costs: Costs
    results: tuple[Result, ...]


Row = TypeVar("Row", Costs, Result)


def board() -> Target:
    """The board that the table is priced for."""
    return load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))


def candidates() -> Iterator[Candidate]:
    """Every candidate of the space once."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_search_space(str(SPACE))
    seen = set()
    for values in itertools.product(*CHOICES.values()):
        candidate = sample(space, optuna.trial.FixedTrial(dict(zip(CHOICES, values, strict=True))))
        if candidate.key not in seen:
            seen.add(candidate.key)
            yield candidate


def name_of(candidate: Candidate) -> str:
    """What a candidate is called in the files: its choices, which outlive changes to what else a candidate holds."""
    args, trec = candidate.network_args, candidate.trec
    choices = [args["width"], args["depth"], candidate.pruning.get("*", 0.0)]
    if trec is not None:
        choices += [trec.hash_bits_early, trec.slice_policy, trec.scope, trec.n_kernel_reuse]
    return " ".join(str(choice) for choice in choices)


def price_all() -> None:
    """The costs of every candidate, appended as they come: a run that is cut off goes on."""
    target, known = board(), {row.name for row in read(COSTS, Costs)}
    for candidate in candidates():
        if name_of(candidate) in known:
            continue
        dataset = load_dataset(candidate, None)
        priced = price(candidate, target, dataset)
        cost = priced.cost
        row = Costs(
            name_of(candidate),
            priced.key,
            int(candidate.network_args["width"]),
            int(candidate.network_args["depth"]),
            candidate.pruning.get("*", 0.0),
            cost.sram_bytes,
            cost.flash_bytes,
            cost.cycles,
            cost.macs,
            cost.dense_macs,
            round(clustering_error(candidate, priced.trec.configs, dataset), 5),
        )
        append(COSTS, row)


def train_all() -> None:
    """Every network at every rung, appended as they come: a run that is cut off goes on."""
    torch.set_num_threads(1)
    costs = {row.name: row for row in read(COSTS, Costs)}
    known = {(row.network, row.epochs) for row in read(TRAINED, Result)}
    folder, target = Path(tempfile.mkdtemp()), board()
    try:
        for candidate in candidates():
            network = costs[name_of(candidate)].network
            for epochs in RUNGS:
                if (network, epochs) in known:
                    continue
                known.add((network, epochs))
                place = folder / "candidates" / candidate.key
                found = evaluate(EvaluateRequest(candidate, target, None, str(place), epochs), lambda _: None)
                assert found.key == network
                assert found.int8_accuracy is not None
                append(TRAINED, Result(network, epochs, round(1 - found.int8_accuracy, 5), found.estimated.cycles))
            shutil.rmtree(folder / "networks", ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def foretold(table: dict[str, Entry]) -> list[Figure]:
    """Spearman's rho between rungs, over all networks of the table: nothing was stopped here."""
    networks = list({entry.costs.network: entry for entry in table.values()}.values())
    errors = {0: np.array([entry.costs.clustering_error for entry in networks])}
    for i, epochs in enumerate(RUNGS):
        errors[epochs] = np.array([entry.results[i].error for entry in networks])
    pairs = [*itertools.pairwise(errors), (RUNGS[0], RUNGS[-1])]
    found = [
        Figure(f"{name_of_rung(a)} -> {b} epochs, {len(networks)} networks", spearman(errors[a], errors[b]), "rho")
        for a, b in pairs
    ]
    return [*found, Figure("foreseen from sizes, work and untrained error -> 1 epoch", _foreseen(networks), "rho")]


def _foreseen(networks: list[Entry]) -> float:
    """Rho of what `Foresight` says of the second half of the networks, in random order, once it knows the first."""
    order = np.random.default_rng(0).permutation(len(networks))
    x = np.array([_features(networks[i].costs) for i in order])
    y = np.array([networks[i].results[0].error for i in order])
    half, foresight = len(order) // 2, Foresight()
    for row, error in zip(x[:half], y[:half], strict=True):
        foresight.learn(row, float(error))
    return spearman(foresight.error(x[half:]), y[half:])


def _features(costs: Costs) -> Floats:
    """As `foresight.features` takes them from an evaluation."""
    sizes = (costs.sram, costs.flash, costs.cycles, costs.dense_macs, costs.macs, 1000 * costs.clustering_error)
    return np.log1p(np.array(sizes, dtype=np.float64))


def check(n: int) -> list[Figure]:
    """Evaluate `n` candidates anew, to the end, and count those whose error is not the table's.

    Cycles are not compared: they follow the kernels, which have become faster since the table was made.
    """
    torch.set_num_threads(1)
    table, chosen = read_table(), list(candidates())
    differences, folder = 0, Path(tempfile.mkdtemp())
    for candidate in random.Random(0).sample(chosen, n):
        place, expected = folder / "candidates" / candidate.key, table[name_of(candidate)].results[-1]
        found = evaluate(EvaluateRequest(candidate, board(), None, str(place), RUNGS[-1]), lambda _: None)
        assert found.int8_accuracy is not None
        differences += round(1 - found.int8_accuracy, 5) != expected.error
    shutil.rmtree(folder)
    return [Figure(f"of {n} candidates evaluated anew, other than in the table", differences, "", 0, differences == 0)]


def append(path: Path, row: Costs | Result) -> None:
    """Write one row, under a heading if it is the first."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(row)], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(asdict(row))


def read(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of a file; none if there is no file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, Any] = {field.name: field.type for field in fields(kind)}
    return [kind(**{name: of(row[name]) for name, of in kinds.items()}) for row in rows]


def read_table() -> dict[str, Entry]:
    """The table by the candidate's name: those that are trained at every rung."""
    results = {(row.network, row.epochs): row for row in read(TRAINED, Result)}
    return {
        costs.name: Entry(costs, tuple(results[costs.network, epochs] for epochs in RUNGS))
        for costs in read(COSTS, Costs)
        if all((costs.network, epochs) in results for epochs in RUNGS)
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="tabulate the replayed search space")
    parser.add_argument("--price", action="store_true", help="price every candidate")
    parser.add_argument("--train", action="store_true", help="train every network")
    parser.add_argument("--check", type=int, default=0, metavar="N", help="evaluate N candidates anew and compare")
    args = parser.parse_args()
    if args.price:
        price_all()
    if args.train:
        train_all()
    show(check(args.check) if args.check else foretold(read_table()))
