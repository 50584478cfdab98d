"""Which convolutions of a network get which kernels, and how they are put in place."""

import copy
from collections.abc import Callable, Collection, Mapping

from torch import nn

from trec_dse.candidate import KernelConfig, KernelForm
from trec_dse.errors import CandidateError
from trec_dse.sparse.gather import GatherConv2d, InPlaceConv2d, PrunedConv2d, PrunedLinear
from trec_dse.sparse.held import masking
from trec_dse.sparse.lookup import FIT_ROUNDS, LookupLayer
from trec_dse.sparse.low_rank import LowRankLayer
from trec_dse.sparse.pattern import PatternConv2d
from trec_dse.trec.apply import conv_shapes
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.policy import ConvShape, nearest_divisor

ALL = "*"
_MAKERS: dict[KernelForm, Callable[[nn.Conv2d, KernelConfig, int], nn.Module]] = {
    "lookup": LookupLayer.from_conv,
    "low_rank": LowRankLayer.from_conv,
    "pattern": PatternConv2d.from_conv,
    "sparse": GatherConv2d.from_conv,
    "in_place": InPlaceConv2d.from_conv,
    "pruned": PrunedConv2d.from_conv,
}


def dense_layers(model: nn.Module) -> tuple[str, ...]:
    """Names of the fully connected layers, which can be pruned weight by weight as convolutions can."""
    return tuple(name for name, module in model.named_modules() if type(module) is nn.Linear)


def resolve_kernels(
    asked: Mapping[str, KernelConfig], shapes: Mapping[str, ConvShape], dense: Collection[str] = ()
) -> dict[str, KernelConfig]:
    """The config of every layer that does not stay as it is, fitted to its shape; convolutions in network order.

    "*" stands for convolutions larger than 1x1 that are not named. Of low rank only such become as have fewer weights
    then. Raises CandidateError for a name that is none, nor,
    where single weights shall go, a layer in `dense`.
    """
    linear = {name: config for name, config in asked.items() if name in dense and config.form == "pruned"}
    missing = [name for name in asked if name != ALL and name not in shapes and name not in linear]
    if missing:
        raise CandidateError(
            f"kernels are asked for {', '.join(missing)}; the convolutions are {', '.join(shapes)}"
            + (f", and {', '.join(dense)} can be pruned" if dense else "")
        )
    found: dict[str, KernelConfig] = {}
    for name, shape in shapes.items():
        is_larger = shape.kernel_h * shape.kernel_w > 1
        config = asked.get(name, asked.get(ALL) if is_larger else None)
        if config is not None and config.form != "dense" and not _is_no_smaller(config, shape):
            found[name] = _fitted(config, shape)
    return {**found, **{name: KernelConfig("pruned", share=config.share) for name, config in linear.items()}}


def shares_of_zeros(
    model: nn.Module, asked: Mapping[str, KernelConfig], input_shape: tuple[int, int, int]
) -> dict[str, float]:
    """Share of the weights of every layer that are to be pruned one by one. `input_shape` is (H, W, C)."""
    configs = resolve_kernels(asked, conv_shapes(model, input_shape), dense_layers(model))
    return {name: config.share for name, config in configs.items() if config.form == "pruned"}


def layers_with_zeros(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers whose weights were pruned one by one."""
    return tuple(name for name, module in model.named_modules() if isinstance(module, PrunedConv2d | PrunedLinear))


def apply_kernels(model: nn.Module, configs: Mapping[str, KernelConfig], rounds: int = FIT_ROUNDS) -> nn.Module:
    """A copy of `model` in which the convolutions named in `configs` have those kernels.

    With 0 `rounds` of fitting the shapes are the same and the values poor.
    """
    changed = copy.deepcopy(model)
    for name, config in configs.items():
        layer = changed.get_submodule(name)
        parent, _, attribute = name.rpartition(".")
        if isinstance(layer, nn.Linear):
            made: nn.Module = PrunedLinear.from_linear(layer, config)
        else:
            assert isinstance(layer, nn.Conv2d)
            made = _MAKERS[config.form](layer, config, rounds)
        setattr(changed.get_submodule(parent), attribute, made)
    return changed


def hold_patterns(model: nn.Module, original: nn.Module) -> None:
    """Keep the missing taps missing where TREC, in `model`, took the place of pattern layers of `original`."""
    for name, layer in original.named_modules():
        clustered = model.get_submodule(name)
        if isinstance(layer, PatternConv2d) and isinstance(clustered, TrecConv2d):
            clustered.weight.register_hook(masking(layer.mask))  # type: ignore[no-untyped-call]


def _is_no_smaller(config: KernelConfig, shape: ConvShape) -> bool:
    """Whether the convolution has as many weights in the form of low rank as it has whole."""
    taps = shape.kernel_h * shape.kernel_w
    whole = taps * shape.in_channels * shape.out_channels
    return config.form == "low_rank" and config.rank * (shape.in_channels + taps * shape.out_channels) >= whole


def _fitted(config: KernelConfig, shape: ConvShape) -> KernelConfig:
    """`config` with what a layer of that shape can have, and what its form does not use as it is by default."""
    if config.form == "pattern":
        n_taps = shape.kernel_h * shape.kernel_w
        taps = min(n_taps, max(1, (2 * n_taps * config.taps + 9) // 18))
        group = nearest_divisor(shape.in_channels, config.group)
        return KernelConfig(config.form, patterns=config.patterns, taps=taps, group=group)
    if config.form in ("sparse", "in_place"):
        return KernelConfig(config.form)
    if config.form == "pruned":
        return KernelConfig(config.form, share=config.share)
    if config.form == "low_rank":
        return KernelConfig(config.form, rank=config.rank)
    size = min(config.dictionary, shape.kernel_h * shape.kernel_w * shape.out_channels)
    return KernelConfig(config.form, dictionary=size, terms=min(config.terms, size))
