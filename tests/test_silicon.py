"""The table of published run times, and the figures of the cycle model's error made from it."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trec_dse.errors import StudyError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import silicon

HEAD = "source,board,core,clock_mhz,network,engine,compiler,published_ms,twin_ms,role,model,note\n"
LINE = 'somebody,A-BOARD,cortex-m4,120,IC,TFLM,gcc 12,10,{twin},{role},today,"one, two"\n'


def table(tmp_path: Path, *lines: str) -> list[silicon.Published]:
    path = tmp_path / "t.csv"
    path.write_text(HEAD + "".join(lines), encoding="utf-8")
    return silicon.read(path)


def test_a_line_is_read_with_its_figures_and_its_note(tmp_path: Path) -> None:
    (row,) = table(tmp_path, LINE.format(twin="9.5", role="held out"))
    assert (row.published_ms, row.twin_ms, row.clock_mhz, row.note) == (10.0, 9.5, 120, "one, two")


def test_another_engine_has_no_figure_of_the_twin(tmp_path: Path) -> None:
    (row,) = table(tmp_path, LINE.format(twin="", role="other engine"))
    assert row.twin_ms is None


@pytest.mark.parametrize(
    ("twin", "role", "message"),
    [
        ("fast", "held out", "line 2: could not convert string to float: 'fast'"),
        ("9.5", "guessed", "line 2: role 'guessed'; one of fitted, held out, shape, other engine"),
        ("9.5", "other engine", "line 2: twin_ms 9.5; only another engine's line has none"),
        ("", "fitted", "line 2: twin_ms None; only another engine's line has none"),
    ],
)
def test_a_line_that_says_nothing_is_refused(tmp_path: Path, twin: str, role: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        table(tmp_path, LINE.format(twin=twin, role=role))


def test_errors_of_nine_and_twelve_for_ten_are_those_computed_by_hand(tmp_path: Path) -> None:
    # Ratios .9 and 1.2: mean 1.05; squares .01 and .04, their mean .025, its root .158114.
    found = silicon.errors_of(
        table(tmp_path, LINE.format(twin="9", role="fitted"), LINE.format(twin="12", role="fitted"))
    )
    assert found.n == 2
    assert found.mean_ratio == pytest.approx(1.05)
    assert found.rms_percent == pytest.approx(15.8114, abs=1e-4)


def test_fitted_and_held_out_are_told_apart_and_a_shape_has_no_goal(tmp_path: Path) -> None:
    rows = table(
        tmp_path,
        LINE.format(twin="10.4", role="fitted"),
        LINE.format(twin="10.6", role="held out"),
        LINE.format(twin="10.1", role="shape"),
    )
    rms = [figure for figure in silicon.model_figures(rows) if figure.name.endswith("rms error")]
    assert [(round(figure.value, 6), figure.met) for figure in rms] == [(4, True), (6, False), (1, None)]


def test_a_core_without_an_aim_and_an_earlier_model_are_stated_and_not_judged(tmp_path: Path) -> None:
    (row,) = table(tmp_path, LINE.format(twin="20", role="fitted"))
    small, earlier = replace(row, core="cortex-m0plus"), replace(row, model="earlier")
    assert [figure.met for figure in silicon.model_figures([small, earlier])] == [None] * 4


def test_an_engine_that_takes_twice_as_long_makes_ours_a_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silicon, "our_ms", lambda board: 5.0)
    (figure,) = silicon.engine_figures(table(tmp_path, LINE.format(twin="", role="other engine")))
    assert figure.value == 0.5


def test_every_shipped_line_names_its_source_and_every_engine_a_board_of_ours() -> None:
    rows = silicon.read()
    assert all(row.source and row.board and row.network and row.compiler for row in rows)
    assert {row.board for row in rows if row.role == silicon.OTHER_ENGINE} <= set(silicon.TARGETS)
    assert all(row.model in ("today", "earlier") for row in rows if row.role in silicon.MODEL_ROLES)


def test_no_shipped_run_time_is_further_from_the_twins_than_a_quarter() -> None:
    ratios = [row.twin_ms / row.published_ms for row in silicon.read() if row.twin_ms is not None]
    assert len(ratios) >= 16 and all(0.75 < ratio < 1.25 for ratio in ratios)
