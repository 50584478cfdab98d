"""`trec-dse estimate`: what candidates need, before any training."""

import argparse
import sys
from pathlib import Path

from trec_dse import codec, datasets, plugins
from trec_dse.candidate import Candidate
from trec_dse.cli.boards import against, board_of, costs_text, other_choice
from trec_dse.cli.output import KIB, cost_json, print_cost, print_json, print_table
from trec_dse.datasets import Dataset, Shape
from trec_dse.errors import DatasetError
from trec_dse.evaluate import as_read, price
from trec_dse.networks import brought_shape
from trec_dse.results import Cost
from trec_dse.search_space import load_candidate, load_search_space, sample_at_random
from trec_dse.target import Target


def run(args: argparse.Namespace) -> int:
    """One candidate in full, or random candidates of a space as a table. 1 if the one candidate does not fit."""
    target = board_of(args)
    if args.what.endswith(".json") or args.what in plugins.data_names("presets", ".json"):
        return _one(load_candidate(args.what), target, args)
    space = load_search_space(args.what)
    candidates = sample_at_random(space, args.samples, args.seed)
    dataset = _dataset(space.dataset, args.data, brought_shape(candidates[0]))
    costs = [price(candidate, target, as_read(dataset, candidate)).cost for candidate in candidates]
    if args.json:
        items = [
            {"candidate": codec.unstructure(c), **cost_json(cost)} for c, cost in zip(candidates, costs, strict=True)
        ]
        print_json(items)
        return 0
    rows = [_row(candidate, cost) for candidate, cost in zip(candidates, costs, strict=True)]
    title = f"{space.name} on {target.name}: {len(rows)} random candidates, untrained"
    print_table(title, ["network", "TREC", "SRAM KiB", "Flash KiB", "million MACs", "ms"], rows)
    if target.calibration is not None:
        print(f"cycles by the costs of {costs_text(target.calibration)}")
    return 0


def _one(candidate: Candidate, target: Target, args: argparse.Namespace) -> int:
    dataset = as_read(_dataset(candidate.dataset, args.data, brought_shape(candidate)), candidate)
    priced = price(candidate, target, dataset)
    fits = all(value <= 0 for value in priced.violations.values())
    if args.json:
        buffers, layers = codec.unstructure(priced.cost.buffers), codec.unstructure(priced.cost.layers)
        print_json(
            {
                **cost_json(priced.cost),
                "fits": fits,
                "violations": priced.violations,
                "layers": layers,
                "buffers": buffers,
            }
        )
        return 0 if fits else 1
    print_cost(priced.cost)
    print(f"cycles   by the costs of {costs_text(target.calibration)}")
    if args.optimize is not None:
        print(against(priced.cost, price(candidate, other_choice(target), dataset).cost, target))
    if not fits:
        over = ", ".join(f"{name} by {100 * v:.1f} %" for name, v in priced.violations.items() if v > 0)
        print(f"does not fit {target.name}: {over}", file=sys.stderr)
    return 0 if fits else 1


def _dataset(name: str, data_dir: Path | None, brought: tuple[Shape, int] | None = None) -> Dataset:
    """The data if they are at hand without a download; made-up images of that shape otherwise, saying so.

    `brought`: shape and number of classes that an imported network asks for.
    """
    try:
        if data_dir is None and name != "digits":
            data_dir = datasets.cached_folder(name)
        return datasets.load(name, data_dir)
    except DatasetError as problem:
        if data_dir is not None and data_dir.is_dir() and any(data_dir.iterdir()):
            raise  # a download that failed leaves an empty folder
        made_up = datasets.placeholder(name, brought)
        print(f"no data for {name} ({problem}): clusters are counted on made-up images", file=sys.stderr)
        return made_up


def _row(candidate: Candidate, cost: Cost) -> list[str]:
    arguments = ", ".join(f"{k} {v}" for k, v in candidate.network_args.items())
    pruned = "".join(f", pruned {share:g}" for share in candidate.pruning.values())
    t = candidate.trec
    trec = "-" if t is None else f"H {t.hash_bits_early}/{t.hash_bits_late}, {t.slice_policy}, reuse {t.n_kernel_reuse}"
    sizes = [f"{cost.sram_bytes / KIB:.2f}", f"{cost.flash_bytes / KIB:.2f}"]
    return [
        f"{candidate.network} {arguments}{pruned}",
        trec,
        *sizes,
        f"{cost.macs / 1e6:.3f}",
        f"{cost.latency_ms:.2f}",
    ]
