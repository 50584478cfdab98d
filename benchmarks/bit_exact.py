"""Bit for bit: oracle, host build and board twins, of whole networks and of every operator on random shapes.

    python benchmarks/bit_exact.py                                    # three networks, 1,000 images each, all boards
    python benchmarks/bit_exact.py --shapes 200 --out shapes.jsonl    # every operator, 200 random shapes, four cores

A mismatch is an image on which any byte of any two of the three answers differs. With --shapes every network around
one operator runs two images on the host and on the twin of one board for each core: the host has the portable
primitives, the M0+ and M3 those for one product at a time, M4 and M7 those for SMLAD. What is in the file of --out is
not run again.
"""

import argparse
import importlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from common import Figure, counted, linked, on_twin, random_candidates, show

from trec_dse import datasets, plugins
from trec_dse.errors import DoesNotFitError
from trec_dse.evaluate import host_network, untrained_graph
from trec_dse.graph import INPUT, Graph, Int8Array, QuantizedGraph, pack
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target

N_IMAGES, N_OF_SHAPE, FIRST_SEED = 1000, 2, 10_000
SPACES = ("digits_tiny", "mnist_lenet5", "cifar10_cifarnet")
CORES = ("nucleo-g0b1re", "nucleo-f207zg", "stm32f469i-disco", "nucleo-f746zg")


def networks() -> list[Figure]:
    """A TREC candidate of each shipped space on all boards."""
    figures = []
    for space in SPACES:
        candidate = next(c for c in random_candidates(space, 20, seed=5) if c.trec is not None)
        graph = untrained_graph(candidate, datasets.placeholder(candidate.dataset))
        images = random_images(graph, N_IMAGES, seed=1)
        expected = oracle(graph, images)
        with host_network(graph) as network:
            host = network.run(images).outputs
        for path in sorted(data_folder("targets").glob("*.toml")):
            target = load_target(path)
            with on_twin(graph, target) as (_, executor):
                device = np.stack([executor.infer(image).output for image in images])
            wrong = int(((expected != host) | (host != device)).any(axis=1).sum())
            figures.append(Figure(f"{space} on {target.name}: {N_IMAGES} images", wrong, "mismatches", 0, wrong == 0))
    return figures


def random_network(kind: str, seed: int) -> QuantizedGraph:
    """A random network around one operator, of the shapes that its tests draw."""
    random = np.random.default_rng([plugins.names("ops").index(kind), seed])
    graph: Graph = importlib.import_module(f"trec_dse.ops.{kind}.cases").random_graph(random)
    return quantize(graph, torch.from_numpy(random.standard_normal((4, *graph.input_shape))).float())


def random_images(graph: QuantizedGraph, n: int, seed: int) -> Int8Array:
    """Images as they lie in memory."""
    shape = graph.input_shape if graph.quantization[INPUT].bits == 8 else (graph.bytes_of(INPUT),)
    return np.random.default_rng(seed).integers(-128, 128, (n, *shape)).astype(np.int8)


def oracle(graph: QuantizedGraph, images: Int8Array) -> Int8Array:
    """The integers that every build must give."""
    outputs = [graph.run(image)[graph.output] for image in images]
    return np.stack([pack(o) if graph.quantization[graph.output].bits == 4 else o.reshape(-1) for o in outputs])


def wrong_answers(graph: QuantizedGraph, targets: list[Target]) -> dict[str, int]:
    """Where it ran -> images whose answer is not the oracle's."""
    images = random_images(graph, N_OF_SHAPE, seed=7)
    expected = oracle(graph, images)
    with host_network(graph) as network:
        found = {"host": int((network.run(images).outputs != expected).any(axis=1).sum())}
    for target in targets:
        try:
            with linked(graph, target) as firmware:
                answers = np.stack([counted(firmware, target, image).answer.output for image in images])
        except DoesNotFitError:
            continue
        found[target.core] = int((answers != expected).any(axis=1).sum())
    return found


def shapes(n: int, kinds: Sequence[str], out: Path | None) -> list[Figure]:
    """Operators on `n` random shapes; what `out` has is taken from there."""
    targets = [load_target(data_folder("targets") / f"{name}.toml") for name in CORES]
    done: dict[tuple[str, int], dict[str, int]] = {}
    if out is not None and out.is_file():
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        done = {(row["op"], row["seed"]): row["wrong"] for row in rows}
    for kind in kinds:
        for seed in range(FIRST_SEED, FIRST_SEED + n):
            if (kind, seed) in done:
                continue
            done[kind, seed] = wrong_answers(random_network(kind, seed), targets)
            if out is not None:
                with out.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"op": kind, "seed": seed, "wrong": done[kind, seed]}) + "\n")
    figures = []
    for kind in kinds:
        ran, wrong = Counter[str](), Counter[str]()
        for (op, _), found in done.items():
            if op == kind:
                ran.update(found.keys())
                wrong.update(found)
        for where, count in ran.items():
            bad = wrong[where]
            figures.append(Figure(f"{kind} on {where}: {count} shapes", bad, "mismatches", 0, bad == 0))
    return figures


def main() -> None:
    """Run all three on all images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes", type=int, metavar="N", help="every operator on N random shapes, instead of networks"
    )
    parser.add_argument("--op", action="append", choices=plugins.names("ops"), help="only this one; several times")
    parser.add_argument("--out", type=Path, metavar="FILE", help="lines of JSON, one per shape, to go on from")
    args = parser.parse_args()
    torch.set_num_threads(1)
    show(networks() if args.shapes is None else shapes(args.shapes, args.op or plugins.names("ops"), args.out))


if __name__ == "__main__":
    main()
