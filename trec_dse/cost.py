"""What an int8 network needs on a board, from the model alone: bytes, MACs, cycles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from trec_dse.candidate import TrecConfig
from trec_dse.codegen import constant_bytes, network_calls
from trec_dse.errors import TargetError
from trec_dse.footprint import PLACING_BYTES, Footprint
from trec_dse.graph import Node, Op, QuantizedGraph, Shape, Window, Work
from trec_dse.memory import MemoryPlan
from trec_dse.ops._work import wide_share, work_of
from trec_dse.ops.add import Add
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.placement import ALL_IN_FLASH, Placement, saved_cycles
from trec_dse.results import NO_LIMITS, Cost, LayerCost, Limits, PlacedCost, TrecCost, percentile
from trec_dse.target import Target
from trec_dse.trec.exact import BESIDE, CLUSTERED, exact_kernels
from trec_dse.trec.layout import strip_pixels


def estimate(
    graph: QuantizedGraph,
    plan: MemoryPlan,
    target: Target,
    footprint: Footprint,
    clusters: Mapping[str, Sequence[int]] | None = None,
    placement: Placement = ALL_IN_FLASH,
) -> Cost:
    """Bytes, MACs and cycles of `graph` on `target`, the tables of `placement` out of Flash.

    MACs and cycles take the mean N_c of the calibration images, memory always the most clusters there can be.
    `clusters`: N_c of each image by layer, from which follows how cycles are distributed over the images.
    """
    constants, calls = constant_bytes(graph), network_calls(graph)
    # costs that were learned are those of the build that was measured
    factors = footprint.slower if target.calibration is None else {}
    slower = {call.node: factors.get(call.kernel.function, 1.0) for call in calls}
    pace = Pace(target, slower, placement.tables)
    by_image = None if clusters is None else image_cycles(graph, pace, clusters)
    layers = tuple(_layer(graph, node, pace, constants[node.name].total) for node in graph.nodes)
    n_arguments = sum(2 + len(call.inputs) + call.kernel.scratch for call in calls)
    functions = {call.kernel.function for call in calls}
    n_counters = max(1, sum(call.kernel.counts_clusters for call in calls))
    weights = sum(item.total for item in constants.values())
    in_sram = placement.n_bytes if placement.region == target.ram_region else 0
    return Cost(
        macs=sum(layer.macs for layer in layers),
        dense_macs=sum(_dense_macs(node, graph) for node in graph.nodes),
        cycles=sum(layer.cycles for layer in layers),
        worst_cycles=sum(pace.cycles(node, graph, worst=True) for node in graph.nodes),
        clock_hz=target.clock_hz,
        weight_bytes=weights,
        code_bytes=footprint.code_bytes(functions, n_arguments) + (PLACING_BYTES if placement.region else 0),
        arena_bytes=plan.size,
        static_bytes=footprint.static_bytes + 4 * n_counters + in_sram,
        stack_bytes=footprint.stack_bytes(functions),
        layers=layers,
        buffers=plan.buffers,
        run_mw=None if target.power is None else target.power.run_mw,
        p50_cycles=None if by_image is None else percentile(by_image, 50),
        p99_cycles=None if by_image is None else percentile(by_image, 99),
        placed=_placed(graph, placement, target),
    )


@dataclass(frozen=True)
class Pace:
    """How fast a board runs kernels.

    Attributes:
        slower: by node, cycles over those of a build for speed, where they differ.
        placed: by node, bytes of tables that are not waited for, where they are out of Flash.
    """

    target: Target
    slower: Mapping[str, float] = field(default_factory=dict)
    placed: Mapping[str, int] = field(default_factory=dict)

    def cycles(self, node: Node, graph: QuantizedGraph, *, worst: bool) -> int:
        """Of one layer; TargetError if the target's timing lacks a kind of its work."""
        inputs = _inputs(node, graph)
        work = work_of(node.op, inputs, wide_share(graph.weights[node.name]), worst=worst)
        cycles = cycles_of(work, self.target.timing, self.target.name) * self.slower.get(node.name, 1.0)
        # costs that were learned with tables placed know it already
        is_known = self.target.calibration is not None
        saved = 0.0 if is_known else saved_cycles(node, graph, self.target, self.placed.get(node.name, 0))
        return round(cycles - saved)


def image_cycles(graph: QuantizedGraph, pace: Pace, clusters: Mapping[str, Sequence[int]]) -> list[int]:
    """Cycles of each image, of which `clusters` has N_c by layer; a network that clusters nothing has one for all."""
    changing = [node for node in graph.nodes if node.name in clusters]
    same = sum(pace.cycles(node, graph, worst=False) for node in graph.nodes if node.name not in clusters)
    n_images = min((len(counts) for counts in clusters.values()), default=1)
    return [
        same + sum(pace.cycles(_with(node, clusters[node.name][i]), graph, worst=False) for node in changing)
        for i in range(n_images)
    ]


def _with(node: Node, n_clusters: int) -> Node:
    assert isinstance(node.op, TrecConv2d | TrecStripConv2d)
    return replace(node, op=replace(node.op, mean_clusters=float(n_clusters)))


def with_notes(cost: Cost, notes: Mapping[str, str]) -> Cost:
    """`cost` with remarks on its layers, by name."""
    return replace(cost, layers=tuple(replace(layer, note=notes.get(layer.name, "")) for layer in cost.layers))


def relative_time(
    kernel: tuple[int, int], shape: Shape, out_channels: int, config: TrecConfig, target: Target
) -> float:
    """Cycles of a convolution with TREC at the most clusters there can be, as a multiple of its cycles without.

    `shape` is that of the input, (H, W, C), padding included; the stride is 1.
    """
    window = Window(kernel)
    kind = TrecStripConv2d if config.scope == "strip_shared" else TrecConv2d

    def cycles(op: Op, *shapes: Shape) -> float:
        return cycles_of(op.work(*shapes, worst=True), target.timing, target.name)

    clustered = cycles(kind(out_channels, window, config), shape)
    if config.exact_directions:
        first, second = exact_kernels(kernel, strip_pixels(config, shape[2]))
        directions = Conv2d(config.channel_groups * config.exact_directions, Window(first))
        exact, read = Conv2d(out_channels, Window(second)), directions.output_shape(shape)
        outputs = exact.output_shape(read)
        clustered += cycles(directions, shape) + cycles(exact, read) + cycles(Add(), outputs, outputs)
    return clustered / cycles(Conv2d(out_channels, window), shape)


def violations(cost: Cost, target: Target, limits: Limits = NO_LIMITS) -> dict[str, float]:
    """Per limit used / limit - 1: feasible when none is above 0, and comparable with each other.

    Of the board's limit and the study's the lower one counts.
    """
    found = {
        "sram": cost.sram_bytes / min(target.sram_bytes, limits.sram_bytes or target.sram_bytes) - 1,
        "flash": cost.flash_bytes / min(target.flash_bytes, limits.flash_bytes or target.flash_bytes) - 1,
    }
    return found if limits.macs is None else {**found, "macs": cost.macs / limits.macs - 1}


def cycles_of(work: Sequence[Work], timing: Mapping[str, float], where: str) -> float:
    """Cycles of some work; TargetError if the target's timing lacks one of its kinds."""
    missing = [item.kind for item in work if item.kind not in timing]
    if missing:
        raise TargetError(
            f"{where}: [timing] has no {', '.join(sorted(set(missing)))}; benchmarks/timing.py fits them on the twin"
        )
    return sum(timing[item.kind] * item.amount for item in work)


def _inputs(node: Node, graph: QuantizedGraph) -> list[Shape]:
    shapes = graph.shapes
    return [shapes[name] for name in node.inputs]


def _dense_macs(node: Node, graph: QuantizedGraph) -> int:
    """Of a node in the network without TREC, which multiplies whole kernels and has nothing beside clusters."""
    shapes = _inputs(node, graph)
    layer, _, part = node.name.rpartition(".")
    if part in BESIDE and f"{layer}.{CLUSTERED}" in graph.shapes:
        return 0
    if isinstance(node.op, TrecConv2d | TrecStripConv2d):
        return Conv2d(node.op.out_channels, node.op.window).macs(*shapes)
    return node.op.macs(*shapes)


def _layer(graph: QuantizedGraph, node: Node, pace: Pace, flash_bytes: int) -> LayerCost:
    shapes = _inputs(node, graph)
    return LayerCost(
        name=node.name,
        op=node.op.kind,
        output_shape=node.op.output_shape(*shapes),
        macs=node.op.macs(*shapes),
        cycles=pace.cycles(node, graph, worst=False),
        flash_bytes=flash_bytes,
        scratch_bytes=node.op.scratch_bytes(*shapes),
        trec=_trec(node.op, shapes[0]) if isinstance(node.op, TrecConv2d | TrecStripConv2d) else None,
    )


def _placed(graph: QuantizedGraph, placement: Placement, target: Target) -> PlacedCost | None:
    if not placement.region:
        return None
    tables = placement.tables
    saved = sum(saved_cycles(node, graph, target, tables.get(node.name, 0)) for node in graph.nodes)
    return PlacedCost(placement.region, placement.room, placement.n_bytes, tuple(tables), round(saved))


def _trec(op: TrecConv2d | TrecStripConv2d, shape: Shape) -> TrecCost:
    n, slices, mean = op.n_positions(shape), op.n_slices(shape), op.clusters(shape)
    return TrecCost(op.config, n, slices, mean, slices * op.cap(shape), 1 - mean / (slices * n))
