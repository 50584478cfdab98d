"""The integers of the C kernels as torch sees them: whole numbers in floating point, with gradients.

A `Levels` tensor holds q - zero_point. Layers multiply whole numbers, add a whole bias, and round once per output,
exactly as `_fixed_point.py` does; hash bits and centroids are those of `_clustering.py`. Rounding passes gradients
straight through, clipping stops them, and a scale learns from both; a hash learns by soft memberships. In double
precision the results are those of the kernels, save that a factor is not cut to 31 bits; single precision may
also err in sums above 2**24.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trec_dse.graph import Op
from trec_dse.ops._activation import CEILING, activate
from trec_dse.ops._clustering import MOST_FRACTION_BITS
from trec_dse.ops._fake_recurrence import fake_gru, fake_sru
from trec_dse.ops._fixed_point import INT32
from trec_dse.ops._levels import Levels, round_half_up, whole_channels
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.ops.gru import Gru
from trec_dse.ops.sru import Sru
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.trec.clustering import assign_clusters, centroid_rows
from trec_dse.trec.hashing import (
    codes_from_projections,
    kernel_hash,
    project,
    signatures,
    unfold_rows,
    weight_matrix,
)
from trec_dse.trec.surrogate import MAX_SOFT_BITS, soft_centroid_rows, soft_memberships


def fake_run(op: Op, inputs: Sequence[Levels], weights: Mapping[str, Tensor], slope: float | None = None) -> Tensor:
    """What `op` computes from int8 inputs and its float `weights` quantised on the way, before the output is rounded.

    Real numbers, (B, H, W, C) or (B, n). Gradients reach weights, biases and inputs, and with a `slope` also hashes of
    at most 6 bits whose clusters are not capped. The slope is that of their soft bits and changes no value.
    """
    if isinstance(op, Sru):
        return fake_sru(op, inputs)
    if isinstance(op, Gru):
        return fake_gru(op, inputs[0], weights)
    if "weights" not in weights:
        return op.forward([levels.real for levels in inputs], weights)
    source = inputs[0]
    axis = 2 if isinstance(op, DepthwiseConv2d) else 0
    whole, scales = whole_channels(weights["weights"], axis, weights.get("scales"))
    factor = scales * source.scale
    bias = round_half_up(weights["bias"] / factor).clamp(-(2**30), 2**30)
    whole_weights = {**weights, "weights": whole, "bias": bias}
    if "hash" in weights:
        whole_weights |= _whole_hash(weights["hash"], weights["thresholds"], source.scale)
    is_cut = getattr(op, "activation", "none") == "relu6"
    if is_cut:  # at a real number, so not in units of the accumulator
        op = replace(op, activation="relu")  # type: ignore[type-var]
    if isinstance(op, TrecConv2d):
        accumulators = _clustered(op, source.values, whole_weights, slope)
    else:
        accumulators = op.forward([source.values], whole_weights)
    real = accumulators * factor
    return real.clamp(max=CEILING) if is_cut else real


def fake_pass(op: Op, source: Levels, weights: Mapping[str, Tensor]) -> Levels:
    """The output of an op that keeps its input's quantisation: pooling."""
    return Levels(round_half_up(op.forward([source.values], weights)), source.scale, source.zero_point)


def _whole_hash(vectors: Tensor, thresholds: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Hash vectors (n, L, H) as whole numbers, and thresholds (n, H) as the largest whole projection below them."""
    if vectors.shape[2] == 0:
        return {"hash": vectors, "thresholds": thresholds}
    largest = vectors.detach().abs().amax(dim=1, keepdim=True)
    scales = torch.where(largest > 0, largest, torch.ones_like(largest)) / 127
    exact = thresholds / (scales[:, 0] * scale.detach())
    return {
        "hash": round_half_up(vectors / scales).clamp(-127, 127),
        "thresholds": exact + (torch.floor(exact) - exact).detach(),
    }


def _clustered(op: TrecConv2d, values: Tensor, weights: Mapping[str, Tensor], slope: float | None) -> Tensor:
    """Accumulators (B, H_out, W_out, M) of the TREC convolution, activation included; bias in `weights`."""
    config, window = op.config, op.window
    images, padding = window.pad(values.permute(0, 3, 1, 2))
    rows = unfold_rows(images, window.kernel, window.stride, padding)
    kernels = weights["weights"].permute(0, 3, 1, 2)
    is_reused = config.scope == "kernel_reuse"
    if is_reused:
        vectors = kernel_hash(kernels.detach(), config.hash_bits, config.vector_length)
        thresholds = rows.new_zeros(1, config.hash_bits)
    else:
        vectors, thresholds = weights["hash"], weights["thresholds"]
    is_learned = thresholds.requires_grad and config.max_clusters is None and 0 < config.hash_bits <= MAX_SOFT_BITS
    if is_learned and slope is not None:
        projections = project(rows, vectors)
        memberships = soft_memberships(projections, thresholds, slope)
        means = soft_centroid_rows(rows, codes_from_projections(projections, thresholds), memberships)
    else:
        with torch.no_grad():
            codes = signatures(rows, vectors, thresholds)
            indices, counts = assign_clusters(codes, config.hash_bits, config.max_clusters)
        means = centroid_rows(rows, indices, counts)
    one = 2.0 ** _fraction_bits(weights)
    means = round_half_up(means * one) / one
    matrix, exact = weight_matrix(kernels), op.exact_channels
    y = torch.cat([rows @ matrix[:, :exact], means @ matrix[:, exact:]], dim=-1) + weights["bias"]
    y = y.view(len(values), *op.output_shape(tuple(values.shape[1:])))
    return activate(y, op.activation)


@torch.no_grad()
def _fraction_bits(weights: Mapping[str, Tensor]) -> int:
    """Of the centroids: as many as keep every accumulator inside int32."""
    most = 255 * weights["weights"].double().abs().flatten(1).sum(dim=1) + weights["bias"].double().abs()
    return min(MOST_FRACTION_BITS, max(0, math.floor(math.log2((INT32 - 1) / max(1.0, float(most.max()))))))
