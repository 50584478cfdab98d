"""Learning what work costs: one measurement moves little, many exact ones are followed, an outlier is not."""

import numpy as np
import pytest

from trec_dse.errors import TargetError
from trec_dse.graph import Work
from trec_dse.latency_fit import Sample, errors_of, held_out_errors, predict, refit

PRIOR = {"mac": 2.0, "output": 10.0, "other": 5.0}


def sample(macs: float, outputs: float, cycles: float, group: str = "a", label: str = "conv2d") -> Sample:
    return Sample((Work("mac", macs), Work("output", outputs)), cycles, group, label)


def costing(mac: float, output: float, n: int = 40) -> list[Sample]:
    """Samples without noise, a network each."""
    random = np.random.default_rng(0)
    amounts = random.uniform(10, 1000, (n, 2)).tolist()
    return [sample(a, b, mac * a + output * b, group=str(i)) for i, (a, b) in enumerate(amounts)]


def test_without_measurements_the_file_is_believed() -> None:
    assert refit(PRIOR, []) == PRIOR


def test_one_measurement_of_twice_the_cycles_moves_all_costs_by_two_to_the_four_fifths_at_least() -> None:
    # 100 macs and 10 outputs: 300 cycles by the file. One network says 4/5 of the truth about the board as a whole:
    # its variance is 0.05^2, that of boards 0.1^2. What it exercised may move further, what it did not may not.
    costs = refit(PRIOR, [sample(100, 10, 600.0)])
    assert costs["other"] == pytest.approx(5.0 * 2**0.8)
    assert 2.0 * 2**0.8 < costs["mac"] < 4.1
    assert costs["mac"] * 100 + costs["output"] * 10 == pytest.approx(600, rel=0.01)


def test_many_exact_measurements_are_followed() -> None:
    costs = refit(PRIOR, costing(3.0, 4.0))
    assert costs["mac"] == pytest.approx(3.0, rel=0.01)
    assert costs["output"] == pytest.approx(4.0, rel=0.02)


def test_an_outlier_is_not_followed() -> None:
    wild = sample(500, 500, 100_000.0, group="wild")
    without, including = refit(PRIOR, costing(3.0, 4.0)), refit(PRIOR, [*costing(3.0, 4.0), wild])
    for kind in ("mac", "output"):
        assert including[kind] == pytest.approx(without[kind], rel=0.01)


def test_no_work_gives_cycles_back() -> None:
    # fewer cycles for more outputs: a line through these would slope downwards
    samples = [sample(100, 10 * i, 400.0 - 10 * i, group=str(i)) for i in range(1, 30)]
    assert min(refit(PRIOR, samples).values()) >= 0


def test_work_without_a_cost_is_named() -> None:
    with pytest.raises(TargetError, match=r"no gather"):
        refit(PRIOR, [Sample((Work("gather", 1.0),), 10.0, "a")])


def test_cycles_are_work_times_cost() -> None:
    assert predict(PRIOR, [sample(3, 1, 1.0), sample(0, 2, 1.0)]).tolist() == [16.0, 20.0]


def test_errors_are_relative_to_what_was_measured() -> None:
    errors = errors_of(np.array([109.0, 95.0, 100.0, 120.0]), np.array([100.0] * 4))
    assert errors.n == 4
    assert (errors.mean, errors.bias) == pytest.approx((8.5, 6.0))
    assert errors.largest == pytest.approx(20.0)
    assert errors.within_10 == 0.75
    # sizes in order are 0, 5, 9, 20: 95 % of the way along three gaps is 0.85 into the last
    assert errors.p95 == pytest.approx(18.35)


def test_ranks_agree_in_order_and_disagree_in_reverse() -> None:
    up, squares = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 4.0, 9.0, 16.0])
    assert errors_of(squares, up).rank == pytest.approx(1.0)
    assert errors_of(squares[::-1], up).rank == pytest.approx(-1.0)
    # ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    assert errors_of(np.array([2.0, 2.0, 3.0, 9.0]), up).rank == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert errors_of(np.array([7.0]), np.array([8.0])).rank == 1.0


def test_every_network_is_predicted_from_the_others_alone() -> None:
    # all networks follow the file, but for one that takes twice its cycles: what is fitted without it is off by half
    samples = [*costing(2.0, 10.0, 12), sample(100, 100, 2400.0, group="slow", label="odd")]
    errors = held_out_errors(PRIOR, samples)
    assert errors["odd"].bias == pytest.approx(-50.0, abs=1.0)
    assert errors["conv2d"].mean < 1.0
    assert (errors["odd"].n, errors[""].n) == (1, 13)
