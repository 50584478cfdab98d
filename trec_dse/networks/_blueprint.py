"""A network from elsewhere on disk: its layers as JSON, its weights as safetensors; reading it executes nothing.

    FOLDER/network.json            input shape, layers in the order in which they run, int8 scales if it brought some
    FOLDER/weights.safetensors     their tensors, named as in a torch state dict

`content_hash` covers both files.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trec_dse import codec
from trec_dse.durable import write_bytes, write_text
from trec_dse.errors import ModelError
from trec_dse.graph import INPUT, Quantization

NETWORK, WEIGHTS = "network.json", "weights.safetensors"
WEIGHT_SCALES = "weight_scales"  # buffer (out_channels,) of a layer whose weights are whole multiples of them
Pair = tuple[int, int]
Shape = tuple[int, ...]  # (C, H, W) or (n,), as torch orders them


class LayerKind(Protocol):
    """What a layer is, without its weights."""

    def module(self) -> nn.Module:
        """The torch module, its weights not set."""
        ...

    def output_shape(self, *inputs: Shape) -> Shape:
        """Shape of the output of one image."""
        ...


class _SameShape:
    def output_shape(self, *inputs: Shape) -> Shape:
        """That of the input."""
        return inputs[0]


@dataclass(frozen=True)
class _Window:
    kernel: Pair
    stride: Pair
    padding: Pair

    def _positions(self, shape: Shape) -> Pair:
        sizes = zip(shape[1:], self.kernel, self.stride, self.padding, strict=True)
        height, width = ((n + 2 * p - k) // s + 1 for n, k, s, p in sizes)
        return height, width

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C, out_h, out_w)."""
        return (inputs[0][0], *self._positions(inputs[0]))


@dataclass(frozen=True)
class Convolution(_Window):
    """A convolution with zero padding, the same on both sides."""

    in_channels: int
    out_channels: int
    groups: int = 1
    bias: bool = True

    def module(self) -> nn.Module:
        """`nn.Conv2d`."""
        channels = (self.in_channels, self.out_channels)
        where = (self.kernel, self.stride, self.padding)
        return nn.Conv2d(*channels, *where, groups=self.groups, bias=self.bias)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_channels, out_h, out_w)."""
        return (self.out_channels, *self._positions(inputs[0]))


@dataclass(frozen=True)
class Linear:
    """A dense layer."""

    in_features: int
    out_features: int
    bias: bool = True

    def module(self) -> nn.Module:
        """`nn.Linear`."""
        return nn.Linear(self.in_features, self.out_features, bias=self.bias)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_features,)."""
        return (self.out_features,)


@dataclass(frozen=True)
class BatchNorm(_SameShape):
    """A batch norm over channels."""

    channels: int
    epsilon: float

    def module(self) -> nn.Module:
        """`nn.BatchNorm2d`."""
        return nn.BatchNorm2d(self.channels, self.epsilon)


@dataclass(frozen=True)
class Relu(_SameShape):
    """A ReLU."""

    def module(self) -> nn.Module:
        """`nn.ReLU`."""
        return nn.ReLU()


@dataclass(frozen=True)
class Relu6(_SameShape):
    """A ReLU that ends at 6."""

    def module(self) -> nn.Module:
        """`nn.ReLU6`."""
        return nn.ReLU6()


@dataclass(frozen=True)
class MaxPool(_Window):
    """Maximum over a window."""

    def module(self) -> nn.Module:
        """`nn.MaxPool2d`."""
        return nn.MaxPool2d(self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class AveragePool(_Window):
    """Mean over a window."""

    def module(self) -> nn.Module:
        """`nn.AvgPool2d`."""
        return nn.AvgPool2d(self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class GlobalAverage:
    """Mean over the whole map."""

    def module(self) -> nn.Module:
        """`nn.AdaptiveAvgPool2d`."""
        return nn.AdaptiveAvgPool2d(1)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C, 1, 1)."""
        return (inputs[0][0], 1, 1)


@dataclass(frozen=True)
class Pad:
    """Padding that differs between the sides, before a convolution, or of less than any value before max pooling."""

    top: int
    left: int
    bottom: int
    right: int
    before_maximum: bool = False

    def module(self) -> nn.Module:
        """`nn.ZeroPad2d` or `nn.ConstantPad2d`."""
        sides = (self.left, self.right, self.top, self.bottom)
        return nn.ConstantPad2d(sides, -torch.inf) if self.before_maximum else nn.ZeroPad2d(sides)

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C, H + top + bottom, W + left + right)."""
        channels, height, width = inputs[0]
        return channels, height + self.top + self.bottom, width + self.left + self.right


class _Sum(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class _Join(nn.Module):
    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Sum(_SameShape):
    """Two tensors added."""

    def module(self) -> nn.Module:
        """A module that adds."""
        return _Sum()


@dataclass(frozen=True)
class Join:
    """Channels side by side."""

    def module(self) -> nn.Module:
        """A module that concatenates."""
        return _Join()

    def output_shape(self, *inputs: Shape) -> Shape:
        """Channels add up."""
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])


@dataclass(frozen=True)
class Dropout(_SameShape):
    """Dropout with its share of zeros."""

    share: float

    def module(self) -> nn.Module:
        """`nn.Dropout`."""
        return nn.Dropout(self.share)


@dataclass(frozen=True)
class Flatten:
    """A map as a vector, channel by channel."""

    def module(self) -> nn.Module:
        """`nn.Flatten`."""
        return nn.Flatten()

    def output_shape(self, *inputs: Shape) -> Shape:
        """(C * H * W,)."""
        return (torch.Size(inputs[0]).numel(),)


AnyKind = (
    Convolution
    | Linear
    | BatchNorm
    | Relu
    | Relu6
    | MaxPool
    | AveragePool
    | GlobalAverage
    | Pad
    | Sum
    | Join
    | Dropout
    | Flatten
)
KINDS: dict[str, type[AnyKind]] = {kind.__name__: kind for kind in get_args(AnyKind)}


@dataclass(frozen=True)
class Layer:
    """A place in the network: its name, a Python identifier; what it is; the layers it reads ("input": the image)."""

    name: str
    kind: AnyKind
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Blueprint:
    """A network without its weights.

    Attributes:
        input_shape: (H, W, C) of an image; the network itself reads (B, C, H, W).
        layers: in the order in which they run; the last one gives the logits (B, n_outputs).
        ranges: layer name (or "input") -> the int8 scale and zero point that its output came with.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    ranges: Mapping[str, Quantization] = field(default_factory=dict)


class ImportedNetwork(nn.Module):
    """Runs the layers of a blueprint; each is a submodule of its layer's name.

    Attributes:
        ranges: as in `Blueprint`; `lower` hands them on.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        super().__init__()
        self.ranges = dict(blueprint.ranges)
        self._layers = [(layer.name, layer.inputs) for layer in blueprint.layers]
        for layer in blueprint.layers:
            self.add_module(layer.name, layer.kind.module())

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images (B, C, H, W)."""
        tensors = {INPUT: images}
        for name, inputs in self._layers:
            tensors[name] = self.get_submodule(name)(*(tensors[source] for source in inputs))
        return tensors[self._layers[-1][0]]


@dataclass(frozen=True)
class _LayerFile:
    name: str
    kind: str
    settings: Mapping[str, Any]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    format: int
    input_shape: tuple[int, int, int]
    layers: tuple[_LayerFile, ...]
    ranges: Mapping[str, Quantization]


_FORMAT: int = 1


def save_blueprint(folder: Path, blueprint: Blueprint, weights: Mapping[str, Tensor]) -> str:
    """Write both files, the weights first; returns their content hash."""
    layers = tuple(
        _LayerFile(layer.name, type(layer.kind).__name__, codec.unstructure(layer.kind), layer.inputs)
        for layer in blueprint.layers
    )
    text = codec.to_json(_File(_FORMAT, blueprint.input_shape, layers, blueprint.ranges))
    content = save({name: tensor.contiguous() for name, tensor in weights.items()})
    write_bytes(folder / WEIGHTS, content)
    write_text(folder / NETWORK, text)
    return content_hash(text.encode(), content)


def content_hash(network: bytes, weights: bytes) -> str:
    """16 hex digits of the SHA-256 of both files."""
    return hashlib.sha256(network + weights).hexdigest()[:16]


def load_blueprint(folder: Path, expected_hash: str = "") -> tuple[Blueprint, dict[str, Tensor]]:
    """What `save_blueprint` wrote. Raises ModelError if it is missing, damaged, or another than `expected_hash`."""
    try:
        content, tensors = (folder / NETWORK).read_bytes(), (folder / WEIGHTS).read_bytes()
    except OSError as problem:
        raise ModelError(
            f"{problem.filename}: cannot be read: {problem.strerror}; import the network again, or mend its path"
        ) from problem
    found = content_hash(content, tensors)
    if expected_hash and found != expected_hash:
        raise ModelError(f"{folder}: the network there has hash {found}, the candidate was made for {expected_hash}")
    where = str(folder / NETWORK)
    try:
        text, weights = content.decode(), load(tensors)
    except (UnicodeDecodeError, SafetensorError) as problem:
        raise ModelError(f"{folder}: the imported network is damaged: {problem}; import it again") from problem
    data = codec.from_json(text, _File, where, ModelError)
    if data.format != _FORMAT:
        raise ModelError(f"{where}: format {data.format} found, needed {_FORMAT}; import the network again")
    return Blueprint(data.input_shape, tuple(_layer(item, where) for item in data.layers), data.ranges), weights


def _layer(item: _LayerFile, where: str) -> Layer:
    if item.kind not in KINDS:
        raise ModelError(f"{where}: layer {item.name!r} is a {item.kind!r}; known are {', '.join(KINDS)}")
    kind = codec.structure(item.settings, KINDS[item.kind], f"{where}: layer {item.name!r}", ModelError)
    return Layer(item.name, kind, item.inputs)


def assemble(blueprint: Blueprint, weights: Mapping[str, Tensor], where: str) -> ImportedNetwork:
    """The torch module with its weights. Raises ModelError if layers and weights do not belong together."""
    _require_order(blueprint, where)
    try:
        with torch.device("meta"):  # so that no size that a file claims is allocated before its weights are seen
            model = ImportedNetwork(blueprint)
        scales = {name: tensor for name, tensor in weights.items() if name.endswith(f".{WEIGHT_SCALES}")}
        model.load_state_dict({name: w for name, w in weights.items() if name not in scales}, assign=True)
        for name, tensor in scales.items():
            model.get_submodule(name.rpartition(".")[0]).register_buffer(WEIGHT_SCALES, tensor, persistent=False)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as problem:
        raise ModelError(f"{where}: layers and weights do not belong together: {problem}") from problem
    return model


def _require_order(blueprint: Blueprint, where: str) -> None:
    known = {INPUT}
    for layer in blueprint.layers:
        missing = [name for name in layer.inputs if name not in known]
        if missing or layer.name in known or not layer.name.isidentifier():
            reason = f"reads {missing[0]!r}, which no layer before it gives" if missing else "has no name of its own"
            raise ModelError(f"{where}: layer {layer.name!r} {reason}")
        known.add(layer.name)
    if not blueprint.layers:
        raise ModelError(f"{where}: the network holds no layer at all")
