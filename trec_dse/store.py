"""An int8 network on disk: its structure as JSON, its integers as safetensors; reading it executes nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from trec_dse import codec
from trec_dse.durable import write_bytes, write_text
from trec_dse.errors import StudyError
from trec_dse.graph import FloatWeights, Graph, IntArray, Node, Quantization, QuantizedGraph
from trec_dse.ops import op_class

GRAPH, WEIGHTS, FLOAT_WEIGHTS = "graph.json", "weights.safetensors", "float.safetensors"


@dataclass(frozen=True)
class _NodeFile:
    name: str
    kind: str
    op: Mapping[str, Any]
    inputs: tuple[str, ...]


def save_graph(graph: QuantizedGraph, folder: Path) -> None:
    """Write `graph.json` and `weights.safetensors`; the weights first, so that a graph always finds them."""
    write_bytes(folder / WEIGHTS, _tensors(graph.weights, None))
    nodes = [
        {"name": node.name, "kind": node.op.kind, "op": codec.unstructure(node.op), "inputs": list(node.inputs)}
        for node in graph.nodes
    ]
    data = {
        "input_shape": list(graph.input_shape),
        "nodes": nodes,
        "quantization": codec.unstructure(dict(graph.quantization)),
    }
    write_text(folder / GRAPH, json.dumps(data, indent=1) + "\n")


def load_graph(folder: Path) -> QuantizedGraph:
    """The network that `save_graph` wrote; StudyError names the file that is missing or damaged."""
    where = str(folder / GRAPH)
    try:
        data = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
    except OSError as problem:
        raise StudyError(f"{problem.filename or folder}: cannot be read: {problem.strerror or problem}") from problem
    except json.JSONDecodeError as problem:
        raise StudyError(f"{folder}: the stored network is damaged: {problem}; train this candidate again") from problem
    tensors = _read(folder / WEIGHTS)
    nodes = tuple(
        _node(item, where)
        for item in codec.structure(_member(data, "nodes", where), list[_NodeFile], where, StudyError)
    )
    weights = _by_node(nodes, tensors)
    shape = codec.structure(_member(data, "input_shape", where), tuple[int, ...], where, StudyError)
    scales = codec.structure(_member(data, "quantization", where), dict[str, Quantization], where, StudyError)
    return QuantizedGraph(shape, nodes, weights, scales)


def save_float_weights(graph: Graph, folder: Path) -> None:
    """Write the float network that an int8 one was made from as `float.safetensors`: single precision, as trained."""
    write_bytes(folder / FLOAT_WEIGHTS, _tensors(graph.weights, np.float32))


def load_float(folder: Path) -> Graph:
    """The float network beside an int8 one; StudyError if the folder was written before float weights were kept."""
    graph = load_graph(folder)
    weights: dict[str, FloatWeights] = {
        node: {name: array.astype(np.float64) for name, array in arrays.items()}
        for node, arrays in _by_node(graph.nodes, _read(folder / FLOAT_WEIGHTS)).items()
    }
    return Graph(graph.input_shape, graph.nodes, weights)


def _tensors(weights: Mapping[str, Mapping[str, Any]], dtype: type | None) -> bytes:
    arrays = ((f"{node}/{name}", array) for node, each in weights.items() for name, array in each.items())
    return save({name: np.array(array, dtype, order="C") for name, array in arrays})


def _read(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except OSError as problem:
        raise StudyError(f"{problem.filename or path}: cannot be read: {problem.strerror or problem}") from problem
    except SafetensorError as problem:
        raise StudyError(
            f"{path.parent}: the stored network is damaged: {problem}; train this candidate again"
        ) from problem


def _by_node(nodes: Sequence[Node], tensors: Mapping[str, IntArray]) -> dict[str, dict[str, IntArray]]:
    weights: dict[str, dict[str, IntArray]] = {node.name: {} for node in nodes}
    for key, array in tensors.items():
        node, _, name = key.partition("/")
        weights.setdefault(node, {})[name] = array
    return weights


def _member(data: object, name: str, where: str) -> object:
    if not isinstance(data, dict) or name not in data:
        raise StudyError(f"{where}: key {name!r} is missing; train this candidate again")
    return data[name]


def _node(item: _NodeFile, where: str) -> Node:
    op = codec.structure(item.op, op_class(item.kind), f"{where}: node {item.name!r}", StudyError)
    return Node(item.name, op, item.inputs)
