"""Write the tables that benchmarks of the search replay: every candidate of two small spaces, trained for real.

Costs and the untrained error are those of the pipeline before training; errors and cycles after 1, 5 and 15 dense
epochs are what `evaluate` answers at these rungs. Training is deterministic, so a replayed search is the search that
would have trained.

    python benchmarks/search_table.py --price                 # 1,170 candidates, minutes: data/digits_costs.csv
    python benchmarks/search_table.py --train                 # their 903 networks, an hour: data/digits_trained.csv
    python benchmarks/search_table.py                         # how well each rung foretells the next
    python benchmarks/search_table.py --check 10              # evaluates ten candidates anew and compares
    python benchmarks/search_table.py --table cifar10 ... --data-dir DIR   # the same of the other table
"""

import argparse
import csv
import itertools
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from trec_dse.foresight import Features, Foresight, choices_of
from trec_dse.pareto import Floats
from trec_dse.results import EvaluateRequest
from trec_dse.rungs import name_of as name_of_rung
from trec_dse.rungs import spearman
from trec_dse.search_space import load_search_space, sample
from trec_dse.target import Target, load_target

HERE = Path(__file__).resolve().parent
RUNGS = (1, 5, 15)
CLOCK_HZ = 180_000_000


@dataclass(frozen=True)
class Costs:
    """What is known of a candidate before training. `name`: by `name_of`; `network`: hash of what it trains."""

    name: str
    network: str
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


@dataclass(frozen=True)
class Table:
    """A space that is small enough to be trained whole.

    Attributes:
        name: of the space, without `_table`, and of its files; choices: every value of every parameter.
        words: the choices that a candidate stands for, which outlive changes to what else a candidate holds.
        most_error: in points; to be further off is no worse.
    """

    name: str
    choices: Mapping[str, Sequence[Any]]
    words: Callable[[Candidate], list[object]]
    most_error: float

    @property
    def space(self) -> Path:
        """The search space."""
        return HERE / "spaces" / f"{self.name}_table.py"

    @property
    def costs(self) -> Path:
        """The file of what is known before training."""
        return HERE / "data" / f"{self.name}_costs.csv"

    @property
    def trained(self) -> Path:
        """The file of what training shows."""
        return HERE / "data" / f"{self.name}_trained.csv"

    def name_of(self, candidate: Candidate) -> str:
        """What a candidate is called in the files."""
        return " ".join(str(word) for word in self.words(candidate))

    def candidates(self) -> Iterator[Candidate]:
        """Every candidate of the space once."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        space, seen = load_search_space(str(self.space)), set()
        for values in itertools.product(*self.choices.values()):
            candidate = sample(space, optuna.trial.FixedTrial(dict(zip(self.choices, values, strict=True))))
            if candidate.key not in seen:
                seen.add(candidate.key)
                yield candidate

    def read(self) -> dict[str, Entry]:
        """The table by the candidate's name: those that are trained at every rung."""
        results = {(row.network, row.epochs): row for row in read(self.trained, Result)}
        return {
            costs.name: Entry(costs, tuple(results[costs.network, epochs] for epochs in RUNGS))
            for costs in read(self.costs, Costs)
            if all((costs.network, epochs) in results for epochs in RUNGS)
        }


def _digits_words(candidate: Candidate) -> list[object]:
    args, trec = candidate.network_args, candidate.trec
    words: list[object] = [args["width"], args["depth"], candidate.pruning.get("*", 0.0)]
    return words if trec is None else [*words, trec.hash_bits_early, trec.slice_policy, trec.scope, trec.n_kernel_reuse]


def _cifar10_words(candidate: Candidate) -> list[object]:
    trec, pruning = candidate.trec, candidate.pruning
    words: list[object] = [candidate.network_args["width"], pruning.get("*", 0.0), pruning.get("fc1", 0.0)]
    return words if trec is None else [*words, trec.hash_bits_early, *(trec.layers or ("both",))]


DIGITS = Table(
    "digits",
    {
        "width": [4, 8, 16],
        "depth": [1, 2, 3],
        "pruning": [0.0, 0.5],
        "use_trec": [True, False],
        "hash_bits": [3, 4, 5, 6],
        "slice_policy": ["kernel_row", "channels", "whole"],
        "scope": ["per_slice", "shared", "strip_shared"],
        "n_kernel_reuse": [0, 1],
    },
    _digits_words,
    most_error=20.0,
)
CIFAR10 = Table(
    "cifar10",
    {
        "hash_bits": [4, 2, 6, 3],
        "use_trec": [False, True],
        "width": [0.125, 0.25, 0.375],
        "pruned_convolutions": [0.0, 0.25, 0.5],
        "pruned_dense": [0.0, 0.5, 0.75],
        "layers": ["both", "conv1"],
    },
    _cifar10_words,
    most_error=90.0,  # what guessing gives
)
TABLES = {table.name: table for table in (DIGITS, CIFAR10)}


def board() -> Target:
    """The board that the tables are priced for."""
    return load_target(plugins.data_file("targets", "stm32f469i-disco", ".toml", TargetError))


def price_all(table: Table, data_dir: Path | None) -> None:
    """The costs of every candidate, appended as they come: a run that is cut off goes on."""
    target, known = board(), {row.name for row in read(table.costs, Costs)}
    for candidate in table.candidates():
        if table.name_of(candidate) in known:
            continue
        dataset = load_dataset(candidate, data_dir)
        priced = price(candidate, target, dataset)
        cost = priced.cost
        row = Costs(
            table.name_of(candidate),
            priced.key,
            cost.sram_bytes,
            cost.flash_bytes,
            cost.cycles,
            cost.macs,
            cost.dense_macs,
            round(clustering_error(candidate, priced.trec.configs, dataset), 5),
        )
        append(table.costs, row)


def train_all(table: Table, data_dir: Path | None) -> None:
    """Every network at every rung, appended as they come: a run that is cut off goes on."""
    torch.set_num_threads(1)
    costs = {row.name: row for row in read(table.costs, Costs)}
    known = {(row.network, row.epochs) for row in read(table.trained, Result)}
    folder, target = Path(tempfile.mkdtemp()), board()
    where = None if data_dir is None else str(data_dir)
    try:
        for candidate in table.candidates():
            network = costs[table.name_of(candidate)].network
            for epochs in RUNGS:
                if (network, epochs) in known:
                    continue
                known.add((network, epochs))
                place = folder / "candidates" / candidate.key
                found = evaluate(EvaluateRequest(candidate, target, where, str(place), epochs), lambda _: None)
                assert found.key == network
                assert found.int8_accuracy is not None
                append(
                    table.trained, Result(network, epochs, round(1 - found.int8_accuracy, 5), found.estimated.cycles)
                )
            shutil.rmtree(folder / "networks", ignore_errors=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def foretold(kind: Table, table: Mapping[str, Entry]) -> list[Figure]:
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
    return [
        *found,
        Figure("foreseen from sizes, choices and untrained error -> 1 epoch", _foreseen(kind, networks), "rho"),
    ]


def _foreseen(kind: Table, networks: list[Entry]) -> float:
    """Rho of what `Foresight` says of the second half of the networks, in random order, once it knows the first."""
    order = np.random.default_rng(0).permutation(len(networks)).tolist()
    made_of = {kind.name_of(candidate): choices_of(candidate) for candidate in kind.candidates()}
    half, foresight = len(order) // 2, Foresight()
    for i in order:
        costs = networks[i].costs
        foresight.note(str(i), Features(_sizes(costs), made_of[costs.name]))
    for i in order[:half]:
        foresight.learn(str(i), networks[i].results[0].error)
    found, _ = foresight.foresee([str(i) for i in order[half:]])
    return spearman(found, np.array([networks[i].results[0].error for i in order[half:]]))


def _sizes(costs: Costs) -> Floats:
    """As `foresight.features` takes them from an evaluation."""
    sizes = (costs.sram, costs.flash, costs.cycles, costs.dense_macs, costs.macs, 1000 * costs.clustering_error)
    return np.log1p(np.array(sizes, dtype=np.float64))


def check(table: Table, n: int, data_dir: Path | None) -> list[Figure]:
    """Evaluate `n` candidates anew, to the end, and count those whose error is not the table's.

    Cycles are not compared: they follow the kernels, which have become faster since the table was made.
    """
    torch.set_num_threads(1)
    entries, chosen = table.read(), list(table.candidates())
    differences, folder = 0, Path(tempfile.mkdtemp())
    where = None if data_dir is None else str(data_dir)
    for candidate in random.Random(0).sample(chosen, n):
        place, expected = folder / "candidates" / candidate.key, entries[table.name_of(candidate)].results[-1]
        found = evaluate(EvaluateRequest(candidate, board(), where, str(place), RUNGS[-1]), lambda _: None)
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="tabulate a replayed search space")
    parser.add_argument("--table", choices=list(TABLES), default=DIGITS.name, help="which one (digits)")
    parser.add_argument("--price", action="store_true", help="price every candidate")
    parser.add_argument("--train", action="store_true", help="train every network")
    parser.add_argument("--check", type=int, default=0, metavar="N", help="evaluate N candidates anew and compare")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where the data set is")
    args = parser.parse_args()
    chosen = TABLES[args.table]
    if args.price:
        price_all(chosen, args.data_dir)
    if args.train:
        train_all(chosen, args.data_dir)
    show(check(chosen, args.check, args.data_dir) if args.check else foretold(chosen, chosen.read()))
