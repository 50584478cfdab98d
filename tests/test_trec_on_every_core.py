"""Clustered layers on the twin of a board of each core, compiled for speed and for size: the oracle's bytes.

Compilers take more liberties on some cores than on others: means that are written over their sums were once wrong on a
Cortex-M0+ alone.
"""

from dataclasses import replace

import numpy as np
import pytest
from twin_programs import M0_PLUS, M3, M4, M7

from trec_dse.calibrate import linked
from trec_dse.designed import asked_of, clustered_layer, smooth_image
from trec_dse.executors import twin
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.target import Optimize, Target


@pytest.mark.parametrize("optimize", ["speed", "size"])
@pytest.mark.parametrize("target", [M0_PLUS, M3, M4, M7], ids=lambda target: target.core)
@pytest.mark.parametrize("kind", [TrecConv2d, TrecStripConv2d], ids=lambda kind: kind.kind)
def test_clusters_are_those_of_the_oracle(
    kind: type[TrecConv2d | TrecStripConv2d], target: Target, optimize: Optimize
) -> None:
    graph, target = clustered_layer(kind, 1, 1), replace(target, optimize=optimize)
    (image,) = asked_of(graph, [smooth_image(graph.input_shape)])
    with linked(graph, target) as firmware, twin.open(firmware.elf, target) as executor:
        answer = executor.infer(image).output
    assert np.array_equal(answer, graph.run(image)[graph.output].reshape(-1))
