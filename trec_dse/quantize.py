"""Post-training int8 quantisation: from the float graph and calibration images to integers."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from trec_dse.graph import INPUT, Graph, Node, NodeQuantization, Quantization, QuantizedGraph
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d


def quantize(graph: Graph, calibration: torch.Tensor) -> QuantizedGraph:
    """The int8 network whose activation ranges are those seen on `calibration`: float images (B, H, W, C).

    Weights are symmetric per output channel, activations affine per tensor over their full range (minimum and
    maximum, zero included). TREC nodes also learn N_c here: the clusters of the int8 network itself.
    """
    with torch.no_grad():
        tensors = graph.forward(calibration.to(torch.float32))
    quantization: dict[str, Quantization] = {INPUT: observe(tensors[INPUT])}
    weights = {}
    for node in graph.nodes:
        inputs = tuple(quantization[name] for name in node.inputs)
        output = inputs[0] if node.op.keeps_quantization else observe(tensors[node.name])
        quantization[node.name] = output
        weights[node.name] = node.op.quantize(graph.weights[node.name], NodeQuantization(inputs, output))
    result = QuantizedGraph(graph.input_shape, graph.nodes, weights, quantization)
    return count_clusters(result, calibration)


def observe(tensor: torch.Tensor) -> Quantization:
    """Scale and zero point that cover the tensor's range and 0, so that padding and ReLU are exact."""
    low, high = min(0.0, float(tensor.min())), max(0.0, float(tensor.max()))
    if high - low < 1e-9:
        return Quantization(1 / 255, -128)
    scale = (high - low) / 255
    zero_point = int(np.clip(np.floor(-128 - low / scale + 0.5), -128, 127))
    return Quantization(scale, zero_point)


def count_clusters(graph: QuantizedGraph, images: torch.Tensor, n_images: int = 8) -> QuantizedGraph:
    """`graph` with N_c of its TREC nodes as the integer oracle finds it on the first `n_images` images."""
    layers = [node for node in graph.nodes if isinstance(node.op, TrecConv2d | TrecStripConv2d)]
    if not layers:
        return graph
    counts: dict[str, list[int]] = {node.name: [] for node in layers}
    for image in graph.quantize_images(images[:n_images].numpy()):
        tensors = graph.run(image)
        for node in layers:
            assert isinstance(node.op, TrecConv2d | TrecStripConv2d)
            source = tensors[node.inputs[0]]
            counts[node.name].append(node.op.count(source, graph.weights[node.name], graph.node_quantization(node)))
    return with_clusters(graph, {name: float(np.mean(values)) for name, values in counts.items()})


def with_clusters(graph: QuantizedGraph, clusters: Mapping[str, float]) -> QuantizedGraph:
    """`graph` with `mean_clusters` of the named TREC nodes set."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node.op, TrecConv2d | TrecStripConv2d) and node.name in clusters:
            nodes.append(replace(node, op=replace(node.op, mean_clusters=clusters[node.name])))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))
