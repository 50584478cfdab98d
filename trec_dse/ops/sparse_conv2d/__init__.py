"""Dense convolution of an input that is blank in most places: windows that hold nothing are not multiplied.

A window is blank where every value of it is `blank`, the background of an image or the zero of an activation. What it
gives is the same everywhere and computed once, so the integers are those of `conv2d`. The other rows of the unfolded
input are gathered, four at a time, into a dense matrix, multiplied, and scattered back to their positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Window, Work
from trec_dse.ops._activation import Activation
from trec_dse.ops._fixed_point import bounds, rescale_field, unfold, window_field
from trec_dse.ops._packing import pair_channels
from trec_dse.ops.conv2d import Conv2d


@dataclass(frozen=True)
class SparseConv2d:
    """Weights: as of `Conv2d`.

    Attributes:
        blank: the level of a blank value; None, before calibration, is the input's zero point.
        mean_rows: windows that are not blank, mean over the calibration images; None before calibration.
    """

    out_channels: int
    window: Window
    activation: Activation = "none"
    blank: int | None = None
    mean_rows: float | None = None
    kind: ClassVar[str] = "sparse_conv2d"
    keeps_quantization: ClassVar[bool] = False

    @property
    def dense(self) -> Conv2d:
        """The convolution that gives the same."""
        return Conv2d(self.out_channels, self.window, self.activation)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, out_channels)."""
        return self.dense.output_shape(*inputs)

    def rows(self, shape: Shape, worst: bool = False) -> float:
        """Windows that are multiplied: as calibrated, or all of them."""
        out_h, out_w = self.window.positions(shape)
        return float(out_h * out_w) if worst or self.mean_rows is None else self.mean_rows

    def macs(self, *inputs: Shape) -> int:
        """Rows * K * M."""
        return round(self.rows(inputs[0]) * self.dense.row_length(inputs[0]) * self.out_channels)

    def scratch_bytes(self, *inputs: Shape) -> int:
        """Four rows of 16-bit numbers, int32 sums of four rows, four outputs and the blank one, a flag per column."""
        length, channels = self.dense.row_length(inputs[0]), self.out_channels
        return 8 * (length + length % 2) + 16 * (channels + channels % 2) + 5 * channels + inputs[0][1]

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance: rows are read in order, and written later."""
        return self.dense.overlap(*inputs)

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """The dense convolution's for the rows that are multiplied; the search for them, and blank outputs."""
        n, line = float(np.prod(self.window.positions(inputs[0]))), inputs[0][1] * inputs[0][2]
        rows, length = min(self.rows(inputs[0], worst) + 1.5, n + 3), self.dense.row_length(inputs[0])
        return (
            Work("conv_mac", rows * (length + length % 2) * (self.out_channels + self.out_channels % 2)),
            Work("conv_sum", rows * (self.out_channels + self.out_channels % 2)),
            Work("conv_output", rows * self.out_channels),
            Work("loose_output", rows * (self.out_channels % 4)),
            Work("gather_byte", rows * length),
            Work("gather_strip", rows * self.window.kernel[0]),
            Work("sparse_row", rows),
            Work("sparse_look", self.window.positions(inputs[0])[0] * self.window.kernel[0] * line),
            Work("sparse_position", n),
            Work("sparse_byte", n * self.out_channels),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC convolution."""
        return self.dense.forward(inputs, weights)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Symmetric per output channel."""
        return self.dense.quantize(weights, quantization)

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """The dense convolution's integers."""
        return self.dense.run(inputs, weights, quantization)

    def count(self, image: Int8Array, zero: int) -> int:
        """Windows of one int8 image that are not blank; outside it stands `zero`."""
        blank = zero if self.blank is None else self.blank
        return int((unfold(image, self.window, zero) != blank).any(axis=1).sum())

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_sparse_conv2d_s8`."""
        zero = quantization.inputs[0].zero_point
        fields = (
            ("window", window_field(self.window, shapes[0])),
            ("out_c", self.out_channels),
            ("in_zero", zero),
            ("blank", zero if self.blank is None else self.blank),
            ("weights", pair_channels(weights["weights"].reshape(self.out_channels, 1, -1))),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_sparse_conv2d_s8", "trec_sparse_conv2d", fields, scratch=True),)
