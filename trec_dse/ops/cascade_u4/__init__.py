"""Several 4-bit convolutions and poolings as one operator: pixel by pixel, no tensor between them is ever whole.

A layer writes its next pixel as soon as the layer before it has written the window for it, and the last layer that can
goes first. Between two layers stands a ring of the pixels that some window has yet to read. That takes less memory than
any order of whole layers can, in place or not, and computes nothing twice.
"""

import functools
import math
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
    Quantization,
    Shape,
    Window,
    Work,
    pack,
    unpack,
)
from trec_dse.ops._fixed_point import unfold
from trec_dse.ops._four_bits import (
    Exponents,
    WholeLayer,
    as_byte,
    fitting_exponents,
    shift_right,
    whole_layer,
)


@dataclass(frozen=True)
class Layer:
    """A convolution with ReLU to `out_channels`, or a maximum pooling where that is 0."""

    window: Window
    out_channels: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        """(out_h, out_w, C)."""
        return (*self.window.positions(shape), self.out_channels or shape[2])

    @property
    def taps(self) -> int:
        """Pixels of the window."""
        return math.prod(self.window.kernel)


@dataclass(frozen=True)
class CascadeU4:
    """`layers` in order. Weights: of the i-th layer, a convolution, `weights.i` (M, kernel_h, kernel_w, C), `bias.i`
    (M,) and `exponents.i` (3,), as in `_four_bits`; `input` (2,): scale and zero point of the input's levels.
    """

    layers: tuple[Layer, ...]
    kind: ClassVar[str] = "cascade_u4"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_h, out_w, C) of the last layer."""
        return self.shapes(inputs[0])[-1]

    def shapes(self, shape: Shape) -> list[Shape]:
        """Of the input and behind every layer."""
        found = [shape]
        for layer in self.layers:
            found.append(layer.output_shape(found[-1]))
        return found

    def macs(self, *inputs: Shape) -> int:
        """Of all convolutions."""
        return sum(
            math.prod(after) * layer.taps * before[2]
            for layer, before, after in self._steps(inputs[0])
            if layer.out_channels
        )

    def scratch_bytes(self, *inputs: Shape) -> int:
        """A count of two bytes for each layer, and the rings between them."""
        steps = list(self._steps(inputs[0]))
        rings = zip(steps, self.rings(inputs[0]), strict=False)
        return 2 * len(steps) + sum(-(-ring * after[2] // 2) for (_, _, after), ring in rings)

    def rings(self, shape: Shape) -> list[int]:
        """Pixels of each ring, one behind every layer but the last."""
        shapes = self.shapes(shape)
        return [ring_pixels(layer.window, before) for layer, before in zip(self.layers[1:], shapes[1:], strict=False)]

    def overlap(self, *inputs: Shape) -> int | None:
        """The output follows the reading of the input at this distance."""
        return _distance(self, inputs[0])

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Products, pixels and rows of windows for every channel, compared values, outputs, looks at what is next."""
        steps = list(self._steps(inputs[0]))
        pixels = sum(math.prod(after) * layer.taps for layer, _, after in steps if layer.out_channels)
        rows = sum(math.prod(after) * layer.window.kernel[0] for layer, _, after in steps if layer.out_channels)
        compared = sum(math.prod(after) * layer.taps for layer, _, after in steps if not layer.out_channels)
        return (
            Work("u4_mac", self.macs(*inputs)),
            Work("u4_pixel", pixels),
            Work("u4_row", rows),
            Work("u4_max", compared),
            Work("u4_output", sum(math.prod(after) for _, _, after in steps)),
            Work("u4_step", sum(math.prod(after[:2]) for _, _, after in steps) * len(steps)),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """NHWC layers, one after another."""
        return self.tensors(inputs[0], weights)[-1]

    def tensors(self, image: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """What every layer gives in floating point."""
        found, x = [], image.permute(0, 3, 1, 2)
        for i, layer in enumerate(self.layers):
            window = layer.window
            if layer.out_channels:
                kernels = weights[f"weights.{i}"].permute(0, 3, 1, 2)
                x = torch.relu(F.conv2d(x, kernels, weights[f"bias.{i}"], window.stride, window.padding))
            else:
                x = F.max_pool2d(x, window.kernel, window.stride, window.padding)
            found.append(x.permute(0, 2, 3, 1))
        return found

    def input_quantization(self, weights: FloatWeights) -> Quantization:
        """Levels 0..15."""
        return Quantization(float(weights["input"][0]), int(weights["input"][1]), bits=4)

    def output_quantization(self, weights: FloatWeights) -> Quantization:
        """Levels 0..15 in the steps of the last convolution."""
        last = self.convolutions()[-1]
        return Quantization(2.0 ** Exponents.of(weights[f"exponents.{last}"]).output, 0, bits=4)

    def convolutions(self) -> list[int]:
        """Indices of the layers that are convolutions; at least the first one is."""
        return [i for i, layer in enumerate(self.layers) if layer.out_channels]

    def fitted(self, weights: FloatWeights, images: torch.Tensor) -> FloatWeights:
        """`weights` with exponents that suit what float `images` (B, H, W, C) give."""
        tensors = self.tensors(images.double(), {name: torch.from_numpy(value) for name, value in weights.items()})
        source, found = self.input_quantization(weights), dict(weights)
        for i in self.convolutions():
            values = (weights[f"weights.{i}"], weights[f"bias.{i}"])
            found[f"exponents.{i}"] = fitting_exponents(*values, source, tensors[i].numpy(), (0, 15))
            source = Quantization(2.0 ** Exponents.of(found[f"exponents.{i}"]).output, 0, bits=4)
        return found

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """The convolutions' numbers one behind another: packed weights, biases; and two shifts for each (n, 2)."""
        source, found = quantization.inputs[0], []
        for i in self.convolutions():
            found.append(whole_layer(weights[f"weights.{i}"], weights[f"bias.{i}"], weights[f"exponents.{i}"], source))
            source = Quantization(2.0 ** found[-1].exponents.output, 0, bits=4)
        return {
            "weights": pack(np.concatenate([layer.weights.reshape(-1) for layer in found])).view(np.uint8),
            "bias": np.concatenate([layer.bias for layer in found]).astype(np.int8),
            "shifts": np.array(
                [[layer.exponents.bias_shift, layer.exponents.shift] for layer in found], dtype=np.uint8
            ),
        }

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Layer after layer, each whole."""
        levels: IntArray = inputs[0].astype(np.int64)
        wholes = iter(self._wholes(levels.shape, weights))
        fill = quantization.inputs[0].zero_point
        for layer, before, after in self._steps(levels.shape):
            if layer.out_channels:
                whole = next(wholes)
                sums = whole.accumulate(unfold(levels, layer.window, fill))
                levels = shift_right(sums, whole.exponents.shift, 0, 15).reshape(after)
            else:
                levels = unfold(levels, layer.window, 0).reshape(-1, layer.taps, before[2]).max(axis=1).reshape(after)
            fill = 0
        return levels.astype(np.int8)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_cascade_u4_s8`."""
        fields = (
            ("layers", self._table(shapes[0], weights)),
            ("weights", weights["weights"]),
            ("bias", weights["bias"]),
            ("n_layers", np.uint8(as_byte(len(self.layers), "the number of layers"))),
            ("in_zero", np.uint8(quantization.inputs[0].zero_point)),
        )
        return (KernelCall("trec_cascade_u4_s8", "trec_cascade_u4", fields, scratch=True),)

    def _steps(self, shape: Shape) -> Iterator[tuple[Layer, Shape, Shape]]:
        shapes = self.shapes(shape)
        return zip(self.layers, shapes[:-1], shapes[1:], strict=True)

    def _wholes(self, shape: Shape, weights: IntWeights) -> Iterator[WholeLayer]:
        """The convolutions' integers from the packed ones."""
        sizes = [
            (layer.out_channels, layer.taps * before[2])
            for layer, before, _ in self._steps(shape)
            if layer.out_channels
        ]
        flat = (unpack(weights["weights"], (sum(m * k for m, k in sizes),)).astype(np.int64) ^ 8) - 8
        first, channel = 0, 0
        for (m, k), (bias_shift, shift) in zip(sizes, weights["shifts"].tolist(), strict=True):
            bias = weights["bias"][channel : channel + m]
            yield WholeLayer(flat[first : first + m * k].reshape(m, k), bias, Exponents(0, bias_shift, shift))
            first, channel = first + m * k, channel + m

    def _table(self, shape: Shape, weights: IntWeights) -> IntArray:
        """The members of C's `trec_layer_u4`, in its order, layer by layer."""
        rings, shifts, rows = [*self.rings(shape), 0], iter(weights["shifts"].tolist()), []
        for (layer, before, after), ring in zip(self._steps(shape), rings, strict=True):
            window = layer.window
            geometry = (*before, *after, *window.kernel, *window.stride, *window.padding)
            pair = next(shifts) if layer.out_channels else (0, 0)
            row = (*geometry, int(not layer.out_channels), *pair, ring)
            rows.append([as_byte(value, "a size of a cascade's layer") for value in row])
        return np.array(rows, dtype=np.uint8)


@functools.cache
def ring_pixels(window: Window, shape: Shape) -> int:
    """The most pixels of a tensor (H, W, C), in raster order, from the first that a window has yet to read to the last
    that must be there for the next window."""
    reads = [_read(window, shape, i) for i in range(math.prod(window.positions(shape)))]
    most, first = 0, math.prod(shape[:2])
    for begin, end in reversed(reads):
        first = min(first, begin)
        most = max(most, end - first + 1)
    return most


def _read(window: Window, shape: Shape, position: int) -> tuple[int, int]:
    """The first and the last pixel, in raster order, that the window at an output position reads."""
    y, x = divmod(position, window.positions(shape)[1])
    top, left = y * window.stride[0] - window.padding[0], x * window.stride[1] - window.padding[1]
    bottom, right = min(top + window.kernel[0], shape[0]) - 1, min(left + window.kernel[1], shape[1]) - 1
    return max(0, top) * shape[1] + max(0, left), bottom * shape[1] + right


@functools.cache
def _distance(cascade: CascadeU4, shape: Shape) -> int:
    """Bytes that the input must start after the output, found by walking through the steps of the kernel."""
    shapes = cascade.shapes(shape)
    first_windows = [
        _read(cascade.layers[0].window, shape, i)[0]
        for i in range(math.prod(cascade.layers[0].window.positions(shape)))
    ]
    needed = [*np.minimum.accumulate(first_windows[::-1])[::-1].tolist(), math.prod(shape[:2])]
    furthest = 0
    for layer, done in _states(cascade, shapes):
        # a layer writes the channels of a pixel while it still reads its window
        written, alive = done[-1] * shapes[-1][2], needed[done[0] - (layer == 0)] * shape[2]
        furthest = max(furthest, -(-written // 2) - alive // 2)
    return furthest


def _states(cascade: CascadeU4, shapes: Sequence[Shape]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The kernel's steps: which layer writes a pixel, and how many every layer has written then."""
    totals = [math.prod(shape[:2]) for shape in shapes[1:]]
    done, i = [0] * len(totals), len(totals) - 1
    while i >= 0:
        is_due = done[i] < totals[i]
        if is_due and (i == 0 or done[i - 1] > _read(cascade.layers[i].window, shapes[i], done[i])[1]):
            done[i] += 1
            yield i, tuple(done)
            i = len(totals) - 1
        else:
            i -= 1
