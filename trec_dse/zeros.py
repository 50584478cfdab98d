"""Layers of mostly zero weights get the kernels that store the others alone, where that takes less Flash."""

from dataclasses import replace

from trec_dse.graph import Node, QuantizedGraph
from trec_dse.ops._entries import ENTRY_BYTES, entries_of
from trec_dse.ops._packing import pair_channels
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.pruned_conv2d import PrunedConv2d, runs_of
from trec_dse.ops.pruned_dense import PrunedDense

_COUNT_BYTES = 2


def without_zeros(graph: QuantizedGraph) -> QuantizedGraph:
    """`graph` with `pruned_conv2d` and `pruned_dense` in the place of dense layers whose tables they make smaller.

    The integers are the same. What the code of a kernel takes, some 200 bytes once, is left out of account.
    """
    return replace(graph, nodes=tuple(_smaller(node, graph) for node in graph.nodes))


def _smaller(node: Node, graph: QuantizedGraph) -> Node:
    op = node.op
    if not isinstance(op, Conv2d | Dense):
        return node
    weights = graph.weights[node.name]["weights"]
    is_conv = isinstance(op, Conv2d)
    # an entry takes two bytes, so half of them at least have to be zero; counting costs less than listing
    if 2 * (weights != 0).sum() >= weights.size:
        return node
    runs = runs_of(weights) if is_conv else weights
    n_entries = sum(len(entries_of(run)) for run in runs)
    dense_bytes = pair_channels(weights.reshape(len(weights), 1, -1)).nbytes if is_conv else weights.nbytes
    if ENTRY_BYTES * n_entries + _COUNT_BYTES * len(runs) >= dense_bytes:
        return node
    if isinstance(op, Conv2d):
        return replace(node, op=PrunedConv2d(op.out_channels, op.window, op.activation, n_entries))
    return replace(node, op=PrunedDense(op.out_features, op.activation, n_entries))
