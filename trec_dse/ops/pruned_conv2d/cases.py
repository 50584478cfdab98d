"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, sparse, window
from trec_dse.ops.pruned_conv2d import PrunedConv2d


def random_graph(random: np.random.Generator) -> Graph:
    """One convolution with half to nearly all of its weights zero; sometimes of many channels, for long gaps."""
    shape, where = image_shape(random, channels=64 if random.random() < 0.3 else 9), window(random)
    channels = integer(random, 1, 20)
    weights = sparse(random, normal(random, channels, *where.kernel, shape[2]))
    bias = normal(random, channels)
    op = PrunedConv2d(channels, where, activation(random), int(np.count_nonzero(weights)))
    return single(op, shape, {"weights": weights, "bias": bias})
