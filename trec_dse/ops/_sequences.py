"""Fixed point of the recurrent operators: gates as tables, states as int16, blends of two values rounded once.

A gate is a share in 1 / 2**15. A blend g a + (2**15 - g) b of two 16-bit values fits 32 bits, for it lies between them.
"""

import math

import numpy as np
import numpy.typing as npt

from trec_dse.errors import UnsupportedError
from trec_dse.graph import IntArray, Quantization, Shape

ONE = 2**15  # a gate that is wholly open
STATE_BITS = 7  # fraction bits below an int8 level: |q - zero_point| <= 255 with 7 of them still is an int16
HIDDEN_SCALE = 2.0**-7  # of hidden states where they are multiplied: they lie between -1 and 1
GATE_UNIT = 2.0**-11  # of what goes into a gate
TABLE_END = 8.0  # a gate's table goes from -8 to 8, where the logistic function is within 0.0004 of its end
Floats = npt.NDArray[np.float64]


def sequence_shape(op: str, shape: Shape, parts: int) -> tuple[int, int, int]:
    """(T, sequences, d) of products (T, sequences, parts * d); raises UnsupportedError for another shape."""
    if len(shape) != 3 or shape[2] % parts:
        raise UnsupportedError(f"{op} reads (steps, sequences, {parts} * units); found {shape}")
    return shape[0], shape[1], shape[2] // parts


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), in a form that does not overflow."""
    result: Floats = 0.5 + 0.5 * np.tanh(0.5 * x)
    return result


def rounded(x: Floats) -> IntArray:
    """floor(x + 1/2), int64."""
    result: IntArray = np.floor(x + 0.5).astype(np.int64)
    return result


def reals_of(q: Quantization) -> Floats:
    """What the 256 levels of a tensor stand for, from -128 up."""
    result: Floats = q.scale * (np.arange(-128, 128, dtype=np.float64) - q.zero_point)
    return result


def blend(gate: IntArray, a: IntArray, b: IntArray) -> IntArray:
    """gate * a + (2**15 - gate) * b, with its 15 fraction bits."""
    result: IntArray = b * ONE + gate * (a - b)
    return result


def interpolate(table: IntArray, at: IntArray) -> IntArray:
    """Values between the entries of `table`, 2**7 apart, rounded; `at` counts from the first entry."""
    entries = table.astype(np.int64)
    index, part = at >> STATE_BITS, at & (2**STATE_BITS - 1)
    low = entries[index]
    high = entries[np.minimum(index + 1, len(entries) - 1)]
    result: IntArray = low + (((high - low) * part + 2 ** (STATE_BITS - 1)) >> STATE_BITS)
    return result


def levels_to_sigmoids(q: Quantization) -> IntArray:
    """(256,): the gate that each level of a tensor opens."""
    return rounded(sigmoid(reals_of(q)) * ONE)


def levels_to_tanhs(q: Quantization, unit: float) -> IntArray:
    """(257,): tanh of each level in units of `unit`; the last entry stands twice, for `interpolate`."""
    reals = reals_of(q)
    return rounded(np.tanh(np.append(reals, reals[-1])) / unit)


def highway_shift(scale: float) -> int:
    """k, at most 7, so that 1 is an int16 in units of scale / 2**k: an int8 value of that scale then is exact."""
    shift = min(STATE_BITS, math.floor(math.log2((ONE - 1) * scale)))
    if shift < 0:
        raise UnsupportedError(f"the input of an sru has scale {scale}; it must be at least 2**-15")
    return shift


def levels_to_gate_units(q: Quantization) -> IntArray:
    """(256,): each level of a tensor in units of `GATE_UNIT`, saturated to int16."""
    return np.clip(rounded(reals_of(q) / GATE_UNIT), -ONE, ONE - 1)


def sigmoid_table() -> IntArray:
    """(257,): the logistic function from -8 to 8, in steps of 2**7 units of `GATE_UNIT`."""
    return rounded(sigmoid(np.arange(257) * GATE_UNIT * 2**STATE_BITS - TABLE_END) * ONE)


def table_place(x: IntArray) -> IntArray:
    """Where `x`, in units of `GATE_UNIT`, lies in `sigmoid_table`; beyond its ends the nearest place inside."""
    result: IntArray = np.clip(x + ONE // 2, 0, ONE - 1)
    return result
