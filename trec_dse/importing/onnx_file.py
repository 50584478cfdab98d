"""Read an ONNX file without trusting it: sizes are checked before anything is allocated, and nothing is executed.

The result is plain data; what the operators mean is told in `onnx_network`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trec_dse.errors import ModelError, ToolchainError

Array = npt.NDArray[Any]
Attribute = int | float | str | Array | tuple[int, ...] | tuple[float, ...] | None  # None: of no kind that is read

MOST_BYTES = 512 * 2**20  # a whole model; the largest board here has 2 MiB Flash
MOST_NODES = 20_000
_OPSETS = range(7, 100)
_OWN_DOMAINS = ("", "ai.onnx", "com.microsoft")


@dataclass(frozen=True)
class OnnxNode:
    """A node. `label`: its name, or where it has none its place, as in "#7"."""

    label: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True)
class OnnxGraph:
    """A model as plain data.

    Attributes:
        nodes: in an order in which every tensor is made before it is read.
        constants: initialisers by name.
        input_name, input_dims: the only input; a dimension that is not fixed is -1.
        output: name of the only output.
    """

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    input_name: str
    input_dims: tuple[int, ...]
    output: str


def read_onnx(path: Path) -> OnnxGraph:
    """The graph of the file at `path`; ModelError says what is wrong with it, ToolchainError that `onnx` is missing."""
    try:
        import onnx  # noqa: PLC0415 - optional, and slow to load
        from google.protobuf.message import DecodeError  # noqa: PLC0415
    except ImportError as problem:
        raise ToolchainError("reading ONNX files needs the package onnx: pip install 'trec_dse[onnx]'") from problem
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ModelError(f"{path}: {size:,} bytes; models of more than {MOST_BYTES:,} are not read")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read: {problem.strerror}") from problem
    except DecodeError as problem:
        raise ModelError(f"{path}: not a whole ONNX file: {problem}; it may have been cut short") from problem
    _require_plain(model, path)
    graph = model.graph
    constants = {_text(tensor.name, path): tensor_array(tensor, path) for tensor in graph.initializer}
    nodes = tuple(_node(node, i, path) for i, node in enumerate(graph.node))
    inputs = [value for value in graph.input if _text(value.name, path) not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelError(f"{path}: {len(inputs)} inputs and {len(graph.output)} outputs found; needed one of each")
    _require_order(nodes, {inputs[0].name, *constants}, path)
    return OnnxGraph(nodes, constants, inputs[0].name, _dims(inputs[0], path), _text(graph.output[0].name, path))


def _require_plain(model: Any, path: Path) -> None:
    if not model.graph.node:
        raise ModelError(f"{path}: no ONNX model: it holds no node")
    if len(model.graph.node) > MOST_NODES:
        raise ModelError(f"{path}: {len(model.graph.node)} nodes; more than {MOST_NODES} are not read")
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in _OPSETS:
        raise ModelError(f"{path}: operator set {versions} found; needed one of version {_OPSETS.start} or later")
    if model.functions:
        raise ModelError(f"{path}: it defines functions of its own; export it with them inlined")


def _require_order(nodes: tuple[OnnxNode, ...], known: set[str], path: Path) -> None:
    made = {name for node in nodes for name in node.outputs}
    for node in nodes:
        for name in node.inputs:
            if name and name not in known:
                reason = (
                    "is made only later: the graph has a cycle or is out of order" if name in made else "is nowhere"
                )
                raise ModelError(f"{path}: node {node.label!r} ({node.operator}) reads {name!r}, which {reason}")
        twice = [name for name in node.outputs if name and name in known]
        if twice:
            raise ModelError(f"{path}: node {node.label!r} ({node.operator}) makes {twice[0]!r} a second time")
        known |= set(node.outputs)


def _dims(value: Any, path: Path) -> tuple[int, ...]:
    kind = value.type.tensor_type
    if kind.elem_type != 1:
        raise ModelError(f"{path}: input {value.name!r} is not of 32-bit floats")
    return tuple(d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)


def _node(node: Any, number: int, path: Path) -> OnnxNode:
    label = _text(node.name, path) or f"#{number}"
    domain, operator = _text(node.domain, path), _text(node.op_type, path)
    attributes = {_text(item.name, path): _attribute(item, path) for item in node.attribute}
    inputs, outputs = (tuple(_text(name, path) for name in names) for names in (node.input, node.output))
    return OnnxNode(label, operator if domain in _OWN_DOMAINS else f"{domain}.{operator}", inputs, outputs, attributes)


def _text(value: object, path: Path) -> str:
    """A name in the file; the parser hands out bytes where it is no text."""
    if not isinstance(value, str):
        raise ModelError(f"{path}: damaged: {value!r} is no text")
    return value


def _attribute(item: Any, path: Path) -> Attribute:
    kinds = item.AttributeType
    readers: dict[int, Callable[[], Attribute]] = {
        kinds.INT: lambda: int(item.i),
        kinds.FLOAT: lambda: float(item.f),
        kinds.STRING: lambda: item.s.decode(errors="replace"),
        kinds.INTS: lambda: tuple(int(n) for n in item.ints),
        kinds.FLOATS: lambda: tuple(float(x) for x in item.floats),
        kinds.TENSOR: lambda: tensor_array(item.t, path),
    }
    return readers[item.type]() if item.type in readers else None


def tensor_array(tensor: Any, path: Path) -> Array:
    """The values of a tensor of the file. Raises ModelError where it claims more than there is, or holds no numbers."""
    from onnx import numpy_helper  # noqa: PLC0415

    where = f"{path}: tensor {tensor.name!r}"
    kinds = _element_types()
    if tensor.data_type not in kinds:
        raise ModelError(f"{where} is of type {tensor.data_type}, which is not read; export it in 32-bit floats")
    kind, field = kinds[tensor.data_type]
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"{where} has the shape {list(tensor.dims)}")
    claimed = math.prod(tensor.dims) * kind.itemsize
    if claimed > MOST_BYTES:
        raise ModelError(
            f"{where} claims {claimed:,} bytes as {list(tensor.dims)}; more than {MOST_BYTES:,} are not read"
        )
    if tensor.data_location == tensor.EXTERNAL:
        content = _external(tensor, path, where, claimed)
        array = np.frombuffer(content, dtype=kind.newbyteorder("<")).reshape(tuple(tensor.dims))
    else:
        held = len(tensor.raw_data) if tensor.HasField("raw_data") else len(getattr(tensor, field)) * kind.itemsize
        if held != claimed:
            raise ModelError(f"{where} claims {claimed:,} bytes as {list(tensor.dims)}, the file holds {held:,}")
        array = numpy_helper.to_array(tensor)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"{where} holds {np.count_nonzero(~np.isfinite(array))} values that are no finite numbers")
    return np.array(array)


def _element_types() -> dict[int, tuple["np.dtype[Any]", str]]:
    """ONNX's number of a type -> its NumPy type and the field that holds it where it is not raw."""
    names = {
        1: ("float32", "float_data"),
        2: ("uint8", "int32_data"),
        3: ("int8", "int32_data"),
        6: ("int32", "int32_data"),
        7: ("int64", "int64_data"),
        9: ("bool", "int32_data"),
        10: ("float16", "int32_data"),
        11: ("float64", "double_data"),
    }
    return {number: (np.dtype(name), field) for number, (name, field) in names.items()}


def _external(tensor: Any, path: Path, where: str, claimed: int) -> bytes:
    """The bytes of a tensor beside the model, in the model's own folder and nowhere else."""
    entries = {_text(item.key, path): _text(item.value, path) for item in tensor.external_data}
    folder = path.resolve().parent
    try:
        file = (folder / entries.get("location", "")).resolve()
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", claimed))
        if not file.is_relative_to(folder) or not file.is_file():
            raise ModelError(f"{where} lies in {entries.get('location')!r}, which is no file in the model's folder")
        size = file.stat().st_size
        if length != claimed or offset < 0 or offset + length > size:
            raise ModelError(f"{where} claims {claimed:,} bytes at {offset:,} of {file.name!r}, which holds {size:,}")
        with file.open("rb") as stream:
            stream.seek(offset)
            content: bytes = stream.read(length)
            return content
    except (OSError, ValueError) as problem:
        raise ModelError(f"{where}: its data beside the model cannot be read: {problem}") from problem
