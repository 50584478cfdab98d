"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import Graph
from trec_dse.ops._random import integer, normal, single
from trec_dse.ops.gru import Gru


def random_graph(random: np.random.Generator) -> Graph:
    """One recurrence over one or more sequences, some of many units; some only tell the last step."""
    steps, sequences = integer(random, 1, 9), integer(random, 1, 3)
    units = integer(random, 1, 40 if random.random() < 0.3 else 12)
    weights = {"hidden": normal(random, 3 * units, units) / units**0.5, "hidden_bias": normal(random, 3 * units)}
    return single(Gru(last=random.random() < 0.3), (steps, sequences, 3 * units), weights)
