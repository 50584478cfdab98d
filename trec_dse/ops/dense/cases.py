"""Random networks that hold this operator, for the tests and for what its code takes."""

import math

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single
from trec_dse.ops.dense import Dense


def random_graph(random: np.random.Generator) -> Graph:
    """One fully connected layer."""
    shape, outputs = image_shape(random), integer(random, 1, 20)
    op = Dense(outputs, activation(random))
    return single(op, shape, {"weights": normal(random, outputs, math.prod(shape)), "bias": normal(random, outputs)})
