"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import INPUT, Graph, Node, Window
from trec_dse.ops._random import activation, image_shape, normal
from trec_dse.ops.add import Add
from trec_dse.ops.conv2d import Conv2d


def random_graph(random: np.random.Generator) -> Graph:
    """The input plus a 1x1 convolution of it, so that both terms have scales of their own."""
    shape = image_shape(random)
    branch = Node("branch", Conv2d(shape[2], Window((1, 1))), (INPUT,))
    weights = {"weights": normal(random, shape[2], 1, 1, shape[2]), "bias": normal(random, shape[2])}
    sum_ = Node("sum", Add(activation(random)), (INPUT, "branch"))
    return Graph(shape, (branch, sum_), {"branch": weights, "sum": {}})
