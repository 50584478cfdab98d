"""The walk of `benchmarks/compression_sizes.py` from a whole network to little of it: points, rows, table and plot."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from trec_dse.candidate import Candidate, Recipe
from trec_dse.datasets import load

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import compression_sizes
from compression_sizes import (
    Named,
    Point,
    Row,
    Training,
    draw,
    figures,
    picture,
    rows_of,
    smaller,
    table,
    traces,
    walk,
)

RECIPE = Recipe(epochs=3, fine_tune_epochs=1, trec_epochs=0, n_train=200, n_validation=50, n_calibration=16)
SUBJECT = Named("tiny", Candidate("digits", "tiny", {"width": 8, "depth": 2}, recipe=RECIPE), load("digits"))
WHOLE = Row("tiny", 0, 0, "one_shot", "PTQ", 1000, 2000, 4096, 2048, 160, 200)
HALF = replace(WHOLE, channels=0.5, n_weights=250, weight_bytes=600, flash_bytes=2048, sram_bytes=1024, n_right=152)
ZEROS = replace(WHOLE, weights=0.9, n_weights=100, weight_bytes=300, flash_bytes=1536, n_right=140)
ROWS = [WHOLE, HALF, replace(HALF, schedule="agp", training="QAT", n_right=156), ZEROS]


def test_a_point_becomes_a_candidate_whose_schedule_is_of_what_goes() -> None:
    whole = smaller(SUBJECT, Point(), "PTQ")
    assert (whole.pruning, whole.kernels, whole.recipe.quantization.qat_epochs) == ({}, {}, 0)
    channels = smaller(SUBJECT, Point(0.5, 0.0, "agp"), "QAT")
    assert (channels.pruning, channels.kernels, channels.prunes_weights) == ({"*": 0.5}, {}, False)
    assert (channels.recipe.pruning.schedule, channels.recipe.pruning.start) == ("agp", 1)
    assert channels.recipe.quantization.qat_epochs == 3
    both = smaller(SUBJECT, Point(0.5, 0.9), "PTQ")
    assert both.pruning == {"*": 0.5}
    assert both.prunes_weights


def test_the_first_and_the_last_layer_lose_three_quarters_at_most() -> None:
    found = {name: config.share for name, config in smaller(SUBJECT, Point(weights=0.9), "PTQ").kernels.items()}
    assert found == {"conv1": 0.75, "conv2": 0.9, "fc1": 0.75}


def test_rows_are_written_as_they_come_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Point, str]] = []

    def measured(_: Named, point: Point, training: Training, *__: object) -> Row:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append((point, training))
        return replace(WHOLE, channels=point.channels, training=training)

    monkeypatch.setattr(compression_sizes, "measured", measured)
    out, points = tmp_path / "rows.jsonl", (Point(), Point(0.5))
    with pytest.raises(KeyboardInterrupt):
        walk(SUBJECT, out, points)
    assert len(rows_of(out)) == 3
    asked.clear()
    rows = walk(SUBJECT, out, points)
    assert asked == [(Point(0.5), "QAT")]
    assert rows == rows_of(out)
    assert [(row.channels, row.training) for row in rows] == [(0, "PTQ"), (0, "QAT"), (0.5, "PTQ"), (0.5, "QAT")]
    assert rows_of(None) == rows_of(tmp_path / "none.jsonl") == []


def test_one_file_holds_several_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression_sizes, "measured", lambda subject, *_: replace(WHOLE, network=subject.name))
    out = tmp_path / "rows.jsonl"
    for name in ("a", "b"):
        assert {row.network for row in walk(replace(SUBJECT, name=name), out, (Point(),))} == {name}
    assert len(rows_of(out)) == 4


def test_the_table_has_a_line_for_every_share_and_is_relative_to_the_whole_network() -> None:
    assert table(ROWS).splitlines()[2:] == [
        "|  |  | 100.0 % | 100.0 % | 4.0 KiB | 2.0 KiB | 100.0 |  |  |  |",
        "| 50 % |  | 25.0 % | 30.0 % | 2.0 KiB | 1.0 KiB | 95.0 |  |  | 97.5 |",
        "|  | 90 % | 10.0 % | 15.0 % | 1.5 KiB | 2.0 KiB | 87.5 |  |  |  |",
    ]


def test_the_figures_are_those_of_the_table() -> None:
    found = {figure.name: figure.value for figure in figures(ROWS)}
    name = "tiny, 50% of the channels, 0.0% of the weights gone, AGP, QAT"
    assert found[f"{name}: relative accuracy"] == pytest.approx(97.5)
    assert found[f"{name}: their bytes"] == pytest.approx(30)
    assert found[f"{name}: Flash"] == 2.0


def points_of(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    return {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in traces(rows)}


def test_lines_of_the_plot_go_from_the_whole_network_to_the_smallest() -> None:
    lines = points_of(ROWS)
    assert len(lines) == 3 * 2 * 2
    assert lines["channels, one-shot, PTQ"] == [(100, 100), (30, 95)]
    assert lines["channels, AGP, QAT"] == [(30, 97.5)], "the whole network was not trained in int8"
    assert lines["single weights, one-shot, PTQ"] == [(100, 100), (15, 87.5)]
    assert lines["single weights, AGP, PTQ"] == [(100, 100)]
    assert lines["both, AGP, PTQ"] == [], "nothing of it is near the whole network"


def test_the_plot_has_three_panels_a_network_and_can_be_a_page(tmp_path: Path) -> None:
    figure = picture([*ROWS, *(replace(row, network="other") for row in ROWS)])
    assert len(figure.data) == 2 * (12 + 2 * 3)
    assert sum(bool(trace.showlegend) for trace in figure.data) == 12
    draw(ROWS, tmp_path / "plot.html")
    assert "single weights, AGP, QAT" in (tmp_path / "plot.html").read_text(encoding="utf-8")


def test_without_a_browser_no_png_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"chromium, which is not on the path; FILE\.html needs none"):
        draw(ROWS, tmp_path / "plot.png")


def test_a_network_is_really_trained_priced_and_run(tmp_path: Path) -> None:
    points = (Point(), Point(0.5), Point(weights=0.9, schedule="agp"))
    rows = {(row.point.form, row.training): row for row in walk(SUBJECT, tmp_path / "rows.jsonl", points)}
    assert len(rows) == 6
    whole, channels, zeros = (rows[form, "QAT"] for form in ("whole", "channels", "single weights"))
    # 8 * 9 + 8 * 8 * 9 + 10 * 128 weights, of which rounding to int8 makes some zero; then 4 * 9 + 4 * 4 * 9 + 10 * 64
    assert 1800 < whole.n_weights <= 1928
    assert 760 < channels.n_weights <= 820
    # a quarter of the first and of the last layer, a tenth of the second: 18 + 320 + 58
    assert 380 < zeros.n_weights <= 396
    assert whole.weight_bytes > channels.weight_bytes
    assert whole.flash_bytes > channels.flash_bytes
    assert whole.sram_bytes > channels.sram_bytes
    assert whole.weight_bytes - zeros.weight_bytes > 1928 - 2 * 396 - 150
    assert all(row.n_images == 360 and row.n_right > 36 for row in rows.values()), "ten classes: chance is 36"
