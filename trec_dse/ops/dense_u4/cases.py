"""Random networks that hold this operator, for the tests and for what its code takes."""

import math

import numpy as np
import torch

from trec_dse.graph import Graph
from trec_dse.ops._random import LEVELS, four_bits, image_shape, integer, normal, single
from trec_dse.ops.dense_u4 import DenseU4


def random_graph(random: np.random.Generator) -> Graph:
    """One fully connected layer whose exponents suit normally distributed inputs."""
    shape, outputs = image_shape(random), integer(random, 4, 20)
    op = DenseU4(outputs, "relu" if random.random() < 0.5 else "none")
    kernels = four_bits(random, outputs, math.prod(shape))
    weights = {"weights": kernels, "bias": normal(random, outputs), "input": LEVELS}
    images = torch.from_numpy(normal(random, 4, *shape))
    return single(op, shape, op.fitted(weights, images, op.input_quantization(weights)))
