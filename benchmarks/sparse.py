"""Table II of the TREC paper in our terms: CifarNet with convolutions by lookup, in patterns, of low rank, with TREC.

    python benchmarks/sparse.py --data-dir FOLDER --out sparse.jsonl

Two parts. "cycles": the layers as large as published, random weights, a smooth random image, alone on the twin of the
F469, every output compared with the oracle's. "accuracy": CifarNet at a quarter of its width, 2,000 training images of
CIFAR-10; a dense network per seed, and from it every form, fine-tuned for two epochs and turned into int8. Its own C
classifies 2,000 test images, and the twin three of them, compared byte by byte. Lines that OUT holds already are not
computed again. Accuracies of so little training only rank the forms.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from common import on_twin, smooth_image
from torch import Tensor, nn

from trec_dse import datasets
from trec_dse.candidate import Candidate, KernelConfig, Recipe, TrecPolicy
from trec_dse.course import TREC_RATE, calibration_images
from trec_dse.datasets import Dataset
from trec_dse.evaluate import cost_of, host_network, int8_images
from trec_dse.graph import QuantizedGraph
from trec_dse.lower import lower
from trec_dse.networks import build_model
from trec_dse.prune import fold_batch_norms
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.sparse.apply import apply_kernels, hold_patterns, resolve_kernels
from trec_dse.target import load_target
from trec_dse.train import train
from trec_dse.trec.apply import apply_trec, conv_shapes
from trec_dse.trec.policy import resolve

TARGET = "stm32f469i-disco"
LAYERS = {"conv1": ("conv1",), "conv2": ("conv2",), "both": ("conv1", "conv2")}
METHODS = ("dense", "LCNN", "LCNN+TREC", "TREC", "pattern", "pattern+TREC", "low rank")
NOT_OF_THREE_CHANNELS = ("low rank",)  # forms that conv1 cannot gain by
HASH_BITS = 4
SEEDS = (0, 1)
WIDTH, N_TRAIN, N_TEST, N_ON_TWIN, FINE_TUNE_EPOCHS = 0.25, 2000, 2000, 3, 2
RECIPE = Recipe(epochs=8, batch_size=32, learning_rate=0.05, n_train=N_TRAIN, n_validation=500)


@dataclass(frozen=True)
class Row:
    """One line of output.

    Attributes:
        cycles: of the chosen layers by the cost model, with the clusters that calibration found.
        twin_cycles: of the whole network, layers around the chosen ones included; mean over the images.
        flash_bytes: of the chosen layers' constants. r_t: of their TREC layers, None where there is none.
        wrong_bytes: outputs in which the twin and the oracle differ.
        accuracy: per cent, of the C code; None where nothing was trained.
    """

    part: str
    method: str
    layers: str
    seed: int
    cycles: int
    twin_cycles: int
    flash_bytes: int
    r_t: float | None
    wrong_bytes: int
    accuracy: float | None


def kernels_of(method: str, width: float) -> dict[str, KernelConfig]:
    """How the two convolutions are stored: a tap has one term in the first, which reads 3 channels, 4 in the other."""
    if method.startswith("LCNN"):
        return {
            "conv1": KernelConfig("lookup", dictionary=16, terms=1),
            "conv2": KernelConfig("lookup", dictionary=round(64 * width), terms=4),
        }
    if method.startswith("pattern"):
        return {name: KernelConfig("pattern", patterns=4, taps=4, group=16) for name in ("conv1", "conv2")}
    if method == "low rank":
        return {"conv2": KernelConfig("low_rank", rank=round(16 * width))}
    return {}


def formed(model: nn.Module, method: str, layers: Sequence[str], images: Tensor, width: float) -> nn.Module:
    """The folded dense `model` with the chosen layers in that form; hashes from normalised images (n, C, H, W)."""
    shape = (images.shape[2], images.shape[3], images.shape[1])
    asked = {name: config for name, config in kernels_of(method, width).items() if name in layers}
    stored = apply_kernels(model, resolve_kernels(asked, conv_shapes(model, shape)))
    if not method.endswith("TREC"):
        return stored
    names = [name for name in conv_shapes(stored, shape) if name.partition(".")[0] in layers]
    configs = resolve(TrecPolicy(HASH_BITS, HASH_BITS, layers=tuple(names)), conv_shapes(stored, shape))
    clustered = apply_trec(stored, configs, images)
    hold_patterns(clustered, stored)
    return clustered


def measured(graph: QuantizedGraph, layers: Sequence[str], images: np.ndarray) -> dict[str, object]:
    """What the cost model says of the layers, and the twin of the whole network on int8 images."""
    target = load_target(data_folder("targets") / f"{TARGET}.toml")
    cost = [layer for layer in cost_of(graph, target).layers if layer.name.partition(".")[0] in layers]
    clustered = [layer.trec for layer in cost if layer.trec is not None]
    cycles, wrong = [], 0
    with on_twin(graph, target) as (_, executor):
        for image in images:
            answer = executor.infer(image)
            expected = graph.run(image)[graph.output].reshape(-1)
            wrong += int((answer.output.reshape(-1) != expected).sum())
            cycles.append(answer.cycles)
    return {
        "cycles": sum(layer.cycles for layer in cost),
        "twin_cycles": round(float(np.mean(cycles))),
        "flash_bytes": sum(layer.flash_bytes for layer in cost),
        "r_t": float(np.mean([item.redundancy_ratio for item in clustered])) if clustered else None,
        "wrong_bytes": wrong,
    }


def combinations(methods: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(method, layers): every form of every choice, the dense network once."""
    if "dense" in methods:
        yield "dense", "both"
    for method in methods:
        for layers in LAYERS if method != "dense" else ():
            if layers == "conv2" or method not in NOT_OF_THREE_CHANNELS:
                yield method, layers


def layer_rows(known: set[tuple[object, ...]], methods: Sequence[str]) -> Iterator[Row]:
    """The convolutions alone, as large as published: 32x32x3 and 14x14x64 to 64 channels, 5x5."""
    sources = {"conv1": (32, 32, 3), "conv2": (14, 14, 64)}
    for method in methods:
        for name, shape in sources.items():
            if ("cycles", method, name, 0) in known or (name == "conv1" and method in NOT_OF_THREE_CHANNELS):
                continue
            torch.manual_seed(0)
            model = nn.Sequential()
            model.add_module(name, nn.Conv2d(shape[2], 64, 5))
            levels = smooth_image(shape)
            images = torch.from_numpy(levels / 64.0).float().permute(2, 0, 1)[None]
            graph = lower(formed(model.eval(), method, [name], images, 1.0).eval(), shape)
            quantized = quantize(graph, images.permute(0, 2, 3, 1).contiguous())
            found = measured(quantized, [name], quantized.quantize_images(images.permute(0, 2, 3, 1).numpy()))
            yield Row("cycles", method, name, 0, accuracy=None, **found)  # type: ignore[arg-type]


def accuracy_rows(
    dataset: Dataset, known: set[tuple[object, ...]], seeds: Sequence[int], methods: Sequence[str]
) -> Iterator[Row]:
    """Every form of the trained network."""
    for seed in seeds:
        wanted = [pair for pair in combinations(methods) if ("accuracy", *pair, seed) not in known]
        if not wanted:
            continue
        recipe = replace(RECIPE, seed=seed)
        candidate = Candidate("cifar10", "cifarnet", {"width": WIDTH, "dropout": 0.2}, recipe=recipe)
        dense = build_model(candidate, dataset.input_shape, dataset.n_classes)
        train(dense, dataset, recipe, epochs=recipe.epochs, learning_rate=recipe.learning_rate)
        dense = fold_batch_norms(dense)
        images = calibration_images(dataset, recipe.n_calibration)
        test = dataset.test.stratified(N_TEST)
        for method, layers in wanted:
            model = formed(dense, method, LAYERS[layers], images, WIDTH)
            train(model, dataset, recipe, epochs=FINE_TUNE_EPOCHS, learning_rate=TREC_RATE * recipe.learning_rate)
            graph = quantize(lower(model.eval(), dataset.input_shape), images.permute(0, 2, 3, 1).contiguous())
            inputs = int8_images(graph, dataset, test)
            with host_network(graph) as network:
                right = network.run(inputs).outputs.argmax(axis=1) == test.labels
            found = measured(graph, LAYERS[layers], inputs[:N_ON_TWIN])
            yield Row("accuracy", method, layers, seed, accuracy=100 * float(right.mean()), **found)  # type: ignore[arg-type]


def read(path: Path) -> list[Row]:
    """The lines of an earlier run."""
    if not path.is_file():
        return []
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Means over the seeds, as text."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.part, row.method, row.layers), []).append(row)
    yield "part      form          layers      cycles  on the twin  Flash B    r_t  int8 %"
    for (part, method, layers), group in groups.items():
        shares = [row.r_t for row in group if row.r_t is not None]
        accuracies = [row.accuracy for row in group if row.accuracy is not None]
        means = (np.mean([getattr(row, name) for row in group]) for name in ("cycles", "twin_cycles", "flash_bytes"))
        cycles, on_board, flash = means
        yield (
            f"{part:<9} {method:<13} {layers:<6} {cycles:>11,.0f} {on_board:>12,.0f} {flash:>8,.0f} "
            f"{f'{np.mean(shares):.3f}' if shares else '':>6} {f'{np.mean(accuracies):.1f}' if accuracies else '':>7}"
        )
    wrong = sum(row.wrong_bytes for row in rows)
    yield f"{len(rows)} networks on the twin, {wrong} output bytes differ from the oracle's"


def main() -> None:
    """Compute what is missing, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies; the default is the user's cache")
    parser.add_argument("--out", type=Path, default=Path("sparse.jsonl"), help="lines go there, and those there stay")
    parser.add_argument("--parts", nargs="+", choices=["cycles", "accuracy"], default=["cycles", "accuracy"])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="of the accuracies")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="default: all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = read(args.out)
    known: set[tuple[object, ...]] = {(row.part, row.method, row.layers, row.seed) for row in rows}
    sources = [layer_rows(known, args.methods)] if "cycles" in args.parts else []
    if "accuracy" in args.parts:
        dataset = datasets.load("cifar10", args.data_dir)
        n = RECIPE.n_validation
        dataset = replace(dataset, validation=dataset.validation.stratified(n))
        sources.append(accuracy_rows(dataset, known, args.seeds, args.methods))
    for source in sources:
        for row in source:
            with args.out.open("a", encoding="utf-8") as file:
                print(json.dumps(asdict(row)), file=file)
            print(json.dumps(asdict(row)), flush=True)
            rows.append(row)
    print("\n".join(table(rows)), file=sys.stderr)


if __name__ == "__main__":
    main()
