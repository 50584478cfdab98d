"""Work that the cycle model charges to every operator alike, beside what each reports of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trec_dse.graph import IntWeights, Op, Shape, Window, Work
from trec_dse.ops._fixed_point import HIGH

CALL, WIDE = "kernel_call", "wide_output"
_A_CACHE = 64  # lines; below are the line memories in front of a Flash


@dataclass(frozen=True)
class TableReads:
    """What a unit of work reads of an operator's tables.

    Attributes:
        n_bytes: one behind the other, so that a line serves all that lies in it.
        streams: places that are read by turns; n_pieces: reads, each of a line of its own where fewer lines are held.
        stays: a cache keeps what is read again, for it is a few channels of a part of the kernels at a time.
    """

    n_bytes: float
    streams: int = 1
    n_pieces: float = 0.0
    stays: bool = False


# Kernels that multiply four rows at a time load a weight once for them. An output has a bias and a factor, 8 bytes,
# read once for every four rows where rows come in fours. Depthwise kernels read taps that lie a row of channels
# apart.
TABLE_READS: Mapping[str, TableReads] = {
    "conv_mac": TableReads(1 / 4),
    "conv_output": TableReads(8 / 4),
    "dense_words": TableReads(16, 4, 4),
    "dense_word": TableReads(4),
    "dense_rest": TableReads(1),
    "dense_output": TableReads(8, 4, 2),
    "entry_term": TableReads(2),
    "entry_output": TableReads(10, 4, 3),
    "entry_four": TableReads(2),
    "depthwise_mac": TableReads(1, 12, 1 / 4),
    "depthwise_output": TableReads(8, 12, 1 / 2),
    "gru_words": TableReads(16, 4, 4),
    "gru_value": TableReads(0, 12, 17),
    "slice_mac": TableReads(1 / 4, stays=True),
    "slice_output": TableReads(8 / 4, stays=True),
    "strip_hash_mac": TableReads(1 / 4, stays=True),
    "strip_mac": TableReads(1 / 4, stays=True),
    "strip_output": TableReads(8 / 4, stays=True),
}


def work_of(op: Op, inputs: Sequence[Shape], wide_share: float, *, worst: bool) -> tuple[Work, ...]:
    """All work of one layer. `wide_share`: as `wide_share` finds it; `worst`: at the most clusters there can be."""
    common = [Work(CALL, 1.0)]
    if wide_share > 0:
        common.append(Work(WIDE, wide_share * float(np.prod(op.output_shape(*inputs)))))
    return (*common, *op.work(*inputs, worst=worst))


def lines_read(op: Op, inputs: Sequence[Shape], *, line_bytes: int, n_lines: int) -> float | None:
    """Lines of an operator's tables that an inference reads through a memory of so many lines.

    None is kept for the next block of rows. None for an operator of whose reads nothing is known.
    """
    known = [
        (TABLE_READS[item.kind], item.amount) for item in op.work(*inputs, worst=False) if item.kind in TABLE_READS
    ]
    total = 0.0
    for reads, amount in known:
        if not (reads.stays and n_lines >= _A_CACHE):
            pieces = reads.n_pieces if n_lines <= reads.streams else 0.0
            total += amount * max(pieces, reads.n_bytes / line_bytes)
    return total if known else None


def wide_share(weights: IntWeights) -> float:
    """Share of the outputs that are rescaled by the longer way: all of a layer that has a factor of a half or more."""
    return 1.0 if "factors" in weights and int(weights["shift"]) != HIGH else 0.0


def loose_outputs(rows: float, channels: int) -> float:
    """Outputs of a convolution that are rescaled one by one: all but those of four channels in four rows."""
    fours = rows // 4 * 4 * (channels // 4 * 4)
    return rows * channels - fours


def edge_positions(window: Window, shape: Shape) -> int:
    """Positions of a window that reach beyond the image, whose rows are read piece by piece."""
    inside = [
        sum(1 for i in range(n) if i * stride - pad >= 0 and i * stride - pad + kernel <= size)
        for n, size, kernel, stride, pad in _axes(window, shape)
    ]
    height, width = window.positions(shape)
    return height * width - inside[0] * inside[1]


def taps_inside(window: Window, shape: Shape) -> int:
    """Pixels that all positions of a window read; those beyond the image are not."""
    rows, columns = (
        sum(min(i * stride - pad + kernel, size) - max(i * stride - pad, 0) for i in range(n))
        for n, size, kernel, stride, pad in _axes(window, shape)
    )
    return rows * columns


def _axes(window: Window, shape: Shape) -> list[tuple[int, int, int, int, int]]:
    """Per axis: positions, size of the image, kernel, stride, padding before."""
    sizes = zip(window.positions(shape), shape, window.kernel, window.stride, window.padding, strict=False)
    return list(sizes)
