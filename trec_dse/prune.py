"""Make a dense network smaller: remove output channels, and fold batch norms into the layers before them.

Only shares decide the resulting shapes, never the weights, so that a search knows what fits before it trains.
"""

import copy
import math
from collections.abc import Mapping

import torch
import torch_pruning as tp
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from trec_dse.errors import CandidateError, UnsupportedError

_REMOVERS = {nn.Conv2d: tp.prune_conv_out_channels, nn.Linear: tp.prune_linear_out_channels}


def channel_target(channels: int, share: float, round_to: int) -> int:
    """Channels that stay when `share` of `channels` is removed: the nearest multiple of `round_to`, at least one.

    Share 0 keeps them all; the target never grows with the share and never exceeds `channels`.
    """
    if share == 0:
        return channels
    kept = math.floor((channels * (1 - share) + round_to / 2) / round_to) * round_to
    return min(channels, max(round_to, kept))


def prune(
    model: nn.Module, input_shape: tuple[int, int, int], shares: Mapping[str, float], *, round_to: int = 4
) -> nn.Module:
    """A copy of `model` with the least important output channels of its convolutions and dense layers removed.

    `input_shape` is (H, W, C). `shares` maps layer names to the share removed; "*" stands for every layer not named.
    The last layer, whose outputs are the classes, stays whole. Layers whose channels are added together keep as
    many as the smallest of their shares asks for; where concatenated layers are added to one layer, each of them
    and its part of that one layer. A depthwise convolution keeps the channels that it is given. Importance is the
    L2 norm over all weights of a channel, those that read it included. Raises CandidateError for a name that cannot
    be pruned.
    """
    pruned = copy.deepcopy(model)
    images = torch.zeros(1, input_shape[2], input_shape[0], input_shape[1])
    layers = _layers_in_order(pruned, images)
    _require_names(shares, list(layers))
    classifier = list(layers.values())[-1]
    share_of = {layer: shares.get(name, shares.get("*", 0.0)) for name, layer in layers.items()}
    was_training = pruned.training
    graph = tp.DependencyGraph().build_dependency(pruned.eval(), example_inputs=images)
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    for group in graph.get_all_groups(ignored_layers=[classifier], root_module_types=list(_REMOVERS)):
        removed: list[int] = []
        for layers_of_part, part in _parts(group):
            target = channel_target(len(part), min(share_of[layer] for layer in layers_of_part), round_to)
            if target < len(part):
                order = importance(group)[part].argsort(stable=True)
                removed += [part[i] for i in order[: len(part) - target].tolist()]
        if removed:
            group.prune(idxs=sorted(removed))
    return pruned.train(was_training)


def _parts(group: tp.dependency.Group) -> list[tuple[list[nn.Module], list[int]]]:
    """The group's channels, parted by the layers that make them: those layers, and channel numbers in the group.

    A channel is made by several layers where their outputs are added; by other ones in each part where layers that
    are concatenated meet one layer that is as wide as all of them.
    """
    makers: dict[int, list[nn.Module]] = {}
    for item in group:
        layer = item.dep.target.module
        if _REMOVERS.get(type(layer)) == item.dep.handler:
            for channel in item.root_idxs:
                makers.setdefault(channel, []).append(layer)
    parts: dict[tuple[int, ...], tuple[list[nn.Module], list[int]]] = {}
    for channel in sorted(makers):
        key = tuple(sorted(id(layer) for layer in makers[channel]))
        parts.setdefault(key, (makers[channel], []))[1].append(channel)
    return list(parts.values())


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with every batch norm folded into the convolution or dense layer before it.

    The norm's place is taken by `nn.Identity`, so names stay. Raises UnsupportedError for a norm that follows
    something else, or a layer whose output is also used elsewhere.
    """
    folded = copy.deepcopy(model).eval()
    modules = dict(folded.named_modules())
    for node in _trace(folded).nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            continue
        source = node.args[0]
        assert isinstance(source, fx.Node)
        layer = modules.get(str(source.target)) if source.op == "call_module" else None
        if len(source.users) == 1 and type(layer) is nn.Conv2d:
            fused: nn.Module = fuse_conv_bn_eval(layer, norm)
        elif len(source.users) == 1 and type(layer) is nn.Linear:
            fused = fuse_linear_bn_eval(layer, norm)
        else:
            raise UnsupportedError(
                f"batch norm {node.target!r} follows {source.target!r}; it must follow a convolution or dense layer "
                "whose output nothing else reads"
            )
        _replace(folded, str(source.target), fused)
        _replace(folded, str(node.target), nn.Identity())
    return folded


class _WholeLayers(fx.Tracer):
    """Takes every module without children as one step, our own layers too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None


def _trace(model: nn.Module) -> fx.Graph:
    try:
        return _WholeLayers().trace(model)
    except fx.proxy.TraceError as problem:
        raise UnsupportedError(f"the network's forward pass depends on its data: {problem}") from problem


def _layers_in_order(model: nn.Module, images: torch.Tensor) -> dict[str, nn.Module]:
    """Convolutions, except grouped ones, and dense layers by name, in the order in which they run."""
    names = {
        layer: name
        for name, layer in model.named_modules()
        if type(layer) in _REMOVERS and getattr(layer, "groups", 1) == 1
    }
    order: dict[str, nn.Module] = {}

    def seen(layer: nn.Module, _: tuple[torch.Tensor, ...]) -> None:
        order.setdefault(names[layer], layer)

    handles = [layer.register_forward_pre_hook(seen) for layer in names]
    was_training = model.training
    with torch.no_grad():
        model.eval()(images)
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return order


def _require_names(shares: Mapping[str, float], names: list[str]) -> None:
    prunable = names[:-1]
    for name in shares:
        if name != "*" and name not in prunable:
            raise CandidateError(f"pruning is asked for {name!r}; choose from {', '.join(['*', *prunable])}")


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)
