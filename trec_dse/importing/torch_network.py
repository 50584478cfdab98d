"""From a torch module to a blueprint, by its trace; the module's own names are kept."""

import importlib.util
import math
import operator
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from trec_dse.errors import ModelError
from trec_dse.graph import INPUT
from trec_dse.importing.draft import Draft, Geometry, Obstacle, Problem, Value, refuse
from trec_dse.networks._blueprint import Blueprint, Dropout, Relu, Relu6


def load_module(given: str) -> nn.Module:
    """The module that a function returns; `given` is ``file.py:function``. Runs the file, as `search` does a space's.

    Raises ModelError if there is no such file or function, or it returns something else.
    """
    place, _, name = given.rpartition(":")
    path = Path(place)
    if path.suffix != ".py" or not path.is_file() or not name.isidentifier():
        raise ModelError(f"{given}: needed an .onnx file, or FILE.py:FUNCTION with a function that returns a module")
    spec = importlib.util.spec_from_file_location(f"_trec_dse_model_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
        found = function() if callable(function) else None
    finally:
        sys.path.pop(0)
        del sys.modules[spec.name]
    if not isinstance(found, nn.Module):
        raise ModelError(f"{given}: gave {found!r}; needed a function without arguments that returns a torch module")
    return found


def translate(model: nn.Module, input_shape: tuple[int, int, int], where: str) -> tuple[Blueprint, Draft]:
    """The network of `model` for images (H, W, C); UnsupportedError lists what has no counterpart."""
    model = model.cpu().float().eval()
    try:
        trace = fx.Tracer().trace(model)
    except (fx.proxy.TraceError, TypeError) as problem:
        raise ModelError(f"{where}: its forward cannot be traced: {problem}") from problem
    draft, problems = Draft(), list[Problem]()
    height, width, channels = input_shape
    values: dict[str, Value | None] = {}
    result: Value | None = None
    for node in trace.nodes:
        if node.op == "placeholder":
            values[node.name] = Value(INPUT, (channels, height, width))
            continue
        sources = [values.get(source.name) for source in node.all_input_nodes]
        if node.op == "output":
            result = sources[0]
            continue
        values[node.name] = None
        if None in sources:
            continue  # what it reads was refused already
        what: Any = model.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        label = str(node.target) if node.op == "call_module" else node.name
        try:
            values[node.name] = _translate(draft, label, what, node, [value for value in sources if value is not None])
        except Obstacle as obstacle:
            kind = type(what).__name__ if node.op == "call_module" else _function_name(what)
            problems.append(Problem(label, kind, obstacle.attribute, obstacle.reason))
    refuse(problems, where, lambda: ", ".join(sorted({*(kind.__name__ for kind in _MODULES), *_FUNCTIONS})))
    if result is None:
        raise ModelError(f"{where}: its output does not depend on the image")
    return draft.blueprint(result, input_shape), draft


def _translate(draft: Draft, label: str, what: Any, node: fx.Node, sources: list[Value]) -> Value:
    if isinstance(what, nn.Module):
        for kind, handler in _MODULES.items():
            if isinstance(what, kind):
                return handler(draft, label, sources[0], what)
    elif _function_name(what) in _FUNCTIONS:
        return _FUNCTIONS[_function_name(what)](draft, label, sources, node)
    raise Obstacle("has no int8 kernel")


def _function_name(target: object) -> str:
    if target in (operator.add, operator.iadd):
        return "add"
    return "cat" if target is torch.concat else str(getattr(target, "__name__", target))


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple) else (value, value)
    return int(first), int(second)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _geometry(layer: Any) -> Geometry:
    if _pair(getattr(layer, "dilation", 1)) != (1, 1):
        raise Obstacle(f"is {layer.dilation}; only 1 has a kernel", "dilation")
    if getattr(layer, "ceil_mode", False):
        raise Obstacle("rounds the size of its output up; only down has a kernel", "ceil_mode")
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        raise Obstacle(f"is {layer.padding_mode!r}; only zeros have a kernel", "padding_mode")
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    padding = (0, 0) if layer.padding == "valid" else layer.padding
    if padding == "same":
        begin = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        return Geometry(kernel, stride, begin, (kernel[0] - 1 - begin[0], kernel[1] - 1 - begin[1]))
    return Geometry(kernel, stride, _pair(padding), _pair(padding))


def _conv(draft: Draft, name: str, source: Value, layer: nn.Conv2d) -> Value:
    return draft.convolution(name, source, _state(layer), _geometry(layer), layer.groups)


def _batch_norm(draft: Draft, name: str, source: Value, layer: nn.BatchNorm2d) -> Value:
    tensors = _state(layer)
    tensors.pop("num_batches_tracked", None)
    if set(tensors) != {"weight", "bias", "running_mean", "running_var"}:
        raise Obstacle("lacks weights or statistics; needed affine=True and track_running_stats=True")
    return draft.batch_norm(name, source, tensors, layer.eps)


def _hardtanh(draft: Draft, name: str, source: Value, layer: nn.Hardtanh) -> Value:
    if (layer.min_val, layer.max_val) != (0, 6):
        raise Obstacle(f"cuts at {layer.min_val:g} and {layer.max_val:g}; only 0 and 6 have a kernel")
    return draft.add(name, Relu6(), [source])


def _average_pool(draft: Draft, name: str, source: Value, layer: nn.AvgPool2d) -> Value:
    if layer.divisor_override is not None:
        raise Obstacle("has no counterpart", "divisor_override")
    return draft.average_pool(name, source, _geometry(layer))


def _adaptive_pool(draft: Draft, name: str, source: Value, layer: nn.AdaptiveAvgPool2d) -> Value:
    size = _pair(layer.output_size)
    if size == (1, 1):
        return draft.global_average(name, source)
    height, width = source.shape[1:]
    if height % size[0] or width % size[1]:
        raise Obstacle(f"is {size}, which does not divide {(height, width)}", "output_size")
    kernel = (height // size[0], width // size[1])
    return draft.average_pool(name, source, Geometry(kernel, kernel))


def _zero_pad(draft: Draft, name: str, source: Value, layer: nn.ConstantPad2d) -> Value:
    left, right, top, bottom = (int(n) for n in layer.padding)
    if layer.value not in (0, -math.inf) or min(left, right, top, bottom) < 0:
        raise Obstacle(f"pads by {layer.padding} with {layer.value:g}; only zeros have a counterpart")
    where = Geometry((1, 1), (1, 1), (top, left), (bottom, right))
    return draft.pad(name, source, where, before_maximum=layer.value != 0)


def _flatten_layer(draft: Draft, name: str, source: Value, layer: nn.Flatten) -> Value:
    if layer.start_dim not in (1, -3) or layer.end_dim not in (-1, 3):
        raise Obstacle(f"flattens {layer.start_dim} to {layer.end_dim}; only all but the batch has a counterpart")
    return draft.flatten(name, source)


def _softmax(draft: Draft, name: str, source: Value, _: nn.Module) -> Value:
    draft.notes.append(f"the softmax {name!r} at the end is dropped: it changes no answer")
    return replace(source, is_final=True)


_Module = Callable[[Draft, str, Value, Any], Value]
_MODULES: dict[type[nn.Module], _Module] = {
    nn.Conv2d: _conv,
    nn.Linear: lambda draft, name, source, layer: draft.linear(name, source, _state(layer)),
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda draft, name, source, _: draft.add(name, Relu(), [source]),
    nn.Hardtanh: _hardtanh,
    nn.MaxPool2d: lambda draft, name, source, layer: draft.max_pool(name, source, _geometry(layer)),
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.ConstantPad2d: _zero_pad,
    nn.Flatten: _flatten_layer,
    nn.Dropout: lambda draft, name, source, layer: draft.add(name, Dropout(layer.p), [source]),
    nn.Identity: lambda _, __, source, ___: source,
    nn.Softmax: _softmax,
    nn.LogSoftmax: _softmax,
}


def _add(draft: Draft, name: str, sources: list[Value], node: fx.Node) -> Value:
    if len(node.all_input_nodes) == 1 and node.args[0] is node.args[1]:
        sources = sources * 2
    return draft.sum(name, sources)


def _cat(draft: Draft, name: str, sources: list[Value], node: fx.Node) -> Value:
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    return draft.join(name, sources, axis if isinstance(axis, int) else 0)


def _flatten(draft: Draft, name: str, sources: list[Value], node: fx.Node) -> Value:
    if node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0) not in (1, -3):
        raise Obstacle("flattens the batch as well", "start_dim")
    return draft.flatten(name, sources[0])


def _mean(draft: Draft, name: str, sources: list[Value], node: fx.Node) -> Value:
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    keeps = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
    if not isinstance(axes, list | tuple) or {int(str(axis)) % 4 for axis in axes} != {2, 3}:
        raise Obstacle(f"is {axes}; only the mean over height and width has a kernel", "dim")
    pooled = draft.global_average(name, sources[0])
    return pooled if keeps else draft.flatten(f"{name}_flatten", pooled)


_Function = Callable[[Draft, str, list[Value], fx.Node], Value]
_FUNCTIONS: dict[str, _Function] = {
    "add": _add,
    "cat": _cat,
    "relu": lambda draft, name, sources, _: draft.add(name, Relu(), sources),
    "relu6": lambda draft, name, sources, _: draft.add(name, Relu6(), sources),
    "flatten": _flatten,
    "log_softmax": lambda draft, name, sources, _: _softmax(draft, name, sources[0], nn.Softmax()),
    "softmax": lambda draft, name, sources, _: _softmax(draft, name, sources[0], nn.Softmax()),
    "mean": _mean,
    "dropout": lambda _, __, sources, ___: sources[0],
}
