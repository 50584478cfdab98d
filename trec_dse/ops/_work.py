"""Work that the cycle model charges to every operator alike, beside what each reports of its own."""

from collections.abc import Sequence

import numpy as np

from trec_dse.graph import IntWeights, Op, Shape, Window, Work

CALL, WIDE = "kernel_call", "wide_output"
_LONG_SHIFT = 32  # shifts up to here need the whole 64-bit product, beyond its upper half does (trec_types.h)


def work_of(op: Op, inputs: Sequence[Shape], wide_share: float, *, worst: bool) -> tuple[Work, ...]:
    """All work of one layer. `wide_share`: as `wide_share` finds it; `worst`: at the most clusters there can be."""
    common = [Work(CALL, 1.0)]
    if wide_share > 0:
        common.append(Work(WIDE, wide_share * float(np.prod(op.output_shape(*inputs)))))
    return (*common, *op.work(*inputs, worst=worst))


def wide_share(op: Op, inputs: Sequence[Shape], weights: IntWeights) -> float:
    """Share of the output channels that are rescaled by the longer way: those whose factor is a half or more."""
    shifts = np.atleast_1d(weights.get("shifts", np.zeros(0)))
    is_by_channel = op.macs(*inputs) > 0 and shifts.size == op.output_shape(*inputs)[-1]
    return float((shifts <= _LONG_SHIFT).mean()) if is_by_channel else 0.0


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
