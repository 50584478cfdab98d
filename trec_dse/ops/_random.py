"""What the random networks of the operators' `cases.py` are drawn with."""

from typing import Literal

import numpy as np

from trec_dse.graph import INPUT, FloatArray, FloatWeights, Graph, Node, Op, Shape, Window

Activation = Literal["none", "relu"]
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
    """Kernel 1..4, stride 1..3, padding below the kernel; each also differing between the axes."""
    kernel = (integer(random, 1, 4), integer(random, 1, 4))
    stride = (integer(random, 1, 3), integer(random, 1, 3))
    pads = (integer(random, 0, kernel[0] // 2), integer(random, 0, kernel[1] // 2)) if padding else (0, 0)
    return Window(kernel, stride, pads)


def activation(random: np.random.Generator) -> Activation:
    """Either activation."""
    return "relu" if random.random() < 0.5 else "none"


def single(op: Op, shape: Shape, weights: FloatWeights) -> Graph:
    """A network of one operator."""
    return Graph(shape, (Node(op.kind, op, (INPUT,)),), {op.kind: weights})
