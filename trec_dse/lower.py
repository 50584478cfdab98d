"""From a torch network to the float graph: NCHW becomes NHWC, activations are fused, flatten disappears."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from trec_dse.errors import UnsupportedError
from trec_dse.graph import INPUT, FloatArray, FloatWeights, Graph, Node, Op, Quantization, Shape, Window
from trec_dse.ops._activation import CEILING, Activation
from trec_dse.ops.add import Add
from trec_dse.ops.avg_pool2d import AvgPool2d
from trec_dse.ops.concat import Concat
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.depthwise_conv2d import DepthwiseConv2d
from trec_dse.ops.gru import Gru
from trec_dse.ops.lookup_conv2d import LookupConv2d
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.ops.pattern_conv2d import PatternConv2d
from trec_dse.ops.peeled_conv2d import PeeledConv2d
from trec_dse.ops.sparse_conv2d import SparseConv2d
from trec_dse.ops.sru import Sru
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.sparse.gather import GatherConv2d, InPlaceConv2d, PrunedConv2d, PrunedLinear
from trec_dse.sparse.lookup import LookupConv2d as LookupModule
from trec_dse.sparse.pattern import PatternConv2d as PatternModule
from trec_dse.trec.conv import TrecConv2d as TrecModule
from trec_dse.trec.recurrent import GruRecurrence, ImageToSequence, LastStep, SruRecurrence

OWN = (
    *(TrecModule, LookupModule, PatternModule, GatherConv2d, InPlaceConv2d, PrunedConv2d, PrunedLinear),
    *(ImageToSequence, SruRecurrence, GruRecurrence, LastStep),
)


class Tracer(fx.Tracer):
    """Sees a layer of ours as one operation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether fx stops at this module."""
        return isinstance(m, OWN) or super().is_leaf_module(m, module_qualified_name)


def lower(model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """The float graph of `model` for images of shape (H, W, C).

    Batch norms must have been folded. Raises UnsupportedError that names the layer for anything without a kernel.
    """
    try:
        traced = Tracer().trace(model.eval())
    except fx.proxy.TraceError as problem:
        raise UnsupportedError(f"the network's forward cannot be traced: {problem}") from problem
    builder = _Builder(dict(model.named_modules()), {INPUT: input_shape}, getattr(model, "ranges", {}))
    for node in traced.nodes:
        builder.visit(node)
    if not builder.nodes:
        raise UnsupportedError("the network holds no layer at all")
    last = builder.result
    if last != builder.nodes[-1].name:
        raise UnsupportedError(f"the network returns {last!r}, which is not its last layer")
    return Graph(builder.shapes[INPUT], tuple(builder.nodes), builder.weights, builder.ranges)


@dataclass
class _Builder:
    """Grows the graph while it walks over the trace. `tensors`: fx name -> ours; flattening and padding keep the name.

    Attributes:
        own_ranges: module name, or "input" -> the scale and zero point that an imported network brought.
        padded: fx name -> the padding that the convolution or pooling which reads it takes into its window.
    """

    modules: dict[str, nn.Module]
    shapes: dict[str, Shape]
    own_ranges: Mapping[str, Quantization]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, FloatWeights] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    flattened: set[str] = field(default_factory=set)
    padded: dict[str, nn.ConstantPad2d] = field(default_factory=dict)
    ranges: dict[str, Quantization] = field(default_factory=dict)
    result: str = ""

    def visit(self, node: fx.Node) -> None:
        """Lower one node of the trace."""
        if node.op == "placeholder":
            self.tensors[node.name] = INPUT
            self.ranges |= {INPUT: self.own_ranges[INPUT]} if INPUT in self.own_ranges else {}
        elif node.op == "output":
            self.result = self.tensors[_arguments(node)[0].name]
        elif node.op == "call_module":
            self._module(node, self.modules[str(node.target)])
        else:
            self._function(node)
        # of layers that became one, the last one's is that of their output
        maker = self._module_of(node)
        if maker in self.own_ranges and node.name in self.tensors:
            self.ranges[self.tensors[node.name]] = self.own_ranges[maker]

    def _module_of(self, node: fx.Node) -> str:
        """The module that `node` is, or whose forward it belongs to."""
        if node.op == "call_module":
            return str(node.target)
        return next(reversed(node.meta.get("nn_module_stack", {})), "")

    def _module(self, node: fx.Node, module: nn.Module) -> None:
        source = _arguments(node)[0]
        if source.name in self.padded and not isinstance(module, _PADDED):
            raise UnsupportedError(f"layer {source.target!r}: only convolutions and max pooling can read a padded map")
        for kind, handler in _MODULES.items():
            if isinstance(module, kind):
                handler(self, node, source, module)
                return
        hint = "; fold batch norms before lowering" if isinstance(module, nn.BatchNorm2d) else ""
        raise UnsupportedError(f"layer {node.target!r} is a {type(module).__name__}, which has no int8 kernel{hint}")

    def _function(self, node: fx.Node) -> None:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        sources = _arguments(node)
        if any(source.name in self.padded for source in sources):
            raise UnsupportedError(f"{node.name!r}: only convolutions and max pooling can read a padded map")
        if node.target in (operator.add, operator.iadd, torch.add) or name in ("add", "add_"):
            if len(sources) != 2:
                raise UnsupportedError(f"{node.name!r} adds a constant; only two tensors can be added")
            self.add(node, Add(), sources)
        elif node.target in (torch.cat, torch.concat):
            self._concat(node, sources)
        elif node.target in (F.relu, torch.relu) or name == "relu":
            self.fuse(node, sources[0], "relu")
        elif node.target is F.relu6:
            self.fuse(node, sources[0], "relu6")
        elif name in ("flatten", "dropout"):
            self.alias(node, sources[0], flatten=name == "flatten")
        else:
            raise UnsupportedError(f"{node.name!r} calls {name}, which has no int8 kernel")

    def _concat(self, node: fx.Node, sources: Sequence[fx.Node]) -> None:
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if axis not in (1, -3):
            raise UnsupportedError(f"{node.name!r} concatenates along axis {axis}; only channels (1) can be")
        self.add(node, Concat(), sources)

    def add(self, node: fx.Node, op: Op, sources: Sequence[fx.Node], weights: FloatWeights | None = None) -> None:
        """Append a node of ours for `node`."""
        name = str(node.target) if node.op == "call_module" else self._function_name(node)
        if name in self.shapes:
            raise UnsupportedError(f"layer {node.target!r} runs more than once; each use needs a layer of its own")
        inputs = tuple(self.tensors[source.name] for source in sources)
        self.shapes[name] = op.output_shape(*(self.shapes[source] for source in inputs))
        if any(size < 1 for size in self.shapes[name]):
            shape = self.shapes[inputs[0]]
            raise UnsupportedError(f"layer {name!r} has nothing left to compute: its input is only {shape} (H, W, C)")
        self.nodes.append(Node(name, op, inputs))
        self.weights[name] = weights or {}
        self.tensors[node.name] = name

    def _function_name(self, node: fx.Node) -> str:
        """The function's name within the module that calls it, as in "fire3.cat"; numbered from the second call on."""
        module = self._module_of(node)
        prefix = f"{module}." if module else ""
        name = prefix + node.name.rpartition("_")[0] if node.name[-1].isdigit() else prefix + node.name
        return prefix + node.name if name in self.shapes else name

    def alias(self, node: fx.Node, source: fx.Node, *, flatten: bool = False) -> None:
        """`node` changes nothing but, at most, the shape."""
        self.tensors[node.name] = self.tensors[source.name]
        if flatten or source.name in self.flattened:
            self.flattened.add(node.name)

    def fuse(self, node: fx.Node, source: fx.Node, activation: Activation) -> None:
        """Make an activation part of the operation before it."""
        index = self._maker(source)
        op = None if index is None else self.nodes[index].op
        # an operator that can apply an activation has a field for it
        if index is None or op is None or getattr(op, "activation", None) != "none" or len(source.users) != 1:
            raise UnsupportedError(f"{node.name!r}: a ReLU must directly follow a convolution, a linear layer or a sum")
        self.nodes[index] = replace(self.nodes[index], op=replace(op, activation=activation))  # type: ignore[type-var]
        self.alias(node, source)

    def window(self, node: fx.Node, source: fx.Node, layer: Any, fill: float = 0.0) -> Window:
        """Geometry of `layer`, the padding of its source included, which must be with `fill`."""
        kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
        if isinstance(padding, str):
            raise UnsupportedError(f"layer {node.target!r} has padding {padding!r}; give it as a number")
        window = Window(_pair(kernel), _pair(kernel if stride is None else stride), _pair(padding))
        pad = self.padded.get(source.name)
        if pad is None:
            return window
        if pad.value != fill:
            raise UnsupportedError(f"layer {source.target!r} pads with {pad.value}; {node.target!r} needs {fill}")
        left, right, top, bottom = (int(n) for n in pad.padding)
        high, wide = window.padding
        return replace(window, padding=(high + top, wide + left), extra=(bottom - top, right - left))

    def fuse_last(self, node: fx.Node, source: fx.Node) -> None:
        """Let the recurrence before it write only its last step."""
        index = self._maker(source)
        op = None if index is None else self.nodes[index].op
        if index is None or not isinstance(op, Sru | Gru) or len(source.users) != 1:
            raise UnsupportedError(
                f"layer {node.target!r}: the last step must be that of a recurrence, its only reader"
            )
        self.nodes[index] = replace(self.nodes[index], op=replace(op, last=True))
        name = self.nodes[index].name
        self.shapes[name] = (1, *self.shapes[name][1:])
        self.alias(node, source)

    def _maker(self, source: fx.Node) -> int | None:
        """Index of the node of ours that gives `source`; None for the input."""
        name = self.tensors[source.name]
        return next((i for i, other in enumerate(self.nodes) if other.name == name), None)

    def shape_of(self, source: fx.Node) -> Shape:
        """Our shape of what `source` gives."""
        return self.shapes[self.tensors[source.name]]


def _arguments(node: fx.Node) -> list[fx.Node]:
    """The tensors among a node's arguments, those inside a list included."""
    found: list[fx.Node] = []
    for argument in node.args:
        found += [
            item
            for item in (argument if isinstance(argument, list | tuple) else [argument])
            if isinstance(item, fx.Node)
        ]
    return found


def _array(tensor: torch.Tensor) -> FloatArray:
    return tensor.detach().cpu().to(torch.float64).numpy().copy()


def _bias(module: nn.Module, size: int) -> FloatArray:
    bias = getattr(module, "bias", None)
    return _array(torch.zeros(size) if bias is None else bias)


def _scales(layer: nn.Conv2d | nn.Linear) -> FloatWeights:
    """`scales` of a layer that came quantised, unless its weights were changed since."""
    scales = getattr(layer, "weight_scales", None)
    if not isinstance(scales, torch.Tensor) or scales.shape != (len(layer.weight),):
        return {}
    exact = layer.weight.detach().double() / scales.double().view(-1, *[1] * (layer.weight.ndim - 1))
    is_whole = torch.allclose(exact, exact.round(), rtol=0, atol=1e-3) and float(exact.abs().max()) < 128.5
    return {"scales": _array(scales)} if is_whole else {}


def _kept(layer: nn.Conv2d | nn.Linear) -> torch.Tensor:
    """The weights; of a layer that is pruned one by one, without those that went."""
    return layer.kept if isinstance(layer, PrunedConv2d | PrunedLinear) else layer.weight


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple) else (value, value)
    return int(first), int(second)


_SPECIAL: tuple[tuple[type[nn.Conv2d], type[Conv2d | SparseConv2d]], ...] = (
    (GatherConv2d, SparseConv2d),
    (InPlaceConv2d, PeeledConv2d),
)


def _convolution(b: _Builder, node: fx.Node, source: fx.Node, conv: nn.Conv2d) -> None:
    if _pair(conv.dilation) != (1, 1) or conv.padding_mode != "zeros":
        raise UnsupportedError(f"layer {node.target!r}: only dilation 1 and zero padding have a kernel")
    window = b.window(node, source, conv)
    bias = _bias(conv, conv.out_channels)
    if conv.groups == 1:
        kernels = _array(_kept(conv).permute(0, 2, 3, 1))
        weights = {"weights": kernels, "bias": bias, **_scales(conv)}
        kind = next((op for module, op in _SPECIAL if isinstance(conv, module)), Conv2d)
        b.add(node, kind(conv.out_channels, window), [source], weights)
    elif conv.groups == conv.in_channels == conv.out_channels:
        kernels = _array(conv.weight[:, 0].permute(1, 2, 0))
        b.add(node, DepthwiseConv2d(window), [source], {"weights": kernels, "bias": bias, **_scales(conv)})
    else:
        raise UnsupportedError(f"layer {node.target!r} has {conv.groups} groups; only 1 or one per channel can be")


def _trec(b: _Builder, node: fx.Node, source: fx.Node, layer: TrecModule) -> None:
    window = b.window(node, source, layer)
    weights = {"weights": _array(layer.weight.permute(0, 2, 3, 1)), "bias": _bias(layer, layer.out_channels)}
    if layer.hash is not None:
        weights |= {"hash": _array(layer.hash), "thresholds": _array(layer.thresholds)}
    config = replace(layer.config, clustering="image")  # a device sees one image at a time
    kind = TrecStripConv2d if config.scope == "strip_shared" else TrecConv2d
    b.add(node, kind(layer.out_channels, window, config), [source], weights)


def _lookup(b: _Builder, node: fx.Node, source: fx.Node, layer: LookupModule) -> None:
    window = b.window(node, source, layer)
    weights = {
        "weights": _array(layer.weight),
        "indices": _array(layer.indices),
        "bias": _bias(layer, layer.out_channels),
    }
    b.add(node, LookupConv2d(layer.out_channels, window, layer.weight.shape[3]), [source], weights)


def _pattern(b: _Builder, node: fx.Node, source: fx.Node, layer: PatternModule) -> None:
    window = b.window(node, source, layer)
    tables = {"patterns": _array(layer.patterns), "choice": _array(layer.choice)}
    n_patterns, n_taps = layer.patterns.shape
    op = PatternConv2d(layer.out_channels, window, n_taps, layer.choice.shape[1], n_patterns)
    bias = _bias(layer, layer.out_channels)
    b.add(node, op, [source], {"weights": _array(layer.kept), "bias": bias, **tables})


def _linear(b: _Builder, node: fx.Node, source: fx.Node, layer: nn.Linear) -> None:
    shape = b.shape_of(source)
    kernels = _kept(layer).detach()
    if len(shape) == 3:
        if source.name not in b.flattened and shape[:2] != (1, 1):
            raise UnsupportedError(f"layer {node.target!r} reads an image; flatten it first")
        height, width, channels = shape
        # torch flattens (C, H, W), our tensors lie in (H, W, C) order: permute the weights instead of the data
        kernels = kernels.reshape(-1, channels, height, width).permute(0, 2, 3, 1)
    bias = _bias(layer, layer.out_features)
    weights = {"weights": _array(kernels.reshape(layer.out_features, -1)), "bias": bias, **_scales(layer)}
    b.add(node, Dense(layer.out_features), [source], weights)


def _max_pool(b: _Builder, node: fx.Node, source: fx.Node, pool: nn.MaxPool2d) -> None:
    if pool.ceil_mode or _pair(pool.dilation) != (1, 1):
        raise UnsupportedError(f"layer {node.target!r}: pooling has neither ceil_mode nor dilation")
    b.add(node, MaxPool2d(b.window(node, source, pool, -math.inf)), [source])


def _avg_pool(b: _Builder, node: fx.Node, source: fx.Node, pool: nn.AvgPool2d) -> None:
    window = b.window(node, source, pool)
    if pool.ceil_mode or window.padding != (0, 0) or pool.divisor_override is not None:
        raise UnsupportedError(f"layer {node.target!r}: average pooling has neither ceil_mode, padding nor divisor")
    b.add(node, AvgPool2d(window), [source])


def _global_pool(b: _Builder, node: fx.Node, source: fx.Node, pool: nn.AdaptiveAvgPool2d) -> None:
    height, width, _ = b.shape_of(source)
    out_h, out_w = _pair(pool.output_size)
    if height % out_h or width % out_w:
        raise UnsupportedError(
            f"layer {node.target!r} pools {height}x{width} to {out_h}x{out_w}, which does not divide"
        )
    window = Window((height // out_h, width // out_w), (height // out_h, width // out_w))
    b.add(node, AvgPool2d(window), [source])


def _sequence(b: _Builder, node: fx.Node, source: fx.Node, view: ImageToSequence) -> None:
    if b.tensors[source.name] != INPUT or len(source.users) != 1:
        raise UnsupportedError(f"layer {node.target!r} must be the only one that reads the image")
    size = math.prod(b.shapes[INPUT])
    if size % view.steps:
        raise UnsupportedError(f"layer {node.target!r} cuts {size} numbers into {view.steps} steps; take a divisor")
    b.shapes[INPUT] = (view.steps, 1, size // view.steps)
    b.alias(node, source)


def _require_folded(node: fx.Node) -> None:
    if not isinstance(node.args[0], fx.Node):
        raise UnsupportedError(
            f"layer {node.target!r} reads one product per gate; fold before lowering, as batch norms"
        )


def _sru(b: _Builder, node: fx.Node, source: fx.Node, layer: SruRecurrence) -> None:
    sources = _arguments(node)
    _require_folded(node)
    b.add(node, Sru(layer.projects), sources[:1] if layer.projects else sources)


def _gru(b: _Builder, node: fx.Node, source: fx.Node, layer: GruRecurrence) -> None:
    _require_folded(node)
    b.add(node, Gru(), [source], {"hidden": _array(layer.weight), "hidden_bias": _array(layer.bias)})


def _last_step(b: _Builder, node: fx.Node, source: fx.Node, layer: LastStep) -> None:
    b.fuse_last(node, source)


def _pad(b: _Builder, node: fx.Node, source: fx.Node, pad: nn.ConstantPad2d) -> None:
    b.alias(node, source)
    b.padded[node.name] = pad


def _hardtanh(b: _Builder, node: fx.Node, source: fx.Node, layer: nn.Hardtanh) -> None:
    if (layer.min_val, layer.max_val) != (0.0, CEILING):
        raise UnsupportedError(f"layer {node.target!r} cuts at {layer.min_val} and {layer.max_val}; needed 0 and 6")
    b.fuse(node, source, "relu6")


def _flatten(b: _Builder, node: fx.Node, source: fx.Node, layer: nn.Flatten) -> None:
    b.alias(node, source, flatten=True)


_PADDED = (nn.Conv2d, TrecModule, LookupModule, PatternModule, nn.MaxPool2d)
_Handler = Callable[[_Builder, fx.Node, fx.Node, Any], None]
_MODULES: dict[type[nn.Module], _Handler] = {
    TrecModule: _trec,
    ImageToSequence: _sequence,
    SruRecurrence: _sru,
    GruRecurrence: _gru,
    LastStep: _last_step,
    LookupModule: _lookup,
    PatternModule: _pattern,
    nn.Conv2d: _convolution,
    nn.Linear: _linear,
    nn.ReLU: lambda b, node, source, _: b.fuse(node, source, "relu"),
    nn.Hardtanh: _hardtanh,
    nn.ConstantPad2d: _pad,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Flatten: _flatten,
    nn.Dropout: lambda b, node, source, _: b.alias(node, source),
    nn.Identity: lambda b, node, source, _: b.alias(node, source),
}
