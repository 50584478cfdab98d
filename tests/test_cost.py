"""MACs by hand, bytes against the linker, limits as shares of the board."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from trec_dse import datasets, footprint
from trec_dse.candidate import Candidate, TrecConfig, TrecPolicy
from trec_dse.codegen import generate, kernel_sources
from trec_dse.cost import Pace, cycles_of, estimate, image_cycles, violations
from trec_dse.errors import TargetError
from trec_dse.evaluate import cost_of, price, stack_of, untrained_graph
from trec_dse.firmware import build_firmware, write_export
from trec_dse.graph import Window, Work
from trec_dse.memory import plan_memory
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.quantize import with_clusters
from trec_dse.resources import data_folder
from trec_dse.results import percentile
from trec_dse.target import Target, load_target

BOARDS = [load_target(data_folder("targets") / f"{name}.toml") for name in ("nucleo-f746zg", "stm32f469i-disco")]
CANDIDATES = [
    Candidate("digits", "tiny", {"width": 8, "depth": 2}),
    Candidate("digits", "tiny", {"width": 12, "depth": 3}, TrecPolicy(3, 4), {"*": 0.25}),
    Candidate("mnist", "lenet5", {}, TrecPolicy(4, 4, "channels", scope="shared")),
    Candidate("mnist", "lenet5", {}, TrecPolicy(5, 5, "kernel_row", n_kernel_reuse=2)),
    Candidate("cifar10", "cifarnet", {"width": 0.25}, TrecPolicy(4, 5, "whole", max_clusters=12)),
]


def test_a_kernel_that_one_compiler_never_built_is_priced_as_another_s(monkeypatch: pytest.MonkeyPatch) -> None:
    zig = next(e for e in footprint.load_footprints() if (e.compiler, e.platform) == ("zig", BOARDS[1].platform))
    fewer = {name: sizes for name, sizes in zig.symbols.items() if name != "trec_add_s8"}
    gcc = dataclasses.replace(zig, compiler="gcc", symbols=fewer, static_bytes=99)
    monkeypatch.setattr(footprint, "load_footprints", lambda: [gcc, zig])
    found = footprint.footprint_for(BOARDS[1], "gcc")
    assert found.static_bytes == 99
    assert found.symbols == zig.symbols


def measured(**changes: object) -> footprint.Footprint:
    """A footprint of one kernel: 100 bytes lie on the stack when it is called, and it needs 421."""
    symbols = {footprint.BASE: {"main": 50}, "trec_one_s8": {"trec_one_s8": 40}}
    stack = {footprint.BASE: 100, "trec_one_s8": 421}
    made = footprint.Footprint("zig", BOARDS[1].core, BOARDS[1].platform, symbols, 0.0, 0.0, 4, stack, 200)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_the_reserved_stack_is_that_of_the_deepest_kernel_and_a_margin_in_whole_eights() -> None:
    assert footprint.STACK_MARGIN == 27 * 4 + 52 == 160
    assert measured().stack_bytes({"trec_one_s8"}) == 688  # 100 + 421 + 160 = 681
    assert measured(stack_elsewhere=700).stack_bytes({"trec_one_s8"}) == 864  # 700 + 160 = 860
    with pytest.raises(TargetError, match="trec_two_s8: its code was never measured with zig"):
        measured().stack_bytes({"trec_two_s8"})


def test_the_reserved_stack_holds_for_the_compiler_that_needs_most(monkeypatch: pytest.MonkeyPatch) -> None:
    greedy = measured(compiler="gcc", stack={footprint.BASE: 140, "trec_one_s8": 400})
    other_core = measured(core="cortex-m7", stack={footprint.BASE: 999, "trec_one_s8": 999})
    monkeypatch.setattr(footprint, "load_footprints", lambda: [measured(), greedy, other_core])
    for compiler in ("gcc", "zig"):
        found = footprint.footprint_for(BOARDS[1], compiler)
        assert found.stack_bytes({"trec_one_s8"}) == 728  # 140 + 421 + 160 = 721


def test_the_stack_of_every_measured_kernel_is_known() -> None:
    for entry in footprint.load_footprints():
        assert entry.stack.keys() == entry.symbols.keys()
        assert 0 < entry.stack[footprint.BASE] < entry.stack_elsewhere < 512


def test_a_convolution_counts_one_mac_per_weight_and_output_position() -> None:
    op = Conv2d(8, Window((3, 3), padding=(1, 1)))
    assert op.macs((16, 16, 3)) == 16 * 16 * 8 * 3 * 3 * 3


def test_strides_and_missing_padding_shrink_the_count() -> None:
    assert Conv2d(8, Window((3, 3), (2, 2))).macs((9, 9, 4)) == 4 * 4 * 8 * 9 * 4
    assert DepthwiseConv2d(Window((3, 3), (2, 2), (1, 1))).macs((8, 8, 5)) == 4 * 4 * 5 * 9
    assert Dense(10).macs((2, 3, 4)) == 240


def test_trec_counts_hashing_and_one_product_per_cluster() -> None:
    # N = 784, K = 75, L = 15, so 5 slices; H = 5; 60 clusters in all, M = 64
    op = TrecConv2d(64, Window((5, 5)), TrecConfig(5, 15), mean_clusters=60.0)
    assert op.macs((32, 32, 3)) == 784 * 75 * 5 + 60 * 15 * 64


def test_kernel_reuse_gets_its_first_outputs_from_the_hashing() -> None:
    op = TrecConv2d(64, Window((5, 5)), TrecConfig(5, 15, "kernel_reuse"), mean_clusters=60.0)
    assert op.macs((32, 32, 3)) == 784 * 75 * 5 + 60 * 15 * 59


def test_clusters_are_bounded_by_codes_positions_and_cap() -> None:
    assert TrecConv2d(4, Window((1, 1)), TrecConfig(3, 2)).cap((4, 4, 2)) == 8
    assert TrecConv2d(4, Window((1, 1)), TrecConfig(6, 2)).cap((4, 4, 2)) == 16
    assert TrecConv2d(4, Window((1, 1)), TrecConfig(6, 2, max_clusters=5)).cap((4, 4, 2)) == 5


def test_the_workspace_is_the_sum_of_its_arrays() -> None:
    # N = 100, K = 1600, L = 64, H = 5, M = 64: accumulators 25,600, ids and a number of clusters 102, sums 32 * 64 * 4;
    # counts and signatures 2 * 32 * 2, reverse table 32 * 2, two blocks of four widened rows and their signatures
    # 2 * 4 * (64 * 2 + 2): more than what lies over it, the products with eight kernels 32 * 8 * 2
    op = TrecConv2d(64, Window((5, 5)), TrecConfig(5, 64))
    assert op.alive((14, 14, 64)) == 1
    assert op.scratch_bytes((14, 14, 64)) == 25_600 + 102 + 8_192 + 128 + 64 + 1_040


@pytest.mark.parametrize("target", BOARDS, ids=[board.name for board in BOARDS])
@pytest.mark.parametrize("candidate", CANDIDATES, ids=[f"{c.network}-{i}" for i, c in enumerate(CANDIDATES)])
def test_estimates_are_what_is_linked(candidate: Candidate, target: Target, tmp_path: Path) -> None:
    graph = untrained_graph(candidate, datasets.placeholder(candidate.dataset))
    cost = cost_of(graph, target)
    files = {**generate(graph, plan_memory(graph), "0" * 16), "manifest.json": json.dumps({"build_id": "0" * 16})}
    write_export(tmp_path / "fw", target, files, kernel_sources(graph), stack_bytes=stack_of(graph, target))
    firmware = build_firmware(tmp_path / "fw", target)
    assert cost.arena_bytes == firmware.arena_bytes
    assert cost.stack_bytes == firmware.stack_bytes
    assert firmware.stack_bound_bytes is not None
    assert firmware.stack_bound_bytes + footprint.EXCEPTION_BYTES <= cost.stack_bytes < 2048
    assert cost.sram_bytes == pytest.approx(firmware.sram_bytes, rel=0.02)
    assert cost.flash_bytes == pytest.approx(firmware.flash_bytes, rel=0.02)


@pytest.mark.parametrize("target", BOARDS, ids=[board.name for board in BOARDS])
def test_code_for_size_is_smaller_and_estimated_as_it_is_linked(target: Target, tmp_path: Path) -> None:
    small = dataclasses.replace(target, optimize="size")
    graph = untrained_graph(CANDIDATES[1], datasets.placeholder("digits"))
    cost, for_speed = cost_of(graph, small), cost_of(graph, target)
    files = {**generate(graph, plan_memory(graph), "0" * 16), "manifest.json": json.dumps({"build_id": "0" * 16})}
    write_export(tmp_path / "fw", small, files, kernel_sources(graph), stack_bytes=stack_of(graph, small))
    firmware = build_firmware(tmp_path / "fw", small)
    assert cost.stack_bytes == firmware.stack_bytes
    assert cost.flash_bytes == pytest.approx(firmware.flash_bytes, rel=0.02)
    assert (cost.weight_bytes, cost.arena_bytes) == (for_speed.weight_bytes, for_speed.arena_bytes)
    assert 0.80 < cost.code_bytes / for_speed.code_bytes < 0.95
    assert 0.95 < cost.cycles / for_speed.cycles < 1.25
    flags = {"-Oz", "-Os"} & set((tmp_path / "fw" / "Makefile").read_text().split())
    assert flags == {"-Oz", "-Os"}


def test_kernels_for_size_are_slower_by_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    target = dataclasses.replace(BOARDS[1], optimize="size")
    graph = untrained_graph(CANDIDATES[0], datasets.placeholder("digits"))
    known = footprint.footprint_for(target, "zig")
    as_fast = estimate(graph, plan_memory(graph), target, dataclasses.replace(known, slower={}))
    twice = {name: 2.0 for name in known.symbols if name != "trec_dense_s8"}
    slow = estimate(graph, plan_memory(graph), target, dataclasses.replace(known, slower=twice))
    for before, after in zip(as_fast.layers, slow.layers, strict=True):
        assert after.cycles == pytest.approx(before.cycles * (1 if before.op == "dense" else 2), abs=1)


def test_limits_are_shares_of_the_board() -> None:
    target = BOARDS[0]
    cost = cost_of(untrained_graph(CANDIDATES[0], datasets.placeholder("digits")), target)
    found = violations(cost, target)
    assert found["sram"] == pytest.approx(cost.sram_bytes / (320 * 1024) - 1)
    assert all(value < 0 for value in found.values())


def test_a_small_board_says_no_before_any_training() -> None:
    target = BOARDS[0]
    regions = tuple(dataclasses.replace(r, size=1024) if r.name == target.ram_region else r for r in target.regions)
    small = dataclasses.replace(target, regions=regions)
    found = price(CANDIDATES[0], small, datasets.placeholder("digits")).violations
    assert found["sram"] > 0 > found["flash"]


def test_worst_cycles_are_never_below_the_mean_ones() -> None:
    for candidate in CANDIDATES[1:4]:
        cost = cost_of(untrained_graph(candidate, datasets.placeholder(candidate.dataset)), BOARDS[0])
        assert cost.worst_cycles > cost.cycles
        assert cost.dense_macs > 0


def test_half_and_99_in_100_images_are_values_of_the_list() -> None:
    values = list(range(100, 0, -1))
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert (percentile([7, 3], 50), percentile([7, 3], 51), percentile([5], 99)) == (3, 7, 5)


def test_each_image_takes_as_long_as_its_clusters_ask_for() -> None:
    graph = untrained_graph(CANDIDATES[2], datasets.placeholder("mnist"))
    names = [node.name for node in graph.nodes if node.op.kind == "trec_conv2d"]
    assert len(names) > 1
    counts = dict.fromkeys(names, (20, 30, 40))
    found = image_cycles(graph, Pace(BOARDS[0]), counts)
    assert found == [
        cost_of(with_clusters(graph, dict.fromkeys(names, n)), BOARDS[0]).cycles for n in (20.0, 30.0, 40.0)
    ]
    cost = cost_of(with_clusters(graph, dict.fromkeys(names, 30.0)), BOARDS[0], counts)
    assert (cost.p50_cycles, cost.p99_cycles) == (found[1], found[2])
    assert found[0] < cost.cycles == found[1] < found[2] <= cost.worst_cycles


def test_a_network_that_clusters_nothing_takes_as_long_for_every_image() -> None:
    cost = cost_of(untrained_graph(CANDIDATES[0], datasets.placeholder("digits")), BOARDS[0], {})
    assert cost.p50_cycles == cost.p99_cycles == cost.cycles == cost.worst_cycles
    unknown = cost_of(untrained_graph(CANDIDATES[0], datasets.placeholder("digits")), BOARDS[0])
    assert (unknown.p50_cycles, unknown.p99_cycles) == (None, None)


def test_a_target_without_a_cost_for_some_work_is_named() -> None:
    with pytest.raises(TargetError, match=r"some_board: \[timing\] has no conv_mac"):
        cycles_of([Work("conv_mac", 1.0)], {}, "some_board")


def test_a_core_that_was_never_measured_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [entry for entry in footprint.load_footprints() if entry.core == "cortex-m7"]
    monkeypatch.setattr(footprint, "load_footprints", lambda: known)
    with pytest.raises(
        TargetError, match="code sizes of cortex-m4, for speed, were never measured; known are cortex-m7"
    ):
        footprint.footprint_for(BOARDS[1], "zig")


def test_two_candidates_that_come_down_to_one_network_share_a_key() -> None:
    data = datasets.placeholder("digits")
    whole = Candidate("digits", "tiny", {"width": 8, "depth": 1}, TrecPolicy(3, 3, "whole"))
    custom = Candidate("digits", "tiny", {"width": 8, "depth": 1}, TrecPolicy(3, 5, "custom", vector_length=9))
    keys = [price(candidate, BOARDS[0], data).key for candidate in (whole, custom)]
    assert whole.key != custom.key
    assert keys[0] == keys[1]


def test_redundancy_is_one_minus_clusters_over_rows() -> None:
    cost = cost_of(untrained_graph(CANDIDATES[2], datasets.placeholder("mnist")), BOARDS[0])
    for layer in cost.layers:
        if layer.trec is not None:
            rows = layer.trec.n_slices * layer.trec.n_positions
            assert layer.trec.redundancy_ratio == pytest.approx(1 - layer.trec.mean_clusters / rows)
            assert 0 < layer.trec.redundancy_ratio < 1
            assert np.isclose(layer.trec.worst_clusters, layer.trec.n_slices * 2**layer.trec.config.hash_bits)
