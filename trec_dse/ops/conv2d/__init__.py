"""Dense convolution with a fused activation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Window, Work
from trec_dse.ops._fixed_point import affine_weights, bounds, requantize, rescale_field, unfold, window_field
from trec_dse.ops._in_place import raster_distance

Activation = Literal["none", "relu"]


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

    def macs(self, *inputs: Shape) -> int:
        """N * K * M: output positions times row length times output channels."""
        out_h, out_w = self.window.positions(inputs[0])
        return out_h * out_w * self.row_length(inputs[0]) * self.out_channels

    def scratch_bytes(self, *inputs: Shape) -> int:
        """One row of the unfolded input."""
        return self.row_length(inputs[0])

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return raster_distance(self.window, inputs[0], self.output_shape(*inputs)[2])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Products, dot-product calls, gathered bytes and pixels."""
        out_h, out_w = self.window.positions(inputs[0])
        n, k = out_h * out_w, self.row_length(inputs[0])
        taps = self.window.kernel[0] * self.window.kernel[1]
        return (
            Work("conv_mac", n * k * self.out_channels),
            Work("conv_dot", n * self.out_channels),
            Work("gather_byte", n * k),
            Work("gather_pixel", n * taps),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC convolution."""
        image = inputs[0].permute(0, 3, 1, 2)
        kernels = weights["weights"].permute(0, 3, 1, 2)
        y = F.conv2d(image, kernels, weights["bias"], self.window.stride, self.window.padding).permute(0, 2, 3, 1)
        return torch.relu(y) if self.activation == "relu" else y

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
            ("weights", weights["weights"]),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_conv2d_s8", "trec_conv2d", fields, scratch=True),)
