"""Convolution of pattern kernels: of every group of input channels a kernel reads few taps; see `sparse/pattern.py`.

Kernels are stored by slice, a slice being a group of channels read through a pattern: the numbers of the kernels that
chose it, then their weights. Four rows of the unfolded input at a time are copied together slice by slice, and
multiplied with that slice's kernels by the loop of the dense convolution.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

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
from trec_dse.ops._packing import pair_channels
from trec_dse.ops._work import loose_outputs
from trec_dse.sparse.pattern import place


@dataclass(frozen=True)
class PatternConv2d:
    """Weights: `weights` (out_channels, groups, n_taps, C / groups), `bias` (out_channels,), and whole numbers:
    `patterns` (n_patterns, n_taps), taps of the window, and `choice` (out_channels, groups), a pattern each."""

    out_channels: int
    window: Window
    n_taps: int
    groups: int
    n_patterns: int
    activation: Activation = "none"
    kind: ClassVar[str] = "pattern_conv2d"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, out_channels)."""
        return (*self.window.positions(inputs[0]), self.out_channels)

    def slice_length(self, shape: Shape) -> int:
        """Elements of a row that a slice reads."""
        return self.n_taps * shape[2] // self.groups

    def macs(self, *inputs: Shape) -> int:
        """N * n_taps * C * M."""
        out_h, out_w = self.window.positions(inputs[0])
        return out_h * out_w * self.n_taps * inputs[0][2] * self.out_channels

    def _row_length(self, shape: Shape) -> int:
        return self.window.kernel[0] * self.window.kernel[1] * shape[2]

    def scratch_bytes(self, *inputs: Shape) -> int:
        """Four rows of 16-bit numbers, what a slice reads of them, int32 sums of all channels and of a slice."""
        row, part, channels = self._row_length(inputs[0]), self.slice_length(inputs[0]), self.out_channels
        return 8 * (row + row % 2) + 8 * (part + part % 2) + 16 * (2 * channels + 1)

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return raster_distance(self.window, inputs[0], self.output_shape(*inputs)[2])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """That of the dense convolution, but with fewer products, in more and shorter sums, and the slices' copies.

        A slice has a kernel without a partner half the time, which costs as much as a pair.
        """
        out_h, out_w = self.window.positions(inputs[0])
        n, row, part = out_h * out_w, self._row_length(inputs[0]), self.slice_length(inputs[0])
        rows, slices = 4 * -(-n // 4), self.groups * self.n_patterns
        kernels = self.groups * (self.out_channels + min(self.n_patterns, self.out_channels) / 2)
        channels = inputs[0][2] // self.groups
        return (
            Work("conv_mac", rows * (part + part % 2) * kernels),
            Work("conv_output", n * self.out_channels),
            Work("loose_output", loose_outputs(n, self.out_channels)),
            Work("gather_byte", rows * row),
            Work("gather_strip", rows * self.window.kernel[0]),
            Work("gather_block", rows // 4),
            Work("pattern_sum", rows * kernels),
            Work("pattern_slice", rows // 4 * slices),
            Work("pattern_run" if channels % 2 == 0 else "pattern_odd_run", rows // 4 * slices * self.n_taps),
            Work("pattern_pair" if channels % 2 == 0 else "pattern_element", rows // 4 * slices * part),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC convolution with whole kernels."""
        image, padding = self.window.pad(inputs[0].permute(0, 3, 1, 2))
        height, width = self.window.kernel
        patterns, choice = weights["patterns"].long(), weights["choice"].long()
        whole = place(weights["weights"], patterns, choice, height * width).view(-1, height, width, image.shape[1])
        kernels = whole.permute(0, 3, 1, 2)
        y = F.conv2d(image, kernels, weights["bias"], self.window.stride, padding).permute(0, 2, 3, 1)
        return activate(y, self.activation)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Symmetric per output channel; patterns as they are."""
        tables = {name: weights[name].astype(np.uint8) for name in ("patterns", "choice")}
        return {**affine_weights(weights, quantization), **tables}

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """The dense convolution with whole kernels."""
        rows = unfold(inputs[0].astype(np.int64), self.window, quantization.inputs[0].zero_point)
        kernels = np.zeros((self.out_channels, self.window.kernel[0] * self.window.kernel[1], inputs[0].shape[2]), int)
        depth = inputs[0].shape[2] // self.groups
        for m, g in np.ndindex(self.out_channels, self.groups):
            taps = weights["patterns"][weights["choice"][m, g]]
            kernels[m, taps, g * depth : (g + 1) * depth] = weights["weights"][m, g]
        acc = rows @ kernels.reshape(self.out_channels, -1).T + weights["bias"]
        limits = bounds(self.activation, quantization)
        output = requantize(acc, weights, quantization.output.zero_point, limits)
        return output.reshape(self.output_shape(inputs[0].shape))

    def _slices(self, weights: IntWeights) -> Iterator[tuple[int, int, IntArray]]:
        """(group, pattern, kernels that chose it) of every slice that some kernel reads."""
        for group in range(self.groups):
            for pattern in range(len(weights["patterns"])):
                kernels = np.flatnonzero(weights["choice"][:, group] == pattern)
                if len(kernels):
                    yield group, pattern, kernels

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_pattern_conv2d_s8`."""
        slices = list(self._slices(weights))
        packed = [
            pair_channels(weights["weights"][kernels, group].reshape(len(kernels), 1, -1)).reshape(-1)
            for group, _, kernels in slices
        ]
        fields = (
            ("window", window_field(self.window, shapes[0])),
            ("out_c", self.out_channels),
            ("in_zero", quantization.inputs[0].zero_point),
            ("n_taps", self.n_taps),
            ("depth", shapes[0][2] // self.groups),
            ("n_slices", len(slices)),
            ("slices", np.array([[g, p, len(k)] for g, p, k in slices], dtype=np.uint16)),
            ("patterns", weights["patterns"]),
            ("kernels", np.concatenate([k for _, _, k in slices]).astype(np.uint16)),
            ("weights", np.concatenate(packed)),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_pattern_conv2d_s8", "trec_pattern_conv2d", fields, scratch=True),)
