"""How far an operator's output may run into its own input: found by walking over the kernel's order, not by formula.

Kernels go over the output positions in raster order, in blocks; all channels of a block are written before the next
one is begun. A byte of the input is dead once no window of a later block can touch it. If the input starts at least
`D` bytes after the output starts, nothing is overwritten before it was read. Published closed forms (Gural and Murmann,
ICML 2019, row order) are upper bounds of the same number.

`slack` asks the same of other orders, which peel a row or a column of what is left of the output at a time and, where
the direction changes, transpose what is left of the input in place, so that what dies next is always in front.
"""

import functools
from dataclasses import dataclass
from typing import Literal, get_args

from trec_dse.graph import Shape, Window

# "row": rows only, nothing is moved. "transpose": some rows, then one transposition, then columns only.
# "herringbone": row or column, whichever is better in the end.
Order = Literal["row", "transpose", "herringbone"]
ORDERS = get_args(Order)

BLOCK = 4  # positions that a kernel may read, in any order, before it writes them


@functools.cache
def raster_distance(window: Window, shape: Shape, out_channels: int) -> int:
    """`D` in bytes for a kernel that reads `window`s of an input (H, W, C) and writes `out_channels` per position.

    The windows of a block count as needed until the whole block is written, which holds for any order inside it.
    """
    out_h, out_w = window.positions(shape)
    first = [first_needed(window, shape, i // out_w, i % out_w) for i in range(out_h * out_w)]
    needed = shape[0] * shape[1] * shape[2]
    furthest = 0
    for begin in range(len(first) - 1 - (len(first) - 1) % BLOCK, -1, -BLOCK):
        end = min(begin + BLOCK, len(first))
        needed = min(needed, *first[begin:end])
        furthest = max(furthest, end * out_channels - needed)
    return furthest


@functools.cache
def slack(window: Window, shape: Shape, out_channels: int, order: Order, *, copied: int = 0) -> int:
    """Elements that a buffer needs beyond the input (H, W, C) for a convolution or pooling to run inside it.

    The input stands at the end of the buffer, outputs are written from its front, pixel by pixel. A window counts as
    needed until its last output channel is written; `copied`: that many windows of a strip at a time only until the
    first of their outputs is, for they or what comes of them stand elsewhere by then. Padding is virtual.
    """
    peeling = _peeling(window, shape, out_channels, copied)
    rows, columns = (len(first) - 1 for first in peeling.first)
    if order == "row":
        worst = max(peeling.strip(0, (y, 0)) for y in range(rows))
    elif order == "transpose":
        worst = _transposed_once(peeling, rows, columns)
    else:
        worst = _peeled_best(peeling, rows, columns)[0]
    return max(0, worst)


@functools.cache
def herringbone(window: Window, shape: Shape, out_channels: int, *, copied: int = 0) -> str:
    """The order that needs the least slack: "r" for every row and "c" for every column, as they are peeled."""
    peeling = _peeling(window, shape, out_channels, copied)
    return _peeled_best(peeling, *(len(first) - 1 for first in peeling.first))[1]


@dataclass(frozen=True)
class _Peeling:
    """What the orders walk over.

    Attributes:
        first: per axis, the first input row (column) that each output row (column) reads; behind the last, the size.
    """

    first: tuple[tuple[int, ...], tuple[int, ...]]
    channels: int
    out_channels: int
    copied: int

    def _needed(self, x: int, begin: int, end: int) -> int:
        """The first position of a strip whose window must still be whole when the outputs of `x` are written."""
        return x if not self.copied else min(end, begin + ((x - begin) // self.copied + 1) * self.copied)

    def strip(self, axis: int, done: tuple[int, int]) -> int:
        """Elements beyond the input that the next row (axis 0) or column needs, `done` of each being written already.

        What is left of the input lies at the end of the buffer, the strip's own direction inside.
        """
        across, along = self.first[axis], self.first[1 - axis]
        begin, start = across[done[axis]], along[done[1 - axis]]
        freed, length = across[done[axis] + 1] - begin, along[-1] - start
        gone = across[-1] * along[-1] - (across[-1] - begin) * length
        left = [len(first) - 1 - n for first, n in zip(self.first, done, strict=True)]
        written = ((len(across) - 1) * (len(along) - 1) - left[0] * left[1]) * self.out_channels
        worst = 0
        for x in range(done[1 - axis], len(along) - 1):
            written += self.out_channels
            needed = self._needed(x, done[1 - axis], len(along) - 1)
            dead = freed * length if needed == len(along) - 1 else along[needed] - start
            worst = max(worst, written - (gone + (dead if freed else 0)) * self.channels)
        return worst


def _peeling(window: Window, shape: Shape, out_channels: int, copied: int) -> _Peeling:
    first = tuple(
        (*(min(max(0, i * stride - pad), size) for i in range(n)), size)
        for n, stride, pad, size in zip(window.positions(shape), window.stride, window.padding, shape, strict=False)
    )
    return _Peeling((first[0], first[1]), shape[2], out_channels, copied)


def _transposed_once(peeling: _Peeling, rows: int, columns: int) -> int:
    """The best number of rows to take before the rest is taken by columns."""
    best, before = _by_columns(peeling, 0, columns), 0
    for y in range(rows):
        before = max(before, peeling.strip(0, (y, 0)))
        best = min(best, max(before, _by_columns(peeling, y + 1, columns) if y + 1 < rows else 0))
    return best


def _by_columns(peeling: _Peeling, rows_done: int, columns: int) -> int:
    return max(peeling.strip(1, (rows_done, x)) for x in range(columns))


def _peeled_best(peeling: _Peeling, rows: int, columns: int) -> tuple[int, str]:
    """Over all sequences of rows and columns: what is needed depends only on how many of each are left."""
    best: dict[tuple[int, int], tuple[int, str]] = {}
    for y in range(rows, -1, -1):
        for x in range(columns, -1, -1):
            if y == rows or x == columns:
                best[y, x] = (0, "")
                continue
            (below, by_row), (beside, by_column) = best[y + 1, x], best[y, x + 1]
            row = (max(peeling.strip(0, (y, x)), below), "r" + by_row)
            column = (max(peeling.strip(1, (y, x)), beside), "c" + by_column)
            best[y, x] = min(row, column, key=lambda found: found[0])
    return best[0, 0]


def first_needed(window: Window, shape: Shape, y: int, x: int) -> int:
    """Offset of the first byte of the input (H, W, C) that the window at output position (y, x) reads."""
    height, width, channels = shape
    top = min(max(0, y * window.stride[0] - window.padding[0]), height - 1)
    left = min(max(0, x * window.stride[1] - window.padding[1]), width - 1)
    return (top * width + left) * channels
