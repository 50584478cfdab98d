"""Dense convolution inside its own input, by rows and columns: less memory than by rows alone, for some moves more.

The same integers as `conv2d`. What is left of the input is transposed in place where the direction changes, and the
outputs are put in their places at the end, so the input is lost.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trec_dse.graph import IntWeights, KernelCall, NodeQuantization, Shape, Work
from trec_dse.ops._fixed_point import bounds, rescale_field, window_field
from trec_dse.ops._in_place import BLOCK, herringbone, slack
from trec_dse.ops._packing import pair_channels
from trec_dse.ops.conv2d import MOST_GROUP, Conv2d


@dataclass(frozen=True)
class PeeledConv2d(Conv2d):
    """Weights: as those of `conv2d`."""

    kind: ClassVar[str] = "peeled_conv2d"
    loses_input: ClassVar[bool] = True

    def dense(self) -> Conv2d:
        """The same convolution with an output of its own."""
        return Conv2d(self.out_channels, self.window, self.activation)

    def runs(self, shape: Shape) -> tuple[int, ...]:
        """So many rows of the output, then so many columns, then rows again: the order that needs the least memory."""
        letters = herringbone(self.window, shape, self.out_channels, copied=BLOCK)
        counts = tuple(len(list(group)) for _, group in itertools.groupby(letters))
        return counts if letters.startswith("r") else (0, *counts)

    def scratch_bytes(self, *inputs: Shape) -> int:
        """Four whole rows of 16-bit numbers, and the int32 sums of a group of channels for them."""
        return 8 * 2 * -(-self.row_length(inputs[0]) // 2) + 16 * self.group(inputs[0])

    def group(self, shape: Shape) -> int:
        """Channels whose sums are alive at a time: even."""
        return min(self.out_channels + self.out_channels % 2, MOST_GROUP)

    def overlap(self, *inputs: Shape) -> int | None:
        """What the order needs beyond the input, by simulation."""
        return slack(self.window, inputs[0], self.out_channels, "herringbone", copied=BLOCK)

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Products, sums and outputs as those of `conv2d`; taps and bytes that are copied, pixels that are moved."""
        shape, runs = inputs[0], self.runs(inputs[0])
        (out_h, out_w), k = self.window.positions(shape), self.row_length(shape)
        rows, looks, moved = self._blocks(shape), 0.0, 0
        for height, width in self._turns(shape):
            looks += _looks(height * width)
            moved += height * width * shape[2]
        if len(runs) > 1:
            looks += _looks(out_h * out_w) * len(runs)
            moved += out_h * out_w * self.out_channels
        channels = self.out_channels + self.out_channels % 2
        return (
            Work("conv_mac", rows * (k + k % 2) * channels),
            Work("conv_sum", rows * channels),
            Work("conv_output", out_h * out_w * self.out_channels),
            Work("loose_output", rows * (self.out_channels % 4)),
            Work("peel_tap", rows * self.window.kernel[0] * self.window.kernel[1]),
            Work("peel_byte", rows * k),
            Work("peel_look", looks),
            Work("peel_move", moved),
        )

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_peeled_conv2d_s8`."""
        runs = self.runs(shapes[0])
        fields = (
            ("window", window_field(self.window, shapes[0])),
            ("out_c", self.out_channels),
            ("in_zero", quantization.inputs[0].zero_point),
            ("group", self.group(shapes[0])),
            ("n_runs", len(runs)),
            ("runs", np.array(runs, dtype=np.uint16)),
            ("weights", pair_channels(weights["weights"].reshape(self.out_channels, 1, -1))),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_peeled_conv2d_s8", "trec_peeled_conv2d", fields, scratch=True),)

    def _blocks(self, shape: Shape) -> int:
        """Windows that are copied: each row or column in fours."""
        left = list(self.window.positions(shape))
        total = 0
        for i, n in enumerate(self.runs(shape)):
            total += n * 4 * -(-left[1 - i % 2] // 4)
            left[i % 2] -= n
        return total

    def _turns(self, shape: Shape) -> list[tuple[int, int]]:
        """Height and width of what is left of the input, where it is transposed."""
        turns, done, turned = [], [0, 0], 0
        for i, n in enumerate(self.runs(shape)):
            if n and i % 2 != turned:
                first = [
                    max(0, d * s - p) for d, s, p in zip(done, self.window.stride, self.window.padding, strict=True)
                ]
                turns.append((shape[0] - first[0], shape[1] - first[1]))
                turned = i % 2
            done[i % 2] += n
        return turns


def _looks(n: int) -> float:
    """Places that are looked up to find and walk the cycles of n: about n log n."""
    return n * math.log2(max(2, n))
