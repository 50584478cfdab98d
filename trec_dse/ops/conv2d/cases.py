"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, window
from trec_dse.ops.conv2d import Conv2d


def random_graph(random: np.random.Generator) -> Graph:
    """One convolution; some have rows of several tiles, some several groups of channels."""
    shape = image_shape(random, channels=90 if random.random() < 0.3 else 9)
    where, channels = window(random), integer(random, 1, 40 if random.random() < 0.3 else 9)
    op = Conv2d(channels, where, activation(random))
    weights = {"weights": normal(random, channels, *where.kernel, shape[2]), "bias": normal(random, channels)}
    return single(op, shape, weights)
