"""The integers of strip convolutions: how kernels are cut into parts, and products that fit into int16 for certain."""

import numpy as np
import pytest

from trec_dse.graph import IntArray
from trec_dse.ops._strip_products import Lines, product_rounding, round_products, slice_passes


def test_a_pass_takes_the_fewest_lines_with_twelve_parts() -> None:
    # 5x5, strips of one pixel: five lines of five parts in each of two groups, three lines make fifteen parts
    assert Lines(groups=2, columns=5, parts=5).passes == [[0, 1, 2], [3, 4], [5, 6, 7], [8, 9]]
    # 3x3, strips of a kernel row: a line of three parts in each of five groups
    assert Lines(groups=5, columns=1, parts=3).passes == [[0, 1, 2, 3], [4]]
    # 3x3, strips of one pixel: there are nine parts in a group, and no pass takes lines of two
    assert Lines(groups=2, columns=3, parts=3).passes == [[0, 1, 2], [3, 4, 5]]
    # 1x1: a part is a line
    assert Lines(groups=13, columns=1, parts=1).passes == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [12]]
    assert Lines(groups=1, columns=1, parts=5).passes == [[0]]


def test_slices_make_passes_of_like_size_and_of_at_most_eleven() -> None:
    assert slice_passes(5) == [[0, 1, 2, 3, 4]]
    assert slice_passes(11) == [list(range(11))]
    assert slice_passes(12) == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert [len(a_pass) for a_pass in slice_passes(25)] == [9, 9, 7]


def test_kernels_are_cut_from_left_to_right_in_one_group_after_the_other() -> None:
    # 2x2 pixels of two channels, numbered as they lie: pixel (y, x) has 4y + 2x and the one after
    kernels = np.arange(8).reshape(1, 2, 2, 2)
    assert Lines(groups=2, columns=2, parts=2).cut(kernels).tolist() == [
        [[[0], [4]], [[2], [6]], [[1], [5]], [[3], [7]]]
    ]
    assert Lines(groups=1, columns=1, parts=2).cut(kernels).tolist() == [[[[0, 1, 2, 3], [4, 5, 6, 7]]]]


def _shift(weights: list[float], zero: int) -> int:
    """For one line of parts of one element."""
    parts = np.array(weights, dtype=np.int64).reshape(1, 1, -1, 1)
    rounding = product_rounding(parts, Lines(1, 1, len(weights)).passes, zero)
    assert rounding.fraction_bits == 7
    assert rounding.units.tolist() == [2.0 ** (rounding.shifts[0] - 7)]
    return int(rounding.shifts[0])


def test_a_product_is_halved_until_the_largest_sum_fits() -> None:
    assert _shift([127], zero=-128) == 7  # 127 * 255 = 32385 fits, twice that does not
    assert _shift([64], zero=-128) == 6  # 2 * 64 * 255 = 32640
    assert _shift([64, 64], zero=-128) == 7
    assert _shift([64, -64], zero=-128) == 6  # the largest is one of them and a part in the padding: 0
    assert _shift([127, -127], zero=0) == 7  # 127 * 127 + 127 * 128 = 32385
    assert _shift([-127], zero=0) == 6  # 2 * 127 * 128 = 32512
    assert _shift([0], zero=0) == 0


def test_products_are_rounded_half_upwards() -> None:
    products = np.array([[-6, 5], [-3, 6], [2, 7], [1, -1]])
    assert round_products(products, np.array([2, 0])).tolist() == [[-1, 5], [-1, 6], [1, 7], [0, -1]]


@pytest.mark.parametrize("seed", range(8))
def test_no_choice_of_centroids_leaves_int16(seed: int) -> None:
    random = np.random.default_rng(seed)
    lines = Lines(int(random.integers(1, 4)), int(random.integers(1, 5)), int(random.integers(1, 6)))
    zero, length = int(random.integers(-128, 128)), int(random.integers(1, 40))
    parts = random.integers(-127, 128, (3, lines.groups * lines.columns, lines.parts, length))
    rounding = product_rounding(parts, lines.passes, zero)
    low, high = (value - zero << rounding.fraction_bits for value in (-128, 127))
    worst = np.where(parts > 0, high, low)  # every product at its largest, then at its smallest
    for centroids in (worst, low + high - worst):
        products = round_products((centroids * parts).sum(axis=3).T, rounding.shifts).T
        sums = [_sum(products[:, lines_of_a_pass]) for lines_of_a_pass in lines.passes]
        assert np.min(sums) >= -(2**15)
        assert np.max(sums) < 2**15
    # one bit less would not do for some channel, or there is nothing to round
    assert (rounding.shifts > 0).all()


def _sum(products: IntArray) -> IntArray:
    total: IntArray = products.sum(axis=(1, 2))
    return total
