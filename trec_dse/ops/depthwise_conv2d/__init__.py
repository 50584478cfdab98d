"""Depthwise convolution: one kernel per channel, with a fused activation."""

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
from trec_dse.ops._work import taps_inside


@dataclass(frozen=True)
class DepthwiseConv2d:
    """Weights: `weights` (kernel_h, kernel_w, channels), `bias` (channels,)."""

    window: Window
    activation: Activation = "none"
    kind: ClassVar[str] = "depthwise_conv2d"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, channels)."""
        return (*self.window.positions(inputs[0]), inputs[0][2])

    def macs(self, *inputs: Shape) -> int:
        """One product per output value and tap."""
        out_h, out_w = self.window.positions(inputs[0])
        return out_h * out_w * inputs[0][2] * self.window.kernel[0] * self.window.kernel[1]

    def scratch_bytes(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return raster_distance(self.window, inputs[0], self.output_shape(*inputs)[2])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Windows; channels by fours, of which lines and products of taps in the image; what is left of fours."""
        out_h, out_w = self.window.positions(inputs[0])
        channels, n, taps = inputs[0][2], out_h * out_w, taps_inside(self.window, inputs[0])
        fours, rest = channels // 4, channels % 4
        return (
            Work("depthwise_window", n),
            Work("depthwise_mac", 4 * fours * taps),
            Work("depthwise_line", fours * n * self.window.kernel[0]),
            Work("depthwise_output", 4 * fours * n),
            Work("depthwise_loose_mac", rest * taps),
            Work("depthwise_loose", rest * n),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC depthwise convolution."""
        image, padding = self.window.pad(inputs[0].permute(0, 3, 1, 2))
        kernels = weights["weights"].permute(2, 0, 1).unsqueeze(1)
        y = F.conv2d(image, kernels, weights["bias"], self.window.stride, padding, groups=image.shape[1])
        y = y.permute(0, 2, 3, 1)
        return activate(y, self.activation)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Symmetric per channel; nothing is folded, for the kernel takes the zero point off and skips padding."""
        folded = affine_weights(weights, quantization, axis=2)
        sums = folded["weights"].astype(np.int64).sum(axis=(0, 1))
        plain = (folded["bias"] + quantization.inputs[0].zero_point * sums).astype(np.int32)
        return {**folded, "bias": plain}

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Unfolded rows times kernels, channel by channel."""
        image = inputs[0].astype(np.int64) - quantization.inputs[0].zero_point
        rows = unfold(image, self.window, 0).reshape(-1, self.window.kernel[0] * self.window.kernel[1], image.shape[2])
        kernels = weights["weights"].reshape(-1, image.shape[2]).astype(np.int64)
        acc = (rows * kernels).sum(axis=1) + weights["bias"]
        limits = bounds(self.activation, quantization)
        output = requantize(acc, weights, quantization.output.zero_point, limits)
        return output.reshape(self.output_shape(inputs[0].shape))

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_depthwise_conv2d_s8`."""
        fields = (
            ("window", window_field(self.window, shapes[0])),
            ("weights", weights["weights"]),
            ("bias", weights["bias"]),
            ("in_zero", quantization.inputs[0].zero_point),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_depthwise_conv2d_s8", "trec_depthwise_conv2d", fields),)
