"""Time and memory of a TREC layer's training step as multiples of `nn.Conv2d`'s, for every variant at five shapes.

A step is forward and backward on 64 images, gradients for images and parameters. Convolution and variants take turns,
so that what else the machine does meets all of them; the fastest step of each counts, with one thread in processor
time, so that other processes do not. Memory is the peak that a step adds to the process, in a process of its own per
shape. `--plain` adds plain PyTorch, without the kernels.
"""

import argparse
import functools
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from common import Figure, show
from torch import Tensor, nn

from trec_dse.candidate import HashGradient, HashScope, TrecConfig
from trec_dse.trec import native
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.exact import PartlyExactConv2d

BATCH = 64
GOAL = 2.0
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Step = Callable[[], None]


@dataclass(frozen=True)
class Shape:
    """A convolution of square images, and the L and H that it is clustered with."""

    channels: int
    size: int
    out_channels: int
    kernel: int
    padding: int
    length: int
    hash_bits: int

    def images(self, n: int = BATCH) -> Tensor:
        """`n` images whose neighbouring pixels resemble each other."""
        noise = torch.randn(n, self.channels, self.size + 4, self.size + 4)
        return nn.functional.avg_pool2d(noise, 5, 1).mul(5).requires_grad_()

    def conv(self) -> nn.Conv2d:
        """The dense layer."""
        return nn.Conv2d(self.channels, self.out_channels, self.kernel, padding=self.padding)


SHAPES = {
    "CifarNet conv1": Shape(3, 32, 64, 5, 0, 15, 5),
    "CifarNet conv2": Shape(64, 14, 64, 5, 0, 64, 5),
    "SqueezeNet fire2.e3": Shape(16, 16, 64, 3, 1, 48, 5),
    "SqueezeNet fire8.e3": Shape(64, 8, 256, 3, 1, 64, 4),
    "ResNet stage 2": Shape(128, 16, 128, 3, 1, 128, 5),
}


@dataclass(frozen=True)
class Variant:
    """How the hash is made and learned. `groups` only for strips; `pixels` 0 stands for a kernel row."""

    scope: HashScope
    gradient: HashGradient
    pixels: int = 0
    groups: int = 1
    extra_bits: int = 0
    kernel_surrogate: bool = False
    max_clusters: int | None = None

    def layer(self, shape: Shape, conv: nn.Conv2d, images: Tensor) -> TrecConv2d:
        """A layer of that kind with a hash from the images."""
        length = shape.length
        if self.scope == "strip_shared":
            length = (self.pixels or shape.kernel) * shape.channels // self.groups
        bits = shape.hash_bits + self.extra_bits
        config = TrecConfig(bits, length, self.scope, self.max_clusters, self.groups)
        layer = TrecConv2d.from_conv(
            conv, config, hash_gradient=self.gradient, kernel_surrogate=self.kernel_surrogate
        ).train()
        layer.initialise_hash(images.detach())
        return layer


VARIANTS = {
    "per slice, soft": Variant("per_slice", "soft"),
    "per slice, fixed": Variant("per_slice", "none"),
    "per slice, neighbours, 3 bits more": Variant("per_slice", "soft", extra_bits=3),
    "shared, soft": Variant("shared", "soft"),
    "shared, fixed": Variant("shared", "none"),
    "kernel reuse": Variant("kernel_reuse", "none"),
    "kernel reuse, surrogate": Variant("kernel_reuse", "soft", kernel_surrogate=True),
    "strips of a kernel row, soft": Variant("strip_shared", "soft"),
    "strips of a pixel, soft": Variant("strip_shared", "soft", pixels=1),
    "strips of a pixel, fixed": Variant("strip_shared", "none", pixels=1),
}
BESIDE = "strips of a pixel, soft, 1 exact direction"
MEASURED = (*VARIANTS, BESIDE)


def partly_exact(shape: Shape, conv: nn.Conv2d, images: Tensor) -> PartlyExactConv2d:
    """Clusters of pixels beside one exact direction."""
    config = TrecConfig(shape.hash_bits, shape.channels, "strip_shared", exact_directions=1)
    layer = PartlyExactConv2d.from_conv(conv, config).train()
    layer.initialise_hash(images.detach())
    return layer


def layer_of(variant: str, shape: Shape, conv: nn.Conv2d, images: Tensor) -> nn.Module:
    """What is measured: the convolution itself ("dense") or its variant."""
    if variant == "dense":
        return conv
    return partly_exact(shape, conv, images) if variant == BESIDE else VARIANTS[variant].layer(shape, conv, images)


def make_step(shape: Shape, variant: str, images: Tensor) -> Step:
    """A training step of a variant, or of the convolution itself ("dense")."""
    torch.manual_seed(0)
    conv = shape.conv()
    module = layer_of(variant, shape, conv, images)
    gradient = torch.randn_like(conv(images))

    def step() -> None:
        images.grad = None
        module.zero_grad()
        torch.autograd.backward(module(images), gradient)

    return step


def seconds(steps: dict[str, Step], n_rounds: int) -> dict[str, float]:
    """The fastest of `n_rounds` of each, taken in turns."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    fastest = dict.fromkeys(steps, float("inf"))
    for step in steps.values():
        step()
    for _ in range(n_rounds):
        for name, step in steps.items():
            start = clock()
            step()
            fastest[name] = min(fastest[name], clock() - start)
    return fastest


def peak_bytes(shape: Shape, variant: str) -> int:
    """The most memory that one step, its images, parameters and results take; measures this process."""
    make_step(Shape(4, 6, 8, 3, 0, 12, 2), variant, torch.randn(2, 4, 6, 6, requires_grad=True))()  # code, threads
    gc.collect()
    before = _status("VmRSS")
    step = make_step(shape, variant, shape.images())
    gc.collect()
    _CLEAR.write_text("5")  # forget the peak so far: setting up a hash takes more than a step
    step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def peaks_apart(shape: str, threads: int) -> dict[str, int]:
    """`peak_bytes` of all variants, in another process that gives memory back at once."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--threads", str(threads), "--peaks", shape]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    peaks: dict[str, int] = json.loads(done.stdout)
    return peaks


def main() -> None:
    """Measure all shapes and variants."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--plain", action="store_true", help="also time plain PyTorch")
    parser.add_argument("--peaks", metavar="SHAPE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peaks:
        print(json.dumps({variant: peak_bytes(SHAPES[args.peaks], variant) for variant in ("dense", *MEASURED)}))
        return
    figures: list[Figure] = []
    for name, shape in SHAPES.items():
        images = shape.images()
        make = functools.partial(make_step, shape, images=images)
        times = seconds({variant: make(variant) for variant in ("dense", *MEASURED)}, args.rounds)
        figures.append(Figure(f"{name}: dense", 1000 * times["dense"], "ms"))
        peaks = peaks_apart(name, args.threads)
        figures.append(Figure(f"{name}: dense, memory", peaks["dense"] / 2**20, "MiB"))
        for variant in MEASURED:
            ratio = times[variant] / times["dense"]
            figures.append(Figure(f"{name}: {variant}", ratio, "x", GOAL, ratio <= GOAL))
            memory = peaks[variant] / peaks["dense"]
            figures.append(Figure(f"{name}: {variant}, memory", memory, "x", GOAL, memory <= GOAL))
        if args.plain:
            figures += plain_figures(name, make, times["dense"])
    show(figures)


def plain_figures(name: str, make: Callable[[str], Step], dense: float) -> list[Figure]:
    """The same steps without the kernels."""
    usable = native.is_usable
    native.is_usable = lambda x, config: False
    try:
        times = seconds({variant: make(variant) for variant in MEASURED}, 3)
    finally:
        native.is_usable = usable
    return [Figure(f"{name}: {variant}, plain PyTorch", t / dense, "x") for variant, t in times.items()]


if __name__ == "__main__":
    main()
