"""From a user's side: `calibrate` measures and judges, `validate` adds to it, `estimate` uses it if asked to."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from studies import make_evaluation
from twin_programs import M4

from trec_dse import calibrate, datasets
from trec_dse.calibrate import measure_set, measurements
from trec_dse.calibration import Store, samples
from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.cli import main
from trec_dse.codec import to_json
from trec_dse.designed import Design, designs
from trec_dse.evaluate import untrained_graph
from trec_dse.measure import export, keep, whole_record
from trec_dse.results import Measurement

TINY = Candidate("digits", "tiny", {"width": 4, "depth": 1}, TrecPolicy(3, 3))
BOARD = "stm32f469i-disco"


def dense_designs() -> list[Design]:
    """The quick ones of the set: eight small dense networks."""
    return [design for design in designs() if design.name.startswith("dense ")][:8]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TREC_DSE_CALIBRATION", str(tmp_path / "boards"))
    monkeypatch.setattr(calibrate, "designs", dense_designs)
    return Store(tmp_path / "boards")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of an untrained network with a clustering layer."""
    folder, dataset = tmp_path_factory.mktemp("export") / "firmware", datasets.load("digits", None)
    graph = untrained_graph(TINY, dataset)
    export(replace(make_evaluation(50.0, 12.0), candidate=TINY), graph, M4, dataset, folder, 3)
    return folder


def test_the_set_has_every_operator_and_names_nothing_twice() -> None:
    names = [design.name for design in designs()]
    assert len(names) == len(set(names)) > 250
    first = next(design for design in designs() if design.name == "sparse_conv2d 0")
    graphs = [first.make()[0] for _ in range(2)]
    assert "sparse_conv2d" in {node.op.kind for node in graphs[0].nodes}
    for node, weights in graphs[0].weights.items():
        assert all(np.array_equal(array, graphs[1].weights[node][name]) for name, array in weights.items())


def test_calibrate_measures_judges_and_goes_on_where_it_was_cut_off(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    measure_set(M4, store, lambda done, of, what: told.append((done, of)), islice(dense_designs(), 4))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert main(["calibrate", "--target", BOARD]) == 0
    out, err = capsys.readouterr()
    assert "dense" in out and "within 10 %" in out and "learned from 8 measurements of 8 networks on twin" in out
    assert err.startswith("8/8 networks")
    assert [record.network for record in store.read(BOARD)] == [f"dense {i}" for i in range(8)]
    monkeypatch.setattr(calibrate, "measure_design", None)  # nothing is measured again
    assert main(["calibrate", "--target", BOARD, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["errors"]["dense"]["n"] == 8
    assert report == json.loads((store.folder / f"{BOARD}.errors.json").read_text())


def test_an_estimate_takes_what_was_learned_only_when_it_is_asked_to(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "tiny.json").write_text(to_json(TINY))
    estimate = ["estimate", str(tmp_path / "tiny.json"), "--target", BOARD]
    assert main([*estimate, "--cycles", "learned"]) == 2
    assert "run trec-dse calibrate --target stm32f469i-disco" in capsys.readouterr().err
    main(estimate)
    by_file = capsys.readouterr().out
    measure_set(M4, store, lambda *_: None, islice(dense_designs(), 2))
    main(estimate)
    assert capsys.readouterr().out == by_file, "measuring alone changes no estimate"
    assert "by the costs of the board's file" in by_file
    main([*estimate, "--cycles", "learned"])
    learned = capsys.readouterr().out
    assert "by the costs of 2 measurements of 2 networks on twin" in learned
    assert "too few to tell their error" in learned

    def cycles(text: str) -> str:
        return next(line for line in text.splitlines() if line.startswith("latency"))

    assert cycles(learned) != cycles(by_file)


def test_a_switched_off_store_refuses_to_calibrate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--target", BOARD]) == 2
    assert "TREC_DSE_CALIBRATION is off" in capsys.readouterr().err


def test_a_validation_is_kept_and_a_profile_tells_its_layers(
    store: Store, firmware: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(firmware), "--images", "3"]) == 0
    (whole,) = store.read(BOARD)
    assert (whole.context.board, whole.n_images, whole.is_by_layer) == ("twin", 3, False)
    capsys.readouterr()
    assert main(["validate", str(firmware), "--images", "3", "--profile"]) == 0
    out = capsys.readouterr().out
    assert "cycles/MAC" in out and "trec_trec_conv2d_s8" in out and "stalls: code" in out
    _, timed = store.read(BOARD)
    assert timed.is_by_layer
    assert sum(layer.cycles or 0 for layer in timed.layers) == pytest.approx(whole.cycles, rel=0.01)
    _, chosen = measurements(M4, store)
    assert chosen.records == (timed,)
    assert len(samples(chosen.records)) == len(timed.layers)


def test_a_profile_of_a_board_is_refused(firmware: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(firmware), "--port", "auto", "--profile"]) == 2
    assert "--profile looks into the twin" in capsys.readouterr().err


def test_what_answered_wrongly_is_kept_by_no_store_and_a_store_that_fails_says_so(store: Store, tmp_path: Path) -> None:
    graph = untrained_graph(TINY, datasets.placeholder("digits"))
    context, _ = measurements(M4, store)
    n = sum(node.op.kind.startswith("trec") for node in graph.nodes)
    right = Measurement("twin", 1, 1, 1, 1, 1000, 1100, M4.clock_hz, 5, 0, 1.0, (7.0,) * n)
    record = whole_record(graph, right, context, "key")
    assert keep(record, replace(right, n_mismatches=1)) == ""
    assert store.read(BOARD) == []
    assert keep(record, right) == ""
    (tmp_path / "file").write_text("")
    assert "the measurement cannot be kept" in keep(record, right, Store(tmp_path / "file"))
    (kept,) = store.read(BOARD)
    clustered = [layer for layer in kept.layers if layer.kind.startswith("trec")]
    assert [layer.settings["mean_clusters"] for layer in clustered] == [7.0] * n
