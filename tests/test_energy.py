"""Energy per inference: milliwatts of the board times the seconds that it computes, and nothing where none is known."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from studies import TARGET, make_cost, make_evaluation, make_trials

from trec_dse import objectives
from trec_dse.candidate import Candidate
from trec_dse.cli import main
from trec_dse.cli.output import cost_json
from trec_dse.codec import to_json
from trec_dse.errors import InputError, NothingFitsError, TargetError
from trec_dse.influence import influence_data
from trec_dse.pick import Budgets, parse_mj, pick
from trec_dse.plugins import data_file, data_names
from trec_dse.results import Evaluation, TrialRecord
from trec_dse.target import Power, load_target

PLANE = (objectives.error, objectives.energy)
UNKNOWN = replace(make_evaluation(4.0, 12.0), estimated=replace(make_cost(12.0, 60.0, 8.0), run_mw=None))


def board(name: str) -> Path:
    return data_file("targets", name, ".toml", TargetError)


def test_twenty_milliamperes_at_two_and_a_half_volts_are_fifty_milliwatts() -> None:
    assert Power(20.0, 2.5, "a source").run_mw == 50.0


def test_eight_milliseconds_at_fifty_milliwatts_are_four_tenths_of_a_millijoule() -> None:
    assert make_cost(12.0, 60.0, latency_ms=8.0).energy_mj == pytest.approx(0.4)


def test_the_objective_is_the_millijoules_of_the_estimate() -> None:
    assert objectives.energy.value(make_evaluation(4.0, 12.0, latency_ms=8.0)) == pytest.approx(0.4)


def test_without_a_figure_the_energy_is_unknown_rather_than_nothing() -> None:
    assert UNKNOWN.estimated.energy_mj is None
    assert math.isnan(objectives.energy.value(UNKNOWN))
    assert cost_json(UNKNOWN.estimated)["energy_mj"] is None


def test_the_disco_draws_166_milliwatts_and_the_l4r5_44() -> None:
    disco, l4r5 = (load_target(board(name)).power for name in ("stm32f469i-disco", "nucleo-l4r5zi"))
    assert disco is not None and l4r5 is not None
    assert disco.run_mw == pytest.approx(166.32)  # 280 uA/MHz x 180 MHz x 3.3 V
    assert l4r5.run_mw == pytest.approx(43.56)  # 110 uA/MHz x 120 MHz x 3.3 V


@pytest.mark.parametrize("name", data_names("targets", ".toml"))
def test_every_figure_names_its_source(name: str) -> None:
    power = load_target(board(name)).power
    assert power is None or ":" in power.source


def test_a_figure_in_microamperes_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(board("nucleo-l4r5zi").read_text().replace("run_ma = 13.2", "run_ma = 13_200.0"))
    with pytest.raises(TargetError, match=r"run_ma is in mA"):
        load_target(wrong)


def test_no_search_by_energy_starts_where_the_board_has_no_figure() -> None:
    objectives.require_figures(PLANE, TARGET)
    with pytest.raises(InputError, match=r"demo-board: its file has no \[power\]"):
        objectives.require_figures(PLANE, replace(TARGET, power=None))
    objectives.require_figures((objectives.error, objectives.sram), replace(TARGET, power=None))


def test_an_energy_budget_excludes_what_takes_too_much() -> None:
    # 50 mW for 19 ms are 0.95 mJ: as `--latency 19ms`
    by_energy, by_time = pick(make_trials(), Budgets(energy_mj=0.95)), pick(make_trials(), Budgets(latency_ms=19.0))
    assert by_energy.record.number == by_time.record.number == 5
    assert by_energy.reason.endswith("within energy <= 0.95 mJ")


def test_what_is_nearest_to_an_energy_budget_is_told_in_millijoules() -> None:
    with pytest.raises(NothingFitsError, match=r"energy <= 0\.01 mJ; nearest is trial \d+: energy 0\.\d+ mJ"):
        pick(make_trials(), Budgets(energy_mj=0.01))


def test_an_energy_budget_on_a_board_without_a_figure_is_refused() -> None:
    records = [TrialRecord(0, "complete", {}, UNKNOWN)]
    with pytest.raises(InputError, match=r"demo-board: its file has no \[power\]"):
        pick(records, Budgets(energy_mj=1.0))


@pytest.mark.parametrize(("text", "mj"), [("5mJ", 5.0), ("500uJ", 0.5), ("500 µJ", 0.5), ("0.005J", 5.0), ("5", 5.0)])
def test_energies_are_read_with_their_units(text: str, mj: float) -> None:
    assert parse_mj(text) == pytest.approx(mj)


@pytest.mark.parametrize(("text", "message"), [("5mW", "unknown unit 'mw'"), ("0mJ", "above 0"), ("much", "not an")])
def test_what_is_no_energy_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_mj(text)


def test_nothing_explains_an_energy_that_no_trial_has() -> None:
    def unknown(evaluation: Evaluation) -> Evaluation:
        return replace(evaluation, estimated=replace(evaluation.estimated, run_mw=None))

    records = [replace(r, evaluation=r.evaluation and unknown(r.evaluation)) for r in make_trials()]
    shares = influence_data(records, PLANE).shares
    assert shares and all(row[1] is None for row in shares)


@pytest.mark.parametrize(
    ("target", "line"),
    [("stm32f469i-disco", "mJ = "), ("nucleo-f446re", "energy   unknown: the board's file has no [power]")],
)
def test_an_estimate_says_the_energy_or_that_it_is_unknown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, target: str, line: str
) -> None:
    (tmp_path / "candidate.json").write_text(to_json(Candidate("digits", "tiny")))
    main(["estimate", str(tmp_path / "candidate.json"), "--target", target])
    assert line in next(text for text in capsys.readouterr().out.splitlines() if text.startswith("energy"))
