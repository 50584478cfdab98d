"""The integers of the C kernels as torch sees them: whole numbers in floating point, with gradients.

A `Levels` tensor holds q - zero_point. Layers multiply whole numbers, add a whole bias, and round once per output,
exactly as `_fixed_point.py` does; hash bits and centroids are those of `_clustering.py`. Rounding passes gradients
straight through, clipping stops them, and a scale learns from both; a hash learns by soft memberships. The results are
those of the kernels, save that a factor is not cut to a multiple of 2**-32; in single precision only sums above 2**24
and layers without weights may differ: what decides is done in double precision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from trec_dse.graph import Op
from trec_dse.ops._activation import CEILING, activate
from trec_dse.ops._fake_clustering import WholeRounding, clustered_sums
from trec_dse.ops._fake_recurrence import fake_gru, fake_sru
from trec_dse.ops._fixed_point import sum_multipliers
from trec_dse.ops._levels import Levels, round_half_up, whole_channels, whole_levels
from trec_dse.ops.add import Add
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.ops.gru import Gru
from trec_dse.ops.sru import Sru
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d


def fake_run(
    op: Op,
    inputs: Sequence[Levels],
    weights: Mapping[str, Tensor],
    sink: Tensor,
    slope: float | None = None,
) -> Tensor:
    """What `op` computes from int8 inputs and its float `weights` quantised on the way, before the output is rounded.

    Real numbers, (B, H, W, C) or (B, n), in double precision if the op has weights. Gradients reach weights, biases and
    inputs, and with a `slope` also hashes whose clusters are not capped. The slope is that of their soft bits and
    changes no value. `sink` is the output's scale (), in units of which sums weigh their inputs.
    """
    if isinstance(op, Sru):
        return fake_sru(op, inputs)
    if isinstance(op, Gru):
        return fake_gru(op, inputs[0], weights)
    if isinstance(op, Add):
        return activate(_weighed(inputs, sink), op.activation)
    if "weights" not in weights:
        return op.forward([levels.real for levels in inputs], weights)
    source = inputs[0]
    axis = 2 if isinstance(op, DepthwiseConv2d) else 0
    whole, scales = whole_channels(weights["weights"], axis, weights.get("scales"))
    factor = scales * source.scale
    is_cut = getattr(op, "activation", "none") == "relu6"
    if is_cut:  # at a real number, so not in units of the accumulator
        op = replace(op, activation="relu")  # type: ignore[type-var]
    if isinstance(op, TrecConv2d | TrecStripConv2d):
        accumulators = _clustered(op, source, {**weights, "weights": whole}, factor, slope)
    else:
        bias = _whole_bias(weights["bias"], factor).to(whole)
        accumulators = op.forward([source.values], {**weights, "weights": whole, "bias": bias}).double()
    real = accumulators * factor
    return real.clamp(max=CEILING) if is_cut else real


def _weighed(inputs: Sequence[Levels], sink: Tensor) -> Tensor:
    """The sum of inputs, each times a whole multiplier as the kernel has it."""
    scale = sink.double()
    ratios = [levels.scale.double() / scale for levels in inputs]
    multipliers, shift = sum_multipliers(tuple(float(ratio.detach()) for ratio in ratios))
    total = torch.zeros_like(inputs[0].values, dtype=torch.float64)
    for levels, ratio, multiplier in zip(inputs, ratios, multipliers, strict=True):
        total = total + levels.values.double() * (ratio + (multiplier / 2**shift - ratio).detach())
    return total * scale


def fake_pass(op: Op, source: Levels, weights: Mapping[str, Tensor]) -> Levels:
    """The output of an op that keeps its input's quantisation: pooling."""
    return Levels(round_half_up(op.forward([source.values], weights)), source.scale, source.zero_point)


def _whole_bias(bias: Tensor, factor: Tensor) -> Tensor:
    """A bias as a whole number of accumulator units, in double precision."""
    return round_half_up(bias / factor).clamp(-(2**30), 2**30)


def _clustered(
    op: TrecConv2d | TrecStripConv2d,
    source: Levels,
    weights: Mapping[str, Tensor],
    factor: Tensor,
    slope: float | None,
) -> Tensor:
    """Accumulators (B, H_out, W_out, M) in products of whole levels, activation included; `weights` are whole, the
    others as learnt; a product of two levels is worth `factor` (M,)."""
    rounding = _rounding(op, weights["weights"], source.zero_point)
    units = rounding.units.clone()
    units[: op.exact_channels] = 1.0  # these are no sums of rounded products
    whole = {"weights": weights["weights"]}
    if "hash" in weights:
        whole |= _whole_hash(weights["hash"], weights["thresholds"], source.scale)
    sums = clustered_sums(op, source.values, whole, rounding, slope)
    return activate(sums + _whole_bias(weights["bias"], factor * units) * units, op.activation)


def _whole_hash(vectors: Tensor, thresholds: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Hash vectors (n, L, H) as whole numbers, and thresholds (n, H) as the largest whole projection below them."""
    if vectors.shape[2] == 0:
        return {"hash": vectors, "thresholds": thresholds}
    whole, scales = whole_levels(vectors, [1])
    exact = thresholds / (scales[:, 0] * scale.detach())
    return {"hash": whole, "thresholds": (exact + (torch.floor(exact) - exact).detach()).to(thresholds)}


@torch.no_grad()
def _rounding(op: TrecConv2d | TrecStripConv2d, weights: Tensor, zero: int) -> WholeRounding:
    """How the kernel rounds centroids and their products; `weights` are whole."""
    rounding = op.rounding(weights.long().cpu().numpy(), zero)
    return WholeRounding(rounding.fraction_bits, torch.from_numpy(rounding.shifts).double().to(weights.device))
