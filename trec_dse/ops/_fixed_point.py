"""The fixed-point arithmetic of `runtime/include/trec_types.h`, in NumPy; the same single rounding rule.

round(x) is floor(x + 1/2) everywhere: one rounding per output, halves towards plus infinity.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trec_dse.graph import (
    FieldValue,
    FloatArray,
    FloatWeights,
    Int8Array,
    IntArray,
    IntWeights,
    NodeQuantization,
    Shape,
    Window,
)
from trec_dse.ops._activation import CEILING

INT32 = 2**31


def multiplier_and_shift(scale: float) -> tuple[int, int]:
    """(multiplier in [2**30, 2**31), shift in 1..62) with multiplier / 2**shift nearest to `scale` > 0."""
    mantissa, exponent = math.frexp(scale)
    multiplier = math.floor(mantissa * INT32 + 0.5)
    if multiplier == INT32:
        multiplier, exponent = multiplier // 2, exponent + 1
    shift = 31 - exponent
    if shift > 62:
        return 0, 62
    if shift < 1:
        raise ValueError(f"scale {scale} is too large for a 31-bit multiplier")
    return multiplier, shift


ADD_SHIFT = 14  # of the multipliers of sums: trec_types.h
HIGH = 32  # the shift that leaves the upper half of a product: trec_types.h
_FINEST = 2.0**-18  # of the largest factor of a layer, so that 14 bits of it are kept at that shift


def rescale_tables(scales: npt.NDArray[np.float64]) -> IntWeights:
    """`factors` (int32) and their `shift`: factors / 2**shift are nearest to `scales` (M,), all positive.

    The shift is `HIGH` wherever the largest scale lies in [2**-18, 1/2), which those of trained layers do.
    """
    largest = float(scales.max())
    shift = HIGH if _FINEST <= largest < (INT32 - 1) / 2**HIGH else multiplier_and_shift(largest)[1]
    factors = np.floor(scales * 2.0**shift + 0.5)
    return {"factors": factors.astype(np.int32), "shift": np.array(shift, dtype=np.int32)}


def single_rescale(scale: float) -> IntWeights:
    """`multiplier` and `shift` of one scale for a whole layer."""
    multiplier, shift = multiplier_and_shift(scale)
    return {"multiplier": np.array(multiplier, dtype=np.int32), "shift": np.array(shift, dtype=np.int32)}


def channel_multipliers(scales: npt.NDArray[np.float64]) -> IntWeights:
    """`multipliers` (int32) and `shifts` (uint8), one entry per scale."""
    pairs = [multiplier_and_shift(float(scale)) for scale in scales]
    return {
        "multipliers": np.array([m for m, _ in pairs], dtype=np.int32),
        "shifts": np.array([s for _, s in pairs], dtype=np.uint8),
    }


@dataclass(frozen=True)
class Bounds:
    """The fused activation, as bounds of the int8 output."""

    low: int
    high: int


WHOLE_RANGE = Bounds(-128, 127)


def bounds(activation: str, quantization: NodeQuantization) -> Bounds:
    """ "relu" cuts at the zero point, "relu6" also at the level of 6; "none" at the ends of int8."""
    zero, scale = quantization.output.zero_point, quantization.output.scale
    low = -128 if activation == "none" else max(-128, zero)
    return Bounds(low, min(127, zero + math.floor(CEILING / scale + 0.5)) if activation == "relu6" else 127)


def scale_by(acc: IntArray, factors: IntArray, shifts: IntArray) -> IntArray:
    """int32 numbers (..., channels) times factor / 2**shift, of their channel or of all, rounded; int64."""
    wide = shifts.astype(np.int64)
    product: IntArray = acc.astype(np.int64) * factors.astype(np.int64)
    result: IntArray = (product + (np.int64(1) << (wide - 1))) >> wide
    return result


def requantize(acc: IntArray, weights: IntWeights, zero: int, limits: Bounds) -> Int8Array:
    """int32 accumulators (..., channels) to int8 with one factor per channel."""
    return saturate(scale_by(acc, weights["factors"], weights["shift"]), zero, limits)


def saturate(scaled: IntArray, zero: int, limits: Bounds) -> Int8Array:
    """Adds the zero point and cuts at the bounds."""
    result: Int8Array = np.clip(scaled + zero, limits.low, limits.high).astype(np.int8)
    return result


def divide(numerator: IntArray, denominator: IntArray | int) -> IntArray:
    """Integer quotient, rounded by the one rule."""
    result: IntArray = (2 * numerator + denominator) // (2 * denominator)
    return result


def quantize_channels(
    weights: FloatArray, axis: int = 0, scales: FloatArray | None = None
) -> tuple[Int8Array, FloatArray]:
    """Symmetric int8 in -127..127 per slice along `axis`, and those slices' scales.

    With `scales` that the weights came with, these, and int8 from -128.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    lowest = -127 if scales is None else -128
    if scales is None:
        largest = np.abs(weights).max(axis=others)
        scales = np.where(largest > 0, largest, 1.0) / 127
    shape = [1] * weights.ndim
    shape[axis] = -1
    levels = np.floor(weights / scales.reshape(shape) + 0.5)
    return np.clip(levels, lowest, 127).astype(np.int8), scales


def affine_weights(weights: FloatWeights, quantization: NodeQuantization, axis: int = 0) -> IntWeights:
    """Integer weights, bias and rescale tables of a layer that computes weights * input + bias.

    The input's zero point is folded into the bias: sum w (q - z) + b = sum w q + (b - z sum w).
    """
    levels, scales = quantize_channels(weights["weights"], axis, weights.get("scales"))
    source, sink = quantization.inputs[0], quantization.output
    others = tuple(i for i in range(levels.ndim) if i != axis)
    sums = levels.astype(np.int64).sum(axis=others)
    bias = integer_bias(weights["bias"], scales * source.scale) - source.zero_point * sums
    return {"weights": levels, "bias": bias.astype(np.int32), **rescale_tables(scales * source.scale / sink.scale)}


def integer_bias(bias: FloatArray, scales: FloatArray) -> IntArray:
    """Bias in units of the accumulator, saturated well inside int32 so that no sum overflows."""
    return np.clip(np.floor(bias / scales + 0.5), -(2**30), 2**30).astype(np.int64)


def pair_of_multipliers(ratios: tuple[float, ...]) -> tuple[tuple[int, ...], int]:
    """Multipliers and one shift with multiplier / 2**shift nearest to each ratio; 255 * sum stays below 2**30."""
    shift = 20
    while 255 * sum(ratio * 2**shift for ratio in ratios) >= 2**30 and shift > 1:
        shift -= 1
    return tuple(math.floor(ratio * 2**shift + 0.5) for ratio in ratios), shift


def sum_multipliers(ratios: tuple[float, ...]) -> tuple[tuple[int, ...], int]:
    """As `pair_of_multipliers`, at `ADD_SHIFT` where all multipliers fit into int16 there, so that cores with SMLAD add
    two products at once; a rounding of 2**-15 of a ratio is at most 1/128 of a level."""
    if max(ratios) * 2**ADD_SHIFT < 2**15 - 1:
        return tuple(math.floor(ratio * 2**ADD_SHIFT + 0.5) for ratio in ratios), ADD_SHIFT
    return pair_of_multipliers(ratios)


def window_field(window: Window, shape: Shape) -> FieldValue:
    """The members of C's `trec_window`, in its order."""
    height, width, channels = shape
    return (height, width, channels, *window.positions(shape), *window.kernel, *window.stride, *window.padding)


def rescale_field(weights: IntWeights, quantization: NodeQuantization, limits: Bounds) -> FieldValue:
    """The members of C's `trec_rescale`, in its order."""
    return (weights["factors"], int(weights["shift"]), quantization.output.zero_point, limits.low, limits.high)


def unfold(image: IntArray, window: Window, fill: int) -> IntArray:
    """Rows (N, kernel_h * kernel_w * C) of an image (H, W, C), in (kernel_h, kernel_w, C) order."""
    (kh, kw), (sh, sw) = window.kernel, window.stride
    sides = [*zip(window.padding, window.end_padding, strict=True), (0, 0)]
    padded = np.pad(image, sides, constant_values=fill)
    out_h, out_w = window.positions(image.shape)
    rows = [padded[y * sh : y * sh + kh, x * sw : x * sw + kw].reshape(-1) for y in range(out_h) for x in range(out_w)]
    return np.stack(rows)
