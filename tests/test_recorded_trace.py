"""Traces in files: columns by name and unit, inferences in their order, gaps counted, damage named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from trec_dse.errors import InputError, MeterError
from trec_dse.instruments import open_instrument
from trec_dse.instruments.recorded import RecordedInstrument
from trec_dse.metering import Instrument, spent_in

HEADINGS = "time_s,current_ma,voltage_v,marker"
# milliamperes and marker: three inferences of 60, 60 and 61 samples of 1 ms, at 10, 20 and 30 mA, idle 1 mA
RUNS = [(1, 0)] * 20 + [(10, 1)] * 60 + [(1, 0)] * 10 + [(20, 1)] * 60 + [(1, 0)] * 11 + [(30, 1)] * 61 + [(1, 0)] * 5


def rows(samples: Sequence[tuple[float, int]] = RUNS) -> list[str]:
    return [f"{i / 1000:.6f},{ma},3.0,{marker}" for i, (ma, marker) in enumerate(samples)]


def write(path: Path, lines: list[str], headings: str = HEADINGS) -> str:
    path.write_text("\n".join([headings, *lines]) + "\n", encoding="utf-8")
    return str(path)


def spent(instrument: Instrument, n: int) -> list[float]:
    """Millijoules of the next inferences, each of which the board counted 60 ms."""
    found = []
    for _ in range(n):
        instrument.start()
        found.append(1000 * spent_in(instrument.stop(), 0.060).joules)
    return found


def test_inferences_come_in_their_order_with_their_own_energy(tmp_path: Path) -> None:
    instrument = open_instrument(write(tmp_path / "t.csv", rows()), None)
    assert instrument.name == "t.csv" and not instrument.is_live
    # 60 ms x 10 mA x 3 V, 60 ms x 20 mA x 3 V, 61 ms x 30 mA x 3 V
    assert spent(instrument, 3) == pytest.approx([1.8, 3.6, 5.49])
    instrument.finish()
    instrument.close()


def test_the_time_between_two_inferences_is_shared_between_them(tmp_path: Path) -> None:
    instrument = open_instrument(write(tmp_path / "t.csv", rows()), None)
    lengths = [len(instrument.stop().marker) for _ in range(3)]
    assert lengths == [20 + 60 + 5, 5 + 60 + 5, 6 + 61 + 5]


def test_more_inferences_than_were_recorded_are_told(tmp_path: Path) -> None:
    instrument = open_instrument(write(tmp_path / "t.csv", rows()), None)
    spent(instrument, 3)
    with pytest.raises(MeterError, match=r"t.csv holds 3 inferences, and more were run"):
        spent(instrument, 1)


def test_fewer_inferences_than_were_recorded_are_told(tmp_path: Path) -> None:
    instrument = open_instrument(write(tmp_path / "t.csv", rows()), None)
    spent(instrument, 2)
    with pytest.raises(MeterError, match=r"t.csv holds 3 inferences, of which 2 were run; give --images"):
        instrument.finish()


@pytest.mark.parametrize(
    ("headings", "line"),
    [
        ("time_s,current_ma,voltage_v,marker", "{s},{ma},3.0,{high}"),
        ("Timestamp(ms),Current(uA),voltage [mV],D0", "{ms},{ua},3000,{high}"),
        ("marker,power,voltage_v,current_a,time (us)", "{high},99,3.0,{a},{us}"),
        ("time,current,voltage,gpi0", "{s},{a},3.0,{high}"),
        ("#time(s), current(µA), voltage(V), d0", "{s},{ua},3.0,{high}"),
    ],
)
def test_columns_are_found_by_name_and_read_in_their_unit(headings: str, line: str, tmp_path: Path) -> None:
    lines = [
        line.format(s=i / 1000, ms=i, us=1000 * i, ma=ma, a=ma / 1000, ua=1000 * ma, high=high)
        for i, (ma, high) in enumerate(RUNS)
    ]
    assert spent(open_instrument(write(tmp_path / "t.csv", lines, headings), None), 2) == pytest.approx([1.8, 3.6])


def test_a_voltage_that_was_not_recorded_is_given(tmp_path: Path) -> None:
    lines = [",".join(np.array(row.split(","))[[0, 1, 3]]) for row in rows()]
    path = write(tmp_path / "t.csv", lines, "time_s,current_ma,marker")
    assert spent(open_instrument(path, 1.5), 1) == pytest.approx([0.9])
    with pytest.raises(InputError, match="it has no voltage: give --volts"):
        open_instrument(path, None)
    with pytest.raises(InputError, match="it has the voltage already: leave --volts out"):
        open_instrument(write(tmp_path / "t.csv", rows()), 3.3)


def test_arrays_are_read_too(tmp_path: Path) -> None:
    ma, high = np.array(RUNS, float).T
    columns = {"time_ms": np.arange(len(ma)), "current_ma": ma, "voltage_v": np.full(len(ma), 3.0), "marker": high}
    np.savez(tmp_path / "t.npz", **columns)
    assert spent(open_instrument(str(tmp_path / "t.npz"), None), 3) == pytest.approx([1.8, 3.6, 5.49])
    np.savez(tmp_path / "t.npz", **{**columns, "marker": high[:-1]})
    with pytest.raises(InputError, match=r"must be of one length: time \(227,\), .*marker \(226,\)"):
        open_instrument(str(tmp_path / "t.npz"), None)


def test_a_sample_that_is_missing_spoils_its_inference_and_no_other(tmp_path: Path) -> None:
    lines = rows()
    del lines[100:103]  # within the second
    instrument = open_instrument(write(tmp_path / "t.csv", lines), None)
    assert spent(instrument, 1) == pytest.approx([1.8])
    with pytest.raises(MeterError, match=r"^3 of \d+ samples were lost"):
        spent(instrument, 1)
    assert spent(instrument, 1) == pytest.approx([5.49])


def test_rounded_times_are_no_gaps(tmp_path: Path) -> None:
    # 1.04 ms apart, written with two digits behind the point
    lines = [f"{1.04 * i:.2f},{ma},3.0,{high}" for i, (ma, high) in enumerate(RUNS)]
    instrument = open_instrument(write(tmp_path / "t.csv", lines, "time_ms,current_ma,voltage_v,marker"), None)
    assert spent(instrument, 2) == pytest.approx([1.8 * 1.04, 3.6 * 1.04])


def test_a_file_that_ends_within_an_inference_is_named(tmp_path: Path) -> None:
    instrument = open_instrument(write(tmp_path / "t.csv", rows()[:-20]), None)
    spent(instrument, 2)
    with pytest.raises(MeterError, match="the record ends within an inference"):
        spent(instrument, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it holds no samples"),
        ("time_s,current_a,marker\n", "it holds no samples"),
        ("time_s,current_a,marker\n0,1\n", "3 headings above 2 columns"),
        ("time_s,current_a,marker\n0,one,0\n", "not a table of numbers"),
        ("time_s,current_a\n0,1\n1,1\n", "no column marker; it has time, current"),
        ("time_h,current_a,marker\n0,1,0\n", "column 'time_h' is given twice or has an unknown unit"),
        ("time_s,time_ms,current_a,marker\n0,0,1,0\n", "column 'time_ms' is given twice"),
        ("time_s,current_a,marker\n0,1,0\n1,1,0\n1,1,0\n", "time does not go on at sample 3"),
        ("time_s,current_a,marker\n0,1,0\nnan,1,0\n2,1,0\n", "time does not go on at sample 2"),
        ("time_s,current_a,marker\n0,1,0\n", "time does not go on at sample 1"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        open_instrument(str(tmp_path / "t.csv"), 3.0)


def test_a_file_that_is_missing_or_no_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a table of numbers below one line of headings"):
        open_instrument(str(tmp_path / "none.csv"), None)
    (tmp_path / "t.npz").write_bytes(b"PK and no more")
    with pytest.raises(InputError, match="not an NPZ file of numbers"):
        open_instrument(str(tmp_path / "t.npz"), None)


def test_a_trace_without_any_marker_is_one_piece(tmp_path: Path) -> None:
    instrument = open_instrument(write(tmp_path / "t.csv", rows([(1, 0)] * 30)), None)
    assert isinstance(instrument, RecordedInstrument)
    with pytest.raises(MeterError, match="the marker was never high"):
        spent(instrument, 1)
