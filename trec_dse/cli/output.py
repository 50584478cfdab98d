"""How verbs print: text for people, JSON for programs."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from trec_dse.objectives import Objective
from trec_dse.results import Cost, Evaluation, PlacedCost, TrialRecord

KIB = 1024


def print_json(data: object) -> None:
    """One JSON document on standard output."""
    json.dump(data, sys.stdout, indent=2)
    sys.stdout.write("\n")


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table; figures are right-aligned, the first column is a name."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*row)
    # a file or a pipe has no width of its own; a narrow guess would break every cell
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def front_rows(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[list[str]]:
    """Rows of a front: number, objectives, MACs, test accuracy, mismatches."""
    rows = []
    for record in records:
        e = record.evaluation
        assert e is not None
        measured = "-" if e.measured is None else f"{e.measured.n_mismatches} of {e.measured.n_images}"
        test = "-" if e.test_accuracy is None else f"{100 * e.test_accuracy:.2f} %"
        values = [f"{objective.value(e):.2f}" for objective in objectives]
        rows.append([str(record.number), *values, f"{e.estimated.macs / 1e6:.3f}", test, measured])
    return rows


def front_headings(objectives: Sequence[Objective]) -> list[str]:
    """Headings of `front_rows`."""
    return ["trial", *(objective.title for objective in objectives), "MACs (million)", "test accuracy", "mismatches"]


def cost_json(cost: Cost) -> dict[str, int | float | None]:
    """The figures of an estimate, in bytes, MACs, cycles, ms and mJ; energy is null where the board has no figure."""
    return {
        "sram_bytes": cost.sram_bytes,
        "arena_bytes": cost.arena_bytes,
        "static_bytes": cost.static_bytes,
        "stack_bytes": cost.stack_bytes,
        "flash_bytes": cost.flash_bytes,
        "weight_bytes": cost.weight_bytes,
        "code_bytes": cost.code_bytes,
        "macs": cost.macs,
        "dense_macs": cost.dense_macs,
        "cycles": cost.cycles,
        "p50_cycles": cost.p50_cycles,
        "p99_cycles": cost.p99_cycles,
        "worst_cycles": cost.worst_cycles,
        "placed_bytes": 0 if cost.placed is None else cost.placed.n_bytes,
        "latency_ms": cost.latency_ms,
        "energy_mj": cost.energy_mj,
    }


def print_cost(cost: Cost) -> None:
    """The whole estimate: layers, buffers, totals."""
    rows = []
    for layer in cost.layers:
        t = layer.trec
        trec = "-" if t is None else f"H {t.config.hash_bits}, L {t.config.vector_length}, {t.config.scope}"
        ratio = "-" if t is None else f"{t.redundancy_ratio:.3f}"
        shape = "x".join(map(str, layer.output_shape))
        figures = [f"{layer.macs:,}", f"{layer.cycles:,}", f"{layer.flash_bytes:,}", f"{layer.scratch_bytes:,}"]
        rows.append([layer.name, layer.op, shape, trec, ratio, *figures])
    print_table("Layers", ["layer", "op", "output", "TREC", "r_t", "MACs", "cycles", "Flash B", "scratch B"], rows)
    for layer in cost.layers:
        if layer.note:
            print(f"{layer.name} {layer.note}")
    print()
    steps = [layer.name for layer in cost.layers]
    buffers = [[b.name, b.kind, f"{b.offset:,}", f"{b.size:,}", steps[b.first], steps[b.last]] for b in cost.buffers]
    print_table("Arena", ["buffer", "kind", "offset", "bytes", "first used in", "last used in"], buffers)
    print()
    arena, static, stack = cost.arena_bytes, cost.static_bytes, cost.stack_bytes
    print(f"SRAM     {cost.sram_bytes / KIB:8.2f} KiB = arena {arena:,} + static {static:,} + stack {stack:,} B")
    weights, code = cost.weight_bytes, cost.code_bytes
    print(f"Flash    {cost.flash_bytes / KIB:8.2f} KiB = weights and tables {weights:,} + code {code:,} B")
    if cost.placed is not None:
        print(placed_text(cost.placed))
    print(f"MACs     {cost.macs:,} (dense {cost.dense_macs:,})")
    print(f"latency  {cost.latency_ms:8.2f} ms = {cost.cycles:,} cycles at {cost.clock_hz / 1e6:.0f} MHz")
    if cost.p50_cycles is not None and cost.p99_cycles is not None:
        print(f"         half of the images take at most {cost.p50_cycles:,}, 99 in 100 {cost.p99_cycles:,} cycles")
    print(f"         at the most clusters there can be: {cost.worst_cycles:,} cycles")
    if cost.run_mw is None or cost.energy_mj is None:
        print("energy   unknown: the board's file has no [power]")
    else:
        print(f"energy   {cost.energy_mj:8.3f} mJ = {cost.latency_ms:.2f} ms at {cost.run_mw:.1f} mW")


def placed_text(placed: PlacedCost) -> str:
    """Which tables are copied out of Flash, and what that saves."""
    size = f"{placed.n_bytes / KIB:8.2f} KiB of {placed.room:,} B in {placed.region}"
    if not placed.layers:
        return f"placed   {size}: no layer's tables fit, all stay in Flash"
    return f"placed   {size}: {', '.join(placed.layers)}; {placed.saved_cycles:,} cycles fewer"


def print_evaluation(evaluation: Evaluation) -> None:
    """Accuracies and what the board says."""
    for name, value in (("float", evaluation.float_accuracy), ("int8", evaluation.int8_accuracy)):
        if value is not None:
            print(f"{name:<8} {100 * value:.2f} % of the validation images")
    for limit, violation in evaluation.violations.items():
        print(f"{limit:<8} {100 * (1 + violation):.1f} % of the board's")
