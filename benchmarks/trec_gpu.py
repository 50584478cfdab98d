"""A TREC layer's training step on the GPU: checked against the CPU's, and timed as multiples of cuDNN's convolution.

The check gives every variant images, hashes and weights on a coarse grid: all sums of a projection are then exact,
whatever their order, so that clusters must be equal one by one and the other differences are those of rounding alone.
Steps are timed at batch 256 with float32 products, with TF32 (torch's own choice for convolutions) and under bfloat16
autocast, as launched from Python and as replayed from a CUDA graph. Plain PyTorch and the one-hot formulation stand
beside them. Everything goes to `--out` as a table and as JSON lines; exit code 1 if the check fails, 2 without a GPU.
"""

import argparse
import contextlib
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import Figure, show
from torch import Tensor, nn
from trec_cpu import SHAPES, VARIANTS, Shape, Variant

from trec_dse.trec import native, on_gpu
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.hashing import codes_from_projections, project, slice_rows, unfold_rows, weight_matrix
from trec_dse.trec.surrogate import soft_memberships

BATCH, CHECKED = 256, 16
GOAL, ONE_HOT_GOAL = 1.3, 3.0
BUDGET_S = 440.0  # after this nothing new is begun, so that all ends within eight minutes
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

Step = Callable[[], Tensor]


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


class OneHot(nn.Module):
    """TREC as it is written down: a bitmap of members times the rows, and again times the products.

    Empty clusters have no soft mean here, so that the gradient of the hash lacks their share.
    """

    def __init__(self, layer: TrecConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, M, H_out, W_out) of slices with their own hash or a shared one, without kernel reuse."""
        layer = self.layer
        assert layer.hash is not None
        rows = unfold_rows(x, layer.kernel_size, layer.stride, layer.padding)
        projections = project(rows, layer.hash.to(rows.dtype))
        codes = codes_from_projections(projections, layer.thresholds)
        belongs = F.one_hot(codes, 2**layer.config.hash_bits).to(rows.dtype)
        if layer.hash.requires_grad:
            p = soft_memberships(projections, layer.thresholds, layer.slope).to(rows.dtype)
            belongs = belongs + p - p.detach()
        vectors = slice_rows(rows, layer.config.vector_length)
        means = belongs.transpose(2, 3) @ vectors / belongs.sum(dim=2).unsqueeze(-1).clamp(min=1)
        slices = weight_matrix(layer.weight).view(vectors.shape[1], vectors.shape[3], -1)
        output = (belongs @ (means @ slices.to(means.dtype))).sum(dim=1)
        output = output if layer.bias is None else output + layer.bias
        out_h = (x.shape[2] + 2 * layer.padding[0] - layer.kernel_size[0]) // layer.stride[0] + 1
        return output.transpose(1, 2).reshape(len(x), output.shape[2], out_h, -1)


def make_step(module: nn.Module, images: Tensor) -> Step:
    """Forward and backward with gradients for images and parameters."""
    with torch.no_grad():
        y = module(images)
        # by the CPU's generator: the GPU's is of no use any more once a capture has failed
        gradient = torch.randn(y.shape).to(y)

    def step() -> Tensor:
        images.grad = None
        module.zero_grad()
        y: Tensor = module(images)
        torch.autograd.backward(y, gradient)
        return y

    return step


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a step as launched from Python and replayed from a graph (None: not capturable), and MiB."""

    shape: str
    variant: str
    path: str
    precision: str
    eager_ms: float
    graph_ms: float | None
    peak_mib: float


def milliseconds(run: Callable[[], object], n: int) -> float:
    """The median of five times `n` runs."""
    values: list[float] = []
    for _ in range(5):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        for _ in range(n):
            run()
        stop.record()
        torch.cuda.synchronize()
        values.append(start.elapsed_time(stop) / n)
    return sorted(values)[2]


def graph_milliseconds(step: Step, n: int) -> float | None:
    """The same replayed from a graph; None where it cannot be captured."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return milliseconds(graph.replay, n)
    except RuntimeError:
        torch.cuda.synchronize()
        return None


def time_step(step: Step, place: tuple[str, str, str, str]) -> Timing:
    """Time and memory of a step; `place` are shape, variant, path and precision.

    Plain PyTorch waits for the GPU within a step, so it is not captured.
    """
    for _ in range(3):
        step()
    n = max(1, min(20, int(60 / milliseconds(step, 1))))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    replayed = None if place[2] == "plain PyTorch" else graph_milliseconds(step, n)
    return Timing(*place, milliseconds(step, n), replayed, peak)


def timings(name: str, precision: str, deadline: float) -> Iterator[Timing]:
    """All paths and variants of one shape; what the deadline leaves no time for is left out."""
    shape = SHAPES[name]
    torch.manual_seed(0)
    images, dense = shape.images(BATCH).detach().cuda().requires_grad_(), shape.conv().cuda()
    with computing(precision, "cuda"):
        yield time_step(make_step(dense, images), (name, "dense", "cuDNN", precision))
        nhwc = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        channels_last = shape.conv().cuda().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        yield time_step(make_step(channels_last, nhwc), (name, "dense", "cuDNN, channels last", precision))
        for variant, how in VARIANTS.items():
            layer = how.layer(shape, shape.conv(), images.detach()[:32].cpu()).cuda()
            slow = {"one-hot": OneHot(layer)} if variant in ("per slice, soft", "per slice, fixed") else {}
            for path, module in ({"Triton": layer, "plain PyTorch": layer} | slow).items():
                if time.monotonic() > deadline:
                    print(f"left out for want of time: {name}, {variant}, {path}, {precision}", file=sys.stderr)
                    continue
                with usable() if path == "Triton" else refused():
                    yield time_step(make_step(module, images), (name, variant, path, precision))


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Plain PyTorch only, without the warning that it is slow."""
    refusal = on_gpu.refusal
    on_gpu.refusal = lambda x, config: "asked for plain PyTorch"
    try:
        yield
    finally:
        on_gpu.refusal = refusal


def figures(measured: list[Timing]) -> list[Figure]:
    """Ratios to the better of cuDNN's two layouts, and to Triton's own step for what it replaces."""
    by_place = {(t.shape, t.variant, t.path, t.precision): t for t in measured}
    found = []
    for (shape, variant, path, precision), timing in by_place.items():
        ms = timing.graph_ms or timing.eager_ms
        if variant == "dense":
            found.append(Figure(f"{shape}, {precision}: {path}", ms, "ms"))
            continue
        dense = [t for t in measured if (t.shape, t.variant, t.precision) == (shape, "dense", precision)]
        best = min(t.graph_ms or t.eager_ms for t in dense)
        goal = GOAL if path == "Triton" else None
        label = f"{shape}, {precision}: {variant}, {path}"
        found.append(Figure(label, ms / best, "x cuDNN", goal, None if goal is None else ms / best <= goal))
        eager = min(t.eager_ms for t in dense)
        found.append(Figure(f"{label}, launched from Python", timing.eager_ms / eager, "x cuDNN"))
        found.append(Figure(f"{label}, memory", timing.peak_mib / min(t.peak_mib for t in dense), "x cuDNN"))
        ours = by_place.get((shape, variant, "Triton", precision))
        if path == "one-hot" and ours is not None:
            gain = ms / (ours.graph_ms or ours.eager_ms)
            found.append(Figure(f"{label} over Triton", gain, "x", ONE_HOT_GOAL, gain >= ONE_HOT_GOAL))
    return found


def warm_up(shape: str, precision: str) -> None:
    """Compile what the check and the timings of a shape need, for Triton's cache on disk."""
    for variant in CHECKS:
        Checked.of(SHAPES[shape], variant, CHECKED).by_triton(precision, "cuda")


def compile_apart() -> None:
    """`warm_up` of all shapes and precisions at once, each in a process of its own."""
    places = [(shape, precision) for shape in SHAPES for precision in TOLERANCES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, __file__, "--warm-up", *place] for place in places]
    for process in [subprocess.Popen(command, env=environment) for command in commands]:
        process.wait()


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


def main() -> int:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("trec_gpu"), help="folder for checks and timings")
    parser.add_argument("--interpret", action="store_true", help="check tiny shapes on the CPU; no timings")
    parser.add_argument("--warm-up", nargs=2, metavar=("SHAPE", "PRECISION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.warm_up:
        warm_up(*args.warm_up)
        return 0
    if args.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before the first step imports the kernels
        torch.set_num_threads(1)
        checks = run_checks(TINY, ["fp32"], "cpu")
        return 0 if all(each.passed for each in checks) else 1
    if not torch.cuda.is_available():
        print("no GPU: torch sees no CUDA device; --interpret runs the checks alone, on the CPU", file=sys.stderr)
        return 2
    deadline = time.monotonic() + BUDGET_S
    args.out.mkdir(parents=True, exist_ok=True)
    compile_apart()
    checks = run_checks(SHAPES, list(TOLERANCES), "cuda")
    lines = [json.dumps({**asdict(each), "passed": each.passed}) for each in checks]
    (args.out / "checks.jsonl").write_text("\n".join(lines) + "\n")
    measured: list[Timing] = []
    with (args.out / "timings.jsonl").open("w") as file:
        for precision in ("tf32", "bf16", "fp32"):
            for name in SHAPES:
                for timing in timings(name, precision, deadline):
                    measured.append(timing)
                    print(json.dumps(asdict(timing)), file=file, flush=True)
    with (args.out / "table.txt").open("w") as file, contextlib.redirect_stderr(file):
        show(figures(measured))
    print((args.out / "table.txt").read_text(), file=sys.stderr)
    return 0 if all(each.passed for each in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
