"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import image_shape, single, window
from trec_dse.ops.avg_pool2d import AvgPool2d


def random_graph(random: np.random.Generator) -> Graph:
    """One pooling layer."""
    return single(AvgPool2d(window(random, padding=False)), image_shape(random), {})
