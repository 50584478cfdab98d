"""Mean over a window without padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Window, Work
from trec_dse.ops._fixed_point import divide, unfold, window_field
from trec_dse.ops._in_place import raster_distance


@dataclass(frozen=True)
class AvgPool2d:
    """No weights; the output keeps the input's quantisation."""

    window: Window
    kind: ClassVar[str] = "avg_pool2d"
    keeps_quantization: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, C)."""
        return (*self.window.positions(inputs[0]), inputs[0][2])

    def macs(self, *inputs: Shape) -> int:
        """None: additions are not counted."""
        return 0

    def scratch_bytes(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return raster_distance(self.window, inputs[0], self.output_shape(*inputs)[2])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Added values, the lines that they stand in, and means."""
        out_h, out_w, channels = self.output_shape(*inputs)
        values = out_h * out_w * channels
        lines = values * self.window.kernel[0]
        return (Work("avg_value", lines * self.window.kernel[1]), Work("avg_line", lines), Work("avg_mean", values))

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC pooling."""
        return F.avg_pool2d(inputs[0].permute(0, 3, 1, 2), self.window.kernel, self.window.stride).permute(0, 2, 3, 1)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Nothing to quantise."""
        return {}

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Rounded mean of the integers themselves, for both sides have one scale."""
        taps = self.window.kernel[0] * self.window.kernel[1]
        rows = unfold(inputs[0].astype(np.int64), self.window, 0).reshape(-1, taps, inputs[0].shape[2])
        pooled: Int8Array = divide(rows.sum(axis=1), taps).astype(np.int8)
        return pooled.reshape(self.output_shape(inputs[0].shape))

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_avg_pool2d_s8`."""
        return (
            KernelCall("trec_avg_pool2d_s8", "trec_avg_pool2d", (("window", window_field(self.window, shapes[0])),)),
        )
