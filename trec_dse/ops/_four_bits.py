"""4-bit integers whose scales are powers of two: weights -8..7, activations 0..15, biases of 8 bits.

A layer sums weight * (level - zero point) in steps of 2**a, adds its bias, a whole number of steps of 2**b, and gives
the sum in steps of 2**c: the rounding is a shift by c - a. The three exponents are learned, so they stand among the
layer's weights. (After Gural and Murmann, ICML 2019; the one rounding rule is the house's.)
"""

import math
from dataclasses import dataclass

import numpy as np

from trec_dse.errors import UnsupportedError
from trec_dse.graph import FloatArray, IntArray, Quantization

MOST_SHIFT = 15
_TRIED = range(-3, 4)  # exponents around that of the largest value


@dataclass(frozen=True)
class Exponents:
    """Of the accumulator, the bias and the output, in that order, as a layer's weights hold them; `weight` follows."""

    accumulator: int
    bias: int
    output: int

    @classmethod
    def of(cls, values: FloatArray) -> "Exponents":
        """Rounded to what the kernels can do: the bias and the output are no finer than the accumulator."""
        accumulator, bias, output = (math.floor(float(value) + 0.5) for value in values)
        return cls(
            accumulator,
            min(max(bias, accumulator), accumulator + MOST_SHIFT),
            min(max(output, accumulator), accumulator + MOST_SHIFT),
        )

    @property
    def bias_shift(self) -> int:
        """From bias steps to accumulator steps."""
        return self.bias - self.accumulator

    @property
    def shift(self) -> int:
        """From accumulator steps to output steps."""
        return self.output - self.accumulator


@dataclass(frozen=True)
class WholeLayer:
    """The integers of a layer: weights -8..7 (M, ...) and bias -128..127 (M,), and its exponents."""

    weights: IntArray
    bias: IntArray
    exponents: Exponents

    def accumulate(self, rows: IntArray) -> IntArray:
        """Levels (N, K) to accumulators (N, M)."""
        kernels = self.weights.reshape(len(self.weights), -1).astype(np.int64)
        sums: IntArray = rows.astype(np.int64) @ kernels.T + (self.bias.astype(np.int64) << self.exponents.bias_shift)
        return sums


def whole_layer(weights: FloatArray, bias: FloatArray, exponents: FloatArray, source: Quantization) -> WholeLayer:
    """A layer that reads `source` levels, its zero point folded into the bias: sum w (q - z) = sum w q - z sum w."""
    chosen = Exponents.of(exponents)
    step = 2.0**chosen.accumulator
    whole = nearest(weights * source.scale / step, -8, 7)
    sums = whole.reshape(len(whole), -1).sum(axis=1)
    folded = bias - source.zero_point * step * sums
    return WholeLayer(whole, nearest(folded / 2.0**chosen.bias, -128, 127), chosen)


def nearest(values: FloatArray, low: int, high: int) -> IntArray:
    """Nearest whole numbers, halves upwards, saturated."""
    return np.clip(np.floor(values + 0.5), low, high).astype(np.int64)


def shift_right(sums: IntArray, shift: int, low: int, high: int) -> IntArray:
    """round(sums / 2**shift), saturated."""
    result: IntArray = np.clip((sums + ((1 << shift) >> 1)) >> shift, low, high)
    return result


def best_exponent(values: FloatArray, low: int, high: int) -> int:
    """The exponent e whose steps of 2**e, low..high of them, round `values` with the least squared error."""
    largest = float(np.abs(values).max())
    if largest == 0:
        return 0
    middle = math.ceil(math.log2(largest / max(high, -low)))

    def error(exponent: int) -> float:
        step = 2.0**exponent
        return float(np.square(nearest(values / step, low, high) * step - values).sum())

    return min((middle + i for i in _TRIED), key=error)


def fitting_exponents(
    weights: FloatArray, bias: FloatArray, source: Quantization, outputs: FloatArray, levels: tuple[int, int]
) -> FloatArray:
    """Exponents for a layer with those float weights, its input's quantisation and what it gives, `levels` of it."""
    accumulator = best_exponent(weights * source.scale, -8, 7)
    step = 2.0**accumulator
    sums = nearest(weights * source.scale / step, -8, 7).reshape(len(weights), -1).sum(axis=1)
    folded = bias - source.zero_point * step * sums
    chosen = (accumulator, best_exponent(folded, -128, 127), best_exponent(outputs, *levels))
    exponents = Exponents.of(np.array(chosen, dtype=np.float64))
    return np.array([exponents.accumulator, exponents.bias, exponents.output], dtype=np.float64)


def as_byte(value: int, what: str) -> int:
    """`value` itself, for a field of one byte; UnsupportedError if it does not fit."""
    if not 0 <= value <= 255:
        raise UnsupportedError(f"{what} is {value}; the 4-bit kernels hold it in one byte, so 0..255 would be right")
    return value
