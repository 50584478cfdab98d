"""Maximum over a window."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Window, Work
from trec_dse.ops._fixed_point import unfold, window_field
from trec_dse.ops._in_place import raster_distance
from trec_dse.ops._work import taps_inside


@dataclass(frozen=True)
class MaxPool2d:
    """No weights; the output keeps the input's quantisation."""

    window: Window
    kind: ClassVar[str] = "max_pool2d"
    keeps_quantization: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, C)."""
        return (*self.window.positions(inputs[0]), inputs[0][2])

    def macs(self, *inputs: Shape) -> int:
        """None: comparisons are not counted."""
        return 0

    def scratch_bytes(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return raster_distance(self.window, inputs[0], self.output_shape(*inputs)[2])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Pixels inside the image, their values by fours and the rest of them, and windows."""
        out_h, out_w, channels = self.output_shape(*inputs)
        taps = taps_inside(self.window, inputs[0])
        return (
            Work("max_word", taps * (channels // 4)),
            Work("max_rest", taps * (channels % 4)),
            Work("max_tap", taps),
            Work("max_window", out_h * out_w),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC pooling."""
        image, padding = self.window.pad(inputs[0].permute(0, 3, 1, 2), -math.inf)
        pooled = F.max_pool2d(image, self.window.kernel, self.window.stride, padding)
        return pooled.permute(0, 2, 3, 1)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Nothing to quantise."""
        return {}

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Maximum of each window; outside the image stands -128, which never wins."""
        channels = inputs[0].shape[2]
        taps = self.window.kernel[0] * self.window.kernel[1]
        rows = unfold(inputs[0], self.window, -128).reshape(-1, taps, channels)
        pooled: Int8Array = rows.max(axis=1).astype(np.int8).reshape(self.output_shape(inputs[0].shape))
        return pooled

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_max_pool2d_s8`."""
        return (
            KernelCall("trec_max_pool2d_s8", "trec_max_pool2d", (("window", window_field(self.window, shapes[0])),)),
        )
