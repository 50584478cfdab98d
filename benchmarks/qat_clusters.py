"""Whether a network that learns in its kernels' integers sees the clusters that the C code finds: the goal is always.

    python benchmarks/qat_clusters.py --data-dir FOLDER

A quarter of CifarNet's width learns 5,000 images of CIFAR-10, is clustered (slices, reused kernels, strips), and learns
1,000 of them once more, then once in whole numbers, in single precision as any training is. Then every vector of the
test images is signed twice: by the network as it learnt, and by the integer oracle, whose outputs and numbers of
clusters have to be those of the C code. Vectors with different signatures are counted, and outputs that differ.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch
from common import Figure, show
from compression import Subject, cifar10
from torch import nn

from trec_dse.candidate import QuantizationRecipe, TrecConfig, TrecPolicy
from trec_dse.course import QAT_RATE, TREC_RATE, nhwc
from trec_dse.evaluate import host_network
from trec_dse.graph import Int8Array, QuantizedGraph
from trec_dse.lower import lower
from trec_dse.ops import _clustering, _fake_clustering
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.prune import fold_batch_norms
from trec_dse.qat import QatNetwork
from trec_dse.quantize import calibrate, quantize_with
from trec_dse.trec.apply import apply_trec, conv_shapes
from trec_dse.trec.hashing import codes_from_projections
from trec_dse.trec.policy import resolve

RECIPE = QuantizationRecipe("mse", qat_epochs=1)
N_FINE_TUNING = 1_000  # images
POLICIES = {
    "slices": TrecPolicy(5, 5),
    "slices, kernels reused": TrecPolicy(5, 5, n_kernel_reuse=2),
    "strips": TrecPolicy(
        5,
        5,
        layers=(),
        layer_configs={
            "conv1": TrecConfig(6, 15, "strip_shared"),
            "conv2": TrecConfig(5, 8, "strip_shared", channel_groups=2),
        },
    ),
}

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Learnt:
    """A network after its training: as it learnt, and as integers."""

    network: QatNetwork
    graph: QuantizedGraph


def learn(subject: Subject, dense: nn.Module, policy: TrecPolicy) -> Learnt:
    """Cluster a trained network, and train it on, first in floating point, then in integers."""
    model = fold_batch_norms(dense)
    model = apply_trec(model, resolve(policy, conv_shapes(model, subject.dataset.input_shape)), subject.calibration)
    subject.learn(model, 1, TREC_RATE)
    source, images = lower(model.eval(), subject.dataset.input_shape), nhwc(subject.calibration)
    network = QatNetwork(source, calibrate(source, images, RECIPE))
    subject.learn(network, RECIPE.qat_epochs, QAT_RATE)
    return Learnt(network.eval(), quantize_with(network.graph, network.ranges, images))


def learnt_codes(network: QatNetwork, images: torch.Tensor) -> tuple[list[Codes], npt.NDArray[np.float32]]:
    """The signatures (images, n, vectors) of every layer as the network in training gives them, and its logits."""
    found: list[Codes] = []

    def noted(projections: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
        codes = codes_from_projections(projections, thresholds)
        found.append(codes.numpy())
        return codes

    with torch.no_grad(), patch.object(_fake_clustering, "codes_from_projections", noted):
        logits = network(images)
    return found, logits.numpy()


def oracle_codes(graph: QuantizedGraph, image: Int8Array) -> tuple[list[Codes], Int8Array, list[int]]:
    """The signatures (n, vectors) of every layer by the oracle, its output, and the clusters of every layer."""
    found: list[Codes] = []
    whole = _clustering.codes_of

    def noted(rows: Codes, vectors: Codes, thresholds: Codes) -> Codes:
        found.append(whole(rows, vectors, thresholds))
        return found[-1]

    with patch.object(_clustering, "codes_of", noted):
        output = graph.run(image)[graph.output]
    groups, counts, rest = [], [], iter(found)
    for node in graph.nodes:
        if isinstance(node.op, TrecConv2d | TrecStripConv2d):
            n = node.op.n_slices(graph.shapes[node.inputs[0]])
            groups.append(np.stack(list(itertools.islice(rest, n))))
            counts.append(sum(len(np.unique(codes)) for codes in groups[-1]))
    return groups, output.reshape(-1), counts


@dataclass
class Tally:
    """What was compared and what differed."""

    vectors: npt.NDArray[np.int64]
    different: npt.NDArray[np.int64]
    outputs: int = 0
    wrong_outputs: int = 0
    wrong_classes: int = 0
    not_c: int = 0


def compare(learnt: Learnt, images: torch.Tensor) -> Tally:
    """Sign all vectors of normalised images (n, C, H, W) both ways; run them through the C code as well."""
    graph, q = learnt.graph, learnt.graph.quantization[learnt.graph.output]
    levels = graph.quantize_images(nhwc(images).numpy())
    with host_network(graph) as host:
        answers = host.run(levels)
    codes, logits = learnt_codes(learnt.network, images)
    fake = np.floor(logits.astype(np.float64) / q.scale + 0.5).astype(np.int64) + q.zero_point
    tally = Tally(np.zeros(len(codes), dtype=np.int64), np.zeros(len(codes), dtype=np.int64))
    for i, image in enumerate(levels):
        groups, output, counts = oracle_codes(graph, image)
        is_c = np.array_equal(answers.outputs[i], output) and answers.n_clusters[i].tolist() == counts
        tally.not_c += not is_c
        for layer, own in enumerate(groups):
            tally.vectors[layer] += own.size
            tally.different[layer] += int((own != codes[layer][i]).sum())
        tally.outputs += output.size
        tally.wrong_outputs += int((fake[i] != output).sum())
        tally.wrong_classes += int(fake[i].argmax() != output.argmax())
    return tally


def figures(name: str, subject: Subject, learnt: Learnt, n_images: int) -> Iterator[Figure]:
    """The comparison of one network, in batches."""
    split = subject.dataset.test.stratified(n_images)
    images = subject.dataset.normalise(split.images)
    tallies = [compare(learnt, batch) for batch in torch.split(images, 100)]
    vectors, different = (sum(getattr(tally, key) for tally in tallies) for key in ("vectors", "different"))
    for layer, (n, wrong) in enumerate(zip(vectors, different, strict=True), start=1):
        yield Figure(f"{name}: vectors of layer {layer}", float(n), "")
        yield Figure(f"{name}: whose cluster differs", 100 * float(wrong) / float(n), "%", 0.0, bool(wrong == 0))
    total = sum(tally.outputs for tally in tallies)
    wrong = sum(tally.wrong_outputs for tally in tallies)
    yield Figure(f"{name}: outputs that differ", 100 * wrong / total, "%", 0.0, bool(wrong == 0))
    wrong = sum(tally.wrong_classes for tally in tallies)
    yield Figure(f"{name}: answers that differ", float(wrong), "images", 0.0, bool(wrong == 0))
    wrong = sum(tally.not_c for tally in tallies)
    yield Figure(f"{name}: images on which the C code is not the oracle", float(wrong), "images", 0.0, bool(wrong == 0))


def main() -> None:
    """Train once, cluster in several ways, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="where cifar10/ lies; the cache if not given")
    parser.add_argument("--images", type=int, default=200, help="test images, from all classes alike")
    options = parser.parse_args()
    torch.set_num_threads(1)
    subject = cifar10(options.data_dir)
    subject = replace(subject, candidate=replace(subject.candidate, recipe=replace(subject.recipe, epochs=4)))
    dense = subject.dense()
    found: list[Figure] = []
    fine_tuning = replace(subject.recipe, n_train=N_FINE_TUNING)
    subject = replace(subject, candidate=replace(subject.candidate, recipe=fine_tuning))
    for name, policy in POLICIES.items():
        found += figures(name, subject, learn(subject, dense, policy), options.images)
        print(f"{name}: compared", file=sys.stderr, flush=True)
    show(found)


if __name__ == "__main__":
    main()
