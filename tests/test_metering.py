"""Energy of marked samples, computed by hand; and every fault that could make it wrong has a name."""

from dataclasses import replace

import numpy as np
import pytest

from trec_dse.device import Inference, Int8Array
from trec_dse.errors import MeterError
from trec_dse.executors.metering import MeteringExecutor
from trec_dse.metering import Spent, Trace, spent_in, summary, windows

STEP_S = 1e-4


def trace(*parts: tuple[int, float, bool]) -> Trace:
    """Parts of so many samples, at so many milliamperes and 2 V, with the marker high or low."""
    amperes = np.concatenate([np.full(n, ma / 1000) for n, ma, _ in parts])
    marker = np.concatenate([np.full(n, high) for n, _, high in parts])
    return Trace(STEP_S, amperes, np.full_like(amperes, 2.0), marker, limit_a=1.0)


GOOD = trace((30, 10, False), (100, 40, True), (20, 10, False))


def test_a_hundred_samples_of_40_mA_at_2_V_are_eight_tenths_of_a_millijoule() -> None:
    spent = spent_in(GOOD, 0.01)
    assert spent.joules == pytest.approx(100 * 1e-4 * 0.040 * 2.0)  # 0.0008
    assert spent.seconds == pytest.approx(0.01)
    assert (spent.amperes, spent.volts, spent.idle_amperes) == pytest.approx((0.040, 2.0, 0.010))


def test_each_sample_is_a_rectangle_and_nothing_outside_the_marker_counts() -> None:
    # 60 samples whose current climbs from 1 to 60 mA: their sum is 1830 mA; a trapezoid would take in the idle 500 mA
    amperes = np.concatenate([np.full(5, 0.5), np.arange(1, 61) / 1000, np.full(5, 0.5)])
    marker = np.concatenate([np.full(5, False), np.full(60, True), np.full(5, False)])
    spent = spent_in(Trace(STEP_S, amperes, np.full(70, 3.0), marker), 60 * STEP_S)
    assert spent.joules == pytest.approx(1.830 * 3.0 * STEP_S)


def test_volts_that_change_are_multiplied_sample_by_sample() -> None:
    good = trace((10, 0, False), (100, 0, True), (10, 0, False))
    ramp = np.linspace(1, 2, 120)
    both = replace(good, amperes=ramp, volts=ramp, limit_a=10.0)
    assert spent_in(both, 0.01).joules == pytest.approx(float((ramp[10:110] ** 2).sum()) * STEP_S)


def test_an_inference_that_was_asked_for_twice_counts_as_the_mean_of_both() -> None:
    twice = trace((9, 10, False), (100, 40, True), (9, 10, False), (100, 60, True), (9, 10, False))
    spent = spent_in(twice, 0.01)
    assert spent.joules == pytest.approx((0.0008 + 0.0012) / 2)
    assert spent.idle_amperes == pytest.approx(0.010)


def test_windows_are_first_and_behind() -> None:
    assert windows(np.array([0, 1, 1, 0, 1], np.bool_)) == [(1, 3), (4, 5)]
    assert windows(np.zeros(4, np.bool_)) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (trace((0, 10, False)), "recorded nothing"),
        (trace((150, 40, False)), "the marker was never high; lead the board's marker pin"),
        (trace((30, 10, False), (100, 40, True)), "the record ends within an inference"),
        (trace((100, 40, True), (30, 10, False)), "the record starts within an inference"),
        (replace(GOOD, n_lost=3), "3 of 150 samples were lost"),
        (replace(GOOD, amperes=np.where(np.arange(150) == 40, np.nan, GOOD.amperes)), "1 of 150 samples were lost"),
        (replace(GOOD, volts=np.where(np.arange(150) < 2, np.nan, 2.0)), "2 of 150 samples were lost"),
        (replace(GOOD, amperes=np.where(np.arange(150) == 40, 1.0, GOOD.amperes)), "reaches the 1000 mA that"),
        (replace(GOOD, amperes=np.where(np.arange(150) == 2, -1.2, GOOD.amperes)), "reaches the 1000 mA that"),
        (trace((9, 1, False), (90, 4, True), (9, 1, False)), "high for 9 ms, but the board counted 10 ms"),
        (trace((9, 1, False), (110, 4, True), (9, 1, False)), "high for 11 ms, but the board counted 10 ms"),
        (trace((9, 1, False), (1, 4, True), (9, 1, False), (100, 4, True), (9, 1, False)), "high for 0.1 ms, but"),
    ],
)
def test_what_could_be_wrong_is_no_number(wrong: Trace, message: str) -> None:
    with pytest.raises(MeterError, match=message):
        spent_in(wrong, 0.01)


def test_an_inference_of_few_samples_needs_a_faster_instrument() -> None:
    short = trace((9, 1, False), (49, 4, True), (9, 1, False))
    with pytest.raises(MeterError, match=r"of 4.9 ms is 49 samples; 50 are the least"):
        spent_in(short, 0.0049)
    assert spent_in(trace((9, 1, False), (50, 4, True), (9, 1, False)), 0.005).joules > 0


def test_an_oscillator_that_is_off_by_three_per_cent_is_no_fault() -> None:
    assert spent_in(GOOD, 0.0103).joules == spent_in(GOOD, 0.01).joules


def test_means_and_extremes_of_several_inferences() -> None:
    found = summary("a meter", [Spent(0.001, 0.01, 0.04, 2.0, 0.01), Spent(0.003, 0.01, 0.06, 2.2, 0.03)])
    assert (found.instrument, found.n_inferences) == ("a meter", 2)
    assert (found.mj, found.mj_least, found.mj_most) == pytest.approx((2.0, 1.0, 3.0))
    assert (found.run_ma, found.idle_ma, found.volts) == pytest.approx((50.0, 20.0, 2.1))


def test_no_inference_is_no_energy() -> None:
    with pytest.raises(MeterError, match="a meter saw no inference"):
        summary("a meter", [])


class Device:
    """Takes 10,000 cycles for whatever it is asked."""

    name = "fake"
    is_open = True

    def infer(self, image: Int8Array) -> Inference:
        return Inference(image, 10_000, 64, ())

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False


class Meter:
    """Plays back traces, and notes what it is asked."""

    name, is_live = "fake meter", True

    def __init__(self, *traces: Trace, problem: str = "") -> None:
        self._traces, self._problem = list(traces), problem
        self.asked: list[str] = []

    def start(self) -> None:
        self.asked.append("start")

    def stop(self) -> Trace:
        self.asked.append("stop")
        return self._traces.pop(0)

    def finish(self) -> None:
        if self._problem:
            raise MeterError(self._problem)

    def close(self) -> None:
        self.asked.append("close")


IMAGE: Int8Array = np.arange(4, dtype=np.int8)


def test_an_instrument_is_asked_around_every_inference() -> None:
    device, meter = Device(), Meter(GOOD, replace(GOOD, amperes=2 * GOOD.amperes))
    with MeteringExecutor(device, meter, clock_hz=1_000_000) as executor:
        assert [executor.infer(IMAGE).cycles for _ in range(2)] == [10_000, 10_000]
        found = executor.energy()
    assert meter.asked == ["start", "stop", "start", "stop"] and not device.is_open
    assert found.n_inferences == 2
    assert (found.mj_least, found.mj_most) == pytest.approx((0.8, 1.6))


def test_the_boards_clock_says_how_long_the_marker_must_be_high() -> None:
    executor = MeteringExecutor(Device(), Meter(GOOD), clock_hz=2_000_000)
    with pytest.raises(MeterError, match="high for 10 ms, but the board counted 5 ms"):
        executor.infer(IMAGE)


def test_what_the_instrument_holds_beyond_what_was_run_is_told() -> None:
    executor = MeteringExecutor(Device(), Meter(GOOD, problem="two too many"), clock_hz=1_000_000)
    executor.infer(IMAGE)
    with pytest.raises(MeterError, match="two too many"):
        executor.energy()
