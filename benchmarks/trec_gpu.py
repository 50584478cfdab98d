"""A TREC layer's training step on the GPU: checked against the CPU's, and timed as multiples of cuDNN's convolution.

The check is that of trec_gpu_checks.py. Steps are timed at batch 256 with float32 products, with TF32 (torch's own
choice for convolutions) and under bfloat16 autocast, as launched from Python and as replayed from a CUDA graph. Plain
PyTorch and the one-hot formulation stand beside them. Everything goes to `--out` as a table and as JSON lines; exit
code 1 if the check fails, 2 without a GPU.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Figure, show
from torch import Tensor, nn
from trec_cpu import SHAPES, VARIANTS
from trec_gpu_checks import TINY, TOLERANCES, computing, refused, run_checks, usable, warm_up

from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.hashing import codes_from_projections, project, slice_rows, unfold_rows, weight_matrix
from trec_dse.trec.surrogate import soft_memberships

BATCH = 256
GOAL, ONE_HOT_GOAL = 1.3, 3.0
BUDGET_S = 440.0  # after this nothing new is begun, so that all ends within eight minutes

Step = Callable[[], Tensor]


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


def compile_apart() -> None:
    """`warm_up` of all shapes and precisions at once, each in a process of its own."""
    places = [(shape, precision) for shape in SHAPES for precision in TOLERANCES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    commands = [[sys.executable, __file__, "--warm-up", *place] for place in places]
    for process in [subprocess.Popen(command, env=environment) for command in commands]:
        process.wait()


def main() -> int:
    """Check, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("trec_gpu"), help="folder for checks and timings")
    parser.add_argument("--interpret", action="store_true", help="check tiny shapes on the CPU; no timings")
    parser.add_argument("--warm-up", nargs=2, metavar=("SHAPE", "PRECISION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.warm_up:
        warm_up(SHAPES[args.warm_up[0]], args.warm_up[1])
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
