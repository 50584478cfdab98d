"""The network that an import puts together, layer by layer, and the list of what stands in its way."""

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from trec_dse.errors import UnsupportedError
from trec_dse.graph import INPUT, Quantization
from trec_dse.networks._blueprint import (
    AnyKind,
    AveragePool,
    BatchNorm,
    Blueprint,
    Convolution,
    Flatten,
    GlobalAverage,
    Join,
    Layer,
    Linear,
    MaxPool,
    Pad,
    Pair,
    Shape,
    Sum,
)

_LONGEST_NAME = 48
_MOST_VALUES = 2**28  # of one tensor: far above any microcontroller, and sums of sizes stay exact


@dataclass(frozen=True)
class Problem:
    """What has no counterpart here. `attribute` is empty where the operator itself is the problem."""

    node: str
    operator: str
    attribute: str
    reason: str

    def __str__(self) -> str:
        what = f"{self.operator}, {self.attribute}" if self.attribute else self.operator
        return f"node {self.node!r} ({what}): {self.reason}"


class Obstacle(Exception):
    """Raised while one node is translated; becomes a `Problem`."""

    def __init__(self, reason: str, attribute: str = "") -> None:
        super().__init__(reason)
        self.reason, self.attribute = reason, attribute


@dataclass(frozen=True)
class Value:
    """A tensor of one image.

    Attributes:
        layer: what made it, "input" for the image.
        shape: (C, H, W) or (n,).
        channels_last: its values come in (H, W, C) order; only the order, `shape` stays as torch has it.
        flattened: the (C, H, W) that a `channels_last` vector had.
        is_final: it went through a softmax, so only the end of the network may follow.
    """

    layer: str
    shape: Shape
    channels_last: bool = False
    flattened: Shape = ()
    is_final: bool = False


@dataclass
class Draft:
    """Layers so far. `notes`: what was left out or changed, for the user to read."""

    layers: list[Layer] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    ranges: dict[str, Quantization] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(
        self, wanted: str, kind: AnyKind, inputs: Sequence[Value], tensors: Mapping[str, Tensor] | None = None
    ) -> Value:
        """Append a layer under the nearest free name to `wanted`; raises Obstacle if nothing is left of its output."""
        for value in inputs:
            if value.channels_last:
                raise Obstacle("reads a tensor in (H, W, C) order; here only a flattening or a transpose back may")
            if value.is_final:
                raise Obstacle("follows a softmax; only the last layer may be one")
        shape = kind.output_shape(*(value.shape for value in inputs))
        if any(size < 1 for size in shape) or torch.Size(shape).numel() > _MOST_VALUES:
            raise Obstacle(f"its output would be {'x'.join(map(str, shape))}")
        name = self.free_name(wanted)
        self.layers.append(Layer(name, kind, tuple(value.layer for value in inputs)))
        self.weights |= {f"{name}.{key}": tensor for key, tensor in (tensors or {}).items()}
        return Value(name, shape)

    def free_name(self, wanted: str) -> str:
        """An identifier like `wanted` that no layer has and torch allows for a submodule."""
        name = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_")[-_LONGEST_NAME:].strip("_") or "layer"
        if name[0].isdigit():
            name = f"layer_{name}"
        taken = {INPUT, "ranges", *(layer.name for layer in self.layers)}
        if keyword.iskeyword(name) or hasattr(nn.Module(), name):
            name += "_"
        base, number = name, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        return name

    def blueprint(self, result: Value, input_shape: tuple[int, int, int]) -> Blueprint:
        """What `result` needs, and nothing else; raises UnsupportedError if it is no vector of class scores."""
        if len(result.shape) == 3 and result.shape[1:] == (1, 1):
            result = self.add("flatten", Flatten(), [replace(result, is_final=False)])
        if len(result.shape) != 1:
            raise UnsupportedError(
                f"the network answers with a map of {'x'.join(map(str, result.shape))} (C, H, W); needed are the "
                "scores of classes, (n,)"
            )
        needed, layers = {result.layer}, list[Layer]()
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed |= set(layer.inputs)
                layers.insert(0, layer)
        if not layers:
            raise UnsupportedError("the network holds no layer at all")
        kept = {layer.name for layer in layers}
        self.weights = {key: w for key, w in self.weights.items() if key.rpartition(".")[0] in kept}
        ranges = {name: q for name, q in self.ranges.items() if name in kept or name == INPUT}
        return Blueprint(input_shape, tuple(layers), ranges)

    def convolution(
        self, name: str, source: Value, tensors: Mapping[str, Tensor], where: "Geometry", groups: int
    ) -> Value:
        """A convolution, behind a `Pad` where its sides differ."""
        require_map(source)
        out_channels, per_group = tensors["weight"].shape[:2]
        if per_group * groups != source.shape[0]:
            raise Obstacle(f"weights for {per_group * groups} input channels, the input has {source.shape[0]}", "W")
        if groups not in (1, source.shape[0]) or (groups > 1 and out_channels != groups):
            raise Obstacle(f"{groups} groups; only 1, or one per channel, have a kernel", "group")
        source, padding = self._padded(name, source, where, before_maximum=False)
        channels = (source.shape[0], int(out_channels))
        kind = Convolution(where.kernel, where.stride, padding, *channels, groups, "bias" in tensors)
        return self.add(name, kind, [source], tensors)

    def linear(self, name: str, source: Value, tensors: Mapping[str, Tensor]) -> Value:
        """A dense layer; its weight (out, in) is put into torch's order if its input came in another one."""
        weight = tensors["weight"]
        if len(source.shape) != 1:
            raise Obstacle(f"reads a map of {'x'.join(map(str, source.shape))}; flatten it first")
        if weight.shape[1] != source.shape[0]:
            raise Obstacle(f"weights for {weight.shape[1]} inputs, the input has {source.shape[0]}")
        if source.flattened:
            channels, height, width = source.flattened
            weight = weight.reshape(-1, height, width, channels).permute(0, 3, 1, 2).reshape(weight.shape)
            source = Value(source.layer, source.shape)
        kind = Linear(int(weight.shape[1]), int(weight.shape[0]), "bias" in tensors)
        return self.add(name, kind, [source], {**tensors, "weight": weight})

    def batch_norm(self, name: str, source: Value, tensors: Mapping[str, Tensor], epsilon: float) -> Value:
        """A batch norm; `tensors` as torch names them."""
        require_map(source)
        if any(tensor.shape != (source.shape[0],) for tensor in tensors.values()):
            raise Obstacle(f"parameters that are not one per channel; the input has {source.shape[0]} channels")
        counter = {"num_batches_tracked": torch.zeros((), dtype=torch.int64)}
        return self.add(name, BatchNorm(source.shape[0], epsilon), [source], {**tensors, **counter})

    def max_pool(self, name: str, source: Value, where: "Geometry") -> Value:
        """Max pooling, behind a `Pad` where its sides differ or torch would refuse so much padding."""
        require_map(source)
        source, padding = self._padded(name, source, where, before_maximum=True)
        return self.add(name, MaxPool(where.kernel, where.stride, padding), [source])

    def average_pool(self, name: str, source: Value, where: "Geometry") -> Value:
        """Average pooling without padding."""
        require_map(source)
        if where.begin != (0, 0) or where.end != (0, 0):
            raise Obstacle(f"padding {where.begin} and {where.end}; average pooling has none", "pads")
        return self.add(name, AveragePool(where.kernel, where.stride, (0, 0)), [source])

    def global_average(self, name: str, source: Value) -> Value:
        """The mean of the map."""
        require_map(source)
        return self.add(name, GlobalAverage(), [source])

    def sum(self, name: str, sources: Sequence[Value]) -> Value:
        """Two tensors of one shape added."""
        if len(sources) != 2 or sources[0].shape != sources[1].shape:
            shapes = " and ".join("x".join(map(str, value.shape)) for value in sources)
            raise Obstacle(f"adds {shapes}; needed two tensors of one shape")
        return self.add(name, Sum(), sources)

    def join(self, name: str, sources: Sequence[Value], axis: int) -> Value:
        """Channels side by side."""
        for source in sources:
            require_map(source)
        if axis not in (1, -3) or len({source.shape[1:] for source in sources}) != 1:
            raise Obstacle(f"joins along axis {axis}; only channels (1) of maps of one size can be", "axis")
        return self.add(name, Join(), sources)

    def flatten(self, name: str, source: Value) -> Value:
        """The map as a vector; one in (H, W, C) order is remembered as such."""
        if len(source.shape) == 1:
            return source
        flat = self.add(name, Flatten(), [replace(source, channels_last=False)])
        return replace(flat, flattened=source.shape if source.channels_last else ())

    def pad(self, name: str, source: Value, where: "Geometry", *, before_maximum: bool = False) -> Value:
        """Zeros around the map, for the convolution that follows, or less than any value, for a maximum."""
        require_map(source)
        return self.add(name, Pad(*where.begin, *where.end, before_maximum), [source])

    def _padded(self, name: str, source: Value, where: "Geometry", *, before_maximum: bool) -> tuple[Value, Pair]:
        too_wide = before_maximum and any(2 * p > k for p, k in zip(where.begin, where.kernel, strict=True))
        if where.begin == where.end and not too_wide:
            return source, where.begin
        return self.pad(f"{name}_pad", source, where, before_maximum=before_maximum), (0, 0)


@dataclass(frozen=True)
class Geometry:
    """Of a window: (height, width) pairs; padding before and after the map."""

    kernel: Pair
    stride: Pair
    begin: Pair = (0, 0)
    end: Pair = (0, 0)


def require_map(value: Value) -> None:
    """Raise Obstacle unless `value` is (C, H, W)."""
    if len(value.shape) != 3:
        raise Obstacle(f"reads a vector of {value.shape[0]}; needed a map (C, H, W)")


def refuse(problems: Sequence[Problem], where: str, supported: Callable[[], str]) -> None:
    """Raise UnsupportedError that lists every problem, if there is any."""
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        many = "1 node has" if len(problems) == 1 else f"{len(problems)} nodes have"
        raise UnsupportedError(f"{where}: {many} no counterpart here:\n{lines}\nsupported are {supported()}")
