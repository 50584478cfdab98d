"""The float graph of a torch network as it grows, node by node of the trace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn

from trec_dse.errors import UnsupportedError
from trec_dse.graph import FloatWeights, Node, Op, Quantization, Shape, Window
from trec_dse.ops._activation import Activation
from trec_dse.ops.gru import Gru
from trec_dse.ops.sru import Sru


@dataclass
class Builder:
    """Grows the graph. `tensors`: fx name -> ours; flattening and padding keep the name.

    Attributes:
        own_ranges: module name, or "input" -> the scale and zero point that an imported network brought.
        padded: fx name -> the padding that the convolution or pooling which reads it takes into its window.
    """

    shapes: dict[str, Shape]
    own_ranges: Mapping[str, Quantization]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, FloatWeights] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    flattened: set[str] = field(default_factory=set)
    padded: dict[str, nn.ConstantPad2d] = field(default_factory=dict)
    ranges: dict[str, Quantization] = field(default_factory=dict)

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
        module = module_of(node)
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
        window = Window(pair_of(kernel), pair_of(kernel if stride is None else stride), pair_of(padding))
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


def module_of(node: fx.Node) -> str:
    """The module that `node` is, or whose forward it belongs to."""
    if node.op == "call_module":
        return str(node.target)
    return next(reversed(node.meta.get("nn_module_stack", {})), "")


def tensors_read(node: fx.Node) -> list[fx.Node]:
    """The tensors among a node's arguments, those inside a list included."""
    found: list[fx.Node] = []
    for argument in node.args:
        found += [
            item
            for item in (argument if isinstance(argument, list | tuple) else [argument])
            if isinstance(item, fx.Node)
        ]
    return found


def pair_of(value: Any) -> tuple[int, int]:
    """(height, width) of what torch takes as one number or two."""
    first, second = value if isinstance(value, tuple) else (value, value)
    return int(first), int(second)
