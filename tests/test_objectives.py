"""Objectives read estimates, and measurements stand beside them."""

import math
from dataclasses import replace

import pytest
from studies import make_evaluation, measured

from trec_dse import objectives
from trec_dse.errors import InputError


def test_error_is_the_share_of_wrong_int8_answers_in_percentage_points() -> None:
    assert objectives.error.value(make_evaluation(4.0, 12.0)) == pytest.approx(4.0)


def test_the_error_of_an_untrained_candidate_is_not_a_number_rather_than_a_guess() -> None:
    assert math.isnan(objectives.error.value(make_evaluation(None, 96.0)))


def test_sizes_are_counted_in_kib_and_times_in_ms() -> None:
    evaluation = make_evaluation(4.0, sram_kib=12.0, flash_kib=60.0, latency_ms=8.0)
    assert objectives.sram.value(evaluation) == 12.0
    assert objectives.flash.value(evaluation) == 60.0
    assert objectives.latency.value(evaluation) == 8.0
    assert objectives.worst_latency.value(evaluation) == 16.0
    assert objectives.median_latency.value(evaluation) == objectives.p99_latency.value(evaluation) == 8.0
    assert objectives.macs.value(evaluation) == pytest.approx(0.15664)


def test_a_measurement_never_changes_the_value_a_search_sees() -> None:
    evaluation = make_evaluation(4.0, 12.0, 60.0, 8.0)
    reading = measured(evaluation, sram_kib=13.0, flash_kib=61.0, latency_ms=9.0)
    for name in objectives.names():
        assert objectives.get(name).value(reading) == objectives.get(name).value(evaluation)


def test_what_the_firmware_showed_stands_beside_the_estimate() -> None:
    reading = measured(make_evaluation(4.0, 12.0, 60.0, 8.0), sram_kib=13.0, flash_kib=61.0, latency_ms=9.0)
    assert objectives.sram.measured(reading) == 13.0
    assert objectives.flash.measured(reading) == 61.0
    assert objectives.latency.measured(reading) == 9.0
    assert objectives.worst_latency.measured(reading) == 9.5  # 50,000 cycles more at 100 MHz


def test_latencies_of_half_and_of_99_in_100_images_are_those_of_their_cycles() -> None:
    evaluation = make_evaluation(4.0, 12.0, latency_ms=8.0)
    spread = replace(evaluation, estimated=replace(evaluation.estimated, p50_cycles=790_000, p99_cycles=1_200_000))
    assert objectives.median_latency.value(spread) == pytest.approx(7.9)  # at 100 MHz
    assert objectives.p99_latency.value(spread) == pytest.approx(12.0)
    reading = measured(spread, 12.0, 60.0, latency_ms=9.0)
    assert objectives.median_latency.measured(reading) == pytest.approx(8.9)
    assert objectives.p99_latency.measured(reading) == pytest.approx(9.3)
    assert reading.measured is not None
    older = replace(reading, measured=replace(reading.measured, cycles_p50=None, cycles_p99=None))
    assert objectives.p99_latency.measured(older) is None


def test_an_unmeasured_candidate_has_no_measured_value() -> None:
    assert objectives.sram.measured(make_evaluation(4.0, 12.0)) is None


def test_no_firmware_can_measure_macs_or_the_error_on_the_validation_split() -> None:
    reading = measured(make_evaluation(4.0, 12.0), 12.0, 60.0, 8.0)
    assert objectives.macs.measured(reading) is None
    assert objectives.error.measured(reading) is None


def test_a_maximized_objective_has_a_negative_loss() -> None:
    accuracy = objectives.Objective("a", "maximize", "A", "%", lambda e: 100 * (e.int8_accuracy or 0), None, "A.")
    assert accuracy.loss(make_evaluation(4.0, 12.0)) == pytest.approx(-96.0)


def test_an_unknown_objective_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(InputError, match=r"no objective named 'ram'; choose from error, sram, flash"):
        objectives.get("ram")


def test_objectives_are_selected_by_name_in_the_order_asked_for() -> None:
    assert [o.name for o in objectives.select(["latency", "error"])] == ["latency", "error"]


def test_an_objective_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'sram' is given twice"):
        objectives.select(["sram", "error", "sram"])
