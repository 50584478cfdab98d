"""Replayed searches: the epochs that they count, and the hypervolume that they reach, by hand."""

import sys
from pathlib import Path

import pytest

from trec_dse import codec
from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.durable import write_text
from trec_dse.results import EvaluateRequest, Evaluation
from trec_dse.rungs import spearman

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from replay import Replay, Volume
from search_efficiency import Curve
from search_table import DIGITS, TABLES, Costs, Entry, Result, Table, board, foretold, read

SMALL = [candidate for candidate in DIGITS.candidates() if DIGITS.name_of(candidate).startswith("4 1 ")]
DENSE = next(candidate for candidate in SMALL if DIGITS.name_of(candidate) == "4 1 0.0")
PRUNED = next(candidate for candidate in SMALL if DIGITS.name_of(candidate) == "4 1 0.5")
CLUSTERED = next(candidate for candidate in SMALL if DIGITS.name_of(candidate) == "4 1 0.0 3 kernel_row per_slice 0")


def entry(candidate: Candidate, errors: tuple[float, float, float] = (0.3, 0.2, 0.1), size: int = 1024) -> Entry:
    """A row whose costs are all `size` bytes, or 180,000 cycles for 1024 bytes, which is 1 ms."""
    name = DIGITS.name_of(candidate)
    cycles = 180_000 * size // 1024
    costs = Costs(name, f"network of {name}", size, size, cycles, 9, 9, 0.5)
    results = [Result(costs.network, n, error, cycles) for n, error in zip((1, 5, 15), errors, strict=True)]
    return Entry(costs, tuple(results))


TABLE = {DIGITS.name_of(candidate): entry(candidate) for candidate in (DENSE, PRUNED, CLUSTERED)}


def evaluate(replay: Replay, root: Path, candidate: Candidate, epochs: int | None = None) -> Evaluation:
    """As a worker does."""
    folder = root / candidate.key
    found = replay.evaluate(EvaluateRequest(candidate, board(), None, str(folder), epochs))
    write_text(folder / "evaluation.json", codec.to_json(found))
    return found


def test_a_network_alone_costs_all_its_phases_and_nothing_the_second_time(tmp_path: Path) -> None:
    replay = Replay(TABLE, shares=False)
    evaluate(replay, tmp_path, DENSE)
    assert replay.epochs == 15 + 3 + 3
    evaluate(replay, tmp_path, DENSE)
    assert replay.epochs == 21
    evaluate(replay, tmp_path, CLUSTERED)
    assert replay.epochs == 42
    assert [epochs for epochs, _ in replay.finished] == [21, 21, 42]


def test_networks_that_share_parents_cost_what_they_do_not_share(tmp_path: Path) -> None:
    replay = Replay(TABLE)
    evaluate(replay, tmp_path, DENSE)
    evaluate(replay, tmp_path, CLUSTERED)
    assert replay.epochs == 21 + 3
    evaluate(replay, tmp_path, PRUNED)
    assert replay.epochs == 24 + 3 + 3


def test_rungs_go_on_with_the_dense_training_and_branch_anew(tmp_path: Path) -> None:
    replay = Replay(TABLE)
    assert evaluate(replay, tmp_path, CLUSTERED, 0).rungs[0].error == 0.5
    assert replay.epochs == 0
    evaluate(replay, tmp_path, CLUSTERED, 1)
    assert replay.epochs == 1 + 1 + 1
    middle = evaluate(replay, tmp_path, CLUSTERED, 5)
    assert replay.epochs == 3 + 4 + 1 + 1
    assert not replay.finished
    last = evaluate(replay, tmp_path, CLUSTERED, 15)
    assert replay.epochs == 9 + 10 + 3 + 3
    assert (middle.fidelity, last.fidelity) == (1 / 3, 1)
    assert [(rung.epochs, rung.error, rung.trained) for rung in last.rungs] == [
        (0, 0.5, 0),
        (1, 0.3, 3),
        (5, 0.2, 6),
        (15, 0.1, 16),
    ]


def test_the_whole_front_has_all_of_the_volume_and_its_worse_half_less(tmp_path: Path) -> None:
    good, bad = entry(DENSE, size=1024), entry(PRUNED, (0.3, 0.2, 0.2), size=4096)
    table = {DIGITS.name_of(DENSE): good, DIGITS.name_of(PRUNED): bad}
    volume, replay = Volume(table), Replay(table)
    assert volume([]) == 0
    # the only worse one is the reference point itself
    assert volume([evaluate(replay, tmp_path, PRUNED)]) == 0
    assert volume([evaluate(replay, tmp_path, DENSE)]) == pytest.approx(1)


def test_a_curve_tells_what_was_reached_when() -> None:
    curve = Curve("ours", 0, (21, 45, 60), (0.2, 0.5, 0.9), 70)
    assert [curve.at(epochs) for epochs in (20, 21, 50, 1000)] == [0, 0.2, 0.5, 0.9]
    assert [curve.reaches(volume) for volume in (0.1, 0.5, 0.95)] == [21, 45, None]


def test_a_name_holds_every_choice_and_no_more() -> None:
    everything = list(DIGITS.candidates())
    assert len({DIGITS.name_of(candidate) for candidate in everything}) == len(everything) == 1170
    # of one layer all reuse their kernels or none: no other scope is left where all do
    assert len(SMALL) == 2 * (1 + 4 * 3 * (3 + 1))
    assert all(
        isinstance(candidate.trec, TrecPolicy) == (len(DIGITS.name_of(candidate).split()) > 3) for candidate in SMALL
    )


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_candidate_of_the_space_is_in_the_shipped_table(table: Table) -> None:
    costs = read(table.costs, Costs)
    assert {row.name for row in costs} == {table.name_of(candidate) for candidate in table.candidates()}
    results = read(table.trained, Result)
    assert len(results) == 3 * len({row.network for row in costs})
    assert all(0 <= row.error < 1 for row in results)


def test_rungs_that_order_networks_alike_foretell_each_other() -> None:
    chosen = SMALL[:40]
    errors = [(0.3 + 0.01 * i, 0.2 + 0.01 * i, 0.6 - 0.01 * i) for i in range(len(chosen))]
    table = {
        DIGITS.name_of(c): entry(c, each, 1024 + i) for i, (c, each) in enumerate(zip(chosen, errors, strict=True))
    }
    rho = [figure.value for figure in foretold(DIGITS, table)]
    # 1 -> 5 in the same order, 5 -> 15 and 1 -> 15 in the opposite one
    assert rho[1:4] == pytest.approx([1, -1, -1])
    assert spearman(*([1.0, 2.0, 3.0], [3.0, 1.0, 2.0])) == pytest.approx(-0.5)  # type: ignore[arg-type]
