"""Networks of 4-bit weights and activations: the float graph rewritten for their kernels, and trained as they round.

The input's levels are means over blocks of pixels, sixteen pixel values to a level, so that a board can take an image
byte by byte and keep half a byte per block. All other scales are powers of two and learn with the weights.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.errors import UnsupportedError
from trec_dse.graph import INPUT, FloatArray, FloatWeights, Graph, Node, Quantization, Shape, Window
from trec_dse.ops._four_bits import MOST_SHIFT, Exponents, nearest
from trec_dse.ops._levels import round_half_up
from trec_dse.ops.avg_pool2d import AvgPool2d
from trec_dse.ops.cascade_u4 import CascadeU4, Layer
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.dense_u4 import DenseU4
from trec_dse.ops.max_pool2d import MaxPool2d

PIXELS_PER_LEVEL = 16
_MEMBERS = ("weights", "bias", "exponents")
_PACE = 0.01  # by which the gradients of exponents, each a sum over all values, are weighed down


def pixel_levels(mean: Sequence[float], std: Sequence[float]) -> Quantization:
    """Of an input of 16 levels, for images normalised by these; UnsupportedError if the channels differ."""
    if len(set(mean)) > 1 or len(set(std)) > 1:
        raise UnsupportedError(
            f"4 bits: the channels are normalised by means {tuple(mean)} and deviations {tuple(std)}; the input has "
            "one scale, so all the same would be right"
        )
    return Quantization(PIXELS_PER_LEVEL / (255 * std[0]), math.floor(255 * mean[0] / PIXELS_PER_LEVEL + 0.5), bits=4)


def in_four_bits(graph: Graph, images: Tensor, pixels: Quantization) -> Graph:
    """`graph` for the 4-bit kernels: (averaging), convolutions with ReLU and poolings as one cascade, one dense layer.

    `images`: float (B, H, W, C), to which the exponents are fitted; `pixels`: the input's levels. Averaging becomes
    part of how the input is quantised. Raises UnsupportedError that says what stands where it should not.
    """
    nodes, shape = list(graph.nodes), graph.input_shape
    if isinstance(nodes[0].op, AvgPool2d):
        window = nodes[0].op.window
        shape = nodes[0].op.output_shape(shape)
        images = F.avg_pool2d(images.permute(0, 3, 1, 2), window.kernel, window.stride).permute(0, 2, 3, 1)
        if window.kernel != window.stride or graph.input_shape[:2] != _times(shape, window):
            raise UnsupportedError(f"4 bits: {nodes[0].name!r} averages windows that do not tile the image")
        del nodes[0]
    *layers, last = nodes
    if not isinstance(last.op, Dense) or last.op.activation != "none" or not layers:
        raise UnsupportedError(
            f"4 bits: the network ends in {last.op}; convolutions and then one dense layer are needed"
        )
    name = layers[-1].name
    cascade = CascadeU4(tuple(_layer(node) for node in layers))
    members = [(i, item) for i, node in enumerate(layers) for item in graph.weights[node.name].items()]
    weights: FloatWeights = {"input": _array(pixels), **{f"{key}.{i}": value for i, (key, value) in members}}
    weights = cascade.fitted(weights, images)
    dense = DenseU4(last.op.out_features)
    inside = cascade.forward([images.double()], {key: torch.from_numpy(value) for key, value in weights.items()})
    found = dense.fitted(graph.weights[last.name], inside, cascade.output_quantization(weights))
    return Graph(
        shape,
        (Node(name, cascade, (INPUT,)), Node(last.name, dense, (name,))),
        {name: weights, last.name: {**found, "input": _array(cascade.output_quantization(weights))}},
    )


def _times(shape: Shape, window: Window) -> Shape:
    return shape[0] * window.kernel[0], shape[1] * window.kernel[1]


def _array(q: Quantization) -> FloatArray:
    return np.array([q.scale, q.zero_point], dtype=np.float64)


def _layer(node: Node) -> Layer:
    op = node.op
    if isinstance(op, Conv2d | MaxPool2d) and op.window.extra != (0, 0):
        raise UnsupportedError(f"4 bits: layer {node.name!r} is padded differently on two sides, which has no kernel")
    if isinstance(op, Conv2d) and op.activation == "relu":
        return Layer(op.window, op.out_channels)
    if isinstance(op, MaxPool2d):
        return Layer(op.window)
    raise UnsupportedError(
        f"4 bits: layer {node.name!r} is {op}; only convolutions with ReLU and maximum poolings stand before the dense "
        "layer, and an averaging before them"
    )


class FourBitNetwork(nn.Module):
    """Normalised images (B, C, H, W) to logits, by the very integers of the kernels that `graph` would run on.

    Weights, biases and exponents learn, straight through every rounding; after `freeze` the exponents stay.
    """

    def __init__(self, graph: Graph) -> None:
        """`graph`: what `in_four_bits` returns."""
        super().__init__()
        self._graph = graph
        (first, cascade), (last, dense) = ((graph.weights[node.name], node.op) for node in graph.nodes)
        assert isinstance(cascade, CascadeU4) and isinstance(dense, DenseU4)
        self._cascade, self._pixels = cascade, cascade.input_quantization(first)
        found = [{key: first[f"{key}.{i}"] for key in _MEMBERS} for i in cascade.convolutions()]
        layers = (_of_pixels(found[0], self._pixels), *found[1:], {key: last[key] for key in _MEMBERS})
        self._learned = nn.ModuleList(_LearnedLayer(members) for members in layers)

    def forward(self, images: Tensor) -> Tensor:
        """Logits as the int8 output stands for."""
        learned: Iterator[_LearnedLayer] = iter(self._learned)  # type: ignore[arg-type]
        x, entering = self._levels(images), torch.zeros((), device=images.device)
        fill = float(self._pixels.zero_point)
        for layer in self._cascade.layers:
            (rows, columns), stride = layer.window.padding, layer.window.stride
            if layer.out_channels:
                numbers = next(learned).rounded(entering)
                padded = F.pad(x, (columns, columns, rows, rows), value=fill)
                y = F.conv2d(padded, numbers.weights.permute(0, 3, 1, 2), numbers.bias, stride)
                x, entering = _in_steps(y, numbers.output, 0, 15), numbers.output.detach()
            else:
                x = F.max_pool2d(x, layer.window.kernel, stride, layer.window.padding)
            fill = 0.0
        numbers = next(learned).rounded(entering)
        logits = F.linear(x.permute(0, 2, 3, 1).flatten(1), numbers.weights, numbers.bias)
        return _in_steps(logits, numbers.output, -128, 127)

    def freeze(self) -> None:
        """Let the exponents be what they are now."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.endswith("exponents"))

    @property
    def graph(self) -> Graph:
        """The float graph with the weights and exponents as they are now."""
        cascade, dense = self._graph.nodes
        layers = [layer.members() for layer in self._learned]  # type: ignore[operator]
        output = Exponents.of(layers[-2]["exponents"]).output
        first = dict(self._graph.weights[cascade.name])
        layers[0] = _of_reals(layers[0], self._pixels)
        for i, members in zip(self._cascade.convolutions(), layers, strict=False):
            first |= {f"{key}.{i}": value for key, value in members.items()}
        last = {**layers[-1], "input": _array(Quantization(2.0**output, 0))}
        return replace(self._graph, weights={cascade.name: first, dense.name: last})

    def _levels(self, images: Tensor) -> Tensor:
        """Whole numbers 0..15, (B, C, H, W)."""
        height, width, _ = self._graph.input_shape
        blocks = (images.shape[2] // height, images.shape[3] // width)
        levels = torch.floor(F.avg_pool2d(images, blocks) / self._pixels.scale + 0.5) + self._pixels.zero_point
        return levels.clamp(0, 15)


@dataclass(frozen=True, eq=False)
class _Numbers:
    """A layer's rounded weights and bias, and the exponent of its output, 0-dimensional."""

    weights: Tensor
    bias: Tensor
    output: Tensor


class _LearnedLayer(nn.Module):
    """Weights and bias of one layer, and its exponents: of the accumulator, the bias and the output."""

    def __init__(self, members: FloatWeights) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(members["weights"]).float())
        self.bias = nn.Parameter(torch.from_numpy(members["bias"]).float())
        self.exponents = nn.Parameter(torch.from_numpy(members["exponents"]).float())

    def rounded(self, entering: Tensor) -> _Numbers:
        """The numbers by which an input in steps of 2**entering is multiplied."""
        slowed = self.exponents.detach() + _PACE * (self.exponents - self.exponents.detach())
        accumulator, bias, output = round_half_up(slowed)
        coarsest = accumulator.detach() + MOST_SHIFT
        bias, output = (torch.clamp(e, accumulator.detach(), coarsest) for e in (bias, output))
        weights = _in_steps(self.weight, accumulator - entering, -8, 7)
        return _Numbers(weights, _in_steps(self.bias, bias, -128, 127), output)

    def members(self) -> dict[str, FloatArray]:
        """As they stand in a graph."""
        values = (self.weight, self.bias, self.exponents)
        return {key: value.detach().cpu().double().numpy() for key, value in zip(_MEMBERS, values, strict=True)}


def _in_steps(x: Tensor, exponent: Tensor, low: int, high: int) -> Tensor:
    """`x` in low..high whole steps of 2**exponent. Gradients reach the exponent, and `x` where it is not saturated."""
    step = torch.exp2(exponent)
    return round_half_up(x / step).clamp(low, high) * step


def _of_pixels(members: FloatWeights, pixels: Quantization) -> dict[str, FloatArray]:
    """The first layer for inputs that are levels themselves, not what they stand for."""
    weights = members["weights"] * pixels.scale
    folded = pixels.zero_point * _sums(weights, members["exponents"])
    return {**members, "weights": weights, "bias": members["bias"] - folded}


def _of_reals(members: FloatWeights, pixels: Quantization) -> dict[str, FloatArray]:
    """What `_of_pixels` was made from."""
    folded = pixels.zero_point * _sums(members["weights"], members["exponents"])
    return {**members, "weights": members["weights"] / pixels.scale, "bias": members["bias"] + folded}


def _sums(weights: FloatArray, exponents: FloatArray) -> FloatArray:
    """Per output channel, of the rounded weights."""
    step = 2.0 ** Exponents.of(exponents).accumulator
    sums: FloatArray = step * nearest(weights / step, -8, 7).reshape(len(weights), -1).sum(axis=1)
    return sums
