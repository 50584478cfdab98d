"""Convolution by lookup: at every tap an output channel reads few input channels instead of all (LCNN).

The input is what a 1x1 convolution with a dictionary gave; see `sparse/lookup.py`. A term of a kernel takes three bytes
in Flash: where its channel lies in the workspace, and a coefficient. Rows of the input stand channel by channel in the
workspace while windows read them, so that a term is read once for four output positions, whose values are neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from trec_dse.candidate import MAX_DICTIONARY
from trec_dse.errors import UnsupportedError
from trec_dse.graph import (
    FloatWeights,
    Int8Array,
    IntArray,
    IntWeights,
    KernelCall,
    NodeQuantization,
    Shape,
    Window,
    Work,
)
from trec_dse.ops._activation import Activation, activate
from trec_dse.ops._fixed_point import affine_weights, bounds, requantize, rescale_field, unfold, window_field
from trec_dse.ops._in_place import raster_distance
from trec_dse.sparse.lookup import spread

MOST_LINES = 2**16


@dataclass(frozen=True)
class LookupConv2d:
    """Weights: `weights`, the coefficients (out_channels, kernel_h, kernel_w, n_terms); `indices`, of the same shape:
    the input channels that they multiply, whole numbers; `bias` (out_channels,)."""

    out_channels: int
    window: Window
    n_terms: int
    activation: Activation = "none"
    kind: ClassVar[str] = "lookup_conv2d"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, out_channels); raises UnsupportedError for more input than 16 bits can tell apart."""
        if inputs[0][2] > MAX_DICTIONARY or self.scratch_bytes(*inputs) > MOST_LINES:
            raise UnsupportedError(
                f"lookups reach {MAX_DICTIONARY} channels and {MOST_LINES} bytes of lines; an input of {inputs[0]} has "
                f"{inputs[0][2]} and {self.scratch_bytes(*inputs)}"
            )
        return (*self.window.positions(inputs[0]), self.out_channels)

    def macs(self, *inputs: Shape) -> int:
        """N * kernel_h * kernel_w * n_terms * M."""
        out_h, out_w = self.window.positions(inputs[0])
        return out_h * out_w * self._n_taps * self.n_terms * self.out_channels

    @property
    def _n_taps(self) -> int:
        return self.window.kernel[0] * self.window.kernel[1]

    def scratch_bytes(self, *inputs: Shape) -> int:
        """The kernel_h lines that a row of windows reads."""
        return self.window.kernel[0] * self._line_bytes(inputs[0])

    def _phase(self, shape: Shape) -> int:
        """Columns of a line of equal number modulo the stride."""
        return self._columns(shape) + (self.window.kernel[1] - 1) // self.window.stride[1]

    def _columns(self, shape: Shape) -> int:
        """Output positions of a row, in whole blocks of four."""
        return 4 * -(-self.window.positions(shape)[1] // 4)

    def _line_bytes(self, shape: Shape) -> int:
        return shape[2] * self.window.stride[1] * self._phase(shape)

    def _places(self, shape: Shape, indices: IntArray) -> IntArray:
        """Where the terms (M, kernel_h, kernel_w, n_terms) of a row's first window lie in the lines."""
        rows, columns = (np.arange(n)[:, None] for n in self.window.kernel)
        stride, phase = self.window.stride[1], self._phase(shape)
        tap = rows[:, None] * self._line_bytes(shape) + columns % stride * phase + columns // stride
        places: IntArray = tap + indices.astype(np.int64) * (stride * phase)
        return places

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance; whole rows are read even earlier."""
        return raster_distance(self.window, inputs[0], self.output_shape(*inputs)[2])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Terms of whole blocks of four positions, bytes and columns of lines, and outputs."""
        out_h, out_w = self.window.positions(inputs[0])
        n_lines = self.window.kernel[0] + (out_h - 1) * min(self.window.stride[0], self.window.kernel[0])
        n_kernels = out_h * self._columns(inputs[0]) * self.out_channels
        return (
            Work("lookup_term", n_kernels * _filled(self._n_taps * self.n_terms)),
            Work("lookup_byte", n_lines * self._line_bytes(inputs[0])),
            Work("lookup_column", n_lines * self._line_bytes(inputs[0]) / inputs[0][2]),
            Work("lookup_move", out_h * self.scratch_bytes(*inputs)),
            Work("lookup_output", out_h * out_w * self.out_channels),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC convolution with the coefficients at their channels."""
        image, padding = self.window.pad(inputs[0].permute(0, 3, 1, 2))
        kernels = spread(weights["weights"], weights["indices"].long(), image.shape[1]).permute(0, 3, 1, 2)
        y = F.conv2d(image, kernels, weights["bias"], self.window.stride, padding).permute(0, 2, 3, 1)
        return activate(y, self.activation)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Coefficients symmetric per output channel; indices as they are."""
        return {**affine_weights(weights, quantization), "indices": weights["indices"].astype(np.uint8)}

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Look up, multiply, sum: one output channel after the other."""
        channels = inputs[0].shape[2]
        rows = unfold(inputs[0].astype(np.int64), self.window, quantization.inputs[0].zero_point)
        first = np.arange(self._n_taps).reshape(*self.window.kernel, 1) * channels
        acc = np.stack(
            [
                rows[:, (first + indices).reshape(-1)] @ coefficients.reshape(-1).astype(np.int64)
                for indices, coefficients in zip(weights["indices"], weights["weights"], strict=True)
            ],
            axis=1,
        )
        limits = bounds(self.activation, quantization)
        output = requantize(acc + weights["bias"], weights, quantization.output.zero_point, limits)
        return output.reshape(self.output_shape(inputs[0].shape))

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_lookup_conv2d_s8`."""
        places = self._places(shapes[0], weights["indices"]).astype(np.uint16)
        fields = (
            ("window", window_field(self.window, shapes[0])),
            ("out_c", self.out_channels),
            ("in_zero", quantization.inputs[0].zero_point),
            ("phase", self._phase(shapes[0])),
            ("n_terms", _filled(self._n_taps * self.n_terms)),
            ("places", _filled_rows(places)),
            ("weights", _filled_rows(weights["weights"])),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_lookup_conv2d_s8", "trec_lookup_conv2d", fields, scratch=True),)


def _filled(number: int) -> int:
    return 4 * -(-number // 4)


def _filled_rows(terms: IntArray) -> IntArray:
    """(M, ...) as (M, n), n n filled up to a multiple of four by terms of weight 0."""
    rows = terms.reshape(len(terms), -1)
    return np.pad(rows, ((0, 0), (0, _filled(rows.shape[1]) - rows.shape[1])))
