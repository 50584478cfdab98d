"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, window
from trec_dse.ops.peeled_conv2d import PeeledConv2d


def random_graph(random: np.random.Generator) -> Graph:
    """One convolution, mostly to more channels than there were: only then does an order other than rows help."""
    shape = image_shape(random)
    where, channels = window(random), shape[2] + integer(random, 0, 12)
    op = PeeledConv2d(channels, where, activation(random))
    weights = {"weights": normal(random, channels, *where.kernel, shape[2]), "bias": normal(random, channels)}
    return single(op, shape, weights)
