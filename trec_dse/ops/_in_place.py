"""How far an operator's output may run into its own input: found by walking over the kernel's order, not by formula.

Kernels go over the output positions in raster order, in blocks; all channels of a block are written before the next
one is begun. A byte of the input is dead once no window of a later block can touch it. If the input starts at least
`D` bytes after the output starts, nothing is overwritten before it was read. Published closed forms (Gural and Murmann,
ICML 2019, row order) are upper bounds of the same number.
"""

import functools

from trec_dse.graph import Shape, Window

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


def first_needed(window: Window, shape: Shape, y: int, x: int) -> int:
    """Offset of the first byte of the input (H, W, C) that the window at output position (y, x) reads."""
    height, width, channels = shape
    top = min(max(0, y * window.stride[0] - window.padding[0]), height - 1)
    left = min(max(0, x * window.stride[1] - window.padding[1]), width - 1)
    return (top * width + left) * channels
