"""Random networks that hold this operator, for the tests and for what its code takes."""

import math

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, sparse
from trec_dse.ops.pruned_dense import PrunedDense


def random_graph(random: np.random.Generator) -> Graph:
    """One fully connected layer with half to nearly all of its weights zero, now and then all of an output's."""
    shape, outputs = image_shape(random), integer(random, 1, 20)
    weights = sparse(random, normal(random, outputs, math.prod(shape)))
    op = PrunedDense(outputs, activation(random), int(np.count_nonzero(weights)))
    return single(op, shape, {"weights": weights, "bias": normal(random, outputs)})
