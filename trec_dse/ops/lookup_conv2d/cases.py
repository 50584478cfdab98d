"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, window
from trec_dse.ops.lookup_conv2d import LookupConv2d


def random_graph(random: np.random.Generator) -> Graph:
    """One convolution by lookup, of 1 to 4 terms; some read more channels than a signed byte could name."""
    shape, where = image_shape(random, channels=250 if random.random() < 0.3 else 30), window(random)
    channels, n_terms = integer(random, 1, 20), integer(random, 1, min(4, shape[2]))
    size = (channels, *where.kernel, n_terms)
    # the first of a random order of all channels are all different
    indices = random.random((*size[:-1], shape[2])).argsort(axis=-1)[..., :n_terms].astype(float)
    weights = {"weights": normal(random, *size), "indices": indices, "bias": normal(random, channels)}
    return single(LookupConv2d(channels, where, n_terms, activation(random)), shape, weights)
