"""Random networks that hold this operator, for the tests and for what its code takes."""

import math
from dataclasses import replace

import numpy as np
import torch

from trec_dse.graph import Graph
from trec_dse.ops._random import LEVELS, four_bits, image_shape, integer, normal, single, window
from trec_dse.ops.cascade_u4 import CascadeU4, Layer


def random_graph(random: np.random.Generator) -> Graph:
    """A convolution and up to three layers more, as long as there is an image left; exponents for normal inputs."""
    shape = image_shape(random, most=14)
    layers, after = [], shape
    for i in range(integer(random, 1, 4)):
        is_pool = i > 0 and random.random() < 0.3
        layer = Layer(replace(window(random), extra=(0, 0)), 0 if is_pool else integer(random, 1, 9))
        if min(layer.output_shape(after)[:2]) < 1:
            break
        layers.append(layer)
        after = layer.output_shape(after)
    op = CascadeU4(tuple(layers))
    if math.prod(op.output_shape(shape)) % 2:  # what lies in the half byte behind an odd number of outputs is not told
        last = op.convolutions()[-1]
        layers[last] = replace(layers[last], out_channels=layers[last].out_channels + 1)
        op = CascadeU4(tuple(layers))
    weights = {"input": LEVELS}
    for i in op.convolutions():
        kernels = (layers[i].out_channels, *layers[i].window.kernel, op.shapes(shape)[i][2])
        weights |= {f"weights.{i}": four_bits(random, *kernels), f"bias.{i}": normal(random, kernels[0])}
    return single(op, shape, op.fitted(weights, torch.from_numpy(normal(random, 4, *shape))))
