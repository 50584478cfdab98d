"""TREC convolution on strips: pixels that several taps of a kernel read are hashed and clustered once.

A strip is m = L * g / C neighbouring pixels of a row, its channels cut into g groups with a hash and clusters each.
With T strips that hold a pixel of the image and that some output uses, at stride 1 about H * W, and kh * kw / m = P
parts of a kernel, one image takes

    T * C * m * H                multiplications to hash (slices: N * kh * kw * C * H)
    L * P * M * sum of N_c       for the products of the centroids with every part of every kernel
    N * M * g * P                additions to recover the outputs
    g * (grid) bytes             of ids, the grid being the strips over the padded image that windows reach
                                 (slices: N * kh * kw / m where all are alive)

N_c is at most min(2**H, T) in each group. A strip of padding alone is worth exactly nothing and belongs to no cluster;
one that reaches into the padding is filled with the zero point.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from trec_dse.candidate import TrecConfig
from trec_dse.errors import UnsupportedError
from trec_dse.graph import (
    FloatWeights,
    Int8Array,
    IntArray,
    IntWeights,
    KernelCall,
    NodeQuantization,
    Shape,
    Window,
    Work,
)
from trec_dse.ops import _clustering
from trec_dse.ops._activation import Activation, activate
from trec_dse.ops._fixed_point import (
    bounds,
    divide,
    integer_bias,
    quantize_channels,
    requantize,
    rescale_field,
    rescale_tables,
    window_field,
)
from trec_dse.ops._packing import pair_channels
from trec_dse.ops._strip_products import (
    MOST_PARTS_OF_A_LINE,
    TILE,
    Lines,
    Rounding,
    product_rounding,
    round_products,
)
from trec_dse.trec.conv import trec_conv2d

MOST_CLUSTERS = 255
MOST_STRIPS = 2**14


@dataclass(frozen=True)
class TrecStripConv2d:
    """Weights: `weights` (M, kernel_h, kernel_w, C), `bias` (M,), `hash` (g, L, H), `thresholds` (g, H).

    Attributes:
        mean_clusters: N_c summed over the groups, mean over the calibration images; None before calibration.
        mean_signatures: the same, had there been no `max_clusters`.
    """

    out_channels: int
    window: Window
    config: TrecConfig
    activation: Activation = "none"
    mean_clusters: float | None = None
    mean_signatures: float | None = None
    kind: ClassVar[str] = "trec_strip_conv2d"
    keeps_quantization: ClassVar[bool] = False
    exact_channels: ClassVar[int] = 0

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, out_channels); raises UnsupportedError for what is no strip or exceeds the C kernel."""
        config, channels = self.config, inputs[0][2]
        pixels = config.vector_length * config.channel_groups / channels
        if channels % config.channel_groups or pixels % 1 or self.window.kernel[1] % pixels:
            raise UnsupportedError(
                f"{config.vector_length} elements in {config.channel_groups} groups of {channels} channels are no "
                f"strips that tile a kernel row of {self.window.kernel[1]} pixels"
            )
        if self.cap(inputs[0]) > MOST_CLUSTERS or self.n_strips(inputs[0]) > MOST_STRIPS:
            raise UnsupportedError(
                f"the strip kernel takes at most {MOST_CLUSTERS} clusters and {MOST_STRIPS} strips; asked for "
                f"{self.cap(inputs[0])} and {self.n_strips(inputs[0])}: set max_clusters, or use fewer hash bits"
            )
        if self.window.kernel[0] > MOST_PARTS_OF_A_LINE:
            raise UnsupportedError(
                f"the strip kernel takes convolutions of at most {MOST_PARTS_OF_A_LINE} rows, this one has "
                f"{self.window.kernel[0]}: leave it dense or use slices"
            )
        return (*self.window.positions(inputs[0]), self.out_channels)

    def strip_pixels(self, shape: Shape) -> int:
        """m, the pixels of a strip."""
        return self.config.vector_length * self.config.channel_groups // shape[2]

    def n_parts(self, shape: Shape) -> int:
        """P = kh * kw / m, the strips of a kernel."""
        return self.window.kernel[0] * self.window.kernel[1] // self.strip_pixels(shape)

    def lines(self, channels: int) -> Lines:
        """How its kernels, over so many channels, are cut."""
        pixels = self.config.vector_length * self.config.channel_groups // channels
        return Lines(self.config.channel_groups, self.window.kernel[1] // pixels, self.window.kernel[0])

    def n_positions(self, shape: Shape) -> int:
        """N, output positions."""
        out_h, out_w = self.window.positions(shape)
        return out_h * out_w

    def n_slices(self, shape: Shape) -> int:
        """What is clustered each for itself: the channel groups, whatever the shape."""
        return self.config.channel_groups

    def grid(self, shape: Shape) -> tuple[int, int]:
        """Rows and starts of strips, counted from the corner of the padding to the last that a window reaches."""
        out_h, out_w = self.window.positions(shape)
        (step_h, step_w), (kernel_h, kernel_w) = self.window.stride, self.window.kernel
        return (out_h - 1) * step_h + kernel_h, (out_w - 1) * step_w + kernel_w - self.strip_pixels(shape) + 1

    def strips(self, shape: Shape) -> list[tuple[int, int]]:
        """Places (row, start) on the grid of the strips that are clustered, in the order in which they are."""
        (height, width, _), pixels = shape, self.strip_pixels(shape)
        (pad_h, pad_w), (out_h, out_w) = self.window.padding, self.window.positions(shape)
        (step_h, step_w), (kernel_h, kernel_w) = self.window.stride, self.window.kernel
        rows = {y * step_h + ky for y in range(out_h) for ky in range(kernel_h)}
        starts = {x * step_w + kx for x in range(out_w) for kx in range(0, kernel_w, pixels)}
        inside = sorted(r for r in rows if pad_h <= r < pad_h + height)
        touching = sorted(s for s in starts if pad_w - pixels < s < pad_w + width)
        return [(r, s) for r in inside for s in touching]

    def n_strips(self, shape: Shape) -> int:
        """T, the strips that are clustered."""
        return len(self.strips(shape))

    def cap(self, shape: Shape) -> int:
        """Most clusters that a group can have: min(2**H, T, max_clusters)."""
        limit = self.config.max_clusters
        most: int = min(1 << self.config.hash_bits, self.n_strips(shape))
        return most if limit is None else min(most, limit)

    def clusters(self, shape: Shape, worst: bool = False) -> float:
        """N_c summed over the groups: as calibrated, or the most there can be."""
        if worst or self.mean_clusters is None:
            return float(self.n_slices(shape) * self.cap(shape))
        return self.mean_clusters

    def macs(self, *inputs: Shape) -> int:
        """T L g H to hash and L P M sum N_c for the centroids."""
        config, shape = self.config, inputs[0]
        hashing = self.n_strips(shape) * config.vector_length * config.channel_groups * config.hash_bits
        products = config.vector_length * self.n_parts(shape) * self.out_channels * self.clusters(shape)
        return hashing + round(products)

    def scratch_bytes(self, *inputs: Shape) -> int:
        """What clustering or what the outputs need, the larger; centroids and ids: the sum that the C kernel lays out.

        Clustering needs the stack, four vectors and tables; the outputs a table of products and, unless there is one
        pass only, the sums of a tile of channels.
        """
        shape, config = inputs[0], self.config
        cap, groups, pairs = self.cap(shape), config.channel_groups, -(-config.vector_length // 2)
        stack, lines = -(-cap // 4) * 8 * pairs, self.lines(shape[2])
        grid_h, grid_w = self.grid(shape)
        clustering = 4 * stack + 16 * pairs + 2 * (2 * cap + (1 << config.hash_bits)) + grid_w
        table = max(-(-cap // 4) * 4, cap + 1) * lines.per_pass * lines.parts * TILE
        sums = 0 if len(lines.passes) == 1 else -(-self.n_positions(shape) // 4) * 4 * TILE
        return -(-max(clustering, 4 * sums + 2 * table) // 4) * 4 + groups * (2 * (stack + 1) + grid_h * grid_w)

    def overlap(self, *inputs: Shape) -> int | None:
        """Anywhere: all strips are clustered, into the workspace, before the first output is written."""
        return -math.prod(inputs[0])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Hashing by blocks of four vectors, the stack, divisions, products by blocks and parts, and the recovery.

        Passes but the last are work of their own because they leave sums in memory, and so are outputs of a tile that
        is not whole, which the recovery does not finish.
        """
        shape, config = inputs[0], self.config
        groups, length = config.channel_groups, -(-config.vector_length // 2) * 2
        vectors, lines, cap = self.n_strips(shape) * groups, self.lines(shape[2]), self.cap(shape)
        rows, bits = 4 * -(-self.n_strips(shape) // 4) * groups, config.hash_bits + config.hash_bits % 2
        grid_h, grid_w = self.grid(shape)
        pieces = self.strip_pixels(shape) if groups > 1 else 1  # of a vector in the image
        # of a group, the last block of four clusters is full by half on average
        clusters = min(self.clusters(shape, worst) + 1.5 * groups, 4.0 * groups * -(-cap // 4))
        channels, tiles = self.out_channels + self.out_channels % 2, -(-self.out_channels // TILE)
        parts, outputs = lines.columns * lines.parts, self.n_positions(shape) * tiles
        return (
            Work("strip_hash_mac", rows * length * bits),
            Work("strip_hash_sum", rows * bits),
            Work("strip_element", vectors * length),
            Work("strip_vector", vectors),
            Work("strip_piece", vectors * pieces),
            Work("strip_place", groups * grid_h * grid_w),
            Work("strip_divide", clusters * length),
            Work("strip_mac", clusters * length * parts * channels),
            Work("strip_sum", clusters * parts * channels),
            Work("strip_column", tiles * groups * parts),
            Work("strip_part", outputs * groups * parts),
            Work("strip_line", outputs * groups * lines.columns),
            Work("strip_pass", outputs * (len(lines.passes) - 1)),
            Work("strip_row", tiles * len(lines.passes) * self.window.positions(shape)[0]),
            Work("strip_output", self.n_positions(shape) * self.out_channels),
            Work("strip_loose", self.n_positions(shape) * (self.out_channels % TILE)),
            *_clustering.overflow_work(self, shape, self.n_strips(shape), worst),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC TREC convolution."""
        image, padding = self.window.pad(inputs[0].permute(0, 3, 1, 2))
        y, _ = trec_conv2d(
            image,
            weights["weights"].permute(0, 3, 1, 2),
            weights["bias"],
            weights["hash"],
            weights["thresholds"],
            self.config,
            self.window.stride,
            padding,
        )
        y = y.permute(0, 2, 3, 1)
        return activate(y, self.activation)

    def rounding(self, kernels: IntArray, zero: int) -> Rounding:
        """How centroids and their products with whole kernels (M, kernel_h, kernel_w, C) are rounded."""
        lines = self.lines(kernels.shape[3])
        return product_rounding(lines.cut(kernels), lines.passes, zero)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """As for slices, but `weights` are parts (M, lines, kernel_h, L), and there are `product_shifts` (M,)."""
        source, sink = quantization.inputs[0], quantization.output
        levels, scales = quantize_channels(weights["weights"])
        lines = self.lines(levels.shape[3])
        rounding = self.rounding(levels, source.zero_point)
        units = scales * source.scale * rounding.units
        flat = levels.reshape(len(levels), -1)
        return {
            "weights": lines.cut(levels),
            "bias": integer_bias(weights["bias"], units).astype(np.int32),
            "fraction_bits": np.array(rounding.fraction_bits),
            "product_shifts": rounding.shifts.astype(np.uint8),
            **rescale_tables(units / sink.scale),
            **_clustering.hash_tables(self.config, weights, flat, quantization),
        }

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Hash, cluster, mean, one product per cluster and part; one requantisation at the end."""
        acc, _ = self._accumulate(inputs[0], weights, quantization.inputs[0].zero_point)
        limits = bounds(self.activation, quantization)
        output = requantize(acc, weights, quantization.output.zero_point, limits)
        return output.reshape(self.output_shape(inputs[0].shape))

    def count(self, image: Int8Array, weights: IntWeights, quantization: NodeQuantization) -> int:
        """N_c summed over the groups for one int8 image: what the C kernel returns."""
        return self._accumulate(image, weights, quantization.inputs[0].zero_point)[1]

    def _accumulate(self, image: Int8Array, weights: IntWeights, zero: int) -> tuple[IntArray, int]:
        """Sums (N, M) of rounded products, bias included, and N_c summed over the groups."""
        shape, one = image.shape, 1 << int(weights["fraction_bits"])
        groups, length = self.config.channel_groups, self.config.vector_length
        kernels = weights["weights"].astype(np.int64).reshape(self.out_channels, groups, self.n_parts(shape), length)
        shifts = weights["product_shifts"].astype(np.int64)
        acc = np.repeat(weights["bias"].astype(np.int64)[None], self.n_positions(shape), axis=0)
        total = 0
        for group in range(groups):
            vectors = self._vectors(image, group, zero)
            hash_vectors, thresholds = weights["hash"][group].astype(np.int64), weights["thresholds"][group]
            codes = _clustering.codes_of(vectors, hash_vectors, thresholds)
            clusters, n = _clustering.assign(codes, self.cap(shape))
            sums = np.zeros((n, vectors.shape[1]), dtype=np.int64)
            np.add.at(sums, clusters, vectors)
            counts = np.bincount(clusters, minlength=n)[:, None]
            centroids = divide((sums - counts * zero) * one, counts)
            products = np.einsum("cl,mpl->pcm", centroids, kernels[:, group])
            acc += self._recover(shape, round_products(products, shifts), clusters)
            total += n
        return acc, total

    def _vectors(self, image: Int8Array, group: int, zero: int) -> IntArray:
        """The vectors (T, L) of one group."""
        pixels, depth = self.strip_pixels(image.shape), image.shape[2] // self.config.channel_groups
        (pad_h, _), margin = self.window.padding, self.window.padding[1] + pixels
        part = image[:, :, group * depth : (group + 1) * depth].astype(np.int64)
        padded = np.pad(part, ((0, 0), (margin, margin), (0, 0)), constant_values=zero)
        strips = [padded[r - pad_h, s + pixels : s + 2 * pixels].reshape(-1) for r, s in self.strips(image.shape)]
        return np.stack(strips)

    def _recover(self, shape: Shape, products: IntArray, clusters: IntArray) -> IntArray:
        """What one group adds to the sums (N, M); `products` (P, clusters, M), parts column by column."""
        place = dict(zip(self.strips(shape), clusters, strict=True))
        (step_h, step_w), (kernel_h, kernel_w) = self.window.stride, self.window.kernel
        out_h, out_w = self.window.positions(shape)
        added = np.zeros((out_h, out_w, self.out_channels), dtype=np.int64)
        for y in range(out_h):
            for x in range(out_w):
                offsets = ((ky, kx) for kx in range(0, kernel_w, self.strip_pixels(shape)) for ky in range(kernel_h))
                for part, (ky, kx) in enumerate(offsets):
                    cluster = place.get((y * step_h + ky, x * step_w + kx))
                    if cluster is not None:
                        added[y, x] += products[part, cluster]
        return added.reshape(-1, self.out_channels)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_trec_strip_conv2d_s8`."""
        shape, config = shapes[0], self.config
        grid_h, grid_w = self.grid(shape)
        thresholds = np.clip(
            weights["thresholds"].astype(np.int64), -_clustering.MOST_THRESHOLD, _clustering.MOST_THRESHOLD
        )
        parts = weights["weights"].reshape(self.out_channels, -1, config.vector_length)
        fields = (
            ("window", window_field(self.window, shape)),
            ("out_c", self.out_channels),
            ("in_zero", quantization.inputs[0].zero_point),
            ("strip_w", self.strip_pixels(shape)),
            ("n_groups", config.channel_groups),
            ("length", config.vector_length),
            ("grid_h", grid_h),
            ("grid_w", grid_w),
            ("hash_bits", config.hash_bits),
            ("max_clusters", self.cap(shape)),
            ("fraction_bits", int(weights["fraction_bits"])),
            ("pass_lines", self.lines(shape[2]).per_pass),
            ("hash", pair_channels(weights["hash"][:, :, None])),
            ("starts", (-1 - thresholds).astype(np.int32)),
            ("weights", pair_channels(parts)),
            ("product_shifts", weights["product_shifts"]),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (
            KernelCall(
                "trec_trec_strip_conv2d_s8", "trec_trec_strip_conv2d", fields, scratch=True, counts_clusters=True
            ),
        )
