"""Ideas against the loss that clustering brings, one at a time on one trained CifarNet: what each is worth in points.

The network (half its width, both convolutions in strips) is trained once, then clustered and fine-tuned anew for every
idea. What won is part of the library and of benchmarks/accuracy.py; what did not stays here, so that it can be tried
again. Accuracies are in floating point, on images that nothing was chosen by, one seed.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from accuracy_variants import AUGMENTED, strips
from common import Figure, show
from torch import Tensor, nn

from trec_dse.candidate import Candidate, HashGradient, HashStart, Recipe, TrainingRecipe, TrecConfig
from trec_dse.course import TREC_RATE, calibration_images
from trec_dse.datasets import Dataset
from trec_dse.evaluate import load_dataset
from trec_dse.networks import build_model
from trec_dse.prune import fold_batch_norms
from trec_dse.train import Aids, accuracy, train
from trec_dse.trec.apply import apply_trec, conv_shapes, trec_layers
from trec_dse.trec.conv import HASH_PACE, Learning, TrecConv2d, learning_conv2d
from trec_dse.trec.hashing import principal_hash, weight_matrix
from trec_dse.trec.layout import ConvGeometry, layout_of
from trec_dse.trec.strips import strip_rows

STRIPS = {"conv1": strips(6, 15), "conv2": strips(5, 16, 2)}
Change = Callable[[nn.Module, Tensor], None]


class Wrapped(nn.Module):
    """A TREC layer whose forward pass an idea changes; it keeps the layer's clusters and follows the training."""

    def __init__(self, layer: TrecConv2d) -> None:
        super().__init__()
        self.layer = layer
        self.progress = 1.0

    def follow(self, progress: float) -> None:
        """How much of the training is done; 1 outside."""
        self.progress = progress

    def dense(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolution without clusters and bias."""
        return F.conv2d(x, weight, None, self.layer.stride, self.layer.padding)


class Annealed(Wrapped):
    """From a quarter to all of the output comes from clusters, by three quarters of the training; the rest is dense."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        share = min(1.0, 0.25 + self.progress) if self.training else 1.0
        bias = self.layer.bias
        exact = self.dense(x, self.layer.weight) + (0 if bias is None else bias.view(-1, 1, 1))
        return y if share == 1 else share * y + (1 - share) * exact


class StraightThrough(Wrapped):
    """Inputs get the gradient of the dense convolution, each row its own, not the mean of its cluster."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.detach())
        exact = self.dense(x, self.layer.weight.detach())
        return y + exact - exact.detach() if self.training else y


class PartlyDense(Wrapped):
    """Part of every vector is multiplied exactly, the rest is clustered: y = TREC(x; W - PW) + x * PW."""

    def __init__(self, layer: TrecConv2d, projector: Tensor) -> None:
        """`projector` P: (n, L, L), what of each slice's or group's vectors is exact."""
        super().__init__(layer)
        self.projector: Tensor
        self.register_buffer("projector", projector)

    def forward(self, x: Tensor) -> Tensor:
        layer, exact = self.layer, self._exact_part()
        assert layer.hash is not None
        hash, thresholds = (_quickened(each) for each in (layer.hash, layer.thresholds))
        rest = layer.weight - exact
        learning = Learning("all", layer.slope)
        where = (layer.stride, layer.padding)
        y, counts = learning_conv2d(x, rest, layer.bias, hash, thresholds, layer.config, learning, *where)
        layer.clusters_per_image = counts
        return y + self.dense(x, exact)

    def _exact_part(self) -> Tensor:
        """PW, (M, C, kh, kw), slice by slice of the kernels."""
        weight = self.layer.weight
        geometry = ConvGeometry((64, 64), weight.shape[1], self.layer.kernel_size, (1, 1), (0, 0))
        order = layout_of(geometry, self.layer.config).order  # (groups, parts, L): rows of the weight matrix
        matrix = weight_matrix(weight)
        exact = torch.zeros_like(matrix)
        parts = torch.einsum("gij,gpjm->gpim", self.projector, matrix[order])
        exact = exact.index_put((order,), parts)
        kernel_h, kernel_w = self.layer.kernel_size
        return exact.view(kernel_h, kernel_w, weight.shape[1], -1).permute(3, 2, 0, 1)


def _quickened(parameter: Tensor) -> Tensor:
    return parameter + (HASH_PACE - 1) * (parameter - parameter.detach())


def wrapping(kind: Callable[[TrecConv2d], Wrapped]) -> Change:
    """Wrap every TREC layer of a model."""

    def change(model: nn.Module, images: Tensor) -> None:
        for name, layer in trec_layers(model).items():
            setattr(model, name, kind(layer))

    return change


def exact(n_directions: int, *, mean: bool = False) -> Change:
    """The first principal directions, or the mean of a vector's elements, are exact; the hash sees what comes after."""

    def change(model: nn.Module, images: Tensor) -> None:
        seen: dict[str, Tensor] = {}
        layers = trec_layers(model)
        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.__setitem__(name, inputs[0]))
            for name, layer in layers.items()
        ]
        with torch.no_grad():
            model.eval()(images)
        for hook in hooks:
            hook.remove()
        for name, layer in layers.items():
            setattr(model, name, PartlyDense(layer, _set_hash(layer, seen[name], n_directions, mean)))

    return change


@torch.no_grad()
def _set_hash(layer: TrecConv2d, x: Tensor, n_directions: int, mean: bool) -> Tensor:
    """Take the layer's hash from what the exact directions leave; returns their projectors (n, L, L)."""
    config = layer.config
    geometry = ConvGeometry((x.shape[2], x.shape[3]), x.shape[1], layer.kernel_size, layer.stride, layer.padding)
    rows = strip_rows(x, geometry, layout_of(geometry, config))
    length, bits = config.vector_length, config.hash_bits
    if mean:
        projector = torch.full((config.channel_groups, length, length), 1 / length)
        sliced = rows.view(*rows.shape[:2], -1, length)
        rows = (sliced - sliced.mean(dim=3, keepdim=True)).view(rows.shape)
        n_directions = 0
    vectors, thresholds = principal_hash(rows, bits + n_directions, length, shared=False)
    if not mean:
        directions = vectors[:, :, :n_directions]
        projector = directions @ directions.transpose(1, 2)
    assert layer.hash is not None
    layer.hash.copy_(vectors[:, :, n_directions:])
    layer.thresholds.copy_(thresholds[:, n_directions:])
    return projector


@dataclass(frozen=True)
class Idea:
    """What is tried. `change` takes the clustered model and calibration images."""

    name: str
    configs: dict[str, TrecConfig]
    training: TrainingRecipe = AUGMENTED
    hash_gradient: HashGradient = "soft"
    hash_start: HashStart = "principal"
    change: Change | None = None
    epochs: int = 3


def ideas() -> list[Idea]:
    """All of them; "plain" is what they are held against."""
    layers, logits = replace(AUGMENTED, layer_distillation=10.0), replace(AUGMENTED, distillation=0.9)
    fewer = {"conv1": strips(5, 15), "conv2": strips(4, 16, 2)}
    merged = {
        "conv1": replace(strips(8, 15), max_clusters=64),
        "conv2": replace(strips(7, 16, 2), max_clusters=32),
    }
    at_levels = {"conv1": replace(strips(10, 15), max_clusters=128), "conv2": strips(6, 16, 2)}
    pixels = {"conv1": replace(strips(9, 3), max_clusters=48)}
    return [
        Idea("no clusters, trained on", {}),
        Idea("plain", STRIPS),
        Idea("hash from data, fixed", STRIPS, hash_gradient="none"),
        Idea("one-bit neighbours", STRIPS, hash_gradient="neighbours"),
        Idea("teacher's logits", STRIPS, logits),
        Idea("teacher's layers, fixed hash", STRIPS, layers, "none"),
        Idea("teacher's layers", STRIPS, layers),
        Idea("teacher's layers and logits", STRIPS, replace(layers, distillation=0.9)),
        Idea("teacher's layers, 8 epochs", STRIPS, layers, epochs=8),
        Idea("clusters annealed in", STRIPS, change=wrapping(Annealed)),
        Idea("clusters annealed in, teacher's layers", STRIPS, layers, change=wrapping(Annealed)),
        Idea("straight-through input gradient", STRIPS, change=wrapping(StraightThrough)),
        Idea("two more bits, merged to as many clusters", merged, layers),
        Idea("mean of a vector exact", STRIPS, layers, change=exact(0, mean=True)),
        Idea("1 direction exact", STRIPS, layers, change=exact(1)),
        Idea("2 directions exact", STRIPS, layers, change=exact(2)),
        Idea("one bit less", fewer, layers),
        Idea("one bit less, 1 direction exact", fewer, layers, change=exact(1)),
        Idea("one bit less, 2 directions exact", fewer, layers, change=exact(2)),
        Idea("at levels, more bits", at_levels, layers, hash_start="levels"),
        Idea("more bits", at_levels, layers),
        Idea("conv1 alone, its pixels, 9 bits", pixels, layers),
        Idea("conv1 alone, its pixels at levels, 9 bits", pixels, layers, hash_start="levels"),
    ]


@dataclass(frozen=True)
class Row:
    """What came of an idea: percent right before and after fine-tuning, and r_t by layer after it."""

    name: str
    before: float
    after: float
    redundancy: dict[str, float]


def redundancy(model: nn.Module, dense: nn.Module, images: Tensor, shape: tuple[int, int, int]) -> dict[str, float]:
    """r_t of every TREC layer, mean over `images`."""
    shapes = conv_shapes(dense, shape)
    with torch.no_grad():
        model.eval()(images)
    found = {}
    for name, layer in trec_layers(model).items():
        assert layer.clusters_per_image is not None
        convolution = name.removesuffix(".layer")
        found[convolution] = 1 - float(layer.clusters_per_image.float().mean()) / shapes[convolution].n_positions
    return found


def try_out(idea: Idea, dense: nn.Module, dataset: Dataset, recipe: Recipe) -> Row:
    """Cluster the trained network as the idea says, and fine-tune it."""
    images = calibration_images(dataset, recipe.n_calibration)
    gradient, start = idea.hash_gradient, idea.hash_start
    model = apply_trec(dense, idea.configs, images, hash_gradient=gradient, hash_start=start)
    if idea.change is not None:
        idea.change(model, images)
    before = accuracy(model, dataset, dataset.validation)
    recipe, rate = replace(recipe, training=idea.training), TREC_RATE * recipe.learning_rate
    after = train(model, dataset, recipe, epochs=idea.epochs, learning_rate=rate, aids=Aids(dense))
    ratios = redundancy(model, dense, dataset.normalise(dataset.validation.images[:256]), dataset.input_shape)
    return Row(idea.name, 100 * before, 100 * after, ratios)


def main() -> None:
    """Train once, then try every idea."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/trec_ideas"), help="folder (default %(default)s)")
    parser.add_argument("--only", default="", help="ideas whose name contains this")
    parser.add_argument("--epochs", type=int, default=16, help="of dense training (default %(default)s)")
    parser.add_argument("--n-train", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--n-validation", type=int, default=2_000, help="default %(default)s")
    parser.add_argument("--data-dir", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(
        epochs=args.epochs,
        n_train=args.n_train,
        n_validation=args.n_validation,
        n_calibration=256,
        training=AUGMENTED,
    )
    candidate = Candidate("cifar10", "cifarnet", {"width": 0.5}, recipe=recipe)
    dataset = load_dataset(candidate, args.data_dir)
    model = build_model(candidate, dataset.input_shape, dataset.n_classes)
    args.out.mkdir(parents=True, exist_ok=True)
    aids = Aids(checkpoint=args.out / "dense.safetensors")
    train(model, dataset, recipe, epochs=args.epochs, learning_rate=recipe.learning_rate, aids=aids)
    dense = fold_batch_norms(model)
    known = args.out / "rows.jsonl"
    done = [] if not known.is_file() else [json.loads(line)["name"] for line in known.read_text().splitlines()]
    for idea in ideas():
        if args.only in idea.name and idea.name not in done:
            row = try_out(idea, dense, dataset, recipe)
            print(row, file=sys.stderr, flush=True)
            with known.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
    figures = []
    for row in (Row(**json.loads(line)) for line in known.read_text().splitlines()):
        figures += [Figure(f"{row.name}: before fine-tuning", row.before, "%"), Figure(row.name, row.after, "%")]
        figures += [Figure(f"{row.name}: r_t of {layer}", value, "") for layer, value in row.redundancy.items()]
    show(figures)


if __name__ == "__main__":
    main()
