"""What the random networks of the operators' `cases.py` are drawn with."""

import numpy as np

from trec_dse.graph import INPUT, FloatArray, FloatWeights, Graph, Node, Op, Shape, Window
from trec_dse.ops._activation import Activation

LEVELS = np.array([0.5, 7.0])  # scale and zero point by which 16 levels hold normally distributed inputs


def normal(random: np.random.Generator, *shape: int) -> FloatArray:
    """Normally distributed weights."""
    return random.standard_normal(shape)


def four_bits(random: np.random.Generator, *shape: int) -> FloatArray:
    """Weights that 4 bits hold exactly, for the input's `LEVELS` have steps of a power of two."""
    return random.integers(-8, 8, shape) / 16


def integer(random: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(random.integers(low, high + 1))


def image_shape(random: np.random.Generator, most: int = 12, channels: int = 9) -> Shape:
    """(H, W, C) with H, W in 4..most and C in 1..channels."""
    return (integer(random, 4, most), integer(random, 4, most), integer(random, 1, channels))


def window(random: np.random.Generator, *, padding: bool = True) -> Window:
    """Kernel 1..4, stride 1..3, padding below the kernel; each also differing between axes, padding between sides."""
    kernel = (integer(random, 1, 4), integer(random, 1, 4))
    stride = (integer(random, 1, 3), integer(random, 1, 3))
    pads = (integer(random, 0, kernel[0] // 2), integer(random, 0, kernel[1] // 2)) if padding else (0, 0)
    if not padding or random.random() < 0.7:
        return Window(kernel, stride, pads)
    # between no padding and one less than the kernel, which no window of padding alone has
    extra = (integer(random, 0, kernel[0] - 1) - pads[0], integer(random, 0, kernel[1] - 1) - pads[1])
    return Window(kernel, stride, pads, extra)


def activation(random: np.random.Generator) -> Activation:
    """Any activation."""
    kinds: tuple[Activation, ...] = ("none", "relu", "none", "relu6")
    return kinds[integer(random, 0, 3)]


def single(op: Op, shape: Shape, weights: FloatWeights) -> Graph:
    """A network of one operator."""
    return Graph(shape, (Node(op.kind, op, (INPUT,)),), {op.kind: weights})


def sparse(random: np.random.Generator, weights: FloatArray) -> FloatArray:
    """Weights (M, ...) of which half to nearly all are 0; now and then all of the last output's."""
    kept = np.where(random.random(weights.shape) < random.uniform(0.5, 0.98), 0.0, weights)
    if len(weights) > 1 and random.random() < 0.3:
        kept[-1] = 0.0
    kept.reshape(len(kept), -1)[0, 0] = 1.0
    return kept
