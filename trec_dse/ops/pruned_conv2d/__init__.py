"""Convolution of whose weights most are zero: only the others are stored, and multiplied.

Four rows of the unfolded input are gathered as for the dense convolution, two elements of a row side by side. A channel
has two runs of entries, of the even elements and of the odd ones, so that a step from one entry to the next is a whole
number of pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

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
from trec_dse.ops._activation import Activation
from trec_dse.ops._entries import pack_runs
from trec_dse.ops._fixed_point import bounds, rescale_field, window_field
from trec_dse.ops._work import edge_positions, loose_outputs
from trec_dse.ops.conv2d import Conv2d


@dataclass(frozen=True)
class PrunedConv2d:
    """Weights: as of `Conv2d`, whole.

    Attributes:
        n_entries: weights that are stored; None, before quantisation, is all of them.
    """

    out_channels: int
    window: Window
    activation: Activation = "none"
    n_entries: int | None = None
    kind: ClassVar[str] = "pruned_conv2d"
    keeps_quantization: ClassVar[bool] = False

    @property
    def dense(self) -> Conv2d:
        """The convolution that gives the same."""
        return Conv2d(self.out_channels, self.window, self.activation)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, out_channels)."""
        return self.dense.output_shape(*inputs)

    def entries(self, shape: Shape) -> int:
        """Weights that are multiplied."""
        return self.dense.row_length(shape) * self.out_channels if self.n_entries is None else self.n_entries

    def macs(self, *inputs: Shape) -> int:
        """N for each stored weight."""
        out_h, out_w = self.window.positions(inputs[0])
        return out_h * out_w * self.entries(inputs[0])

    def scratch_bytes(self, *inputs: Shape) -> int:
        """Four rows of 16-bit numbers, and the int32 sums of all channels for them."""
        length = self.dense.row_length(inputs[0])
        return 8 * (length + length % 2) + 16 * self.out_channels

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return self.dense.overlap(*inputs)

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Products of blocks of four rows, two runs for every channel, outputs; widened bytes and strips."""
        out_h, out_w = self.window.positions(inputs[0])
        n, k = out_h * out_w, self.dense.row_length(inputs[0])
        blocks = -(-n // 4)
        return (
            Work("entry_four", blocks * self.entries(inputs[0])),
            Work("entry_run", 2 * blocks * self.out_channels),
            Work("conv_output", n * self.out_channels),
            Work("loose_output", loose_outputs(n, self.out_channels)),
            Work("gather_byte", 4 * blocks * k),
            Work("gather_strip", 4 * blocks * self.window.kernel[0]),
            Work("gather_block", blocks),
            Work("gather_edge", edge_positions(self.window, inputs[0]) * self.window.kernel[0]),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC convolution."""
        return self.dense.forward(inputs, weights)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Symmetric per output channel."""
        return self.dense.quantize(weights, quantization)

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """The dense convolution's."""
        return self.dense.run(inputs, weights, quantization)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_pruned_conv2d_s8`."""
        counts, entries = pack_runs(runs_of(weights["weights"]))
        fields = (
            ("window", window_field(self.window, shapes[0])),
            ("out_c", self.out_channels),
            ("in_zero", quantization.inputs[0].zero_point),
            ("counts", counts),
            ("entries", entries),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_pruned_conv2d_s8", "trec_pruned_conv2d", fields, scratch=True),)


def runs_of(kernels: IntArray) -> IntArray:
    """Kernels (M, ...) as runs (2 M, pairs) of their even and their odd elements, one channel after the other."""
    flat = kernels.reshape(len(kernels), -1)
    even = np.pad(flat, ((0, 0), (0, flat.shape[1] % 2)))
    return even.reshape(len(kernels), -1, 2).transpose(0, 2, 1).reshape(2 * len(kernels), -1)
