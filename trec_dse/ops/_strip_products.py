"""How clustered convolutions cut their kernels and round the products of centroids with the parts: all in integers.

The C kernel adds products as int16, a pass of parts at a time, and passes as int32. So a product is divided by a power
of two, one for every output channel, that is large enough for no pass to overflow whatever the image: that depends on
the kernels and on the input's zero point alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trec_dse.graph import IntArray

BoolArray = npt.NDArray[np.bool_]
Passes = list[list[int]]  # what is added up as int16 before it is widened

MOST_PARTS_OF_A_LINE = 11  # TREC_MOST_PARTS
TILE = 8  # TREC_PART_CHANNELS
_ENOUGH_PARTS = 12  # of a pass: its table grows with them, and what it costs to keep sums between passes shrinks
_MOST_FRACTION_BITS = 7  # |q - zero_point| <= 255 with 7 fraction bits still is an int16
_INT16, _INT32 = 2**15, 2**31


@dataclass(frozen=True)
class Lines:
    """The parts of a kernel: `columns` lines in each of `groups`, each of `parts` strips below each other."""

    groups: int
    columns: int
    parts: int

    @property
    def per_pass(self) -> int:
        """Lines of a pass: the fewest with at least twelve parts; of one group, or one line of each of some groups."""
        return min(-(-_ENOUGH_PARTS // self.parts), self._in_a_row)

    @property
    def passes(self) -> Passes:
        """The lines of every pass, counted from left to right in one group after the other."""
        total, row = self.groups * self.columns, self._in_a_row
        starts = ((first, at) for first in range(0, total, row) for at in range(0, row, self.per_pass))
        return [list(range(first + at, first + min(at + self.per_pass, row))) for first, at in starts]

    @property
    def _in_a_row(self) -> int:
        return self.columns if self.columns > 1 else self.groups

    def cut(self, kernels: IntArray) -> IntArray:
        """Kernels (M, kernel_h, kernel_w, C) as parts (M, lines, kernel_h, L)."""
        m, height, width, channels = kernels.shape
        pixels, depth = width // self.columns, channels // self.groups
        cut = kernels.reshape(m, height, self.columns, pixels, self.groups, depth)
        ordered = cut.transpose(0, 4, 2, 1, 3, 5).reshape(m, self.groups * self.columns, height, pixels * depth)
        return np.ascontiguousarray(ordered)


@dataclass(frozen=True, eq=False)
class Rounding:
    """Centroids have `fraction_bits`; products are divided by 2**shifts, one for every channel (M,), and rounded."""

    fraction_bits: int
    shifts: IntArray

    @property
    def units(self) -> IntArray:
        """What a rounded product counts, in products of whole levels: float64 (M,)."""
        return np.exp2(self.shifts.astype(np.float64) - self.fraction_bits)


def slices_of_a_pass(n_slices: int) -> int:
    """Slices whose products are added as int16: as many in each pass, save the last, as one line of parts may have."""
    return -(-n_slices // -(-n_slices // MOST_PARTS_OF_A_LINE))


def slice_passes(n_slices: int) -> Passes:
    """The slices of every pass."""
    n = slices_of_a_pass(n_slices)
    return [list(range(first, min(first + n, n_slices))) for first in range(0, n_slices, n)]


def product_rounding(parts: IntArray, passes: Passes, zero: int) -> Rounding:
    """The finest rounding of the products of parts (M, lines, kernel_h, L) with which no pass of lines leaves int16."""
    whole = parts.astype(np.int64)
    above, below = np.maximum(whole, 0).sum(axis=3), np.minimum(whole, 0).sum(axis=3)
    low, high = -128 - zero, 127 - zero  # where centroids lie
    most, least = high * above + low * below, low * above + high * below
    bound = max(1, int(most.max()), -int(least.min()))
    bits = int(np.clip(np.floor(np.log2((_INT32 - 1) / (2 * bound))), 0, _MOST_FRACTION_BITS))
    shifts = np.zeros(len(parts), dtype=np.int64)
    for lines in passes:
        ends = [end[:, lines].reshape(len(parts), -1).T << bits for end in (most, least)]
        while not (fits := _fits(ends, shifts)).all():
            shifts += ~fits
    return Rounding(bits, shifts)


def round_products(products: IntArray, shifts: IntArray) -> IntArray:
    """floor(product / 2**shift + 1/2); channels are the last axis."""
    rounded: IntArray = (products + (1 << shifts >> 1)) >> shifts
    return rounded


def _fits(ends: list[IntArray], shifts: IntArray) -> BoolArray:
    """Whether, of each channel (M,), the sums of the largest and smallest products (parts, M), rounded, are int16."""
    most, least = (round_products(end, shifts).sum(axis=0) for end in ends)
    fits: BoolArray = (most < _INT16) & (least >= -_INT16)
    return fits
