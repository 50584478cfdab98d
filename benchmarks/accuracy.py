"""What TREC does to accuracy: clustered networks beside dense ones of as many cycles, over several seeds.

Every row is a candidate that goes through `evaluate` as in a search: dense training, pruning, TREC, fine-tuning, int8.
Accuracies are those of the generated C on images that nothing was chosen by; cycles are the estimate for one board.
Rows are appended to --out as JSON lines as they come, and rows that are there are not run again: cut it off and go on.
Without --run the table is printed from what is there. `cifarnet` and `squeezenet` are narrow and see a subset of
CIFAR-10 (--n-train, --n-validation), so that they fit two cores and an evening; `cifarnet_whole` has its full width,
`squeezenet_whole` half of it, and both see all training images, which takes a GPU some minutes with --jobs 14.
"""

import argparse
import json
import math
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
from accuracy_variants import NETWORKS, WHOLE_DATA, Variant
from common import Figure, show

from trec_dse import codec, datasets
from trec_dse.candidate import Candidate
from trec_dse.errors import InputError, TargetError
from trec_dse.evaluate import cost_of, evaluate, untrained_graph
from trec_dse.plugins import data_file
from trec_dse.quantize import with_clusters
from trec_dse.results import Cost, EvaluateRequest
from trec_dse.target import Target, load_target

# Student's t at 97.5 % by degrees of freedom: half widths of 95 % intervals over few seeds
_T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 19: 2.093, 149: 1.976}


NARROWER = "dense, narrower and narrower"


@dataclass(frozen=True)
class Row:
    """One trained candidate.

    Attributes:
        float_percent, int8_percent: right answers, in percent.
        macs, cycles: per image, by the estimates of then for the board of the run.
        redundancy: r_t by TREC layer, of one image each.
    """

    network: str
    variant: str
    seed: int
    float_percent: float
    int8_percent: float
    macs: int
    cycles: int
    sram_bytes: int
    flash_bytes: int
    redundancy: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """All seeds of one variant.

    Attributes:
        int8: mean in percent, and half the width of its 95 % interval.
        float_mean: before int8, in percent.
        redundancy: r_t by TREC layer, mean over seeds, of one image each.
        gain: points above dense networks of as many cycles; NaN for dense ones and beyond their range.
        apart: points above the widest dense network of the same seed, mean and half the width of its 95 % interval.
    """

    variant: str
    n_seeds: int
    int8: tuple[float, float]
    float_mean: float
    macs: float
    cycles: float
    sram_bytes: float
    redundancy: dict[str, float] = field(default_factory=dict)
    is_dense: bool = False
    gain: float = math.nan
    apart: tuple[float, float] = (math.nan, math.nan)


def run(variant: Variant, seed: int, network: str, args: argparse.Namespace, board: Target) -> Row:
    """Train one candidate, or find it trained; its files lie beside --out."""
    recipe = variant.candidate.recipe
    if network not in WHOLE_DATA:
        recipe = replace(recipe, n_train=args.n_train, n_validation=args.n_validation)
    n_trainings = variant.n_trainings or args.seeds
    recipe = replace(recipe, seed=seed % n_trainings, hash_seed=seed)
    candidate = replace(variant.candidate, recipe=recipe)
    folder = args.out.parent / "candidates" / candidate.key
    data_dir = None if args.data_dir is None else str(args.data_dir)
    request = EvaluateRequest(candidate, board, data_dir, str(folder))

    def say(line: str) -> None:
        print(f"{network} {variant.name} seed {seed}: {line}", file=sys.stderr, flush=True)

    found = evaluate(request, say)
    if found.int8_accuracy is None or found.float_accuracy is None:
        raise InputError(f"{variant.name} does not fit {board.name}: {dict(found.violations)}; name a larger --target")
    cost = found.estimated
    return Row(
        network,
        variant.name,
        seed,
        100 * found.float_accuracy,
        100 * found.int8_accuracy,
        cost.macs,
        cost.cycles,
        cost.sram_bytes,
        cost.flash_bytes,
        {layer.name: layer.trec.redundancy_ratio for layer in cost.layers if layer.trec is not None},
    )


def run_apart(job: tuple[int, int, str], args: argparse.Namespace, board: Target) -> Row:
    """`run` in a process of its own, of the variant with this index; seed; network."""
    torch.set_num_threads(1)
    index, seed, network = job
    return run(NETWORKS[network][index], seed, network, args, board)


def rows_of(path: Path) -> list[Row]:
    """The rows of a file of JSON lines; a last line that was cut off counts as not there."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [codec.from_json(line, Row, str(path), InputError) for line in lines[:-1] if line]


def run_all(network: str, args: argparse.Namespace, board: Target) -> None:
    """Train what is missing, seed by seed; at --jobs above 1 first the dense networks that others start from."""
    done = {(row.network, row.variant, row.seed) for row in rows_of(args.out)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    jobs = [
        (index, seed, network)
        for index, variant in enumerate(NETWORKS[network])
        for seed in range(variant.n_seeds or args.seeds)
        if args.only in variant.name and (network, variant.name, seed) not in done
    ]
    jobs.sort(key=lambda job: (args.jobs > 1 and job[0] > 0, job[1], job[0]))
    if args.jobs == 1:
        for job in jobs:
            add_row(args.out, run_apart(job, args, board))
        return
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run_apart, job, args, board): job for job in jobs}
        for found in as_completed(running):
            problem = found.exception()
            if problem is None:
                add_row(args.out, found.result())
            else:  # the others go on
                index, seed, _ = running[found]
                print(f"{network} {NETWORKS[network][index].name} seed {seed}: {problem!r}", file=sys.stderr)


def add_row(path: Path, row: Row) -> None:
    """Append a row to the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def cost_of_row(row: Row, candidate: Candidate, board: Target) -> Cost:
    """What the trained network costs by the estimates of now: its shapes, with the clusters that it had."""
    graph = untrained_graph(candidate, datasets.placeholder(candidate.dataset))
    known = {layer.name: layer.trec for layer in cost_of(graph, board).layers if layer.trec is not None}
    clusters = {
        name: (1 - ratio) * known[name].n_slices * known[name].n_positions for name, ratio in row.redundancy.items()
    }
    return cost_of(with_clusters(graph, clusters), board)


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean and half the width of its 95 % interval (Student), NaN for a single value."""
    n = len(values)
    half = _T.get(n - 1, 2.0) * float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return float(np.mean(values)), half


def with_pairs(
    found: Sequence[Summary], rows: Sequence[Row], variants: Sequence[Variant], n_seeds: int
) -> list[Summary]:
    """The summaries with their distance to the first variant, run by run; several runs may share a dense training."""
    base = {row.seed: row.int8_percent for row in rows if row.variant == variants[0].name}
    trainings = {variant.name: variant.n_trainings or n_seeds for variant in variants}
    paired = []
    for each in found:
        chosen = [row for row in rows if row.variant == each.variant and row.seed % trainings[each.variant] in base]
        apart = [row.int8_percent - base[row.seed % trainings[each.variant]] for row in chosen]
        is_base = each.variant == variants[0].name
        paired.append(replace(each, apart=mean_and_interval(apart)) if apart and not is_base else each)
    return paired


def summarise(variant: Variant, rows: Sequence[Row], board: Target) -> Summary:
    """Means over the seeds, and the interval of the int8 accuracy."""
    int8 = [row.int8_percent for row in rows]
    costs = [cost_of_row(row, variant.candidate, board) for row in rows]
    ratios: dict[str, list[float]] = {}
    for row in rows:
        for layer, ratio in row.redundancy.items():
            ratios.setdefault(layer, []).append(ratio)
    return Summary(
        variant.name,
        len(rows),
        mean_and_interval(int8),
        float(np.mean([row.float_percent for row in rows])),
        float(np.mean([cost.macs for cost in costs])),
        float(np.mean([cost.cycles for cost in costs])),
        float(np.mean([cost.sram_bytes for cost in costs])),
        {name: float(np.mean(values)) for name, values in ratios.items()},
        variant.candidate.trec is None and not variant.candidate.kernels,
    )


def _is_plain(variant: str) -> bool:
    """Whether a dense network is neither pruned nor trained longer than the others."""
    return not ("pruned" in variant or "longer" in variant)


def with_dense_curve(found: Sequence[Summary]) -> list[Summary]:
    """The summaries with their distance to dense networks of as many cycles: between widths, along log cycles."""
    curve = sorted((each.cycles, each.int8[0]) for each in found if each.is_dense and _is_plain(each.variant))
    if len(curve) < 2:
        return list(found)
    cycles, percent = np.log([x for x, _ in curve]), [y for _, y in curve]

    def gain(each: Summary) -> float:
        is_between = curve[0][0] <= each.cycles <= curve[-1][0]
        return each.int8[0] - float(np.interp(math.log(each.cycles), cycles, percent)) if is_between else math.nan

    return [each if each.is_dense else replace(each, gain=gain(each)) for each in found]


def figures_of(network: str, found: Sequence[Summary]) -> list[Figure]:
    """What a summary says, a figure each; goals are those of layers with many rows."""
    figures = []
    for each in found:
        name = f"{network}, {each.variant}"
        figures += [
            Figure(f"{name}: int8 accuracy, mean of {each.n_seeds} seeds", each.int8[0], "%"),
            Figure(f"{name}: half width of its 95 % interval", each.int8[1], "pp"),
            Figure(f"{name}: float accuracy", each.float_mean, "%"),
            Figure(f"{name}: MACs", each.macs / 1e6, "million"),
            Figure(f"{name}: cycles", each.cycles / 1e6, "million"),
        ]
        if not math.isnan(each.apart[0]):
            figures.append(
                Figure(f"{name}: above the dense network of its seed, +- {each.apart[1]:.2f}", each.apart[0], "pp")
            )
        if not math.isnan(each.gain):
            figures.append(Figure(f"{name}: above dense networks of as many cycles", each.gain, "pp"))
        figures += [Figure(f"{name}: r_t of {layer}", r_t, "") for layer, r_t in each.redundancy.items()]
    return figures


def table(found: Sequence[Summary]) -> str:
    """The summaries as a table for a page."""
    heads = (
        "network",
        "seeds",
        "int8, %",
        "M MACs",
        "M cycles",
        "KiB SRAM",
        "r_t",
        "own dense, pp",
        "against dense, pp",
    )
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for each in found:
        ratios = [f"{value:.3f}" for value in each.redundancy.values()]
        shown = ", ".join(ratios) if len(ratios) <= 2 else f"{min(ratios)} to {max(ratios)}"
        gain = "" if math.isnan(each.gain) else f"{each.gain:+.1f}"
        cells = (f"{each.int8[0]:.2f} ± {each.int8[1]:.2f}", f"{each.macs / 1e6:.2f}", f"{each.cycles / 1e6:.2f}")
        apart = "" if math.isnan(each.apart[0]) else f"{each.apart[0]:+.1f} ± {each.apart[1]:.1f}"
        texts = (each.variant, str(each.n_seeds), *cells, f"{each.sram_bytes / 1024:.1f}", shown, apart, gain)
        lines.append("| " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _groups(found: Sequence[Summary]) -> dict[str, list[Summary]]:
    """What stands in one colour, by cycles."""
    groups: dict[str, list[Summary]] = {}
    for each in sorted(found, key=lambda each: each.cycles):
        if "longer" in each.variant:
            name = "trained longer"
        elif each.is_dense:
            name = NARROWER if _is_plain(each.variant) else "dense, pruned"
        elif "rank" in each.variant:
            name = "of low rank"
        elif "exact" in each.variant and ", 0 exact" not in each.variant:
            name = "TREC in strips beside exact directions"
        elif "levels" in each.variant:
            name = "TREC, hash at levels"
        else:
            name = "TREC in strips" if "strips" in each.variant else "TREC on rows of the kernel"
        groups.setdefault(name, []).append(each)
    return groups


def draw(network: str, found: Sequence[Summary], path: Path) -> None:
    """Accuracy against cycles, the dense networks as a line, written as a page."""
    plot = go.Figure()
    for name, chosen in _groups(found).items():
        plot.add_scatter(
            x=[each.cycles / 1e6 for each in chosen],
            y=[each.int8[0] for each in chosen],
            error_y={"array": [each.int8[1] for each in chosen], "thickness": 1},
            mode="lines+markers" if name == NARROWER else "markers",
            hovertext=[each.variant for each in chosen],
            marker={"size": 9},
            name=name,
        )
    ends = [math.log10(each.cycles / 1e6) for each in found]
    plot.update_layout(
        title=f"{network}: accuracy of the C code against cycles of the cost model",
        xaxis={"title": "million cycles", "type": "log", "range": [min(ends) - 0.05, max(ends) + 0.1]},
        yaxis={"title": "right answers, %"},
        template="plotly_white",
        width=1100,
        height=700,
        legend={"x": 0.7, "y": 0.05},
    )
    path.write_text(plot.to_html(), encoding="utf-8")


def main() -> None:
    """Run what is asked for, then print what is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy/rows.jsonl"), help="default %(default)s")
    parser.add_argument("--network", choices=sorted(NETWORKS), action="append", help="default: all")
    parser.add_argument("--run", action="store_true", help="train what is not in --out yet")
    parser.add_argument("--only", default="", help="variants whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="processes that train at once (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of every variant (default %(default)s)")
    parser.add_argument("--n-train", type=int, default=10_000, help="default %(default)s; 0: all")
    parser.add_argument("--n-validation", type=int, default=2_000, help="default %(default)s; 0: all")
    parser.add_argument("--target", default="stm32f469i-disco", help="whose cycles (default %(default)s)")
    parser.add_argument("--plot", type=Path, help="folder for a page per network: accuracy against cycles")
    parser.add_argument("--data-dir", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    board = load_target(data_file("targets", args.target, ".toml", TargetError))
    for network in args.network or sorted(NETWORKS):
        if args.run:
            run_all(network, args, board)
        rows = [row for row in rows_of(args.out) if row.network == network]
        found = [
            summarise(variant, chosen, board)
            for variant in NETWORKS[network]
            if args.only in variant.name and (chosen := [row for row in rows if row.variant == variant.name])
        ]
        if found:
            found = with_pairs(with_dense_curve(found), rows, NETWORKS[network], args.seeds)
            if args.plot is not None:
                draw(network, found, args.plot / f"{network}.html")
            show(figures_of(network, found))
            print(table(found), file=sys.stderr)


if __name__ == "__main__":
    main()
