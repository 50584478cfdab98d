"""Post-training int8 quantisation: from the float graph and calibration images to integers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from trec_dse.candidate import QuantizationRecipe
from trec_dse.graph import (
    INPUT,
    FloatArray,
    FloatWeights,
    Graph,
    Int8Array,
    Node,
    NodeQuantization,
    Op,
    OwnScales,
    Quantization,
    QuantizedGraph,
    quantize_array,
)
from trec_dse.ops._fake_quantization import fake_pass, fake_run
from trec_dse.ops._levels import Levels, to_levels
from trec_dse.ops.sparse_conv2d import SparseConv2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d

FULL_RANGE = QuantizationRecipe()
_MOST_VALUES = 2**20  # of a tensor, that a range is searched on
_SHRINKAGES = np.linspace(1.0, 0.3, 71)


def quantize(graph: Graph, calibration: torch.Tensor, recipe: QuantizationRecipe = FULL_RANGE) -> QuantizedGraph:
    """The int8 network whose activation ranges are those of `calibration`: float images (B, H, W, C).

    Weights are symmetric per output channel, activations affine per tensor over a range that holds zero.
    TREC nodes also learn N_c here: the clusters of the int8 network itself.
    """
    ranges = calibrate(graph, calibration, recipe)
    if recipe.bias_correction:
        graph = correct_biases(graph, ranges, calibration)
    return quantize_with(graph, ranges, calibration)


def quantize_own_scales(graph: Graph) -> QuantizedGraph:
    """The integer network of a graph whose operators all bring their scales, so that there is nothing to calibrate."""
    return quantize(graph, torch.zeros(1, *graph.input_shape))


def calibrate(graph: Graph, calibration: torch.Tensor, recipe: QuantizationRecipe) -> dict[str, Quantization]:
    """Scale and zero point of every tensor by name; pooling keeps those of its input.

    With the calibration "own", those that the network brought; what lacks one is given the range that was seen.
    """
    with torch.no_grad():
        tensors = graph.forward(calibration.to(torch.float32))
    own = graph.ranges if recipe.calibration == "own" else {}
    ranges = {INPUT: own.get(INPUT) or observe(tensors[INPUT], recipe)}
    for node in graph.nodes:
        if isinstance(node.op, OwnScales):
            if node.inputs == (INPUT,):
                ranges[INPUT] = node.op.input_quantization(graph.weights[node.name])
            ranges[node.name] = node.op.output_quantization(graph.weights[node.name])
        elif node.op.keeps_quantization:
            ranges[node.name] = ranges[node.inputs[0]]
        else:
            ranges[node.name] = own.get(node.name) or observe(tensors[node.name], recipe)
    return ranges


def quantize_with(graph: Graph, ranges: Mapping[str, Quantization], images: torch.Tensor) -> QuantizedGraph:
    """The int8 network with the given scales and zero points; N_c is counted on float `images` (B, H, W, C)."""
    weights = {}
    for node in graph.nodes:
        quantization = NodeQuantization(tuple(ranges[name] for name in node.inputs), ranges[node.name])
        weights[node.name] = node.op.quantize(graph.weights[node.name], quantization)
    quantized = QuantizedGraph(graph.input_shape, graph.nodes, weights, dict(ranges))
    return find_blanks(count_clusters(quantized, images), images)


def observe(tensor: torch.Tensor, recipe: QuantizationRecipe = FULL_RANGE) -> Quantization:
    """Scale and zero point for a tensor's values. The range always holds 0, so that padding and ReLU are exact."""
    values = tensor.detach().to(torch.float64).cpu().numpy().reshape(-1)
    low, high = float(values.min()), float(values.max())
    if recipe.calibration == "percentile":
        low, high = np.percentile(values, [recipe.tail_percent, 100 - recipe.tail_percent]).tolist()
    found = _covering(low, high)
    if recipe.calibration == "mse":
        found = _least_error(values[:: math.ceil(values.size / _MOST_VALUES)], low, high)
    return found


def _covering(low: float, high: float) -> Quantization:
    low, high = min(0.0, low), max(0.0, high)
    if high - low < 1e-9:
        return Quantization(1 / 255, -128)
    scale = (high - low) / 255
    zero_point = int(np.clip(np.floor(-128 - low / scale + 0.5), -128, 127))
    return Quantization(scale, zero_point)


def _least_error(values: FloatArray, low: float, high: float) -> Quantization:
    """The range, among those that both ends shrink to by the same factor, that rounds `values` with least error."""

    def error(q: Quantization) -> float:
        levels = quantize_array(values, q).astype(np.float64)
        return float(np.square(q.scale * (levels - q.zero_point) - values).mean())

    return min((_covering(low * factor, high * factor) for factor in _SHRINKAGES), key=error)


def correct_biases(graph: Graph, ranges: Mapping[str, Quantization], images: torch.Tensor) -> Graph:
    """`graph` with every bias shifted by the mean error of its channel, so that each layer is right on average.

    Layer by layer: a layer sees what the rounded and corrected ones before it really give.
    """
    exact = graph.forward(images.to(torch.float64))
    rounded = {INPUT: _to_levels(exact[INPUT], ranges[INPUT])}
    corrected: dict[str, FloatWeights] = {}
    for node in graph.nodes:
        weights = dict(graph.weights[node.name])
        inputs = [rounded[name] for name in node.inputs]
        sink = torch.tensor(ranges[node.name].scale, dtype=torch.float64)
        if "bias" in weights:
            bare = replace(node.op, activation="none")  # type: ignore[type-var]
            wanted = bare.forward([exact[name] for name in node.inputs], _tensors(weights))
            error = wanted - fake_run(bare, inputs, _tensors(weights), sink)
            weights["bias"] = weights["bias"] + error.flatten(0, -2).mean(dim=0).numpy()
        corrected[node.name] = weights
        if node.op.keeps_quantization:
            rounded[node.name] = fake_pass(node.op, inputs[0], {})
        else:
            real = fake_run(node.op, inputs, _tensors(weights), sink)
            rounded[node.name] = _to_levels(real, ranges[node.name])
    return replace(graph, weights=corrected)


def _tensors(weights: FloatWeights) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in weights.items()}


def _to_levels(real: torch.Tensor, q: Quantization) -> Levels:
    return to_levels(real, torch.tensor(q.scale, dtype=real.dtype), q.zero_point)


def count_clusters(graph: QuantizedGraph, images: torch.Tensor, n_images: int = 8) -> QuantizedGraph:
    """`graph` with N_c of its TREC nodes, and the signatures of those with a cap, as the integer oracle finds them on
    the first `n_images` float images."""
    if not any(isinstance(node.op, TrecConv2d | TrecStripConv2d) for node in graph.nodes):
        return graph
    levels = graph.quantize_images(images[:n_images].numpy())
    runs = [graph.run(image) for image in levels]

    def counted(node: Node) -> Node:
        if not isinstance(node.op, TrecConv2d | TrecStripConv2d):
            return node
        return replace(node, op=replace(node.op, mean_clusters=_mean_clusters(graph, node, node.op, runs)))

    return count_signatures(replace(graph, nodes=tuple(map(counted, graph.nodes))), levels)


def count_signatures(graph: QuantizedGraph, images: Int8Array) -> QuantizedGraph:
    """`graph` with `mean_signatures` of its TREC nodes that have a cap, as they are on int8 `images` (n, H, W, C)."""
    if not any(_has_cap(node.op) for node in graph.nodes):
        return graph
    runs = [graph.run(image) for image in images]

    def counted(node: Node) -> Node:
        if not isinstance(node.op, TrecConv2d | TrecStripConv2d) or not _has_cap(node.op):
            return node
        free = replace(node.op, config=replace(node.op.config, max_clusters=None))
        return replace(node, op=replace(node.op, mean_signatures=_mean_clusters(graph, node, free, runs)))

    return replace(graph, nodes=tuple(map(counted, graph.nodes)))


def _has_cap(op: Op) -> bool:
    return isinstance(op, TrecConv2d | TrecStripConv2d) and op.config.max_clusters is not None


def _mean_clusters(
    graph: QuantizedGraph, node: Node, op: TrecConv2d | TrecStripConv2d, runs: Sequence[Mapping[str, Int8Array]]
) -> float:
    """N_c of `op` in place of the node's own, mean over the tensors of some images."""
    weights, quantization = graph.weights[node.name], graph.node_quantization(node)
    return float(np.mean([op.count(run[node.inputs[0]], weights, quantization) for run in runs]))


def find_blanks(graph: QuantizedGraph, images: torch.Tensor, n_images: int = 8) -> QuantizedGraph:
    """`graph` with the most frequent level of what its sparse nodes read, and how many windows hold anything else.

    Both as the integer oracle finds them on the first `n_images` float images.
    """
    if not any(isinstance(node.op, SparseConv2d) for node in graph.nodes):
        return graph
    levels = graph.quantize_images(images[:n_images].numpy())
    runs = [graph.run(image) for image in levels]

    def with_blank(node: Node) -> Node:
        if not isinstance(node.op, SparseConv2d):
            return node
        read = np.concatenate([run[node.inputs[0]].reshape(-1) for run in runs]).astype(int)
        return replace(node, op=replace(node.op, blank=int(np.bincount(read + 128).argmax()) - 128))

    return count_rows(replace(graph, nodes=tuple(map(with_blank, graph.nodes))), levels)


def count_rows(graph: QuantizedGraph, images: Int8Array) -> QuantizedGraph:
    """`graph` with `mean_rows` of its sparse nodes as they are on int8 `images` (n, H, W, C)."""
    runs = [graph.run(image) for image in images]

    def counted(node: Node) -> Node:
        if not isinstance(node.op, SparseConv2d):
            return node
        op, zero = node.op, graph.node_quantization(node).inputs[0].zero_point
        mean = float(np.mean([op.count(run[node.inputs[0]], zero) for run in runs]))
        return replace(node, op=replace(op, mean_rows=mean))

    return replace(graph, nodes=tuple(map(counted, graph.nodes)))


def with_clusters(graph: QuantizedGraph, clusters: Mapping[str, float]) -> QuantizedGraph:
    """`graph` with `mean_clusters` of the named TREC nodes set."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node.op, TrecConv2d | TrecStripConv2d) and node.name in clusters:
            nodes.append(replace(node, op=replace(node.op, mean_clusters=clusters[node.name])))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
