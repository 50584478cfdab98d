"""Make a dense network smaller: remove output channels, and fold batch norms into the layers before them.

Only shares decide the resulting shapes, never the weights, so that a search knows what fits before it trains.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils.hooks import RemovableHandle

from trec_dse.candidate import PruningRecipe
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.importance import OUTPUT_HANDLERS, Ranking, scorer
from trec_dse.trec.recurrent import Gates, GruRecurrence

Removals = Sequence[Sequence[int]]  # per group of coupled layers, numbers of channels

BY_L2 = Ranking()
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
    model: nn.Module,
    input_shape: tuple[int, int, int],
    shares: Mapping[str, float],
    *,
    round_to: int = 4,
    ranking: Ranking = BY_L2,
    masked: Removals = (),
) -> nn.Module:
    """A copy of `model` with the least important output channels of its convolutions and dense layers removed.

    `input_shape` is (H, W, C). `shares` maps layer names to the share removed; "*" stands for every layer not named.
    The last layer, whose outputs are the classes, stays whole. Layers whose channels are added together keep as
    many as the smallest of their shares asks for; where concatenated layers are added to one layer, each of them
    and its part of that one layer. A depthwise convolution keeps the channels that it is given. `ranking` says what
    is important; the channels in `masked`, see `GradualPruning`, go first. Raises CandidateError for a name that
    cannot be pruned.
    """
    pruned = copy.deepcopy(model)
    was_training = pruned.training
    groups = _Groups(pruned.eval(), input_shape, shares, round_to)
    removals = groups.weakest(ranking, masked)
    # one group after the other: removing channels shifts those of concatenated layers behind them
    for group, channels in zip(groups.walk(), removals, strict=True):
        if channels:
            group.prune(idxs=list(channels))
    return pruned.train(was_training)


class _HiddenUnits(tp.BasePruningFunc):  # type: ignore[misc]
    """How a recurrence with hidden products loses units: their rows of all gates, and what others read of them."""

    def prune_out_channels(self, layer: GruRecurrence, idxs: Sequence[int]) -> nn.Module:
        units = layer.weight.shape[1]
        kept = torch.tensor([i for i in range(units) if i not in set(idxs)])
        rows = torch.cat([kept + gate * units for gate in range(3)])
        layer.weight = nn.Parameter(layer.weight.detach()[rows][:, kept].clone())
        layer.bias = nn.Parameter(layer.bias.detach()[rows].clone())
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: GruRecurrence) -> int:
        return layer.weight.shape[1]

    get_in_channels = get_out_channels


_HIDDEN_UNITS = _HiddenUnits()


class _Groups:
    """The layers of `model` that lose channels together, and how many each group loses."""

    def __init__(
        self, model: nn.Module, input_shape: tuple[int, int, int], shares: Mapping[str, float], round_to: int
    ) -> None:
        images = torch.zeros(1, input_shape[2], input_shape[0], input_shape[1])
        layers = _layers_in_order(model, images)
        _require_names(shares, list(layers))
        self._model, self._round_to = model, round_to
        self._classifier = list(layers.values())[-1]
        self._share_of = {layer: shares.get(name, shares.get("*", 0.0)) for name, layer in layers.items()}
        self._graph = tp.DependencyGraph().build_dependency(
            model, example_inputs=images, customized_pruners={GruRecurrence: _HIDDEN_UNITS}
        )

    def walk(self) -> Iterator[Any]:
        """The groups, always in the same order, each as the network is when its turn comes."""
        yield from self._graph.get_all_groups(ignored_layers=[self._classifier], root_module_types=list(_REMOVERS))

    def weakest(self, ranking: Ranking, first: Removals = ()) -> Removals:
        """Per group, the channels that go: those in `first`, then the least important; the earliest on ties."""
        importance = scorer(self._model, ranking)
        removals = []
        for i, group in enumerate(self.walk()):
            removed: list[int] = []
            scores: Tensor | None = None
            for layers, part in _parts(group):
                target = channel_target(len(part), min(self._share_of[layer] for layer in layers), self._round_to)
                if target == len(part):
                    continue
                if scores is None:
                    scores = importance(group).clone()
                    scores[list(first[i]) if i < len(first) else []] = -math.inf
                order = scores[part].argsort(stable=True).tolist()
                removed += [part[k] for k in order[: len(part) - target]]
            removals.append(tuple(sorted(removed)))
        self._model.zero_grad(set_to_none=True)
        return tuple(removals)

    def _n_removed(self, layers: list[nn.Module], part: list[int]) -> int:
        share = min(self._share_of[layer] for layer in layers)
        return len(part) - channel_target(len(part), share, self._round_to)

    def outputs(self, removals: Removals) -> Iterator[tuple[nn.Module, list[int]]]:
        """Every module that gives channels of `removals`, and which of its own they are."""
        handlers = (*OUTPUT_HANDLERS, _HIDDEN_UNITS.prune_out_channels)
        for group, removed in zip(self.walk(), removals, strict=True):
            for item in group:
                pairs = zip(item.idxs, item.root_idxs, strict=True)
                channels = [own for own, root in pairs if root in removed]
                if channels and item.dep.handler in handlers:
                    yield item.dep.target.module, channels


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


class GradualPruning:
    """Silences more and more channels of a model in training, so that it can adapt before they are removed.

    A masked channel gives 0 and learns nothing; it is never unmasked. The model itself is only hooked, not changed but
    for what a recurrence adds to the candidates of masked units.

    Attributes:
        masked: per group of coupled layers the masked channels, for `prune` to remove first.
    """

    masked: Removals

    def __init__(
        self,
        model: nn.Module,
        input_shape: tuple[int, int, int],
        shares: Mapping[str, float],
        *,
        round_to: int = 4,
        ranking: Ranking = BY_L2,
    ) -> None:
        self._model, self._input_shape, self._shares = model, input_shape, shares
        self._round_to, self._ranking = round_to, ranking
        self._hooks: list[RemovableHandle] = []
        self.masked = ()

    def mask(self, progress: float) -> None:
        """Mask that part, 0 to 1, of what is to be removed in the end, by the importance that channels have now."""
        self.release()
        probe = copy.deepcopy(self._model).cpu().eval()
        names = {module: name for name, module in probe.named_modules()}
        shares = {name: share * progress for name, share in self._shares.items()}
        groups = _Groups(probe, self._input_shape, shares, self._round_to)
        for module, channels in groups.outputs(self.masked) if self.masked else ():
            _silence(module, channels)
        self.masked = groups.weakest(self._ranking, self.masked)
        for module, channels in groups.outputs(self.masked):
            hooked = self._model.get_submodule(names[module])
            self._hooks.append(_mask(hooked, channels))

    def release(self) -> None:
        """Take the masks off the model; `masked` still knows them."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def agp_progress(epoch: int, n_epochs: int, recipe: PruningRecipe) -> float | None:
    """Part of the pruning, 0 to 1, that is due after `epoch` of `n_epochs` epochs; None where no step is."""
    end = min(recipe.end or n_epochs, n_epochs)
    if epoch < recipe.start or epoch > end or end <= recipe.start:
        return None
    if epoch < end and (epoch - recipe.start) % recipe.interval:
        return None
    return 1 - (1 - (epoch - recipe.start) / (end - recipe.start)) ** 3


def _mask(module: nn.Module, channels: list[int]) -> RemovableHandle:
    """Hook `module` so that those channels of it are 0; a recurrence gives 0 where nothing makes a candidate of it."""
    if isinstance(module, GruRecurrence):
        return module.register_forward_pre_hook(lambda recurrence, _: _silence(recurrence, channels))
    return module.register_forward_hook(_masker(channels))


def _masker(channels: list[int]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
        mask = torch.ones(output.shape[1], device=output.device)
        mask[channels] = 0
        return output * mask.view(-1, *[1] * (output.ndim - 2))

    return hook


@torch.no_grad()
def _silence(module: nn.Module, channels: list[int]) -> None:
    """Make those outputs of a layer or batch norm exactly 0; of a recurrence, where its products with the input are."""
    if isinstance(module, GruRecurrence):
        candidates = [2 * module.weight.shape[1] + channel for channel in channels]
        module.weight[candidates] = 0
        module.bias[candidates] = 0
        return
    for name, parameter in module.named_parameters(recurse=False):
        if name in ("weight", "bias"):
            parameter[channels] = 0


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with every batch norm folded into the convolution or dense layer before it.

    The norm's place is taken by `nn.Identity`, so names stay; the gates of a recurrent layer become one convolution.
    Raises UnsupportedError for a norm that follows something else, or a layer whose output is also used elsewhere.
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
    for name, module in modules.items():
        if isinstance(module, Gates):
            _replace(folded, name, module.merged())
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
