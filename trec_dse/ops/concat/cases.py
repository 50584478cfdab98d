"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import INPUT, Graph, Node, Window
from trec_dse.ops._random import image_shape, integer, normal
from trec_dse.ops.concat import Concat
from trec_dse.ops.conv2d import Conv2d


def random_graph(random: np.random.Generator) -> Graph:
    """Two 1x1 convolutions of the input and the input itself, side by side."""
    shape, names = image_shape(random), ("left", "right")
    nodes, weights = [], {}
    for name in names:
        channels = integer(random, 1, 5)
        nodes.append(Node(name, Conv2d(channels, Window((1, 1))), (INPUT,)))
        weights[name] = {"weights": normal(random, channels, 1, 1, shape[2]), "bias": normal(random, channels)}
    nodes.append(Node("whole", Concat(), ("left", INPUT, "right")))
    return Graph(shape, tuple(nodes), {**weights, "whole": {}})
