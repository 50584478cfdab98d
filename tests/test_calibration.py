"""Measurements are kept whole, line by line, and only those that belong together are learned from."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from twin_programs import M4, M7

from trec_dse import calibrate, codec, objectives
from trec_dse.calibrate import calibrated, judge
from trec_dse.calibration import Context, LayerRecord, Record, Store, choose, code_of, context_of, samples
from trec_dse.errors import InputError, StudyError
from trec_dse.ops.dense import Dense
from trec_dse.report.payload import build_payload
from trec_dse.resources import calibration_folder
from trec_dse.results import StudyRecord
from trec_dse.toolchain import Compiler

ZIG = Compiler("zig", ("zig", "cc"), "zig 1.0")
CONTEXT = context_of(M4, ZIG)
# 8 inputs, 4 outputs: a call, 2 words of four products for four outputs, and 4 outputs
CYCLES = M4.timing["kernel_call"] + M4.timing["dense_words"] * 2 + M4.timing["dense_output"] * 4


def dense(cycles: float | None = CYCLES) -> LayerRecord:
    return LayerRecord("fc", "dense", codec.unstructure(Dense(4)), ((8,),), 0.0, code_of("dense"), cycles)


def record(network: str = "n", context: Context = CONTEXT, layer: LayerRecord | None = None) -> Record:
    layer = layer or dense()
    return Record(context, network, "2026-01-01T00:00:00+00:00", 2, layer.cycles or 800.0, (layer,))


@pytest.fixture(autouse=True)
def zig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "find_target_compiler", lambda: ZIG)


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "boards")
    assert store.read(M4.name) == []
    store.append(record("a"))
    store.append(record("b"))
    assert store.read(M4.name) == [record("a"), record("b")]
    assert store.read(M7.name) == []


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(record("a"))
    store.append(record("b"))
    path = store.path(M4.name)
    path.write_bytes(path.read_bytes()[:-40])  # the power went away in the midst of the second
    store.append(record("c"))
    assert [each.network for each in store.read(M4.name)] == ["a", "c"]


def test_a_line_of_another_release_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(record("a"))
    with store.path(M4.name).open("a") as file:
        file.write(json.dumps({"some": "future"}) + "\n")
    store.append(record("b"))
    assert [each.network for each in store.read(M4.name)] == ["a", "b"]
    assert "future" in store.path(M4.name).read_text()


def _append_many(folder: Path, name: str) -> None:
    for i in range(40):
        Store(folder).append(record(f"{name}{i}"))


def test_two_processes_that_append_lose_nothing(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=_append_many, args=(tmp_path, n)) for n in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    found = [each.network for each in Store(tmp_path).read(M4.name)]
    assert sorted(found) == sorted(f"{name}{i}" for name in "ab" for i in range(40))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "boards").write_text("a file where the folder should be")
    with pytest.raises(StudyError, match=r"cannot be kept.*TREC_DSE_CALIBRATION"):
        Store(tmp_path / "boards").append(record())


FOREIGN: dict[str, Callable[[Record], Record]] = {
    "another compiler": lambda r: replace(r, context=context_of(M4, Compiler("gcc", ("gcc",), "gcc 14"))),
    "another version of it": lambda r: replace(r, context=context_of(M4, replace(ZIG, version="zig 2.0"))),
    "another clock": lambda r: replace(r, context=context_of(replace(M4, clock_hz=90_000_000), ZIG)),
    "more wait states": lambda r: replace(
        r, context=context_of(replace(M4, flash=replace(M4.flash, wait_states=6)), ZIG)
    ),
    "a board instead of the twin": lambda r: replace(r, context=context_of(M4, ZIG, "066BFF3")),
    "another twin": lambda r: replace(r, context=replace(r.context, model="0" * 16)),
    "older kernels": lambda r: replace(r, layers=(replace(dense(), code="0" * 16),)),
    "an operator that has gone": lambda r: replace(r, layers=(replace(dense(), kind="dense_u7"),)),
    "other fields of the operator": lambda r: replace(r, layers=(replace(dense(), settings={"out": 4}),)),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_belongs_elsewhere_is_not_mixed_in(what: str) -> None:
    chosen = choose([record("a"), FOREIGN[what](record("b"))], CONTEXT)
    assert [each.network for each in chosen.records] == ["a"]
    assert chosen.n_foreign == 1


def test_the_price_of_energy_and_the_serial_port_are_no_other_context() -> None:
    assert context_of(replace(M4, power=None, serial=M7.serial, timing={}, sources=()), ZIG) == CONTEXT


def test_of_one_network_the_latest_counts_but_timed_layers_beat_a_whole() -> None:
    first, second = record(layer=dense(10.0)), record(layer=dense(11.0))
    assert choose([first, second], CONTEXT).records == (second,)
    assert choose([first, record(layer=dense(None))], CONTEXT).records == (first,)


def test_a_layer_is_a_sample_and_an_untimed_network_is_one() -> None:
    timed, whole = record(layer=dense(10.0)), record(layer=dense(None))
    (one,) = samples([timed])
    assert (one.cycles, one.label, one.group) == (10.0, "dense", "n")
    assert {item.kind: item.amount for item in one.work} == {
        "kernel_call": 1,
        "dense_words": 2,
        "dense_word": 0,
        "dense_rest": 0,
        "dense_output": 4,
    }
    two = replace(whole, layers=(dense(None), dense(None)))
    (one,) = samples([two])
    assert (one.cycles, one.label, len(one.work)) == (800.0, "network", 10)


def test_the_folder_is_the_users_data_unless_a_variable_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TREC_DSE_CALIBRATION", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert calibration_folder() == Path("/data/trec_dse/boards")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert calibration_folder() == Path.home() / ".local/share/trec_dse/boards"
    monkeypatch.setenv("TREC_DSE_CALIBRATION", "/mine")
    assert calibration_folder() == Path("/mine")
    monkeypatch.setenv("TREC_DSE_CALIBRATION", "off")
    assert (calibration_folder(), Store.default()) == (None, None)


def test_a_calibrated_board_says_what_its_costs_are_from(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for i in range(3):
        store.append(record(str(i), layer=dense(1.2 * CYCLES)))
    found = calibrated(M4, store)
    assert found.timing["dense_words"] > M4.timing["dense_words"]
    assert replace(found, timing=M4.timing, calibration=None) == M4
    note = found.calibration
    assert note is not None
    assert (note.board, note.n_networks, note.n_samples, note.mean_error) == ("twin", 3, 3, None)
    assert calibrated(M4, store) == found, "the same measurements give the same costs"


def test_what_a_study_s_costs_were_learned_from_stands_on_its_page(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for i in range(9):
        store.append(record(str(i), layer=dense(1.2 * CYCLES)))
    learned = calibrated(M4, store)
    assert learned.calibration is not None
    summary = learned.calibration.summary
    assert summary.startswith("9 measurements of 9 networks on twin (") and "held-out error" in summary
    for target, costs in ((learned, summary), (M4, "")):
        study = StudyRecord("s", "digits_tiny", target, 0, {}, ())
        assert build_payload(study, objectives.DEFAULT).board.costs == costs


def test_measurements_of_a_board_come_before_those_of_its_twin(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(record("a", context_of(M4, ZIG, "066BFF3"), dense(2 * CYCLES)))
    store.append(record("b"))
    real, twin = calibrated(M4, store), calibrated(M4, store, "twin")
    assert real.calibration is not None and twin.calibration is not None
    assert (real.calibration.board, twin.calibration.board) == ("066BFF3", "twin")
    assert real.timing["add_value"] == pytest.approx(2**0.8 * twin.timing["add_value"])


def test_nothing_to_learn_from_is_an_error_that_says_what_was_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(FOREIGN["another clock"](record()))
    with pytest.raises(InputError, match=r"no measurement to learn from; 1 of another compiler.*trec-dse calibrate"):
        calibrated(M4, store)
    with pytest.raises(InputError, match="is off"):
        calibrated(M4, None)


def test_a_fit_is_judged_on_networks_that_it_has_not_seen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(InputError, match="0 networks were measured"):
        judge(M4, store)
    for i in range(12):
        store.append(record(str(i), layer=dense(1.5 * CYCLES)))
    report = judge(M4, store)
    assert report.before["dense"].bias == pytest.approx(-100 / 3)
    assert report.errors["dense"].mean < 2
    assert report.calibration.mean_error == pytest.approx(report.errors[""].mean, abs=0.001)
    text = calibrate.write_report(report, store).read_text()
    assert codec.from_json(text, calibrate.Report, "report", InputError) == report


def test_a_search_goes_on_with_the_costs_that_it_began_with(tmp_path: Path) -> None:
    # what is learned is part of the board that study.json holds, and `require_same` compares that
    store = Store(tmp_path)
    store.append(record())
    before = calibrated(M4, store)
    assert codec.from_json(codec.to_json(before), type(M4), "board", InputError) == before
    store.append(record("b", layer=dense(3 * CYCLES)))
    assert calibrated(M4, store) != before


def test_a_hash_of_code_is_that_of_its_operator() -> None:
    assert code_of("dense") != code_of("conv2d")
    assert len(code_of("dense")) == 16
    assert len(CONTEXT.model) == 16
    assert context_of(M4, ZIG, "066BFF3").model == ""
