"""Where the neuron vectors of a convolution lie in its input, and which outputs use them.

Slices: every output position has its own vector in each of n = K / L slices of its unfolded row, and a slice is
clustered for itself. Strips: all slices of L = m * C / g elements that lie over the same m pixels are one and the same
vector, so that it is hashed and clustered once for the layer (see `strip_layout`).
"""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trec_dse.candidate import TrecConfig
from trec_dse.graph import IntArray

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ConvGeometry:
    """What a convolution does to an image: (height, width) pairs; `channels` of the input; `extra` as of `Window`."""

    size: tuple[int, int]
    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    extra: tuple[int, int] = (0, 0)

    @property
    def outputs(self) -> tuple[int, int]:
        """(out_h, out_w)."""
        pairs = zip(self.size, self.kernel, self.stride, self.padding, self.extra, strict=True)
        height, width = ((n + 2 * p + e - k) // s + 1 for n, k, s, p, e in pairs)
        return height, width

    @property
    def padded_width(self) -> int:
        """Pixels of a row with as much padding as any vector reaches into."""
        return self.size[1] + 2 * self.padding[1] + max(0, self.extra[1])


@dataclass(frozen=True, eq=False)
class Layout:
    """Vectors by group, part and output.

    Attributes:
        order: (groups, parts, L) int64: element of the unfolded row, in (kh, kw, C) order, of each kernel slice.
        bases: (vectors,) int32: where a vector starts in the zero-padded image (H + 2 ph, W + 2 pw, C).
        runs: (groups, n_runs, 2) int32: contiguous pieces of a vector from its base, and their lengths.
        uses: (parts, N) int32: the vector that a part of an output uses; -1 where it is padding alone.
    """

    order: Tensor
    bases: Tensor
    runs: Tensor
    uses: Tensor

    @property
    def n_groups(self) -> int:
        """Groups that are clustered each for itself."""
        return self.order.shape[0]

    @property
    def n_parts(self) -> int:
        """Kernel slices that use one group's vectors."""
        return self.order.shape[1]

    @property
    def length(self) -> int:
        """L."""
        return self.order.shape[2]

    @property
    def n_vectors(self) -> int:
        """Vectors of one group of one image."""
        return len(self.bases)

    @functools.cached_property
    def is_in_order(self) -> bool:
        """Whether there is one part only, and output i uses vector i."""
        return torch.equal(self.uses, torch.arange(self.n_vectors, dtype=torch.int32)[None])

    @functools.cached_property
    def elements(self) -> Tensor:
        """(groups, L) int64: where the elements of a vector lie from its base."""
        pieces = [np.concatenate([np.arange(o, o + n) for o, n in group]) for group in self.runs.numpy()]
        return torch.from_numpy(np.stack(pieces)).long()


def layout_of(geometry: ConvGeometry, config: TrecConfig) -> Layout:
    """The layout that `config` asks for; it must fit the geometry."""
    if config.scope == "strip_shared":
        return strip_layout(geometry, strip_pixels(config, geometry.channels), config.channel_groups)
    return slice_layout(geometry, config.vector_length)


def strip_pixels(config: TrecConfig, channels: int) -> int:
    """m = L * g / C, the pixels of a strip."""
    return config.vector_length * config.channel_groups // channels


@functools.lru_cache(maxsize=64)
def slice_layout(geometry: ConvGeometry, length: int) -> Layout:
    """Slices of `length` elements of the unfolded row, which it must divide."""
    (kernel_h, kernel_w), channels = geometry.kernel, geometry.channels
    width = geometry.padded_width
    row = kernel_h * kernel_w * channels
    y, x = np.divmod(np.arange(kernel_h * kernel_w), kernel_w)
    elements = ((y * width + x)[:, None] * channels + np.arange(channels)).reshape(row // length, length)
    out_h, out_w = geometry.outputs
    bases = (np.arange(out_h)[:, None] * geometry.stride[0] * width + np.arange(out_w) * geometry.stride[1]) * channels
    order = np.arange(row).reshape(row // length, 1, length)
    return _layout(order, bases.reshape(-1), elements, np.arange(out_h * out_w)[None])


@functools.lru_cache(maxsize=64)
def strip_layout(geometry: ConvGeometry, pixels: int, groups: int) -> Layout:
    """Strips of `pixels` neighbours in a row, their channels cut into `groups`.

    `pixels` must divide kernel_w and `groups` the channels. A strip that some output uses and that holds at least one
    pixel of the image is a vector, zeros standing for its pixels outside. Strips of padding alone are no
    vectors: they are exactly zero and add nothing. At stride 1 there are H * (W + 2 * min(pw, m - 1) - m + 1) vectors,
    where slices of the same pixels have N * kh * kw / m.
    """
    (kernel_h, kernel_w), (step_h, step_w) = geometry.kernel, geometry.stride
    (pad_h, pad_w), channels = geometry.padding, geometry.channels
    out_h, out_w = geometry.outputs
    rows = np.arange(out_h)[None] * step_h - pad_h + np.arange(kernel_h)[:, None]  # (kh, out_h): of the image
    starts = (
        np.arange(out_w)[None] * step_w - pad_w + np.arange(0, kernel_w, pixels)[:, None]
    )  # (parts of a row, out_w)
    row_index, used_rows = _numbered(rows, (rows >= 0) & (rows < geometry.size[0]))
    start_index, used_starts = _numbered(starts, (starts > -pixels) & (starts < geometry.size[1]))
    uses = row_index[:, None, :, None] * len(used_starts) + start_index[None, :, None, :]
    is_padding = (row_index < 0)[:, None, :, None] | (start_index < 0)[None, :, None, :]
    uses = np.where(is_padding, -1, uses).reshape(-1, out_h * out_w)
    width = geometry.padded_width
    bases = ((used_rows[:, None] + pad_h) * width + used_starts + pad_w) * channels
    depth = channels // groups
    in_group = np.arange(groups)[:, None, None] * depth + np.arange(depth)  # (groups, 1, depth)
    elements = (np.arange(pixels)[None, :, None] * channels + in_group).reshape(groups, pixels * depth)
    first = np.arange(kernel_h * kernel_w // pixels) * pixels * channels  # parts run over (ky, kx part)
    order = first[None, :, None] + elements[:, None, :]
    return _layout(order, bases.reshape(-1), elements, uses)


def _numbered(values: IntArray, is_wanted: BoolArray) -> tuple[IntArray, IntArray]:
    """Each value's place among the wanted ones, -1 for the others, and the wanted ones in order."""
    wanted = np.unique(values[is_wanted])
    return np.where(is_wanted, np.searchsorted(wanted, values), -1), wanted


def _layout(order: IntArray, bases: IntArray, elements: IntArray, uses: IntArray) -> Layout:
    """A layout from the places (groups, L) of the elements of a vector."""
    breaks = np.diff(elements, axis=1) != 1
    cuts = np.flatnonzero(breaks.any(axis=0)) + 1  # the same for all groups: one array then holds the runs
    firsts = np.concatenate([[0], cuts])
    lengths = np.diff(np.concatenate([firsts, [elements.shape[1]]]))
    runs = np.stack([elements[:, firsts], np.broadcast_to(lengths, (len(elements), len(lengths)))], axis=2)
    small = (torch.from_numpy(np.ascontiguousarray(array, dtype=np.int32)) for array in (bases, runs, uses))
    return Layout(torch.from_numpy(np.ascontiguousarray(order, dtype=np.int64)), *small)
