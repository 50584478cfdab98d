"""TREC convolution: rows of the unfolded input are clustered by hashing, one product per cluster."""

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
from trec_dse.ops._fixed_point import bounds, requantize, rescale_field, window_field
from trec_dse.ops._packing import pair_channels
from trec_dse.ops._strip_products import TILE, Rounding, product_rounding, slice_passes, slices_of_a_pass
from trec_dse.ops._work import edge_positions
from trec_dse.trec.conv import trec_conv2d

MOST_CLUSTERS = 256
MOST_POSITIONS = 2**14
_BATCH_PAIRS, _MOST_BLOCKS = 64, 8  # of the rows that the kernel clusters together


@dataclass(frozen=True)
class TrecConv2d:
    """Weights: `weights` (M, kernel_h, kernel_w, C), `bias` (M,); unless the kernel is reused, `hash`
    (n_slices or 1, L, H) and `thresholds` (n_slices or 1, H).

    Attributes:
        mean_clusters: N_c summed over the slices, mean over the calibration images; None before calibration.
        mean_signatures: the same, had there been no `max_clusters`.
    """

    out_channels: int
    window: Window
    config: TrecConfig
    activation: Activation = "none"
    mean_clusters: float | None = None
    mean_signatures: float | None = None
    kind: ClassVar[str] = "trec_conv2d"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, out_channels); raises UnsupportedError where the C kernel's limits are exceeded."""
        out_h, out_w = self.window.positions(inputs[0])
        if self.row_length(inputs[0]) % self.config.vector_length:
            raise UnsupportedError(
                f"vector_length {self.config.vector_length} does not divide K = {self.row_length(inputs[0])}"
            )
        if self.cap(inputs[0]) > MOST_CLUSTERS or out_h * out_w > MOST_POSITIONS:
            raise UnsupportedError(
                f"the TREC kernel takes at most {MOST_CLUSTERS} clusters and {MOST_POSITIONS} positions; asked for "
                f"{self.cap(inputs[0])} and {out_h * out_w}: set max_clusters, or use fewer hash bits"
            )
        return (out_h, out_w, self.out_channels)

    def row_length(self, shape: Shape) -> int:
        """K, the elements of one row of the unfolded input."""
        return self.window.kernel[0] * self.window.kernel[1] * shape[2]

    def n_positions(self, shape: Shape) -> int:
        """N, output positions."""
        out_h, out_w = self.window.positions(shape)
        return out_h * out_w

    def n_slices(self, shape: Shape) -> int:
        """n = K / L."""
        return self.row_length(shape) // self.config.vector_length

    def cap(self, shape: Shape) -> int:
        """Most clusters that a slice can have: min(2**H, N, max_clusters)."""
        limit = self.config.max_clusters
        most: int = min(1 << self.config.hash_bits, self.n_positions(shape))
        return most if limit is None else min(most, limit)

    @property
    def exact_channels(self) -> int:
        """Outputs that kernel reuse computes densely while it hashes."""
        return self.config.hash_bits if self.config.scope == "kernel_reuse" else 0

    def clusters(self, shape: Shape, worst: bool = False) -> float:
        """N_c summed over the slices: as calibrated, or the most there can be."""
        if worst or self.mean_clusters is None:
            return float(self.n_slices(shape) * self.cap(shape))
        return self.mean_clusters

    def macs(self, *inputs: Shape) -> int:
        """N K H to hash and L (M - exact) sum N_c for the centroids."""
        hashing = self.n_positions(inputs[0]) * self.row_length(inputs[0]) * self.config.hash_bits
        products = self.config.vector_length * (self.out_channels - self.exact_channels) * self.clusters(inputs[0])
        return hashing + round(products)

    def alive(self, shape: Shape) -> int:
        """Slices alive at once: all of them, or one at a time and an accumulator for every output, whichever needs less
        memory; both give the same integers."""
        n_slices = self.n_slices(shape)
        return 1 if self._bytes(shape, 1) <= self._bytes(shape, n_slices) else n_slices

    def scratch_bytes(self, *inputs: Shape) -> int:
        """Two-step stack, reverse table, table of products, ids, accumulators: the sum that the C kernel lays out."""
        return self._bytes(inputs[0], self.alive(inputs[0]))

    def _bytes(self, shape: Shape, alive: int) -> int:
        """What clustering needs and the table lie over each other; with one slice alive the centroids lie over the sums
        instead."""
        cap, blocks, n_slices = self.cap(shape), -(-self.n_positions(shape) // 4), self.n_slices(shape)
        rows, pairs = -(-cap // 4) * 4, -(-self.config.vector_length // 2)
        stack, table = rows * 2 * pairs, rows * alive * TILE // 2
        others = self._batch() * (4 * pairs + 2) + (2 * cap + (1 << self.config.hash_bits) + 1) // 2
        shared = stack + max(others, table) if alive == 1 else max(stack + others, table)
        sums = 0 if alive == n_slices else self._tiles() * blocks * 4 * TILE
        centroids = 0 if alive == 1 else 2 * stack
        words = sums + blocks * 4 * self.exact_channels + shared
        return 4 * words + alive * (centroids + 2 + self.n_positions(shape))

    def _batch(self) -> int:
        """Blocks of four rows that are clustered together."""
        pairs = -(-self.config.vector_length // 2)
        return min(_MOST_BLOCKS, max(1, _BATCH_PAIRS // pairs))

    def _tiles(self) -> int:
        """Tiles of channels that hold clustered ones."""
        exact = self.exact_channels
        return 0 if exact == self.out_channels else -(-self.out_channels // TILE) - exact // TILE

    def _loose_channels(self) -> int:
        """Clustered channels of tiles that are not whole, whose outputs the recovery itself does not finish."""
        exact = self.exact_channels
        whole = TILE * max(0, self.out_channels // TILE - -(-exact // TILE))
        return self.out_channels - exact - whole

    def overlap(self, *inputs: Shape) -> int | None:
        """Anywhere: all rows are clustered, into the workspace, before the first output is written."""
        return -math.prod(inputs[0])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Hashing by blocks of four rows, the stack, divisions, tables of products, and the recovery of the outputs.

        Batches of blocks are work of their own because each loads the code of reading, signing and clustering anew, and
        passes but the last because they leave sums in memory.
        """
        shape, config = inputs[0], self.config
        n, slices, length = self.n_positions(shape), self.n_slices(shape), config.vector_length
        rows, pairs = 4 * -(-n // 4) * slices, length + length % 2
        bits = config.hash_bits + config.hash_bits % 2
        # of a slice, the last block of four clusters is full by half on average
        clusters = min(self.clusters(shape, worst) + 1.5 * slices, 4.0 * slices * -(-self.cap(shape) // 4))
        tiles, alive = self._tiles(), self.alive(shape)
        channels = min(TILE * tiles, self.out_channels + self.out_channels % 2)
        passes = len(slice_passes(slices)) if alive == slices else slices
        strip = self.window.kernel[1] * shape[2]
        return (
            Work("slice_element", rows * pairs),
            Work("slice_strip", rows * max(1.0, length / strip)),
            Work("slice_edge", edge_positions(self.window, shape) * slices),
            Work("slice_batch", slices * -(-rows // (4 * slices * self._batch()))),
            Work("slice_start", slices),
            Work("slice_exact", rows * self.exact_channels),
            Work("slice_exact_output", n * self.exact_channels),
            Work("slice_row", n * slices),
            Work("slice_divide", clusters * pairs),
            Work("slice_mac", rows * pairs * bits + clusters * pairs * channels),
            Work("slice_sum", rows * bits + clusters * channels),
            Work("slice_table", slices * tiles),
            Work("slice_part", n * tiles * slices),
            Work("slice_pass", n * tiles * (passes - 1)),
            Work("slice_output", n * self.out_channels),
            Work("slice_loose", n * self._loose_channels()),
            *_clustering.overflow_work(self, shape, n, worst),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC TREC convolution; `clusters_of` gives the counts of the same pass."""
        y, _ = self._float(inputs[0], weights)
        return activate(y, self.activation)

    def clusters_of(self, image: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> float:
        """N_c summed over the slices, mean over a float batch (B, H, W, C)."""
        _, counts = self._float(image, weights)
        return float(counts.sum(dim=1).float().mean())

    def _float(self, image: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        image, padding = self.window.pad(image.permute(0, 3, 1, 2))
        y, counts = trec_conv2d(
            image,
            weights["weights"].permute(0, 3, 1, 2),
            weights["bias"],
            weights.get("hash"),
            weights.get("thresholds"),
            self.config,
            self.window.stride,
            padding,
        )
        return y.permute(0, 2, 3, 1), counts

    def rounding(self, kernels: IntArray, zero: int) -> Rounding:
        """How centroids and their products with whole kernels (M, kernel_h, kernel_w, C) are rounded."""
        parts = kernels.reshape(self.out_channels, -1, 1, self.config.vector_length)
        return product_rounding(parts, slice_passes(parts.shape[1]), zero)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Kernels per output channel, hash vectors each on their own, thresholds on the int32 projection."""
        return _clustering.quantize(self, weights, quantization)

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Hash, cluster, mean, one product per cluster; one requantisation after the last slice."""
        acc, _ = _clustering.accumulate(self, inputs[0], weights, quantization.inputs[0].zero_point)
        limits = bounds(self.activation, quantization)
        output = requantize(acc, weights, quantization.output.zero_point, limits)
        return output.reshape(self.output_shape(inputs[0].shape))

    def count(self, image: Int8Array, weights: IntWeights, quantization: NodeQuantization) -> int:
        """N_c summed over the slices for one int8 image: what the C kernel returns."""
        _, n_clusters = _clustering.accumulate(self, image, weights, quantization.inputs[0].zero_point)
        return n_clusters

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_trec_conv2d_s8`."""
        shape, config = shapes[0], self.config
        reuse = config.scope == "kernel_reuse"
        is_shared = config.scope == "shared"
        kernels = pair_channels(weights["weights"].reshape(self.out_channels, -1, config.vector_length))
        vector_bytes = 4 * -(-config.vector_length // 2)
        slice_step = vector_bytes * (1 if reuse else -(-config.hash_bits // 2))
        starts = -1 - np.clip(
            weights["thresholds"].astype(np.int64), -_clustering.MOST_THRESHOLD, _clustering.MOST_THRESHOLD
        )
        exact_starts = np.zeros(self.out_channels, np.int64)  # that the projections of exact channels begin with
        exact_starts[: self.exact_channels] = starts.sum(axis=0)[: self.exact_channels]
        fields = (
            ("window", window_field(self.window, shape)),
            ("out_c", self.out_channels),
            ("in_zero", quantization.inputs[0].zero_point),
            ("length", config.vector_length),
            ("n_slices", self.n_slices(shape)),
            ("hash_bits", config.hash_bits),
            ("max_clusters", self.cap(shape)),
            ("exact_c", self.exact_channels),
            ("fraction_bits", int(weights["fraction_bits"])),
            ("n_alive", self.alive(shape)),
            ("pass_slices", slices_of_a_pass(self.n_slices(shape))),
            ("hash_step", vector_bytes * (self.n_slices(shape) if reuse else 1)),
            ("hash_slice", 0 if is_shared else slice_step),
            ("start_slice", 0 if is_shared else config.hash_bits),
            ("hash", kernels if reuse else pair_channels(weights["hash"][:, :, None])),
            ("starts", starts.astype(np.int32)),
            ("weights", kernels),
            ("product_shifts", weights["product_shifts"]),
            ("bias", (weights["bias"] - exact_starts).astype(np.int32)),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_trec_conv2d_s8", "trec_trec_conv2d", fields, scratch=True, counts_clusters=True),)
