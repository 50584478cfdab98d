"""Convolutions dense and as TREC layers, in slices and in strips, on the twin of a board: the cycles of each.

    python benchmarks/trec_layers.py
    python benchmarks/trec_layers.py --board stm32f746g-disco --only CifarNet

Layers have as many clusters as trained networks find in them (r_t of one image; the accuracy study has CifarNet's):
the cap on clusters sees to that, and the image is random enough to reach it. "At best" is the same layer with one
cluster per slice or group, whatever the image; "the least r_t" is 1 - min(2^H, N) / N, which no image undercuts.
"""

import argparse
import sys
from dataclasses import dataclass

from common import Figure, show
from kernels import Layer, Measured, load_layers, measure, parse, with_room

from trec_dse.candidate import TrecConfig
from trec_dse.graph import Op
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import Compiler, find_target_compiler


@dataclass(frozen=True)
class Form:
    """A TREC layer: `length` L, `bits` H, `groups` g of channels, 0 for slices, and r_t."""

    length: int
    bits: int
    groups: int
    redundancy: float

    @property
    def name(self) -> str:
        """Its own words."""
        kind = f"strips, g={self.groups}" if self.groups else "slices"
        return f"{kind}, L={self.length}, H={self.bits}"

    def op(self, dense: Conv2d, clusters: int) -> TrecConv2d | TrecStripConv2d:
        """The layer with at most so many clusters per slice or group."""
        if self.groups:
            config = TrecConfig(self.bits, self.length, "strip_shared", clusters, self.groups)
            return TrecStripConv2d(dense.out_channels, dense.window, config)
        config = TrecConfig(self.bits, self.length, "per_slice", clusters)
        return TrecConv2d(dense.out_channels, dense.window, config)


FIRST = (Form(15, 5, 0, 0.976), Form(15, 6, 1, 0.954), Form(3, 6, 1, 0.986))
LAYERS = {
    "CifarNet conv1, half width": ("32x32x3->32 k5 valid", FIRST),
    "CifarNet conv1": ("32x32x3->64 k5 valid", FIRST),
    "CifarNet conv2, half width": (
        "14x14x32->32 k5 valid",
        (Form(160, 5, 0, 0.837), Form(32, 5, 1, 0.80), Form(16, 5, 2, 0.80), Form(8, 5, 4, 0.87)),
    ),
    "CifarNet conv2": (
        "14x14x64->64 k5 valid",
        (Form(320, 5, 0, 0.837), Form(64, 6, 1, 0.60), Form(16, 5, 4, 0.765), Form(8, 5, 8, 0.80)),
    ),
    "SqueezeNet fire2.e3": ("16x16x16->64 k3 pad1", (Form(48, 5, 0, 0.90), Form(48, 5, 1, 0.88), Form(16, 5, 1, 0.90))),
    "SqueezeNet fire8.e3": ("8x8x64->256 k3 pad1", (Form(192, 4, 0, 0.80), Form(64, 4, 1, 0.75), Form(16, 4, 4, 0.80))),
    "ResNet stage 2": ("16x16x128->128 k3 pad1", (Form(384, 5, 0, 0.90), Form(128, 5, 1, 0.88), Form(16, 5, 8, 0.90))),
}


@dataclass(frozen=True)
class Bench:
    """Where layers are measured."""

    target: Target
    compiler: Compiler

    def __call__(self, name: str, op: Op, shape: tuple[int, ...]) -> Measured:
        """The twin's answer for one layer."""
        return measure(Layer(name, op, shape, {}, 0), self.target, self.compiler)


def figures(name: str, bench: Bench, peers: dict[str, int]) -> list[Figure]:
    """Dense, then every form: cycles, and their ratios to the dense ones and to CMSIS-NN's."""
    text, forms = LAYERS[name]
    op, shape = parse(text)
    assert isinstance(op, Conv2d)
    out_h, out_w = op.window.positions(shape)
    dense, positions = bench(name, op, shape), out_h * out_w
    found = [Figure(f"{name}: dense", dense.cycles, "cycles")]
    peer = peers.get(text)
    if peer is not None:
        found.append(Figure(f"{name}: dense over CMSIS-NN v7", dense.cycles / peer, "x"))
    for form in forms:
        n = round((1 - form.redundancy) * positions)
        clustered = bench(name, form.op(op, n), shape)
        best = bench(name, form.op(op, 1), shape)
        real = 1 - clustered.n_clusters / form.op(op, n).n_slices(shape) / positions
        title = f"{name}: {form.name}, r_t={real:.3f}"
        least = 1 - min(2**form.bits, positions) / positions
        found += [
            Figure(title, clustered.cycles, "cycles"),
            Figure(f"{title}: over dense", clustered.cycles / dense.cycles, "x", 1.0, clustered.cycles < dense.cycles),
            Figure(f"{title}: at best over dense", best.cycles / dense.cycles, "x"),
            Figure(f"{title}: the least r_t", least, ""),
        ]
        if peer is not None:
            ratio = clustered.cycles / peer
            goal = 0.2 if positions >= 256 else None
            found.append(
                Figure(f"{title}: over CMSIS-NN v7", ratio, "x", goal, None if goal is None else ratio <= goal)
            )
        print(found[-1].name, clustered, file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Measure the layers on one board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="layers whose name contains this")
    parser.add_argument("--board", default="stm32f469i-disco", help="whose twin runs them")
    parser.add_argument("--compiler", help="gcc, zig or a program; the default is what a firmware is built with")
    options = parser.parse_args()
    target = with_room(load_target(data_folder("targets") / f"{options.board}.toml"))
    bench = Bench(target, find_target_compiler(options.compiler))
    peers = {layer.name.split(" ", 1)[1]: layer.peer[target.core] for layer in load_layers()}
    show([figure for name in LAYERS if options.only in name for figure in figures(name, bench, peers)])


if __name__ == "__main__":
    main()
