"""Dense convolution with a fused activation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Window, Work
from trec_dse.ops._activation import Activation, activate
from trec_dse.ops._fixed_point import affine_weights, bounds, requantize, rescale_field, unfold, window_field
from trec_dse.ops._in_place import raster_distance
from trec_dse.ops._packing import pair_channels
from trec_dse.ops._work import edge_positions, loose_outputs

# Elements of a row widened at a time: more of them cost SRAM, fewer of them cost sums that are stored and loaded.
MOST_TILE = 256
MOST_GROUP = 16


@dataclass(frozen=True)
class Conv2d:
    """Weights: `weights` (out_channels, kernel_h, kernel_w, in_channels), `bias` (out_channels,)."""

    out_channels: int
    window: Window
    activation: Activation = "none"
    kind: ClassVar[str] = "conv2d"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, out_channels)."""
        return (*self.window.positions(inputs[0]), self.out_channels)

    def row_length(self, shape: Shape) -> int:
        """K, the elements of one row of the unfolded input."""
        return self.window.kernel[0] * self.window.kernel[1] * shape[2]

    def tile(self, shape: Shape) -> int:
        """Elements of a row that are widened at a time: even; several tiles are of whole words each."""
        length = self.row_length(shape)
        n_tiles = -(-length // MOST_TILE)
        unit = 2 if n_tiles == 1 else 4
        return unit * -(-length // (unit * n_tiles))

    def group(self, shape: Shape) -> int:
        """Channels whose sums are alive at a time: even; all of them if they outlive a tile."""
        channels = self.out_channels + self.out_channels % 2
        return min(channels, MOST_GROUP) if self.tile(shape) >= self.row_length(shape) else channels

    def macs(self, *inputs: Shape) -> int:
        """N * K * M: output positions times row length times output channels."""
        out_h, out_w = self.window.positions(inputs[0])
        return out_h * out_w * self.row_length(inputs[0]) * self.out_channels

    def scratch_bytes(self, *inputs: Shape) -> int:
        """A tile of four rows of 16-bit numbers, and the int32 sums of a group of channels for them."""
        return 8 * self.tile(inputs[0]) + 16 * self.group(inputs[0])

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return raster_distance(self.window, inputs[0], self.output_shape(*inputs)[2])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Products, sums and outputs of whole blocks of four rows and two kernels; widened bytes and strips.

        Rows that reach beyond the image are work of their own.
        """
        out_h, out_w = self.window.positions(inputs[0])
        n, k = out_h * out_w, self.row_length(inputs[0])
        rows, channels = 4 * -(-n // 4), self.out_channels + self.out_channels % 2
        n_tiles = -(-k // self.tile(inputs[0]))
        return (
            Work("conv_mac", rows * (k + k % 2) * channels),
            Work("conv_sum", rows * channels * n_tiles),
            Work("conv_output", n * self.out_channels),
            Work("loose_output", loose_outputs(n, self.out_channels)),
            Work("gather_byte", rows * k),
            Work("gather_strip", rows * (self.window.kernel[0] + n_tiles - 1)),
            Work("gather_block", rows // 4 * n_tiles),
            Work("gather_edge", edge_positions(self.window, inputs[0]) * self.window.kernel[0]),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC convolution."""
        image, padding = self.window.pad(inputs[0].permute(0, 3, 1, 2))
        kernels = weights["weights"].permute(0, 3, 1, 2)
        y = F.conv2d(image, kernels, weights["bias"], self.window.stride, padding).permute(0, 2, 3, 1)
        return activate(y, self.activation)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Symmetric per output channel."""
        return affine_weights(weights, quantization)

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """One matrix product of the unfolded input with the kernels."""
        rows = unfold(inputs[0].astype(np.int64), self.window, quantization.inputs[0].zero_point)
        kernels = weights["weights"].reshape(self.out_channels, -1).astype(np.int64)
        acc = rows @ kernels.T + weights["bias"]
        limits = bounds(self.activation, quantization)
        output = requantize(acc, weights, quantization.output.zero_point, limits)
        return output.reshape(self.output_shape(inputs[0].shape))

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_conv2d_s8`."""
        fields = (
            ("window", window_field(self.window, shapes[0])),
            ("out_c", self.out_channels),
            ("in_zero", quantization.inputs[0].zero_point),
            ("tile", self.tile(shapes[0])),
            ("group", self.group(shapes[0])),
            ("weights", pair_channels(weights["weights"].reshape(self.out_channels, 1, -1))),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_conv2d_s8", "trec_conv2d", fields, scratch=True),)
