"""A stack that is full: signatures of more bits than there may be clusters join the nearest, the same everywhere."""

import numpy as np
import pytest

from trec_dse.candidate import TrecConfig
from trec_dse.designed import asked_of, capped_layer, smooth_image
from trec_dse.evaluate import host_network
from trec_dse.graph import Window, Work
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.quantize import count_signatures

KINDS = (TrecConv2d, TrecStripConv2d)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("i", range(4))
def test_what_joins_the_nearest_cluster_does_so_in_c_as_in_the_oracle(kind: type, i: int) -> None:
    graph = capped_layer(kind, 1, i)
    images = np.stack(asked_of(graph, [smooth_image(graph.input_shape, seed) for seed in range(3)]))
    node = count_signatures(graph, images).nodes[0]
    assert isinstance(node.op, KINDS) and node.op.mean_signatures is not None
    weights, quantization = graph.weights[node.name], graph.node_quantization(node)
    clusters = [node.op.count(image, weights, quantization) for image in images]
    assert node.op.mean_signatures > np.mean(clusters), "some stack is full"
    with host_network(graph) as network:
        host = network.run(images).outputs
    assert np.array_equal(host, np.stack([graph.run(image)[graph.output].reshape(-1) for image in images]))


@pytest.mark.parametrize(
    ("clusters", "signatures", "worst", "compared"),
    [
        (None, None, False, 5 * (512 - 128) * 128),  # not calibrated: the most there can be
        (500.0, 900.0, True, 5 * (512 - 128) * 128),
        (500.0, 900.0, False, 400 * 128),
        (500.0, 500.0, False, 0),
        (640.0, 9999.0, False, (5 * 512 - 640) * 128),  # of other images than the clusters
    ],
)
def test_signatures_that_find_the_stack_full_are_compared_with_all_clusters_once(
    clusters: float | None, signatures: float | None, worst: bool, compared: float
) -> None:
    # N = 784 rows in each of 5 slices, 9 bits
    op = TrecConv2d(64, Window((5, 5)), TrecConfig(9, 15, max_clusters=128), "none", clusters, signatures)
    assert op.work((32, 32, 3), worst=worst)[-1] == Work("nearest_cluster", compared)


def test_a_group_of_strips_is_full_where_strips_and_signatures_are_more_than_the_cap() -> None:
    # 4 groups of one pixel each, 16 * 16 strips and 7 bits: at most 128 signatures, of which 100 are clusters
    op = TrecStripConv2d(8, Window((3, 3)), TrecConfig(7, 4, "strip_shared", 100, 4))
    assert op.work((16, 16, 16), worst=True)[-1] == Work("nearest_cluster", 4 * 28 * 100)


def test_a_stack_that_cannot_be_full_compares_nothing() -> None:
    for config in (TrecConfig(5, 15), TrecConfig(5, 15, max_clusters=32)):
        work = TrecConv2d(64, Window((5, 5)), config).work((32, 32, 3), worst=True)
        assert "nearest_cluster" not in {item.kind for item in work}
