"""A designed set of networks to measure: every operator, in the shapes and at the redundancies that searches meet.

Candidates of the shipped search spaces are measured whole, layer by layer, so that each layer finds memory and caches
as they are inside a network. What few candidates have is added as networks of a single layer.
"""

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from trec_dse import datasets, plugins
from trec_dse.candidate import Candidate, TrecConfig
from trec_dse.evaluate import int8_images, untrained_graph
from trec_dse.graph import (
    INPUT,
    Graph,
    Int8Array,
    Node,
    NodeQuantization,
    Quantization,
    QuantizedGraph,
    Shape,
    Window,
    pack,
)
from trec_dse.ops._random import single
from trec_dse.ops.concat import Concat
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.quantize import quantize
from trec_dse.search_space import load_search_space, sample_at_random

SPACES = {
    "digits_tiny": 14,
    "mnist_lenet5": 8,
    "cifar10_cifarnet": 12,
    "cifar10_resnet8": 4,
    "cifar10_squeezenet": 4,
    "digits_compression": 4,
}
CLUSTERED_INPUTS = [(28, 28, 1), (32, 32, 3), (16, 16, 16), (14, 14, 32), (8, 8, 32), (8, 8, 64), (6, 6, 48)]
CONCAT_INPUTS = [(16, 16, 16), (16, 16, 3), (8, 8, 64), (8, 8, 8), (4, 4, 96), (4, 4, 5), (1, 1, 64)]
N_OF_EACH = 12  # random small layers of every operator
N_SLICES, N_STRIPS = 24, 32  # random layers that cluster slices, and strips
N_CAPPED = 8  # of either, whose stack fills up
N_IMAGES = 2

Asked = tuple[QuantizedGraph, list[Int8Array]]


@dataclass(frozen=True)
class Design:
    """One network of the set; `make` gives it, and the images that it is to read, as they lie in memory."""

    name: str
    make: Callable[[], Asked]


def designs(seed: int = 1) -> Iterator[Design]:
    """The whole set; the same seed gives the same networks."""
    for space, n in SPACES.items():
        for candidate in sample_at_random(load_search_space(space), n, seed):
            yield Design(f"{space} {candidate.key[:8]}", partial(_candidate, candidate))
    for kind in plugins.names("ops"):
        for i in range(N_OF_EACH):
            yield Design(f"{kind} {i}", partial(_layer, partial(random_layer, kind, seed, i)))
    for clustering, n in ((TrecConv2d, N_SLICES), (TrecStripConv2d, N_STRIPS)):
        for i in range(n):
            yield Design(
                f"clustered {clustering.kind} {i}", partial(_layer, partial(clustered_layer, clustering, seed, i))
            )
        for i in range(N_CAPPED):
            yield Design(f"capped {clustering.kind} {i}", partial(_layer, partial(capped_layer, clustering, seed, i)))
    for n, shape in itertools.product((2, 3), CONCAT_INPUTS):
        yield Design(f"concat of {n} {shape}", partial(_layer, partial(concat_layer, n, shape)))


def random_layer(kind: str, seed: int, i: int) -> QuantizedGraph:
    """The i-th small random network around an operator."""
    random = np.random.default_rng([seed, i])
    graph: Graph = importlib.import_module(f"trec_dse.ops.{kind}.cases").random_graph(random)
    images = torch.from_numpy(random.standard_normal((2, *graph.input_shape))).float()
    return quantize(graph, images)


def capped_layer(kind: type[TrecConv2d | TrecStripConv2d], seed: int, i: int) -> QuantizedGraph:
    """The i-th of `clustered_layer` with more signatures than it may have clusters."""
    random = np.random.default_rng([seed, i, 1])
    cap = int(random.choice([8, 16, 32, 64]))
    return clustered_layer(kind, seed, i, bits=int(random.integers(7, 11)), max_clusters=cap)


def clustered_layer(
    kind: type[TrecConv2d | TrecStripConv2d],
    seed: int,
    i: int,
    *,
    bits: int | None = None,
    max_clusters: int | None = None,
) -> QuantizedGraph:
    """The i-th convolution as the shipped networks have them, on random strips or slices; 2 to 6 bits, or as asked."""
    random = np.random.default_rng([seed, i])
    kernel = int(random.choice([1, 3, 5]))
    height, width, depth = map(int, random.choice(CLUSTERED_INPUTS if kernel > 1 else CLUSTERED_INPUTS[2:]))
    pixels = int(random.choice([1, kernel]))
    groups = depth // int(random.choice([d for d in (1, 2, 4, 8, 16, 32) if depth % d == 0])) if depth > 3 else 1
    length, drawn = pixels * depth // groups, int(random.integers(2, 7))
    bits = drawn if bits is None else bits
    padding = int(random.integers(0, 2)) * (kernel // 2)
    out_channels = int(random.choice([6, 8, 16, 32, 64, 128]))
    config = TrecConfig(bits, length, "strip_shared", max_clusters, int(groups))
    if kind is TrecConv2d:
        config = TrecConfig(bits, length if length > 1 else kernel * depth, max_clusters=max_clusters)
    op = kind(out_channels, Window((kernel, kernel), (1, 1), (padding, padding)), config, "relu")
    hashes = op.n_slices((height, width, depth))
    weights = {
        "weights": random.standard_normal((out_channels, kernel, kernel, depth)),
        "bias": random.standard_normal(out_channels),
        "hash": random.standard_normal((hashes, config.vector_length, bits)),
        "thresholds": random.standard_normal((hashes, bits)),
    }
    images = torch.from_numpy(random.standard_normal((2, height, width, depth))).float()
    return quantize(single(op, (height, width, depth), weights), images)


def concat_layer(n: int, shape: Shape) -> QuantizedGraph:
    """A concatenation of `n` times the same image."""
    op, source, sink = Concat(), Quantization(0.02, 3), Quantization(0.021, -128)
    integers = op.quantize({}, NodeQuantization((source,) * n, sink))
    node = Node("concat", op, (INPUT,) * n)
    return QuantizedGraph(shape, (node,), {"concat": integers}, {INPUT: source, "concat": sink})


def smooth_image(shape: Shape, seed: int = 0) -> npt.NDArray[np.int8]:
    """An int8 image whose neighbouring pixels resemble each other, as those of real layers do."""
    random = np.random.default_rng(seed)
    image = random.normal(0, 50, shape)
    if len(shape) == 3:
        for axis in (0, 1):
            image = (image + np.roll(image, 1, axis) + np.roll(image, 2, axis)) / 1.7
    return np.clip(image, -128, 127).astype(np.int8)


def asked_of(graph: QuantizedGraph, images: Sequence[npt.NDArray[np.int8]]) -> list[Int8Array]:
    """8-bit images as the network reads them."""
    return [image if graph.quantization[INPUT].bits == 8 else pack(image // 16 + 8) for image in images]


def _layer(make: Callable[[], QuantizedGraph]) -> Asked:
    graph = make()
    return graph, asked_of(graph, [smooth_image(graph.input_shape, seed) for seed in range(N_IMAGES)])


def _candidate(candidate: Candidate) -> Asked:
    dataset = datasets.placeholder(candidate.dataset)
    graph = untrained_graph(candidate, dataset)
    images = int8_images(graph, dataset, dataset.test)
    return graph, list(images[:N_IMAGES])
