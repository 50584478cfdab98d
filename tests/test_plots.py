"""What the pictures show, read from their data; nobody tests pixels."""

from dataclasses import replace

import pytest
from studies import BUFFERS, KIB, make_cost, make_evaluation, make_study, make_trials, measured

from trec_dse import objectives
from trec_dse.candidate import QuantizationRecipe
from trec_dse.errors import InputError
from trec_dse.plots import (
    agreement_data,
    arena_data,
    board_limit,
    cycles_data,
    epochs_spent,
    flash_data,
    front_data,
    hypervolume_data,
    parallel_data,
    plot_agreement,
    plot_arena,
    plot_front,
    plot_hypervolume,
    plot_parallel,
    plot_parts,
)
from trec_dse.results import TrialRecord

STUDY = make_study()


def kinds(x: objectives.Objective, y: objectives.Objective) -> dict[int, str]:
    return {point.number: point.kind for point in front_data(STUDY, x, y).points}


def test_each_evaluated_trial_is_on_the_front_dominated_or_infeasible() -> None:
    # trial 6 is trial 1 measured and stands for both; 7 was never trained, 9 failed, 10 runs
    assert kinds(objectives.sram, objectives.error) == {
        0: "front", 1: "dominated", 2: "front", 3: "front", 4: "dominated",
        5: "dominated", 6: "front", 8: "infeasible", 11: "dominated",
    }  # fmt: skip


def test_a_trial_without_a_value_is_counted_but_not_drawn() -> None:
    assert front_data(STUDY).n_unknown == 1
    # its sizes are known, so it appears where no accuracy is asked for
    assert kinds(objectives.sram, objectives.flash)[7] == "infeasible"


def test_the_front_line_runs_through_the_front_by_x() -> None:
    line = front_data(STUDY).line
    assert [x for x, _ in line] == [8.0, 12.0, 24.0, 48.0]
    assert [y for _, y in line] == pytest.approx([10.0, 4.0, 2.0, 1.0])


def test_memory_axes_carry_the_limit_of_the_board() -> None:
    data = front_data(STUDY, objectives.sram, objectives.flash)
    assert (data.x_limit, data.y_limit) == (64.0, 256.0)
    assert board_limit(objectives.latency, STUDY.target) is None


def test_estimate_and_measurement_stand_side_by_side() -> None:
    point = next(point for point in front_data(STUDY).points if point.number == 3)
    assert (point.x, point.x_measured) == (48.0, 48.5)
    assert point.y_measured is None  # a firmware sees other images than the validation split


def test_error_bars_reach_from_the_estimate_to_the_measurement() -> None:
    figure = plot_front(front_data(STUDY, objectives.latency, objectives.error))
    trace = next(trace for trace in figure.data if trace.name == "front")
    shift = dict(zip(trace.customdata, trace.error_x.array, strict=True))
    assert shift[6] == pytest.approx(0.6)  # 12.0 ms estimated, 12.6 measured
    assert max(trace.error_x.arrayminus) == 0.0


def test_many_points_are_drawn_by_webgl() -> None:
    few, many = make_study(), make_study(
        tuple(TrialRecord(i, "complete", {}, make_evaluation(5.0, 8.0 + i / 100)) for i in range(1001))
    )  # fmt: skip
    assert plot_front(front_data(few)).data[-1].type == "scatter"
    assert plot_front(front_data(many)).data[-1].type == "scattergl"


def test_the_dominated_share_grows_to_what_the_front_covers() -> None:
    # ideal (1, 8), worst (12, 48): scaled boxes to 1.1, so trial 0 at (9/11, 0) covers (1.1 - 9/11) x 1.1 of 1.21
    data = hypervolume_data(STUDY, (objectives.error, objectives.sram))
    assert data.numbers == (0, 1, 2, 3, 4, 5, 6, 11)
    assert data.ideal == pytest.approx((1.0, 8.0))
    assert data.reference == pytest.approx((12.0, 48.0))
    assert data.shares[0] == pytest.approx((1.1 - 9 / 11) / 1.1)
    # trial 1 at (3/11, 0.1) adds (9/11 - 3/11) x (1.1 - 0.1)
    assert data.shares[1] == pytest.approx(((1.1 - 9 / 11) * 1.1 + 6 / 11) / 1.21)
    assert data.shares[-1] == data.shares[3]  # nothing after trial 3 adds anything


def test_epochs_count_once_per_trained_network() -> None:
    # 10 dense epochs, 2 after pruning, 3 with TREC; trial 6 is trial 1 again, 7 was never trained, 9 failed, 10 runs
    assert epochs_spent(STUDY.trials) == {0: 15, 1: 15, 2: 15, 3: 15, 4: 15, 5: 15, 6: 0, 7: 0, 8: 15, 11: 15}
    whole = make_evaluation(5.0, 8.0)
    recipe = replace(whole.candidate.recipe, quantization=QuantizationRecipe(qat_epochs=4))
    whole = replace(whole, candidate=replace(whole.candidate, pruning={}, recipe=recipe))
    assert epochs_spent([TrialRecord(0, "complete", {}, whole)]) == {0: 10 + 3 + 4}


def test_progress_is_known_over_trials_and_over_epochs() -> None:
    data = hypervolume_data(STUDY, (objectives.error, objectives.sram))
    # the infeasible trial 8 has been trained too, before trial 11
    assert data.epochs == (15, 30, 45, 60, 75, 90, 90, 120)
    assert plot_hypervolume(data, over_epochs=True).data[0].x == data.epochs


def test_the_share_of_a_single_trial_is_everything() -> None:
    assert hypervolume_data(make_study(make_trials()[:1])).shares == pytest.approx((1.0,))


def test_a_study_in_which_nothing_fits_has_no_progress() -> None:
    assert hypervolume_data(make_study(make_trials()[7:11])).numbers == ()


def test_parallel_coordinates_have_parameters_first_and_then_objectives() -> None:
    data = parallel_data(STUDY, (objectives.error, objectives.sram))
    assert data.columns == ("hash_bits", "slice_policy", "pruning", "Error (pp)", "SRAM (KiB)")
    assert data.rows[0][:3] == (1, "whole", 0.7)
    assert [n for n, kept in zip(data.numbers, data.on_front, strict=True) if kept] == [0, 2, 3, 6]


def test_a_parameter_that_some_trials_lack_is_none_there() -> None:
    records = (
        TrialRecord(0, "complete", {"a": 1}, make_evaluation(5.0, 8.0)),
        TrialRecord(1, "complete", {"b": True}, make_evaluation(4.0, 9.0)),
    )
    data = parallel_data(make_study(records), (objectives.error,))
    assert [row[:2] for row in data.rows] == [(1, None), (None, True)]
    ticks = plot_parallel(data).data[0].dimensions[1].ticktext
    assert ticks == ("True", "–")


def test_agreement_is_the_largest_relative_distance_from_the_measurement() -> None:
    # trial 3: 40 ms estimated, 44 measured; trial 6: 12 estimated, 12.6 measured
    data = agreement_data(STUDY, objectives.latency)
    assert data.numbers == (3, 6)
    assert data.worst_error == pytest.approx(4 / 44)


def test_agreement_of_what_nothing_measures_is_refused() -> None:
    with pytest.raises(InputError, match="macs is never measured; choose one of sram, flash"):
        agreement_data(STUDY, objectives.macs)


def test_agreement_without_measurements_is_empty() -> None:
    data = agreement_data(make_study(make_trials()[:1]), objectives.sram)
    assert (data.numbers, data.worst_error) == ((), 0.0)


def test_the_arena_has_a_step_per_layer() -> None:
    data = arena_data(make_cost(12.0, 60.0, 8.0))
    assert data.steps == ("conv1", "pool1", "conv2", "fc")
    assert data.buffers == BUFFERS


def test_a_buffer_is_a_rectangle_from_its_first_to_its_last_step() -> None:
    figure = plot_arena(arena_data(make_cost(12.0, 60.0, 8.0)))
    bars = next(trace for trace in figure.data if trace.name == "activation")
    i = bars.text.index("conv1")  # 3456 bytes at 1296, steps 0 to 1
    assert (bars.x[i], bars.base[i], bars.y[i]) == (0.5, 1296 / 1024, 3456 / 1024)
    assert bars.width[i] == pytest.approx(1.94)


def test_flash_by_part_adds_up_to_all_of_it() -> None:
    cost = make_cost(12.0, 60.0, 8.0)
    parts = {part.name: part.value for part in flash_data(cost)}
    # 2 KiB + 64 B + 12 KiB + 11 KiB of layers in 50 KiB of weights leave 25 KiB - 64 B
    assert parts["other tables"] == 25 * KIB - 64
    assert parts["code and runtime"] == 10 * KIB
    assert sum(parts.values()) == cost.flash_bytes


def test_cycles_are_listed_by_layer() -> None:
    parts = cycles_data(make_cost(12.0, 60.0, 8.0))
    assert [(part.name, part.value) for part in parts][:2] == [("conv1", 400_000), ("pool1", 40_000)]


def test_every_figure_can_be_drawn() -> None:
    cost = measured(make_evaluation(4.0, 12.0), 12.0, 60.0, 8.0).estimated
    figures = (
        plot_hypervolume(hypervolume_data(STUDY)),
        plot_parallel(parallel_data(STUDY)),
        plot_agreement(agreement_data(STUDY)),
        plot_parts(flash_data(cost), "bytes"),
        plot_parts(cycles_data(cost), "cycles"),
    )
    assert all(len(figure.data) >= 1 for figure in figures)
