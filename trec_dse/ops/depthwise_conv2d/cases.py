"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, normal, single, window
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d


def random_graph(random: np.random.Generator) -> Graph:
    """One depthwise convolution."""
    shape, where = image_shape(random), window(random)
    op = DepthwiseConv2d(where, activation(random))
    return single(op, shape, {"weights": normal(random, *where.kernel, shape[2]), "bias": normal(random, shape[2])})
