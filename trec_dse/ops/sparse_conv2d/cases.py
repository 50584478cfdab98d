"""Random networks that hold this operator, for the tests and for what its code takes."""

from dataclasses import replace

import numpy as np

from trec_dse.graph import INPUT, FloatWeights, Graph, Node
from trec_dse.ops._random import activation, image_shape, integer, normal, window
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.sparse_conv2d import SparseConv2d


def random_graph(random: np.random.Generator) -> Graph:
    """A convolution of one kernel and a ReLU with a low bias, whose output is mostly blank, and one that reads it.

    Alone it would never see a blank window: the tests' images are noise.
    """
    shape, where, channels = image_shape(random), window(random), integer(random, 1, 9)
    source = Conv2d(integer(random, 1, 3), replace(window(random), stride=(1, 1)), "relu")
    depth, kernel = source.out_channels, source.window.kernel
    spread = float(np.sqrt(np.prod(kernel) * shape[2]))
    low = np.full(depth, -spread * random.uniform(0.5, 3))
    nodes = (
        Node("before", source, (INPUT,)),
        Node("sparse_conv2d", SparseConv2d(channels, where, activation(random)), ("before",)),
    )
    weights: dict[str, FloatWeights] = {
        "before": {"weights": normal(random, depth, *kernel, shape[2]), "bias": low},
        "sparse_conv2d": {"weights": normal(random, channels, *where.kernel, depth), "bias": normal(random, channels)},
    }
    return Graph((shape[0] + 4, shape[1] + 4, shape[2]), nodes, weights)
