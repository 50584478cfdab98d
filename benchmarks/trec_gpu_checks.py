"""Whether a TREC layer's training step on the GPU gives what the CPU's gives: every variant, tensor by tensor.

Images, hashes and weights lie on a coarse grid: all sums of a projection are then exact, whatever their order, so that
clusters must be equal one by one and the other differences are those of rounding alone.
"""

import contextlib
import copy
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from trec_cpu import VARIANTS, Shape, Variant

from trec_dse.trec import native, on_gpu
from trec_dse.trec.conv import TrecConv2d

CHECKED = 16
TOLERANCES = {"fp32": 2e-4, "tf32": 2e-2, "bf16": 1e-1}  # of the largest value; products round at 2**-24, -11, -9
CHECKS = {
    **VARIANTS,
    "per slice, neighbours": Variant("per_slice", "neighbours"),
    "per slice, soft, at most 6 clusters": Variant("per_slice", "soft", max_clusters=6),
    "kernel reuse, neighbours": Variant("kernel_reuse", "neighbours", kernel_surrogate=True),
    "shared, neighbours, 3 bits more": Variant("shared", "neighbours", extra_bits=3),
    "strips of a pixel, a group per channel": Variant("strip_shared", "soft", pixels=1, groups=-1),
    "strips of a kernel row, neighbours": Variant("strip_shared", "neighbours"),
}
TINY = {"tiny": Shape(3, 5, 5, 3, 1, 9, 2), "tiny, padded less": Shape(2, 5, 6, 3, 0, 6, 3)}


def on_grid(tensor: Tensor, steps: int, most: float) -> Tensor:
    """`tensor` in whole numbers of 1 / steps, at most `most`."""
    return tensor.detach().mul(steps).round().div(steps).clamp(-most, most)


def checked_layer(shape: Shape, variant: Variant, images: Tensor) -> TrecConv2d:
    """A layer whose projections of `images` in eighths are exact in float32, and none of them a threshold."""
    groups = shape.channels if variant.groups == -1 else variant.groups
    layer = replace(variant, groups=groups).layer(shape, shape.conv(), images)
    with torch.no_grad():
        layer.weight.copy_(on_grid(layer.weight, 64, 1))
        if layer.hash is not None:
            layer.hash.copy_(on_grid(layer.hash, 64, 1))
            layer.thresholds.copy_(on_grid(layer.thresholds, 512, 64) + 1 / 1024)
    return layer


def step_of(layer: TrecConv2d, images: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Output, signatures and gradients of one step, on the CPU in float32."""
    images = images.detach().clone().requires_grad_()
    y = layer(images)
    assert layer.clusters_per_image is not None
    found = {"clusters": layer.clusters_per_image, "signatures": signatures_of(y.grad_fn), "output": y}
    torch.autograd.backward(y, gradient.to(y.dtype))
    assert images.grad is not None
    found |= {"images": images.grad}
    found |= {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {name: tensor.detach().cpu().float() for name, tensor in found.items()}


def signatures_of(step: Any) -> Tensor:
    """The signature of every vector's cluster, (B, groups, vectors), as the kernels' autograd node keeps it."""
    if hasattr(step, "clusters"):
        found: Tensor = step.clusters.codes
        return found
    tables: dict[str, Tensor] = step.task.tables
    return tables["codes"].long().gather(2, tables["clusters"].long())


@dataclass(frozen=True)
class Check:
    """How far a step is from the CPU's: the largest error over the largest value, by tensor."""

    shape: str
    variant: str
    precision: str
    vectors_elsewhere: int
    errors: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every vector is in its cluster and errors are those of rounding."""
        return self.vectors_elsewhere == 0 and max(self.errors.values()) <= TOLERANCES[self.precision]


@dataclass(frozen=True, eq=False)
class Checked:
    """A layer with what a step of it is given."""

    layer: TrecConv2d
    images: Tensor
    gradient: Tensor

    @classmethod
    def of(cls, shape: Shape, variant: str, n_images: int) -> "Checked":
        torch.manual_seed(0)
        images = on_grid(shape.images(n_images), 8, 4)
        layer = checked_layer(shape, CHECKS[variant], images)
        with torch.no_grad():
            return cls(layer, images, on_grid(torch.randn_like(layer(images)), 8, 4))

    def on_cpu(self) -> dict[str, Tensor]:
        """What the compiled path gives."""
        if native.library() is None:
            raise SystemExit("the check needs the compiled path of the CPU: install a C compiler (gcc or ziglang)")
        return step_of(copy.deepcopy(self.layer), self.images, self.gradient)

    def by_triton(self, precision: str, device: str) -> dict[str, Tensor]:
        """What the kernels of the GPU give."""
        with computing(precision, device), usable():
            layer = copy.deepcopy(self.layer).to(device)
            return step_of(layer, self.images.to(device), self.gradient.to(device))


def compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[int, dict[str, float]]:
    """Vectors in another cluster, and the relative error of each of the other tensors."""
    names = [name for name in expected if name not in ("clusters", "signatures")]
    elsewhere = int((found["signatures"] != expected["signatures"]).sum())
    elsewhere += int((found["clusters"] != expected["clusters"]).sum())
    sizes = {name: float(expected[name].abs().max()) or 1.0 for name in names}
    return elsewhere, {name: float((found[name] - expected[name]).abs().max()) / sizes[name] for name in names}


def run_checks(shapes: dict[str, Shape], precisions: list[str], device: str) -> list[Check]:
    """Every variant at every shape in every precision; a table as it goes."""
    checks = []
    for name, shape in shapes.items():
        for variant in CHECKS:
            checked = Checked.of(shape, variant, 2 if device == "cpu" else CHECKED)
            expected = checked.on_cpu()
            for precision in precisions:
                found = compare(checked.by_triton(precision, device), expected)
                checks.append(Check(name, variant, precision, *found))
                line = "  ".join(f"{key} {error:.0e}" for key, error in checks[-1].errors.items())
                verdict = "ok" if checks[-1].passed else f"WRONG ({checks[-1].vectors_elsewhere} vectors elsewhere)"
                print(f"{name:<20} {variant:<40} {precision}  {line}  {verdict}", file=sys.stderr, flush=True)
    return checks


def warm_up(shape: Shape, precision: str) -> None:
    """Compile what the check and the timings of a shape need, for Triton's cache on disk."""
    for variant in CHECKS:
        Checked.of(shape, variant, CHECKED).by_triton(precision, "cuda")


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """The kernels take what they are given, also on the CPU; nothing falls back unseen."""
    refusal = on_gpu.refusal
    on_gpu.refusal = lambda x, config: None
    try:
        yield
    finally:
        on_gpu.refusal = refusal


@contextlib.contextmanager
def computing(precision: str, device: str) -> Iterator[None]:
    """Convolutions and matrix products in this precision."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Plain PyTorch only, without the warning that it is slow."""
    refusal = on_gpu.refusal
    on_gpu.refusal = lambda x, config: "asked for plain PyTorch"
    try:
        yield
    finally:
        on_gpu.refusal = refusal
