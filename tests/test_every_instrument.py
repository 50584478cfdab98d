"""Whatever measures gives the same energy of the same inference, and names its faults; a new file is tested too."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fake_joulescope import FakeBuffer, FakeDevice, library
from fake_ppk2 import START, FakePpk2, Sample

from trec_dse.errors import InputError, MeterError, NoAnswerError, PortError, ToolchainError
from trec_dse.instruments import joulescope, open_instrument, ppk2, usages
from trec_dse.metering import Instrument, spent_in
from trec_dse.plugins import load, names

SECONDS, VOLTS = 0.02, 2.0
# 20 ms of 40 mA at 2 V are 1.6 mJ; 20 mA before and after
RUN: list[Sample] = [(20.0, False)] * 700 + [(40.0, True)] * 2000 + [(20.0, False)] * 500
MILLIJOULES, IDLE_MA = 1.6, 20.0


@contextmanager
def open_ppk2(samples: Sequence[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instrument]:
    pytest.importorskip("ppk2_api", reason="the library of the PPK2 is not installed")
    monkeypatch.setattr(ppk2, "_BOOT_S", 0.0)
    with FakePpk2(samples) as device:
        instrument = open_instrument(f"ppk2:{device.port}", VOLTS)
        yield instrument
        instrument.close()


def fake_joulescope(samples: Sequence[Sample]) -> FakeDevice:
    amperes = np.array([milliamperes / 1000 for milliamperes, _ in samples])
    return FakeDevice(FakeBuffer(amperes, np.full_like(amperes, VOLTS), np.array([high for _, high in samples])))


@contextmanager
def open_joulescope(samples: Sequence[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instrument]:
    device = fake_joulescope(samples)
    monkeypatch.setattr(joulescope, "library", lambda *_: library(device))
    instrument = open_instrument("joulescope", None)
    assert device.is_open
    yield instrument
    instrument.close()
    assert not device.is_open


@contextmanager
def open_recorded(samples: Sequence[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instrument]:
    lines = [f"{i / 100},{1000 * milliamperes},{int(high)}" for i, (milliamperes, high) in enumerate(samples)]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["Timestamp(ms),Current(uA),D0", *lines, ""]), encoding="utf-8")
    yield open_instrument(str(path), VOLTS)


OPENERS = {"ppk2": open_ppk2, "joulescope": open_joulescope, "recorded": open_recorded}


@pytest.mark.parametrize("name", names("instruments"))
def test_every_instrument_says_what_it_is_and_how_it_is_asked_for(name: str) -> None:
    module = load("instruments", name)
    assert module.__doc__ and module.USAGE in usages()


@pytest.mark.parametrize("name", names("instruments"))
def test_every_instrument_measures_the_energy_computed_by_hand(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OPENERS[name](RUN, tmp_path, monkeypatch) as instrument:
        instrument.start()
        spent = spent_in(instrument.stop(), SECONDS)
        instrument.finish()
    assert 1000 * spent.joules == pytest.approx(MILLIJOULES, rel=1e-6)
    assert (spent.seconds, spent.volts) == pytest.approx((SECONDS, VOLTS))
    assert 1000 * spent.idle_amperes == pytest.approx(IDLE_MA, rel=1e-6)


@pytest.mark.parametrize("name", names("instruments"))
def test_every_instrument_says_when_the_marker_is_not_connected(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmarked = [(milliamperes, False) for milliamperes, _ in RUN]
    with OPENERS[name](unmarked, tmp_path, monkeypatch) as instrument:
        instrument.start()
        with pytest.raises(MeterError, match="the marker was never high"):
            spent_in(instrument.stop(), SECONDS)


@pytest.mark.parametrize("name", sorted(set(names("instruments")) - {"recorded"}))
def test_every_live_instrument_records_anew_for_each_inference(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OPENERS[name](RUN, tmp_path, monkeypatch) as instrument:
        assert instrument.is_live
        for _ in range(3):
            instrument.start()
            assert 1000 * spent_in(instrument.stop(), SECONDS).joules == pytest.approx(MILLIJOULES, rel=1e-6)


@pytest.mark.parametrize("name", ["ppk2", "joulescope"])
def test_a_library_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", fail)
    volts = VOLTS if name == "ppk2" else None
    module = {"ppk2": ppk2, "joulescope": joulescope}[name]
    with pytest.raises(ToolchainError, match=rf"needs its library: No module named .*pip install 'trec_dse\[{name}\]'"):
        module.open("", volts)


def test_an_unknown_instrument_is_told_what_there_is() -> None:
    with pytest.raises(InputError, match="'scope'; choose from joulescope, ppk2, recorded"):
        open_instrument("scope", None)


# --- the PPK2's own faults ---


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ppk2_api", reason="the library of the PPK2 is not installed")
    monkeypatch.setattr(ppk2, "_BOOT_S", 0.0)
    monkeypatch.setattr(ppk2, "_PATIENCE_S", 0.2)


def test_it_lets_the_supply_through_as_an_ammeter(quick: None) -> None:
    with FakePpk2(RUN) as device:
        open_instrument(f"ppk2:{device.port}", VOLTS).close()
        end = time.monotonic() + 5
        while 0x0C not in device.commands and time.monotonic() < end:
            time.sleep(0.01)
    assert device.commands == [0x19, 0x0D, 0x11, 0x0C], "calibration, voltage, ammeter, switch"


@pytest.mark.parametrize("lost", [[1000], list(range(1000, 1063)), [3, 1000, 1001]])
def test_samples_that_were_lost_are_counted(lost: list[int], quick: None) -> None:
    with FakePpk2(RUN, lost=lost) as device:
        instrument = open_instrument(f"ppk2:{device.port}", VOLTS)
        instrument.start()
        with pytest.raises(MeterError, match=f"^{len(lost)} of {len(RUN) - len(lost)} samples were lost"):
            spent_in(instrument.stop(), SECONDS)
        instrument.close()


def test_a_whole_turn_of_the_counter_that_was_lost_shows_in_the_time(quick: None) -> None:
    with FakePpk2(RUN, lost=range(1000, 1000 + 3 * 64)) as device:
        instrument = open_instrument(f"ppk2:{device.port}", VOLTS)
        instrument.start()
        with pytest.raises(MeterError, match=r"high for 18.08 ms, but the board counted 20 ms"):
            spent_in(instrument.stop(), SECONDS)
        instrument.close()


def test_more_than_it_can_measure_is_no_number(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppk2, "_LIMIT_A", 0.04)
    with FakePpk2(RUN) as device:
        instrument = open_instrument(f"ppk2:{device.port}", VOLTS)
        instrument.start()
        with pytest.raises(MeterError, match="reaches the 40 mA that the instrument can measure"):
            spent_in(instrument.stop(), SECONDS)
        instrument.close()


def test_one_that_sends_nothing_is_named(quick: None) -> None:
    with FakePpk2([]) as device:
        instrument = open_instrument(f"ppk2:{device.port}", VOLTS)
        with pytest.raises(NoAnswerError, match="sends no samples"):
            instrument.start()
        instrument.close()
    assert device.commands.count(START) == 1


def test_what_is_no_ppk2_is_named(quick: None) -> None:
    with FakePpk2([], metadata="what?") as device, pytest.raises(NoAnswerError, match="did not tell the calibration"):
        open_instrument(f"ppk2:{device.port}", VOLTS)


@pytest.mark.parametrize("volts", [None, 0.5, 12.0])
def test_it_needs_to_be_told_the_voltage(volts: float | None) -> None:
    with pytest.raises(InputError, match=r"measures no voltage: say with --volts, 0.8 to 5"):
        open_instrument("ppk2:/dev/null", volts)


def test_a_port_that_is_missing_is_named(quick: None) -> None:
    with pytest.raises(PortError, match=r"/dev/ttyNOT: cannot be opened"):
        open_instrument("ppk2:/dev/ttyNOT", VOLTS)


@pytest.mark.parametrize(("ports", "chosen"), [(["/dev/b", "/dev/a"], "/dev/a"), (["/dev/a"], "/dev/a")])
def test_the_port_of_the_only_one_is_found(ports: list[str], chosen: str) -> None:
    assert ppk2._only_port(ports) == chosen


@pytest.mark.parametrize("ports", [[], ["/dev/a", "/dev/b", "/dev/c", "/dev/d"]])
def test_none_or_two_of_them_are_named(ports: list[str]) -> None:
    with pytest.raises(PortError, match="plug one in, or name its port as ppk2:/dev/ttyACM1"):
        ppk2._only_port(ports)


# --- the Joulescope's own faults ---


def test_samples_that_a_joulescope_lost_are_not_numbers_and_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    device = fake_joulescope([(np.nan if 1000 <= i < 1005 else ma, high) for i, (ma, high) in enumerate(RUN)])
    monkeypatch.setattr(joulescope, "library", lambda *_: library(device))
    instrument = open_instrument("joulescope", None)
    instrument.start()
    with pytest.raises(MeterError, match=r"^5 of \d+ samples were lost"):
        spent_in(instrument.stop(), SECONDS)


def test_an_inference_longer_than_its_buffer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    device = fake_joulescope(RUN)
    monkeypatch.setattr(joulescope, "library", lambda *_: library(device))
    instrument = open_instrument("joulescope", None)
    instrument.start()
    device.stream_buffer.oldest = FakeBuffer.origin + 1000
    with pytest.raises(MeterError, match="samples were lost"):
        spent_in(instrument.stop(), SECONDS)


def test_one_that_streams_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joulescope, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(FakeBuffer, "chunk", 0)
    monkeypatch.setattr(joulescope, "library", lambda *_: library(fake_joulescope(RUN)))
    with pytest.raises(NoAnswerError, match="joulescope JS220-001234 sends no samples"):
        open_instrument("joulescope", None).start()


def test_of_several_one_is_chosen_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = fake_joulescope(RUN), fake_joulescope(RUN)
    second.device_serial_number = "005678"
    monkeypatch.setattr(joulescope, "library", lambda *_: library(first, second))
    assert open_instrument("joulescope:005678", None).name == "joulescope JS220-005678"
    with pytest.raises(PortError, match=r"2 Joulescopes are connected \(JS220-001234, JS220-005678\)"):
        open_instrument("joulescope", None)
    with pytest.raises(PortError, match=r"0 Joulescopes with the serial number 9 are connected \(none\)"):
        open_instrument("joulescope:9", None)


def test_it_measures_the_voltage_itself() -> None:
    with pytest.raises(InputError, match="leave --volts out"):
        open_instrument("joulescope", 3.3)


def test_one_that_another_program_uses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: FakeDevice) -> None:
        raise RuntimeError("open failed")

    monkeypatch.setattr(FakeDevice, "open", busy)
    monkeypatch.setattr(joulescope, "library", lambda *_: library(fake_joulescope(RUN)))
    with pytest.raises(PortError, match="JS220-001234 cannot be opened: open failed; close the program"):
        open_instrument("joulescope", None)


def test_the_library_itself_has_what_is_used_of_it() -> None:
    real = pytest.importorskip("joulescope", reason="the library of the Joulescopes is not installed")
    from joulescope.v1.device import Device  # noqa: PLC0415
    from joulescope.v1.stream_buffer import StreamBuffer  # noqa: PLC0415

    assert callable(real.scan)
    for name in ("parameter_set", "open", "close", "start", "stop", "device_serial_number"):
        assert hasattr(Device, name)
    buffer = StreamBuffer(1, frequency=100_000, device="js220", output_frequency=100_000)
    for (field, index), data in {
        (1, 0): np.full(800, 0.04, np.float32),
        (2, 0): np.full(800, 2.0, np.float32),
        (3, 0): np.full(800, 0.08, np.float32),
        (4, 0): np.zeros(800, np.uint8),
        (5, 0): np.packbits(np.arange(800) >= 400, bitorder="little"),
        (5, 1): np.zeros(100, np.uint8),
    }.items():
        place = {"field_id": field, "index": index, "sample_id": 0, "sample_rate": 100_000, "decimate_factor": 1}
        buffer.insert("", {**place, "data": data})
    assert buffer.sample_id_range == (0, 800)
    signals = buffer.samples_get(100, 800, fields=list(joulescope._FIELDS))["signals"]
    assert [len(signals[name]["value"]) for name in joulescope._FIELDS] == [700] * 3
    assert int(signals["current_lsb"]["value"].sum()) == 400
