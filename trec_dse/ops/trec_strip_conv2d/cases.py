"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.candidate import TrecConfig
from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, window
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d


def random_graph(random: np.random.Generator) -> Graph:
    """One strip convolution: any strip that tiles a kernel row, any channel groups, 0..6 hash bits, sometimes a cap."""
    shape, where, channels = image_shape(random), window(random), integer(random, 1, 9)
    pixels = _divisor(random, where.kernel[1])
    groups = _divisor(random, shape[2])
    length, bits = pixels * shape[2] // groups, integer(random, 0, 6)
    cap = integer(random, 1, 12) if random.random() < 0.4 else None
    config = TrecConfig(bits, length, "strip_shared", cap, groups)
    weights = {
        "weights": normal(random, channels, *where.kernel, shape[2]),
        "bias": normal(random, channels),
        "hash": normal(random, groups, length, bits),
        "thresholds": normal(random, groups, bits),
    }
    return single(TrecStripConv2d(channels, where, config, activation(random)), shape, weights)


def _divisor(random: np.random.Generator, number: int) -> int:
    return int(random.choice([d for d in range(1, number + 1) if number % d == 0]))
