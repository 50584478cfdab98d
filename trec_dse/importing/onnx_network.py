"""From an ONNX graph to a blueprint: every node is looked at before anything is refused, so that the list is whole.

Constants are folded on the way: what exporters compute of weights and shapes is computed here. Scales of int8 models
(QuantizeLinear and DequantizeLinear) become ranges of layers and scales of weights.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trec_dse.errors import ModelError
from trec_dse.graph import INPUT
from trec_dse.importing.draft import Draft, Geometry, Obstacle, Problem, Value, refuse, require_map
from trec_dse.importing.onnx_call import Call, Item
from trec_dse.importing.onnx_constants import FOLDS, Constant, dequantize_constant, quantize_constant, shape_of
from trec_dse.importing.onnx_file import Array, OnnxGraph, OnnxNode
from trec_dse.importing.onnx_scales import record_range
from trec_dse.networks._blueprint import WEIGHT_SCALES, Blueprint, Convolution, Dropout, Linear, Relu, Relu6

_BIASED = (Convolution, Linear)

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_NO_LIMIT = 1e30


@dataclass
class Translation:
    """Walks over the nodes.

    Attributes:
        items: what each tensor of the file is here.
        names: label of a node -> wanted name of its layer; readers: how many nodes read a tensor.
    """

    draft: Draft
    items: dict[str, Item]
    problems: list[Problem] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    readers: Counter[str] = field(default_factory=Counter)

    def visit(self, node: OnnxNode) -> None:
        """Translate one node, or note why it cannot be."""
        inputs = [self.items.get(name) if name else None for name in node.inputs]
        result: Item = None
        try:
            result = self._result(node, inputs)
        except Obstacle as obstacle:
            self.problems.append(Problem(node.label, node.operator, obstacle.attribute, obstacle.reason))
        self.items |= {name: result if i == 0 else None for i, name in enumerate(node.outputs)}

    def _result(self, node: OnnxNode, inputs: list[Item]) -> Item:
        fold, handler = FOLDS.get(node.operator), _HANDLERS.get(node.operator)
        known = [item for item in inputs if item is not None]
        is_missing = any(name and item is None for name, item in zip(node.inputs, inputs, strict=True))
        if is_missing and (fold is not None or handler is not None or node.operator == "Shape"):
            return None  # what it reads was refused already
        if fold is not None and all(isinstance(item, Constant) for item in known):
            return fold(node, [item for item in known if isinstance(item, Constant)])
        if node.operator == "Shape" and known and isinstance(known[0], Value):
            return shape_of(known[0])
        if handler is None:
            hint = "; export the model in QDQ form" if node.operator.startswith("QLinear") else ""
            raise Obstacle(f"has no int8 kernel{hint}")
        return handler(self, Call(node, inputs))


def translate(graph: OnnxGraph, path: Path) -> tuple[Blueprint, Draft]:
    """The network of `graph` and the draft that it came from; UnsupportedError lists what has no counterpart."""
    draft = Draft()
    image, input_shape = _image(graph, path)
    items: dict[str, Item] = {name: Constant(array) for name, array in graph.constants.items()}
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    translation = Translation(draft, {**items, graph.input_name: image}, names=_names(graph), readers=readers)
    for node in graph.nodes:
        translation.visit(node)
    refuse(translation.problems, str(path), lambda: ", ".join(sorted({*_HANDLERS, *FOLDS})))
    result = translation.items.get(graph.output)
    if not isinstance(result, Value):
        raise ModelError(f"{path}: the output {graph.output!r} does not depend on the image")
    return draft.blueprint(result, input_shape), draft


def _image(graph: OnnxGraph, path: Path) -> tuple[Value, tuple[int, int, int]]:
    """The input as a value, and its shape (H, W, C). Read only through a transpose to NCHW, it comes as NHWC."""
    dims = graph.input_dims
    if len(dims) != 4 or any(size < 1 for size in dims[1:]):
        shown = ", ".join("?" if size < 1 else str(size) for size in dims)
        raise ModelError(
            f"{path}: input {graph.input_name!r} is ({shown}); needed four dimensions, images first, the others fixed: "
            "export it with only the batch size dynamic"
        )
    readers = [node for node in graph.nodes if graph.input_name in node.inputs]
    perms = {n.attributes.get("perm") if n.operator == "Transpose" else None for n in readers}
    is_last = perms == {TO_FIRST}
    height, width, channels = dims[1:] if is_last else (*dims[2:], dims[1])
    return Value(INPUT, (channels, height, width), channels_last=is_last), (height, width, channels)


def _names(graph: OnnxGraph) -> dict[str, str]:
    """Layers by their node's label: after their weight, as torch names it, else after their node."""
    names = {}
    for node in graph.nodes:
        weights = [name for name in node.inputs if name in graph.constants and name.endswith(".weight")]
        parts = [part for part in node.label.split("/") if part and part != node.operator]
        own = "_".join(parts) if parts and not node.label.startswith("#") else f"{node.operator.lower()}{node.label}"
        names[node.label] = weights[0].removesuffix(".weight") if weights else own
    return names


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _weights(weight: Constant, bias: Array | None, axis: int, order: Callable[[Array], Array]) -> dict[str, Tensor]:
    """State of a layer whose weight in the file has its outputs along `axis`, brought into torch's `order`."""
    array = order(weight.array)
    tensors = {"weight": _tensor(array)}
    if bias is not None:
        if bias.size not in (1, len(array)):
            raise Obstacle(f"has {bias.size} values, needed {len(array)}, one per output", "B")
        tensors["bias"] = _tensor(np.broadcast_to(bias.reshape(-1), (len(array),)))
    if weight.scales is not None:
        if weight.axis not in (None, axis, axis - weight.array.ndim) and weight.scales.size > 1:
            raise Obstacle(f"is quantised along axis {weight.axis}; needed {axis}, one scale per output", "W")
        tensors[WEIGHT_SCALES] = _tensor(np.broadcast_to(weight.scales.reshape(-1), (len(array),)))
    return tensors


def _geometry(call: Call, kernel: tuple[int, int], source: Value) -> Geometry:
    require_map(source)
    if call.numbers("dilations", (1, 1)) != (1, 1):
        raise Obstacle(f"is {call.numbers('dilations', (1, 1))}; only 1 has a kernel", "dilations")
    stride = call.numbers("strides", (1, 1))
    pads = call.numbers("pads", (0, 0, 0, 0))
    auto = call.get("auto_pad", "NOTSET")
    if min(*stride, *kernel) < 1 or min(pads) < 0:
        raise Obstacle(f"kernel {kernel}, strides {stride}, pads {pads}")
    begin, end = pads[:2], pads[2:]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        sizes = zip(source.shape[1:], kernel, stride, strict=True)
        totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in sizes]
        less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begin, end = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto not in ("NOTSET", "VALID"):
        raise Obstacle(f"is {auto!r}", "auto_pad")
    if call.get("ceil_mode", 0):
        padded = [n + b + e for n, b, e in zip(source.shape[1:], begin, end, strict=True)]
        if any((n - k) % s for n, k, s in zip(padded, kernel, stride, strict=True)):
            raise Obstacle("rounds the size of its output up; only down has a kernel", "ceil_mode")
    return Geometry(kernel, (stride[0], stride[1]), (begin[0], begin[1]), (end[0], end[1]))


def _conv(t: Translation, call: Call) -> Item:
    weight, bias = call.constant(1, "W"), call.optional(2, "B")
    if weight.array.ndim != 4:
        raise Obstacle(f"has {weight.array.ndim} dimensions, needed 4: only images have a kernel", "W")
    kernel = (int(weight.array.shape[2]), int(weight.array.shape[3]))
    tensors = _weights(weight, None if bias is None else bias.array, 0, lambda w: w)
    where = _geometry(call, kernel, call.value())
    return t.draft.convolution(t.names[call.node.label], call.value(), tensors, where, call.get("group", 1))


def _batch_norm(t: Translation, call: Call) -> Item:
    call.expect("training_mode", 0, 0)
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {name: _tensor(call.constant(i, name).array) for i, name in enumerate(names, start=1)}
    name = t.names[call.node.label]
    return t.draft.batch_norm(name, call.value(), tensors, call.get("epsilon", 1e-5))


def _relu(t: Translation, call: Call) -> Item:
    return t.draft.add(t.names[call.node.label], Relu(), [call.value()])


def _clip(t: Translation, call: Call) -> Item:
    low, high = (_limit(call, i, name, default) for i, name, default in ((1, "min", -_NO_LIMIT), (2, "max", _NO_LIMIT)))
    if low != 0 or (high != 6 and high < _NO_LIMIT):
        raise Obstacle(f"cuts at {low:g} and {high:g}; only 0 and 6, or 0 alone, have a kernel", "min, max")
    return t.draft.add(t.names[call.node.label], Relu6() if high == 6 else Relu(), [call.value()])


def _limit(call: Call, index: int, name: str, default: float) -> float:
    given = call.optional(index, name)
    return call.get(name, default) if given is None else float(given.array.reshape(-1)[0])


def _max_pool(t: Translation, call: Call) -> Item:
    kernel = call.numbers("kernel_shape", (0, 0))
    where = _geometry(call, (kernel[0], kernel[1]), call.value())
    return t.draft.max_pool(t.names[call.node.label], call.value(), where)


def _average_pool(t: Translation, call: Call) -> Item:
    kernel = call.numbers("kernel_shape", (0, 0))
    where = _geometry(call, (kernel[0], kernel[1]), call.value())
    return t.draft.average_pool(t.names[call.node.label], call.value(), where)


def _global_average(t: Translation, call: Call) -> Item:
    return t.draft.global_average(t.names[call.node.label], call.value())


def _mean(t: Translation, call: Call) -> Item:
    axes = _axes(call)
    source = call.value()
    wanted = {1, 2} if source.channels_last else {2, 3}
    if len(source.shape) != 3 or {axis % 4 for axis in axes} != wanted:
        raise Obstacle(f"are {axes}; only the mean over height and width has a kernel", "axes")
    name = t.names[call.node.label]
    pooled = t.draft.global_average(name, replace(source, channels_last=False))
    return pooled if call.get("keepdims", 1) else t.draft.flatten(f"{name}_flatten", pooled)


def _axes(call: Call) -> tuple[int, ...]:
    """Axes as an attribute, or as an input, as later operator sets have them."""
    given = call.optional(1, "axes")
    return call.numbers("axes", ()) if given is None else tuple(int(a) for a in given.array.reshape(-1))


def _add(t: Translation, call: Call) -> Item:
    values = [item for item in call.inputs if isinstance(item, Value)]
    constants = [item for item in call.inputs if isinstance(item, Constant)]
    if not constants:
        return t.draft.sum(t.names[call.node.label], values)
    layer = t.draft.layers[-1] if t.draft.layers else None
    is_read_again = any(t.readers[name] > 1 for name in call.node.inputs if isinstance(t.items[name], Value))
    if layer is None or layer.name != values[0].layer or is_read_again or not isinstance(layer.kind, _BIASED):
        raise Obstacle("adds a constant to what is no convolution or dense layer; only a bias can be")
    n, bias = len(t.draft.weights[f"{layer.name}.weight"]), constants[0].array
    shape = (n, 1, 1) if len(values[0].shape) == 3 else (n,)
    if bias.size != n or bias.shape[bias.ndim - len(shape) :] != shape:
        raise Obstacle(f"adds a constant of shape {list(bias.shape)}; needed one value per output, {list(shape)}")
    name = f"{layer.name}.bias"
    t.draft.weights[name] = _tensor(bias.reshape(-1)) + t.draft.weights.get(name, torch.zeros(n))
    t.draft.layers[-1] = replace(layer, kind=replace(layer.kind, bias=True))
    return values[0]


def _concat(t: Translation, call: Call) -> Item:
    values = [call.value(i) for i in range(len(call.inputs))]
    return t.draft.join(t.names[call.node.label], values, call.get("axis", 1))


def _gemm(t: Translation, call: Call) -> Item:
    call.expect("alpha", 1.0, 1.0)
    call.expect("beta", 1.0, 1.0)
    call.expect("transA", 0, 0)
    return _dense(t, call, call.optional(2, "C"), 0 if call.get("transB", 0) else 1)


def _matmul(t: Translation, call: Call) -> Item:
    return _dense(t, call, None, 1)


def _dense(t: Translation, call: Call, bias: Constant | None, axis: int) -> Item:
    weight = call.constant(1, "B")
    if weight.array.ndim != 2:
        raise Obstacle(f"has {weight.array.ndim} dimensions, needed 2", "B")
    tensors = _weights(weight, None if bias is None else bias.array, axis, lambda w: w if axis == 0 else w.T)
    return t.draft.linear(t.names[call.node.label], call.value(), tensors)


def _flatten(t: Translation, call: Call) -> Item:
    call.expect("axis", 1, 1, -3)
    return t.draft.flatten(t.names[call.node.label], call.value())


def _reshape(t: Translation, call: Call) -> Item:
    source = call.value()
    target = [int(n) for n in call.constant(1, "shape").array.reshape(-1)]
    size = torch.Size(source.shape).numel()
    if len(target) == 2 and target[0] in (-1, 0, 1) and target[1] in (-1, size):
        return t.draft.flatten(t.names[call.node.label], source)
    if len(target) == 4 and tuple(target[1:]) == source.shape and not source.channels_last:
        return source
    raise Obstacle(
        f"reshapes {'x'.join(map(str, source.shape))} to {target}; only flattening has a counterpart", "shape"
    )


def _squeeze(t: Translation, call: Call) -> Item:
    source = call.value()
    if {axis % 4 for axis in _axes(call)} != {2, 3} or source.shape[1:] != (1, 1):
        raise Obstacle("only height and width of one pixel can go", "axes")
    return t.draft.flatten(t.names[call.node.label], source)


def _transpose(t: Translation, call: Call) -> Item:
    source, perm = call.value(), call.numbers("perm", ())
    if len(source.shape) == 3 and perm == (TO_FIRST if source.channels_last else TO_LAST):
        return replace(source, channels_last=not source.channels_last)
    raise Obstacle(f"is {perm}; only between (C, H, W) and (H, W, C)", "perm")


def _pad(t: Translation, call: Call) -> Item:
    call.expect("mode", "constant", "constant")
    given, value = call.optional(1, "pads"), call.optional(2, "constant_value")
    pads = call.numbers("pads", ()) if given is None else tuple(int(n) for n in given.array.reshape(-1))
    fill = call.get("value", 0.0) if value is None else float(value.array.reshape(-1)[0])
    if len(pads) != 8 or pads[:2] != (0, 0) or pads[4:6] != (0, 0) or min(pads) < 0 or fill != 0:
        raise Obstacle(f"pads by {pads} with {fill:g}; only height and width with zeros have a counterpart", "pads")
    return t.draft.pad(t.names[call.node.label], call.value(), Geometry((1, 1), (1, 1), pads[2:4], pads[6:8]))


def _dropout(t: Translation, call: Call) -> Item:
    ratio = call.optional(1, "ratio")
    share = call.get("ratio", 0.5) if ratio is None else float(ratio.array.reshape(-1)[0])
    if not 0 <= share < 1:
        raise Obstacle(f"is {share:g}", "ratio")
    return t.draft.add(t.names[call.node.label], Dropout(share), [call.value()])


def _identity(_: Translation, call: Call) -> Item:
    return call.inputs[0]


def _softmax(t: Translation, call: Call) -> Item:
    source = call.value()
    if len(source.shape) != 1 and source.shape[1:] != (1, 1):
        raise Obstacle("works on a map; only the scores of classes may be normalised, at the end")
    t.draft.notes.append(f"{call.node.operator} at the end is dropped: it changes no answer")
    return replace(source, is_final=True)


def _quantize(t: Translation, call: Call) -> Item:
    scale, zero = call.constant(1, "y_scale"), call.optional(2, "y_zero_point")
    if isinstance(call.inputs[0], Constant):
        return quantize_constant(call.inputs[0], scale, zero, call.get("axis", 1))
    record_range(t.draft, call.value(), scale, zero)
    return call.value()


def _dequantize(t: Translation, call: Call) -> Item:
    scale, zero = call.constant(1, "x_scale"), call.optional(2, "x_zero_point")
    if isinstance(call.inputs[0], Constant):
        return dequantize_constant(call.inputs[0], scale, zero, call.get("axis", 1))
    record_range(t.draft, call.value(), scale, zero)
    return call.value()


_Handler = Callable[[Translation, Call], Item]
_HANDLERS: dict[str, _Handler] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "Identity": _identity,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
}
