"""Integers of the TREC convolution: the slow and obvious oracle of its C kernel, and its quantisation."""

from typing import Protocol

import numpy as np

from trec_dse.candidate import TrecConfig
from trec_dse.graph import FloatWeights, Int8Array, IntArray, IntWeights, NodeQuantization, Shape, Window, Work
from trec_dse.ops._fixed_point import INT32, divide, integer_bias, quantize_channels, rescale_tables, unfold
from trec_dse.ops._strip_products import Rounding, round_products

MOST_THRESHOLD = 2**30  # beyond all projections


class Layer(Protocol):
    """What this module needs to know of a TREC convolution."""

    @property
    def window(self) -> Window: ...
    @property
    def config(self) -> TrecConfig: ...
    @property
    def exact_channels(self) -> int: ...
    def cap(self, shape: Shape) -> int: ...
    def rounding(self, kernels: IntArray, zero: int) -> Rounding: ...


class Clustering(Protocol):
    """What the cost of a full stack needs to know of one."""

    @property
    def config(self) -> TrecConfig: ...
    @property
    def mean_signatures(self) -> float | None: ...
    def cap(self, shape: Shape) -> int: ...
    def clusters(self, shape: Shape, worst: bool = False) -> float: ...
    def n_slices(self, shape: Shape) -> int: ...


def overflow_work(layer: Clustering, shape: Shape, n_vectors: int, worst: bool) -> tuple[Work, ...]:
    """Comparing signatures that find the stack full, each once, with those of all clusters; none if it cannot be full.

    `n_vectors`: of a slice.
    """
    slices, cap = layer.n_slices(shape), layer.cap(shape)
    most = slices * min(1 << layer.config.hash_bits, n_vectors)
    if most == slices * cap:
        return ()
    found = most if worst or layer.mean_signatures is None else min(layer.mean_signatures, most)
    return (Work("nearest_cluster", max(0.0, found - layer.clusters(shape, worst)) * cap),)


def quantize(layer: Layer, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
    """Integer tables of the kernel.

    A bit is sum q_h q_x > T with T = z_x sum q_h + floor(theta / (s_h s_x)), which for integers is exactly
    s_h s_x sum q_h (q_x - z_x) > theta. Products of centroids with slices of kernels are divided by
    2**product_shifts (M,) and rounded. Centroids have the zero point taken off, so only the densely computed outputs
    of kernel reuse, which count products of whole levels, carry it in their bias.
    """
    source, sink = quantization.inputs[0], quantization.output
    levels, scales = quantize_channels(weights["weights"])
    kernels = levels.reshape(len(levels), -1)
    sums = kernels.astype(np.int64).sum(axis=1)
    rounding = layer.rounding(levels, source.zero_point)
    is_exact = np.arange(len(levels)) < layer.exact_channels
    units = scales * source.scale * np.where(is_exact, 1.0, rounding.units)
    bias = integer_bias(weights["bias"], units) - np.where(is_exact, source.zero_point * sums, 0)
    return {
        "weights": levels,
        "bias": bias.astype(np.int32),
        "fraction_bits": np.array(rounding.fraction_bits),
        "product_shifts": rounding.shifts.astype(np.uint8),
        **rescale_tables(units / sink.scale),
        **hash_tables(layer.config, weights, kernels, quantization),
    }


def hash_tables(
    config: TrecConfig, weights: FloatWeights, kernels: Int8Array, quantization: NodeQuantization
) -> IntWeights:
    """`hash` (n or 1, H, L) int8 and `thresholds` (n or 1, H) int32; a reused kernel is its own hash."""
    source = quantization.inputs[0]
    if config.scope == "kernel_reuse":
        slices = kernels[: config.hash_bits].reshape(
            config.hash_bits, kernels.shape[1] // config.vector_length, config.vector_length
        )
        sums = slices.astype(np.int64).sum(axis=2).T
        return {"thresholds": (source.zero_point * sums).astype(np.int32)}
    vectors = np.swapaxes(weights["hash"], 1, 2)
    n, bits, length = vectors.shape
    if bits == 0:
        return {"hash": np.zeros((n, 0, length), np.int8), "thresholds": np.zeros((n, 0), np.int32)}
    levels, scales = quantize_channels(vectors.reshape(n * bits, length))
    offsets = np.floor(weights["thresholds"] / (scales.reshape(n, bits) * source.scale))
    thresholds = source.zero_point * levels.astype(np.int64).sum(axis=1).reshape(n, bits) + offsets
    limited = np.clip(thresholds, -INT32, INT32 - 1)
    return {"hash": levels.reshape(n, bits, length), "thresholds": limited.astype(np.int32)}


def accumulate(layer: Layer, image: Int8Array, weights: IntWeights, zero: int) -> tuple[IntArray, int]:
    """Sums (N, M) of rounded products, or of whole ones where channels are exact, bias included, and N_c summed over
    the slices."""
    config = layer.config
    rows = unfold(image.astype(np.int64), layer.window, zero)
    kernels = weights["weights"].astype(np.int64).reshape(len(weights["weights"]), -1)
    one, exact = 1 << int(weights["fraction_bits"]), layer.exact_channels
    shifts = weights["product_shifts"].astype(np.int64)[exact:]
    acc = np.repeat(weights["bias"].astype(np.int64)[None], len(rows), axis=0)
    acc[:, :exact] += rows @ kernels[:exact].T
    total = 0
    for s, start in enumerate(range(0, rows.shape[1], config.vector_length)):
        part = slice(start, start + config.vector_length)
        codes = _signatures(config, rows[:, part], kernels[:, part], weights, s)
        clusters, n = assign(codes, layer.cap(image.shape))
        sums = np.zeros((n, config.vector_length), dtype=np.int64)
        np.add.at(sums, clusters, rows[:, part])
        counts = np.bincount(clusters, minlength=n)[:, None]
        centroids = divide((sums - counts * zero) * one, counts)
        acc[:, exact:] += round_products(centroids @ kernels[exact:, part].T, shifts)[clusters]
        total += n
    return acc, total


def _signatures(config: TrecConfig, rows: IntArray, kernels: IntArray, weights: IntWeights, s: int) -> IntArray:
    """Code of each row, the first hash vector giving the most significant bit."""
    if config.scope == "kernel_reuse":
        vectors = kernels[: config.hash_bits]
    else:
        vectors = weights["hash"][0 if config.scope == "shared" else s].astype(np.int64)
    return codes_of(rows, vectors, weights["thresholds"][0 if config.scope == "shared" else s])


def codes_of(rows: IntArray, vectors: IntArray, thresholds: IntArray) -> IntArray:
    """Code of each of the rows (N, L) for hash vectors (H, L): a bit is 1 where a projection is above its threshold."""
    bits = rows @ vectors.T > thresholds
    codes: IntArray = bits @ (1 << np.arange(len(vectors) - 1, -1, -1, dtype=np.int64))
    return codes


def assign(codes: IntArray, cap: int) -> tuple[IntArray, int]:
    """Cluster of each row in order of first appearance, and their number; at most `cap`.

    A code that comes when the stack is full joins the cluster whose code differs in the fewest bits, the
    oldest on ties.
    """
    stack: list[int] = []
    reverse: dict[int, int] = {}
    clusters = np.empty(len(codes), dtype=np.int64)
    for i, code in enumerate(int(c) for c in codes):
        if code not in reverse:
            if len(stack) < cap:
                reverse[code] = len(stack)
                stack.append(code)
            else:
                distances = [(code ^ other).bit_count() for other in stack]
                reverse[code] = distances.index(min(distances))
        clusters[i] = reverse[code]
    return clusters, len(stack)
