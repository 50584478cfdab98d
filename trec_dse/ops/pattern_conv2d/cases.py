"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, window
from trec_dse.ops.pattern_conv2d import PatternConv2d


def random_graph(random: np.random.Generator) -> Graph:
    """One convolution of pattern kernels: any divisor of the channels as groups, any number of taps."""
    shape, where = image_shape(random, channels=32 if random.random() < 0.4 else 6), window(random)
    channels, taps = integer(random, 1, 20), where.kernel[0] * where.kernel[1]
    groups = int(random.choice([d for d in range(1, shape[2] + 1) if shape[2] % d == 0]))
    n_patterns, n_taps = integer(random, 1, 6), integer(random, 1, taps)
    patterns = np.sort(random.random((n_patterns, taps)).argsort(axis=1)[:, :n_taps], axis=1)
    weights = {
        "weights": normal(random, channels, groups, n_taps, shape[2] // groups),
        "patterns": patterns.astype(float),
        "choice": random.integers(0, n_patterns, (channels, groups)).astype(float),
        "bias": normal(random, channels),
    }
    return single(PatternConv2d(channels, where, n_taps, groups, n_patterns, activation(random)), shape, weights)
