"""What each kind of torch module becomes in the float graph, with its weights in the order that kernels read."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from trec_dse.errors import UnsupportedError
from trec_dse.graph import INPUT, FloatArray, FloatWeights, Window
from trec_dse.lower._builder import Builder, pair_of, tensors_read
from trec_dse.ops._activation import CEILING
from trec_dse.ops.avg_pool2d import AvgPool2d
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


_SPECIAL: tuple[tuple[type[nn.Conv2d], type[Conv2d | SparseConv2d]], ...] = (
    (GatherConv2d, SparseConv2d),
    (InPlaceConv2d, PeeledConv2d),
)


def _convolution(b: Builder, node: fx.Node, source: fx.Node, conv: nn.Conv2d) -> None:
    if pair_of(conv.dilation) != (1, 1) or conv.padding_mode != "zeros":
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


def _trec(b: Builder, node: fx.Node, source: fx.Node, layer: TrecModule) -> None:
    window = b.window(node, source, layer)
    weights = {"weights": _array(layer.weight.permute(0, 2, 3, 1)), "bias": _bias(layer, layer.out_channels)}
    if layer.hash is not None:
        weights |= {"hash": _array(layer.hash), "thresholds": _array(layer.thresholds)}
    # a device sees one image at a time, and exact directions are layers of their own
    config = replace(layer.config, clustering="image", exact_directions=0)
    kind = TrecStripConv2d if config.scope == "strip_shared" else TrecConv2d
    b.add(node, kind(layer.out_channels, window, config), [source], weights)


def _lookup(b: Builder, node: fx.Node, source: fx.Node, layer: LookupModule) -> None:
    window = b.window(node, source, layer)
    weights = {
        "weights": _array(layer.weight),
        "indices": _array(layer.indices),
        "bias": _bias(layer, layer.out_channels),
    }
    b.add(node, LookupConv2d(layer.out_channels, window, layer.weight.shape[3]), [source], weights)


def _pattern(b: Builder, node: fx.Node, source: fx.Node, layer: PatternModule) -> None:
    window = b.window(node, source, layer)
    tables = {"patterns": _array(layer.patterns), "choice": _array(layer.choice)}
    n_patterns, n_taps = layer.patterns.shape
    op = PatternConv2d(layer.out_channels, window, n_taps, layer.choice.shape[1], n_patterns)
    bias = _bias(layer, layer.out_channels)
    b.add(node, op, [source], {"weights": _array(layer.kept), "bias": bias, **tables})


def _linear(b: Builder, node: fx.Node, source: fx.Node, layer: nn.Linear) -> None:
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


def _max_pool(b: Builder, node: fx.Node, source: fx.Node, pool: nn.MaxPool2d) -> None:
    if pool.ceil_mode or pair_of(pool.dilation) != (1, 1):
        raise UnsupportedError(f"layer {node.target!r}: pooling has neither ceil_mode nor dilation")
    b.add(node, MaxPool2d(b.window(node, source, pool, -math.inf)), [source])


def _avg_pool(b: Builder, node: fx.Node, source: fx.Node, pool: nn.AvgPool2d) -> None:
    window = b.window(node, source, pool)
    if pool.ceil_mode or window.padding != (0, 0) or pool.divisor_override is not None:
        raise UnsupportedError(f"layer {node.target!r}: average pooling has neither ceil_mode, padding nor divisor")
    b.add(node, AvgPool2d(window), [source])


def _global_pool(b: Builder, node: fx.Node, source: fx.Node, pool: nn.AdaptiveAvgPool2d) -> None:
    height, width, _ = b.shape_of(source)
    out_h, out_w = pair_of(pool.output_size)
    if height % out_h or width % out_w:
        raise UnsupportedError(
            f"layer {node.target!r} pools {height}x{width} to {out_h}x{out_w}, which does not divide"
        )
    window = Window((height // out_h, width // out_w), (height // out_h, width // out_w))
    b.add(node, AvgPool2d(window), [source])


def _sequence(b: Builder, node: fx.Node, source: fx.Node, view: ImageToSequence) -> None:
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


def _sru(b: Builder, node: fx.Node, source: fx.Node, layer: SruRecurrence) -> None:
    sources = tensors_read(node)
    _require_folded(node)
    b.add(node, Sru(layer.projects), sources[:1] if layer.projects else sources)


def _gru(b: Builder, node: fx.Node, source: fx.Node, layer: GruRecurrence) -> None:
    _require_folded(node)
    b.add(node, Gru(), [source], {"hidden": _array(layer.weight), "hidden_bias": _array(layer.bias)})


def _last_step(b: Builder, node: fx.Node, source: fx.Node, layer: LastStep) -> None:
    b.fuse_last(node, source)


def _pad(b: Builder, node: fx.Node, source: fx.Node, pad: nn.ConstantPad2d) -> None:
    b.alias(node, source)
    b.padded[node.name] = pad


def _hardtanh(b: Builder, node: fx.Node, source: fx.Node, layer: nn.Hardtanh) -> None:
    if (layer.min_val, layer.max_val) != (0.0, CEILING):
        raise UnsupportedError(f"layer {node.target!r} cuts at {layer.min_val} and {layer.max_val}; needed 0 and 6")
    b.fuse(node, source, "relu6")


def _flatten(b: Builder, node: fx.Node, source: fx.Node, layer: nn.Flatten) -> None:
    b.alias(node, source, flatten=True)


READ_PADDED = (nn.Conv2d, TrecModule, LookupModule, PatternModule, nn.MaxPool2d)
Handler = Callable[[Builder, fx.Node, fx.Node, Any], None]
LAYERS: dict[type[nn.Module], Handler] = {
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
