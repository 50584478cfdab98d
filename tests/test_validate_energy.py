"""`validate --instrument` from a user's side: measured energy beside the cycles, in the file and in the study."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from studies import make_evaluation
from test_calibrate import TINY
from twin_programs import M4

from trec_dse import codec, datasets, objectives, storage
from trec_dse.cli import finish, main
from trec_dse.errors import InputError
from trec_dse.evaluate import cost_of, untrained_graph
from trec_dse.firmware import mark_inferences
from trec_dse.measure import export
from trec_dse.report.payload import build_detail
from trec_dse.results import Evaluation, MeasuredEnergy, Measurement, TrialRecord

N_IMAGES = 3
ENERGY = MeasuredEnergy("ppk2 at /dev/ttyACM1", 3, 1.5, 1.4, 1.6, 50.0, 30.0, 3.3)
MEASURED = Measurement("/dev/ttyACM0", 60_000, 20_000, 12_000, 300, 180_000, 180_010, 180_000_000, 3, 0, 1.0)


def exported(folder: Path, *, is_marked: bool) -> Evaluation:
    dataset = datasets.load("digits", None)
    graph = untrained_graph(TINY, dataset)
    evaluation = replace(make_evaluation(50.0, 12.0), candidate=TINY, estimated=cost_of(graph, M4), target=M4.name)
    export(evaluation, graph, M4, dataset, folder, 3)
    if is_marked:
        mark_inferences(folder, M4)
    return evaluation


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("energy") / "firmware"
    exported(folder, is_marked=True)
    return folder


@pytest.fixture(scope="module")
def cycles(firmware: Path) -> int:
    """Of one inference, by the twin."""
    assert main(["validate", str(firmware), "--images", str(N_IMAGES)]) == 0
    return int(json.loads((firmware / "measurement.json").read_text())["cycles"])


def record(path: Path, cycles: int, n_inferences: int = N_IMAGES) -> Path:
    """A trace of 100 samples of 40 mA for each inference, 10 mA before and after, at 2 V."""
    step_s = cycles / M4.clock_hz / 100
    samples = ([(10, 0)] * 20 + [(40, 1)] * 100) * n_inferences + [(10, 0)] * 20
    lines = [f"{i * step_s:.12f},{ma},2.0,{high}" for i, (ma, high) in enumerate(samples)]
    path.write_text("\n".join(["time_s,current_ma,voltage_v,marker", *lines, ""]))
    return path


def test_measured_energy_stands_beside_the_cycles_and_the_estimate(
    firmware: Path, cycles: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = record(tmp_path / "trace.csv", cycles)
    capsys.readouterr()
    assert main(["validate", str(firmware), "--images", str(N_IMAGES), "--instrument", str(trace)]) == 0
    said = capsys.readouterr().out
    text = (firmware / "measurement.json").read_text()
    measured = codec.from_json(text, Measurement, "measurement.json", InputError)
    expected_mj = 80 * cycles / M4.clock_hz  # 40 mA at 2 V are 80 mW
    assert measured.energy is not None and measured.cycles == cycles
    assert measured.energy.mj == pytest.approx(expected_mj, rel=1e-6)
    assert (measured.energy.run_ma, measured.energy.idle_ma, measured.energy.volts) == pytest.approx((40, 10, 2))
    assert measured.energy.n_inferences == N_IMAGES and measured.energy.instrument == "trace.csv"
    assert f"{expected_mj:.4g} mJ per image" in said and "10.000 mA while it waits; 3 seen by trace.csv" in said
    estimated = json.loads((firmware / "manifest.json").read_text())["evaluation"]["estimated"]
    estimated_mj = 166.32 * estimated["cycles"] / M4.clock_hz  # 50.4 mA at 3.3 V
    assert f"estimated {estimated_mj:.4g} mJ, {100 * (estimated_mj / expected_mj - 1):+.1f} %" in said


def test_without_an_instrument_there_is_no_energy(firmware: Path, cycles: int) -> None:
    assert main(["validate", str(firmware), "--images", "1"]) == 0
    assert json.loads((firmware / "measurement.json").read_text())["energy"] is None


@pytest.mark.parametrize(
    ("n_recorded", "message"),
    [(2, "holds 2 inferences, and more were run"), (4, "holds 4 inferences, of which 3 were run")],
)
def test_a_trace_of_other_images_gives_no_number(
    n_recorded: int, message: str, firmware: Path, cycles: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (firmware / "measurement.json").unlink(missing_ok=True)
    trace = record(tmp_path / "trace.csv", cycles, n_recorded)
    assert main(["validate", str(firmware), "--images", str(N_IMAGES), "--instrument", str(trace)]) == 2
    assert message in capsys.readouterr().err
    assert not (firmware / "measurement.json").exists()


def test_firmware_without_a_marker_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(tmp_path / "plain", is_marked=False)
    assert main(["validate", str(tmp_path / "plain"), "--instrument", "ppk2", "--port", "auto"]) == 2
    assert "this firmware marks no inference; export it anew with --marker" in capsys.readouterr().err


def test_an_instrument_measures_a_board_and_not_the_twin(
    firmware: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = []

    class Live:
        name, is_live = "ppk2 at /dev/x", True

        def close(self) -> None:
            closed.append(True)

    asked: list[float | None] = []

    def open_instrument(wanted: str, volts: float | None) -> Live:
        asked.append(volts)
        return Live()

    monkeypatch.setattr("trec_dse.cli.validate.open_instrument", open_instrument)
    assert main(["validate", str(firmware), "--instrument", "ppk2"]) == 2
    assert "ppk2 at /dev/x measures a board: give its --port" in capsys.readouterr().err
    assert main(["validate", str(firmware), "--instrument", "ppk2", "--volts", "1.8"]) == 2
    assert asked == [3.3, 1.8], "the board's file says what supplies it, unless one says otherwise"
    assert closed == [True, True]


def test_a_voltage_without_an_instrument_is_refused(firmware: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(firmware), "--volts", "3.3"]) == 2
    assert "name one with --instrument" in capsys.readouterr().err


# --- in the study ---


def put_measurement(study: Path, evaluation: Evaluation, measured: Measurement) -> None:
    folder = storage.firmware_folder(study, 3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"evaluation": {"key": evaluation.key}}))
    (folder / storage.MEASUREMENT).write_text(codec.to_json(measured))


def seen(study: Path, evaluation: Evaluation) -> Measurement | None:
    return storage._measured_on_board(storage.firmware_folder(study, 3), evaluation)


def test_what_was_measured_on_a_board_is_what_the_study_shows(tmp_path: Path) -> None:
    evaluation = make_evaluation(4.0, 12.0)
    assert seen(tmp_path, evaluation) is None
    measured = replace(MEASURED, energy=ENERGY)
    put_measurement(tmp_path, evaluation, measured)
    assert seen(tmp_path, evaluation) == measured
    assert objectives.energy.measured(replace(evaluation, measured=measured)) == 1.5
    assert objectives.energy.measured(replace(evaluation, measured=MEASURED)) is None


def test_neither_the_twins_nor_another_networks_nor_a_damaged_measurement_is_shown(tmp_path: Path) -> None:
    evaluation = make_evaluation(4.0, 12.0)
    put_measurement(tmp_path, evaluation, replace(MEASURED, executor="twin"))
    assert seen(tmp_path, evaluation) is None
    put_measurement(tmp_path, evaluation, replace(MEASURED, executor="twin", energy=ENERGY))
    assert seen(tmp_path, evaluation) is not None, "a trace was recorded on a board"
    put_measurement(tmp_path, replace(evaluation, key="another"), MEASURED)
    assert seen(tmp_path, evaluation) is None
    put_measurement(tmp_path, evaluation, MEASURED)
    (storage.firmware_folder(tmp_path, 3) / storage.MEASUREMENT).write_text("{")
    assert seen(tmp_path, evaluation) is None


@pytest.mark.parametrize(("executor", "n_images", "due"), [("twin", 3, True), ("twin", 100, False), ("tty", 3, False)])
def test_a_search_that_goes_on_does_not_measure_again_what_a_board_has_shown(
    executor: str, n_images: int, due: bool
) -> None:
    measured = replace(MEASURED, executor=executor, n_images=n_images)
    record = TrialRecord(3, "complete", {}, replace(make_evaluation(4.0, 12.0), measured=measured))
    assert finish._is_due(record, 100) is due
    assert finish._is_due(replace(record, evaluation=make_evaluation(4.0, 12.0)), 100)
    assert not finish._is_due(replace(record, evaluation=None), 100)


def test_a_measurement_of_an_older_release_is_read(tmp_path: Path) -> None:
    old = {k: v for k, v in json.loads(codec.to_json(MEASURED)).items() if k != "energy"}
    assert codec.from_json(json.dumps(old), Measurement, "old", InputError) == MEASURED


def test_the_card_has_the_measured_energy() -> None:
    evaluation = replace(make_evaluation(4.0, 12.0), measured=replace(MEASURED, energy=ENERGY))
    detail = build_detail(evaluation)
    assert detail.measured is not None and detail.measured.energy == ENERGY
