"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.candidate import HashScope, TrecConfig
from trec_dse.graph import Graph
from trec_dse.ops._random import activation, image_shape, integer, normal, single, window
from trec_dse.ops.trec_conv2d import TrecConv2d

_SCOPES: tuple[HashScope, ...] = ("per_slice", "shared", "kernel_reuse")


def random_graph(random: np.random.Generator) -> Graph:
    """One TREC convolution: any scope, any divisor of K as vector length, 0..6 hash bits, sometimes a cap."""
    shape, where, channels = image_shape(random), window(random), integer(random, 1, 9)
    length = where.kernel[0] * where.kernel[1] * shape[2]
    vector = int(random.choice([d for d in range(1, length + 1) if length % d == 0]))
    scope = _SCOPES[integer(random, 0, 2)]
    bits = integer(random, 0, 6)
    bits = min(bits, channels) if scope == "kernel_reuse" else bits
    cap = integer(random, 1, 12) if random.random() < 0.4 else None
    op = TrecConv2d(channels, where, TrecConfig(bits, vector, scope, cap), activation(random))
    weights = {"weights": normal(random, channels, *where.kernel, shape[2]), "bias": normal(random, channels)}
    if scope != "kernel_reuse":
        n_hashes = 1 if scope == "shared" else length // vector
        weights |= {"hash": normal(random, n_hashes, vector, bits), "thresholds": normal(random, n_hashes, bits)}
    return single(op, shape, weights)
