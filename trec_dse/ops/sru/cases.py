"""Random networks that hold this operator, for the tests and for what its code takes."""

import numpy as np

from trec_dse.graph import INPUT, Graph, Node, Window
from trec_dse.ops._random import integer, normal, single
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.sru import Sru


def random_graph(random: np.random.Generator) -> Graph:
    """One recurrence over one or more sequences, some of many units; behind its products where it reads their input.

    Some only tell the last step.
    """
    steps, sequences = integer(random, 1, 9), integer(random, 1, 3)
    units = integer(random, 1, 40 if random.random() < 0.3 else 12)
    op = Sru(projects=random.random() < 0.6, last=random.random() < 0.3)
    if op.projects:
        return single(op, (steps, sequences, 4 * units), {})
    weights = {"weights": normal(random, 3 * units, 1, 1, units) / units**0.5, "bias": normal(random, 3 * units)}
    nodes = (
        Node("products", Conv2d(3 * units, Window((1, 1))), (INPUT,)),
        Node("sru", op, ("products", INPUT)),
    )
    return Graph((steps, sequences, units), nodes, {"products": weights, "sru": {}})
