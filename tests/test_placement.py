"""Tables that start-up copies out of Flash: what is chosen, where the linker puts it, that answers stay the same."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from trec_dse import datasets
from trec_dse.calibrate import linked
from trec_dse.calibration import context_of
from trec_dse.candidate import Candidate
from trec_dse.cli.output import placed_text
from trec_dse.codegen import generate
from trec_dse.cost import estimate
from trec_dse.designed import smooth_image
from trec_dse.errors import TargetError
from trec_dse.evaluate import cost_of, placement_of, untrained_graph
from trec_dse.executors import twin
from trec_dse.export_files import linker_script, placement_header, readme
from trec_dse.export_projects import single_header
from trec_dse.footprint import footprint_for
from trec_dse.graph import Window
from trec_dse.measure import export
from trec_dse.memory import plan_memory
from trec_dse.ops._work import lines_read
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.placement import Placement, knapsack, place
from trec_dse.profiling import profile_network
from trec_dse.resources import data_folder
from trec_dse.results import Evaluation, PlacedCost
from trec_dse.target import Calibration, Region, Target, load_target
from trec_dse.toolchain import find_target_compiler
from trec_dse.twin.waits import in_front_of_flash

CANDIDATE = Candidate("digits", "tiny", {"width": 8, "depth": 2})
GRAPH = untrained_graph(CANDIDATE, datasets.placeholder("digits"))
# kernels (two at a time, of pairs), then a bias and a factor for every output
TABLES = {"conv1": 8 * 10 + 8 * 8, "conv2": 8 * 72 + 8 * 8, "fc1": 10 * 128 + 2 * 40}


def board(name: str, region: str = "auto") -> Target:
    return replace(load_target(data_folder("targets") / f"{name}.toml"), place=region)


F469, F303 = board("stm32f469i-disco"), board("nucleo-f303re")


def test_a_knapsack_takes_what_gains_most_together() -> None:
    # 6 gains most for itself, 3 and 4 gain more together
    assert knapsack([6, 3, 4], [10.0, 6.0, 6.0], 7) == [1, 2]
    assert knapsack([6, 3, 4], [10.0, 6.0, 6.0], 6) == [0]
    assert knapsack([6, 3, 4], [10.0, 6.0, 6.0], 2) == []
    assert knapsack([6, 3, 4], [10.0, 6.0, 6.0], 13) == [0, 1, 2]
    assert knapsack([], [], 5) == []


def test_of_equal_gains_the_earlier_layer_is_taken() -> None:
    assert knapsack([4, 4], [1.0, 1.0], 4) == [0]


def test_a_knapsack_is_never_worse_than_any_other_choice() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        n, room = int(rng.integers(1, 8)), int(rng.integers(0, 40))
        sizes, gains = rng.integers(1, 15, n).tolist(), rng.uniform(1, 9, n).tolist()
        subsets = (each for k in range(n + 1) for each in combinations(range(n), k))
        best = max(sum(gains[i] for i in each) for each in subsets if sum(sizes[i] for i in each) <= room)
        chosen = knapsack(sizes, gains, room)
        assert sum(sizes[i] for i in chosen) <= room
        assert sum(gains[i] for i in chosen) == pytest.approx(best)


def test_auto_is_the_largest_ram_beside_the_linked_one() -> None:
    found = {name: board(name).placed_region for name in ("nucleo-f303re", "nucleo-f746zg", "nucleo-h743zi")}
    assert {name: region.name for name, region in found.items() if region} == {
        "nucleo-f303re": "CCM",
        "nucleo-f746zg": "ITCM",
        "nucleo-h743zi": "DTCM",
    }
    assert board("nucleo-h743zi", "ITCM").placed_region == Region("ITCM", "ram", 0, 0x1_0000)
    assert board("nucleo-h743zi", "none").placed_region is None


def test_a_region_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(TargetError, match="nucleo-g0b1re: no RAM beside SRAM to place tables in; it has SRAM"):
        cost_of(GRAPH, board("nucleo-g0b1re"))
    with pytest.raises(TargetError, match="no RAM named 'DTCM' to place tables in; it has SRAM, CCM"):
        cost_of(GRAPH, board("stm32f469i-disco", "DTCM"))
    with pytest.raises(TargetError, match="no RAM named 'FLASH'"):
        cost_of(GRAPH, board("stm32f469i-disco", "FLASH"))


@pytest.mark.parametrize("name", ["nucleo-f746zg", "nucleo-h743zi"])
def test_ram_behind_the_cache_is_refused(name: str) -> None:
    with pytest.raises(TargetError, match=r"in SRAM come through the same cache .*--place auto"):
        cost_of(GRAPH, board(name, "SRAM"))


def test_no_object_lies_at_address_0() -> None:
    assert (Region("ITCM", "ram", 0, 0x4000).first, Region("ITCM", "ram", 0, 0x4000).room) == (32, 0x4000 - 32)
    assert (Region("CCM", "ram", 0x1000_0000, 64).first, Region("CCM", "ram", 0x1000_0000, 64).room) == (1 << 28, 64)
    assert "ITCM (rw) : ORIGIN = 0x00000020, LENGTH = 0x3fe0" in linker_script(board("nucleo-f746zg"))


def test_a_convolution_reads_its_kernels_once_for_four_positions() -> None:
    # 16 positions, K = 4 * 2 = 8, M = 4: 16 * 8 * 4 / 4 bytes of kernels and 16 * 4 * 8 / 4 of the rest
    op = Conv2d(4, Window((2, 2)))
    assert lines_read(op, [(5, 5, 2)], line_bytes=16, n_lines=8) == (128 + 128) / 16


def test_a_dense_layer_reads_four_rows_by_turns() -> None:
    # 16 inputs, 4 outputs: 4 blocks of four words, 32 bytes of the rest
    assert lines_read(Dense(4), [(16,)], line_bytes=16, n_lines=8) == (64 + 32) / 16
    assert lines_read(Dense(4), [(16,)], line_bytes=8, n_lines=1) == 16 + 8, "each word is a line of its own"


def test_a_pooling_has_no_tables_to_place() -> None:
    assert lines_read(MaxPool2d(Window((2, 2))), [(4, 4, 2)], line_bytes=16, n_lines=8) is None


def test_whole_layers_are_placed_and_what_has_no_room_stays() -> None:
    everything = place(GRAPH, F469, 0)
    assert (everything.region, everything.room) == ("CCM", 0x1_0000)
    assert dict(everything.tables) == TABLES
    narrow = replace(F469, regions=tuple(replace(r, size=700) if r.name == "CCM" else r for r in F469.regions))
    assert list(place(GRAPH, narrow, 0).tables) == ["conv2"], "its kernels are read 16 times"
    tiny = replace(F469, regions=tuple(replace(r, size=64) if r.name == "CCM" else r for r in F469.regions))
    assert place(GRAPH, tiny, 0) == Placement("CCM", 64)
    assert "no layer's tables fit, all stay in Flash" in placed_text(PlacedCost("CCM", 64, 0, (), 0))


def test_the_board_s_own_sram_is_taken_behind_everything_else() -> None:
    own, plain = board("stm32f469i-disco", "SRAM"), board("stm32f469i-disco", "none")
    before, cost = cost_of(GRAPH, plain), cost_of(GRAPH, own)
    assert cost.placed is not None
    assert cost.placed.room == pytest.approx(own.sram_bytes - before.sram_bytes, abs=8)
    assert cost.sram_bytes == before.sram_bytes + sum(TABLES.values())
    full = place(GRAPH, own, own.sram_bytes - 200)
    assert list(full.tables) == ["conv1"], "144 of 200 bytes"


def test_what_is_saved_is_taken_off_the_layers_that_are_placed() -> None:
    before, cost = cost_of(GRAPH, replace(F469, place="none")), cost_of(GRAPH, F469)
    assert before.placed is None
    assert cost.placed is not None
    less = {
        a.name: a.cycles - b.cycles for a, b in zip(before.layers, cost.layers, strict=True) if a.cycles != b.cycles
    }
    assert set(less) == set(cost.placed.layers) == set(TABLES)
    assert sum(less.values()) == before.cycles - cost.cycles == pytest.approx(cost.placed.saved_cycles, abs=3)
    assert cost.weight_bytes == before.weight_bytes
    assert cost.code_bytes - before.code_bytes == 44
    # conv2: 64 positions of K = 72, M = 8, in Flash lines of 16 bytes at 5 cycles
    lines = (64 * 72 * 8 / 4 + 64 * 8 * 8 / 4) / 16
    assert less["conv2"] == pytest.approx(lines * 5 * 1.078, abs=1)


def test_tables_that_a_cache_holds_are_waited_for_once() -> None:
    m7 = board("nucleo-f746zg")
    assert in_front_of_flash(m7)[1].size == 4096
    cost = cost_of(GRAPH, m7)
    assert cost.placed is not None
    assert cost.placed.saved_cycles == pytest.approx(sum(TABLES.values()) / 32 * 4, abs=3)


def test_learned_costs_know_of_it_already() -> None:
    footprint, plan = footprint_for(F469, "zig"), plan_memory(GRAPH)
    placement = placement_of(GRAPH, F469)
    learned = replace(F469, calibration=Calibration("twin", "key", 1, 1))
    cycles = [estimate(GRAPH, plan, each, footprint, None, placement).cycles for each in (F469, learned)]
    assert cycles[0] < cycles[1] == estimate(GRAPH, plan, F469, footprint).cycles


def test_measurements_with_tables_placed_are_of_another_kind() -> None:
    compiler = find_target_compiler()
    kinds = {context_of(replace(F469, place=each), compiler).hardware for each in ("none", "auto", "CCM")}
    assert len(kinds) == 3


def test_only_chosen_tables_are_marked_and_an_unplaced_network_is_as_ever() -> None:
    plan = plan_memory(GRAPH)
    plain = generate(GRAPH, plan, "0" * 16)["network/trec_network.c"]
    marked = generate(GRAPH, plan, "0" * 16, ["conv2"])["network/trec_network.c"]
    assert "TREC_PLACED" not in plain
    tables = [line for line in marked.splitlines() if line.startswith("static const") and "TREC_PLACED" in line]
    assert tables and all(" conv2_" in line for line in tables)
    assert len(tables) == 3, "weights, biases, factors"


def test_tables_of_bytes_begin_at_words() -> None:
    text = generate(GRAPH, plan_memory(GRAPH), "0" * 16)["network/trec_network.c"]
    lines = [line for line in text.splitlines() if line.startswith("static const int8_t")]
    assert lines and all(line.endswith("__attribute__((aligned(4))) = {") for line in lines)


def test_without_a_place_neither_linker_script_nor_header_knows_of_it() -> None:
    plain = replace(F469, place="none")
    assert "placed" not in linker_script(plain) and placement_header(plain) == ""
    assert "trec_placed_start" in linker_script(F469) and 'section(".trec_placed")' in placement_header(F469)
    assert "stay in Flash" in readme(F469) and "stay in Flash" not in readme(plain)


def test_the_single_header_places_nothing() -> None:
    files = generate(GRAPH, plan_memory(GRAPH), "0" * 16, ["conv2"])
    header = single_header({**files, "runtime/include/trec_types.h": "/* types */\n"})
    assert '#include "trec_placement.h"' not in header
    assert "#define TREC_PLACED\n" in header


PLACES = [
    ("nucleo-f303re", "CCM"),
    ("stm32f469i-disco", "CCM"),
    ("stm32f469i-disco", "SRAM"),
    ("nucleo-f746zg", "ITCM"),
    ("nucleo-h743zi", "DTCM"),
    ("raspberry-pi-pico", "SRAM"),
]


@pytest.mark.parametrize(("name", "region"), PLACES)
def test_the_board_answers_the_same_and_every_byte_is_where_it_was_estimated(name: str, region: str) -> None:
    target = board(name, region)
    cost, plain = cost_of(GRAPH, target), cost_of(GRAPH, replace(target, place="none"))
    image = smooth_image(GRAPH.input_shape)
    with linked(GRAPH, target) as firmware:
        with twin.open(firmware.elf, target, build_id=firmware.build_id) as executor:
            answer = executor.infer(image)
        assert np.array_equal(answer.output, GRAPH.run(image)[GRAPH.output].reshape(-1))
        assert cost.placed is not None
        assert firmware.placed_bytes == cost.placed.n_bytes == sum(TABLES.values())
        assert cost.arena_bytes == firmware.arena_bytes
        assert cost.sram_bytes == pytest.approx(firmware.sram_bytes, abs=8)
        assert cost.flash_bytes == pytest.approx(firmware.flash_bytes, rel=0.02)
        own = region == target.ram_region
        assert cost.sram_bytes - plain.sram_bytes == (cost.placed.n_bytes if own else 0)


def test_the_twin_waits_less_where_tables_are_placed() -> None:
    image = smooth_image(GRAPH.input_shape)
    waits = []
    for target in (replace(F469, place="none"), F469):
        with linked(GRAPH, target) as firmware:
            found = profile_network(GRAPH, firmware.elf, target, [image])
            waits.append((found.total.data_stalls, found.total.cycles))
    (before, slow), (after, fast) = waits
    cost = cost_of(GRAPH, F469)
    assert cost.placed is not None
    assert before > 4000
    assert after < 200
    assert slow - fast == pytest.approx(cost.placed.saved_cycles, rel=0.4), (
        "small layers read the line memory more often"
    )


def test_an_export_is_placed_as_its_board_says(tmp_path: Path) -> None:
    dataset = datasets.placeholder("digits")
    evaluation = Evaluation(CANDIDATE, "0" * 16, F303.name, cost_of(GRAPH, F303), {})
    manifest = export(evaluation, GRAPH, F303, dataset, tmp_path / "placed", 0)
    plain = export(evaluation, GRAPH, replace(F303, place="none"), dataset, tmp_path / "plain", 0)
    assert manifest.build_id != plain.build_id
    assert json.loads((tmp_path / "placed" / "manifest.json").read_text())["target"]["place"] == "auto"
    network = (tmp_path / "placed" / "network" / "trec_network.c").read_text()
    assert 'section(".trec_placed")' in (tmp_path / "placed" / "board" / "trec_placement.h").read_text()
    assert "TREC_PLACED" in network and not (tmp_path / "plain" / "board" / "trec_placement.h").exists()
    assert "#define TREC_PLACES_TABLES 1" in (tmp_path / "placed" / "board" / "board.h").read_text()
