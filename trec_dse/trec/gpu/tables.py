"""A layout as the GPU kernels read it: where vectors lie, who uses them, and where a pixel's gradient comes from."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trec_dse.candidate import TrecConfig
from trec_dse.graph import IntArray
from trec_dse.trec.layout import ConvGeometry, Layout, layout_of


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of one layer on one device, int32.

    A tap is a pixel of a vector, as a distance from the vector's first one. Channels are cut into blocks of `depth`
    that every slice keeps together.

    Attributes:
        order: (groups, parts, L) int64, as in `Layout`.
        bases: (vectors,), as in `Layout`.
        elements: (groups, L): where the elements of a vector lie from its base.
        uses: (parts, outputs), as in `Layout`; users: (parts, vectors), its inverse; -1 for none.
        sources: (taps, H * W): the vector that has a pixel as this tap, or -1.
        tap_groups, tap_elements: (taps, blocks): the group that has this tap of this block, and its first element.
        alignment: a power of two up to 16 that divides where runs start and how long they are.
        is_in_order: whether `order` counts up.
    """

    order: Tensor
    bases: Tensor
    elements: Tensor
    uses: Tensor
    users: Tensor
    sources: Tensor
    tap_groups: Tensor
    tap_elements: Tensor
    depth: int
    alignment: int
    is_in_order: bool

    def slices_of(self, matrix: Tensor) -> Tensor:
        """Kernel slices (groups, parts, L, M) of a weight matrix (K, M)."""
        return matrix.view(*self.order.shape, -1) if self.is_in_order else matrix[self.order]

    def matrix_of(self, slices: Tensor) -> Tensor:
        """The inverse of `slices_of`."""
        if self.is_in_order:
            return slices.reshape(-1, slices.shape[3])
        matrix = slices.new_empty(self.order.numel(), slices.shape[3])
        matrix[self.order] = slices
        return matrix


@functools.lru_cache(maxsize=64)
def tables_of(geometry: ConvGeometry, config: TrecConfig, device: torch.device) -> Tables:
    """The tables of a layer on `device`; it must fit the geometry."""
    layout = layout_of(geometry, config)
    elements, bases = layout.elements.numpy(), layout.bases.numpy()
    depth = math.gcd(geometry.channels // config.channel_groups, layout.length)
    groups, firsts, pixels = _taps(elements, depth, geometry.channels)
    arrays = (elements, layout.uses.numpy(), _users(layout), _sources(geometry, bases, pixels), groups, firsts)
    marks = np.concatenate([bases, layout.runs.numpy().reshape(-1)])
    tables = [torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32)).to(device) for array in arrays]
    return Tables(
        *(layout.order.to(device), layout.bases.to(device)),
        *(tables[0], tables[1], tables[2], tables[3], tables[4], tables[5]),
        depth=depth,
        alignment=math.gcd(16, int(np.gcd.reduce(marks))),
        is_in_order=torch.equal(layout.order.flatten(), torch.arange(layout.order.numel())),
    )


def _users(layout: Layout) -> IntArray:
    """(parts, vectors): the output that uses a vector in a part; a part uses none twice."""
    uses = layout.uses.numpy()
    users = np.full((layout.n_parts, layout.n_vectors), -1)
    part, output = np.nonzero(uses >= 0)
    users[part, uses[part, output]] = output
    return users


def _taps(elements: IntArray, depth: int, channels: int) -> tuple[IntArray, IntArray, IntArray]:
    """Group and first element of every block of every tap, (taps, blocks), and the taps' pixels (taps,)."""
    group, first = np.mgrid[: len(elements), : elements.shape[1] : depth]
    pixel, channel = np.divmod(elements[:, ::depth], channels)
    pixels, tap = np.unique(pixel, return_inverse=True)
    at = (tap.reshape(-1), channel.reshape(-1) // depth)
    groups, firsts = (np.zeros((len(pixels), channels // depth), dtype=np.int64) for _ in range(2))
    groups[at], firsts[at] = group.reshape(-1), first.reshape(-1)
    return groups, firsts, pixels


def _sources(geometry: ConvGeometry, bases: IntArray, taps: IntArray) -> IntArray:
    """(taps, H * W): the vector whose tap a pixel of the image is; -1 where there is none."""
    (height, width), (pad_h, pad_w) = geometry.size, geometry.padding
    padded = np.full((len(taps), height + 2 * pad_h, width + 2 * pad_w), -1)
    at = taps[:, None] + bases // geometry.channels
    np.put_along_axis(padded.reshape(len(taps), -1), at, np.arange(len(bases))[None].repeat(len(taps), 0), axis=1)
    return padded[:, pad_h : pad_h + height, pad_w : pad_w + width].reshape(len(taps), -1)
