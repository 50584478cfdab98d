"""Recurrent networks with TREC: what clustering costs an SRU on CIFAR-10, and from which batch on it pays in a GRU.

Two tables, as far as this machine can repeat those of the TREC journal paper:

* accuracy: a dense SRU per seed, fine-tuned on with its products clustered by H hash bits (and, to be fair, without);
  int8 accuracy is that of the C code on validation images, cycles those of the board's cost model.
* batch: the product of one step's inputs of a batch of images with a GRU's gates, dense and clustered, on the twin.

Every row is appended to a file of JSON lines as soon as it is there; rows that the file has are not computed again.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from common import Figure, on_twin, show
from safetensors.torch import load_file, save
from scipy.stats import t as student
from torch import Tensor, nn

from trec_dse import codec
from trec_dse.candidate import Candidate, Recipe, TrainingRecipe, TrecConfig
from trec_dse.cost import cycles_of
from trec_dse.course import TREC_RATE, calibration_images
from trec_dse.datasets import Dataset
from trec_dse.durable import write_bytes
from trec_dse.errors import StudyError
from trec_dse.evaluate import cost_of, load_dataset, run_on_host
from trec_dse.graph import INPUT, Graph, Node, Op, QuantizedGraph, Window
from trec_dse.lower import lower
from trec_dse.networks import build_model
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.prune import fold_batch_norms
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.train import train
from trec_dse.trec.apply import apply_trec, conv_shapes, trec_layers
from trec_dse.trec.hashing import principal_hash

VECTOR_LENGTH, STEPS, FEATURES = 32, 96, 32
BATCHES, OUTPUTS, GATES = (1, 25, 100, 1024), (32, 64), (1, 3)
CLUSTERED_TOGETHER = 10  # images per batch in the published SRU figures
Row = TypeVar("Row")


@dataclass(frozen=True)
class Setting:
    """What a row of the accuracy table is measured with. `hash_bits` None: dense."""

    network: str
    width: int
    n_train: int
    n_validation: int
    epochs: int
    trec_epochs: int
    seed: int
    hash_bits: int | None


@dataclass(frozen=True)
class Accuracy:
    """A row of the accuracy table. Shares, not percent.

    Attributes:
        redundancy: r_t of each clustered product per image, by the C code.
        together, redundancy_together: float accuracy and r_t where ten images are clustered together.
        macs, cycles, ms: of one image on the board, by the cost model.
    """

    setting: Setting
    float_accuracy: float
    int8_accuracy: float
    redundancy: tuple[float, ...]
    together: float | None
    redundancy_together: tuple[float, ...]
    macs: int
    cycles: int
    ms: float


@dataclass(frozen=True)
class Batch:
    """A row of the batch table: `batch` rows of 32 features times `gates` * `outputs` kernels; cycles on the twin."""

    batch: int
    outputs: int
    gates: int
    hash_bits: int
    target: str
    dense_cycles: int
    trec_cycles: int
    redundancy: float
    dense_ms: float
    trec_ms: float


def stored(path: Path, kind: type[Row]) -> list[Row]:
    """The rows of one kind in a file of JSON lines."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return [codec.structure(r["row"], kind, str(path), StudyError) for r in rows if r["kind"] == kind.__name__]


def append(path: Path, row: Accuracy | Batch) -> None:
    """One more line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"kind": type(row).__name__, "row": codec.unstructure(row)}) + "\n")
    print(row, file=sys.stderr, flush=True)


def device() -> str:
    """Where networks are trained."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def recipe_of(setting: Setting) -> Recipe:
    """How networks of that setting are trained."""
    return Recipe(
        batch_size=64,
        learning_rate=0.004,
        weight_decay=0.01,
        n_train=setting.n_train,
        n_validation=setting.n_validation,
        seed=setting.seed,
        training=TrainingRecipe(optimizer="adamw"),
    )


def dense_network(setting: Setting, dataset: Dataset, folder: Path) -> nn.Module:
    """Trained, with all gates of a layer in one product; kept in `folder` for the rows that are still to come."""
    recipe = recipe_of(setting)
    candidate = Candidate("cifar10", setting.network, {"width": setting.width, "steps": STEPS}, recipe=recipe)
    model = build_model(candidate, dataset.input_shape, dataset.n_classes)
    size = f"{setting.width}_{setting.n_train}_{setting.epochs}"
    path = folder / f"{setting.network}_{size}_{setting.seed}.safetensors"
    if path.is_file():
        model.load_state_dict(load_file(path))
    else:
        train(model, dataset, recipe, epochs=setting.epochs, learning_rate=recipe.learning_rate, device=device())
        model.cpu()
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}))
    return fold_batch_norms(model)


def measure(setting: Setting, dense: nn.Module, dataset: Dataset, target: Target) -> Accuracy:
    """Fine-tune the dense network, clustered if `setting` says so, and take it to int8."""
    recipe = recipe_of(setting)
    images = calibration_images(dataset, recipe.n_calibration)
    bits = setting.hash_bits
    names = [] if bits is None else list(conv_shapes(dense, dataset.input_shape))
    model = apply_trec(dense, {name: TrecConfig(bits or 0, VECTOR_LENGTH) for name in names}, images)
    rate = TREC_RATE * recipe.learning_rate
    share = train(model, dataset, recipe, epochs=setting.trec_epochs, learning_rate=rate, device=device())
    model.cpu()
    graph = quantize(lower(model, dataset.input_shape), images.permute(0, 2, 3, 1).contiguous())
    run = run_on_host(graph, dataset, recipe.n_calibration)
    cost = cost_of(run.graph, target)
    together, redundancy = clustered_together(model, dataset) if names else (None, ())
    return Accuracy(
        setting=setting,
        float_accuracy=share,
        int8_accuracy=run.accuracy,
        redundancy=tuple(layer.trec.redundancy_ratio for layer in cost.layers if layer.trec is not None),
        together=together,
        redundancy_together=redundancy,
        macs=cost.macs,
        cycles=cost.cycles,
        ms=1000 * cost.cycles / target.clock_hz,
    )


@torch.no_grad()
def clustered_together(model: nn.Module, dataset: Dataset) -> tuple[float, tuple[float, ...]]:
    """Float accuracy and r_t per layer where every ten images share their clusters, as in the published figures."""
    layers = list(trec_layers(model).values())
    for layer in layers:
        layer.config = replace(layer.config, clustering="batch")
    n_right, found = 0, []
    split = dataset.validation
    for first in range(0, len(split) - CLUSTERED_TOGETHER + 1, CLUSTERED_TOGETHER):
        part = split.take(np.arange(first, first + CLUSTERED_TOGETHER))
        labels = torch.from_numpy(part.labels.copy())
        n_right += int((model(dataset.normalise(part.images)).argmax(dim=1) == labels).sum())
        counts = [layer.clusters_per_image for layer in layers]
        found.append([float(count.float().mean()) for count in counts if count is not None])
    for layer in layers:
        layer.config = replace(layer.config, clustering="image")
    n_rows = CLUSTERED_TOGETHER * STEPS
    return n_right / (len(found) * CLUSTERED_TOGETHER), tuple((1 - np.mean(found, axis=0) / n_rows).tolist())


def accuracy_rows(args: argparse.Namespace, target: Target) -> None:
    """All rows of the accuracy table that the file lacks."""
    known = {row.setting for row in stored(args.rows, Accuracy)}
    dataset: Dataset | None = None
    for seed in args.seeds:
        base = Setting(
            args.network, args.width, args.n_train, args.n_validation, args.epochs, args.trec_epochs, seed, None
        )
        wanted = [replace(base, hash_bits=bits) for bits in (None, *args.hash_bits)]
        missing = [setting for setting in wanted if setting not in known]
        if not missing:
            continue
        candidate = Candidate("cifar10", args.network, recipe=recipe_of(base))
        dataset = load_dataset(candidate, args.data_dir) if dataset is None else dataset
        dense = dense_network(base, dataset, args.rows.with_suffix(".networks"))
        for setting in missing:
            append(args.rows, measure(setting, dense, dataset, target))


def step_rows(dataset: Dataset, batch: int) -> Tensor:
    """The middle step's features of `batch` images, (1, batch, 1, 32): what a GRU multiplies at once in a batch."""
    images = dataset.normalise(dataset.train.stratified(batch).images).permute(0, 2, 3, 1)
    return images.reshape(1, batch, STEPS, FEATURES)[:, :, STEPS // 2].unsqueeze(2).contiguous()


def product(rows: Tensor, kernels: int, hash_bits: int | None) -> QuantizedGraph:
    """The int8 product of `rows` with random kernels, in one slice; its hash is made from the rows themselves."""
    random = np.random.default_rng(0)
    weights = {"weights": random.normal(size=(kernels, 1, 1, FEATURES)), "bias": random.normal(size=kernels)}
    op: Op = Conv2d(kernels, Window((1, 1)))
    if hash_bits is not None:
        vectors, thresholds = principal_hash(rows.reshape(1, -1, FEATURES), hash_bits, FEATURES, shared=False)
        op = TrecConv2d(kernels, Window((1, 1)), TrecConfig(hash_bits, FEATURES))
        weights |= {"hash": vectors.double().numpy(), "thresholds": thresholds.double().numpy()}
    return quantize(Graph(tuple(rows.shape[1:]), (Node("product", op, (INPUT,)),), {"product": weights}), rows)


def batch_rows(args: argparse.Namespace, target: Target) -> None:
    """All rows of the batch table that the file lacks."""
    known = {(r.batch, r.outputs, r.gates, r.hash_bits, r.target) for r in stored(args.rows, Batch)}
    dataset = load_dataset(Candidate("cifar10", "gru"), args.data_dir)
    for gates in GATES:
        for batch in args.batches:
            for outputs in OUTPUTS:
                if (batch, outputs, gates, args.batch_bits, target.name) in known:
                    continue
                rows = step_rows(dataset, batch)
                cycles, n_clusters = [], 0
                for bits in (None, args.batch_bits):
                    graph = product(rows, gates * outputs, bits)
                    with on_twin(graph, target) as (_, executor):
                        answer = executor.infer(graph.quantize_images(rows.numpy())[0])
                    cycles.append(answer.cycles)
                    n_clusters = sum(answer.n_clusters)
                ms = [1000 * count / target.clock_hz for count in cycles]
                redundancy = 1 - n_clusters / batch
                setting = (batch, outputs, gates, args.batch_bits, target.name)
                append(args.rows, Batch(*setting, cycles[0], cycles[1], redundancy, ms[0], ms[1]))


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval (Student); infinite for one value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), math.inf
    return float(np.mean(values)), float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))


def together_ms(row: Accuracy, target: Target) -> float:
    """Milliseconds per image of both products, were ten images clustered together: more SRAM than these boards have."""
    setting, cycles = row.setting, 0.0
    parts = (4, 3) if setting.network == "sru" else (3, 3)
    for i, (n_parts, r_t) in enumerate(zip(parts, row.redundancy_together, strict=True)):
        shape = (STEPS, CLUSTERED_TOGETHER, setting.width if i else FEATURES)
        config = TrecConfig(setting.hash_bits or 0, VECTOR_LENGTH)
        n_clusters = (1 - r_t) * shape[2] / VECTOR_LENGTH * STEPS * CLUSTERED_TOGETHER
        op = TrecConv2d(n_parts * setting.width, Window((1, 1)), config, mean_clusters=n_clusters)
        cycles += cycles_of(op.work(shape, worst=False), target.timing, target.name)
    return 1000 * cycles / CLUSTERED_TOGETHER / target.clock_hz


def summary(rows: Sequence[Accuracy], target: Target) -> Iterator[Figure]:
    """Means over the seeds of each H, and the differences to the dense network of the same seed."""
    dense = {row.setting.seed: row for row in rows if row.setting.hash_bits is None}
    for bits in sorted({row.setting.hash_bits for row in rows}, key=lambda bits: bits or 0):
        group = [row for row in rows if row.setting.hash_bits == bits]
        name = f"{group[0].setting.network}-{group[0].setting.width}, {'dense' if bits is None else f'H = {bits}'}"
        columns: dict[str, Callable[[Accuracy], float | None]] = {
            "int8 accuracy": lambda row: 100 * row.int8_accuracy,
            "float accuracy": lambda row: 100 * row.float_accuracy,
            "ten images together": lambda row: None if row.together is None else 100 * row.together,
        }
        for label, column in columns.items():
            values = [value for row in group if (value := column(row)) is not None]
            if values:
                mean, half = mean_and_interval(values)
                yield Figure(f"{name}: {label}, {len(values)} seeds, +- {half:.1f}", mean, "%")
        paired = [
            100 * (row.int8_accuracy - dense[row.setting.seed].int8_accuracy)
            for row in group
            if bits is not None and row.setting.seed in dense
        ]
        if paired:
            mean, half = mean_and_interval(paired)
            yield Figure(f"{name}: int8 accuracy above dense, +- {half:.1f}", mean, "points")
        for which in ("redundancy", "redundancy_together"):
            for i, mean in enumerate(np.mean([getattr(row, which) for row in group], axis=0).tolist()):
                yield Figure(
                    f"{name}: r_t of product {i + 1}{', ten together' if 'together' in which else ''}", mean, ""
                )
        yield Figure(f"{name}: cycles", float(np.mean([row.cycles for row in group])) / 1e6, "M")
        yield Figure(f"{name}: time", float(np.mean([row.ms for row in group])), "ms")
        if bits is not None:
            times = [together_ms(row, target) for row in group]
            yield Figure(f"{name}: products alone, ten images together, each", float(np.mean(times)), "ms")


def batch_summary(rows: Sequence[Batch]) -> Iterator[Figure]:
    """Dense and clustered times of every batch."""
    for row in sorted(rows, key=lambda row: (row.gates, row.batch, row.outputs)):
        name = f"{row.target}: batch {row.batch}, {row.gates} x {row.outputs} outputs"
        yield Figure(f"{name}: dense", row.dense_ms, "ms")
        yield Figure(f"{name}: H = {row.hash_bits}, r_t {row.redundancy:.3f}", row.trec_ms, "ms")
        yield Figure(f"{name}: dense / clustered", row.dense_ms / row.trec_ms, "times")


def main() -> None:
    """Compute what is missing, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("recurrent.jsonl"), help="default %(default)s")
    parser.add_argument("--part", choices=("accuracy", "batch"), help="only this table")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies")
    parser.add_argument("--target", default="stm32f469i-disco")
    parser.add_argument("--network", choices=("sru", "gru"), default="sru")
    parser.add_argument("--width", type=int, default=64, help="hidden units (default %(default)s; published 256)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--hash-bits", type=int, nargs="*", default=[5, 8, 9, 10])
    parser.add_argument("--n-train", type=int, default=2000)
    parser.add_argument("--n-validation", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6, help="of dense training (default %(default)s)")
    parser.add_argument("--trec-epochs", type=int, default=2, help="of fine-tuning (default %(default)s)")
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--batch-bits", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    target = load_target(data_folder("targets") / f"{args.target}.toml")
    if args.part != "batch":
        accuracy_rows(args, target)
    if args.part != "accuracy":
        batch_rows(args, target)
    settings = (args.network, args.width, args.n_train, args.epochs)
    rows = [
        row
        for row in stored(args.rows, Accuracy)
        if (row.setting.network, row.setting.width, row.setting.n_train, row.setting.epochs) == settings
    ]
    show([*summary(rows, target), *batch_summary(stored(args.rows, Batch))])


if __name__ == "__main__":
    main()
