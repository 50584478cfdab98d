"""How much a channel matters: the heuristics that decide which ones structured pruning removes.

A channel's score is that of its whole group: of all layers that would lose something if it went.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from trec_dse.candidate import PruningHeuristic
from trec_dse.errors import CandidateError, ToolchainError

Scorer = Callable[[Any], Tensor]

N_EXPLAINED, N_STEPS = 64, 8  # images that "conductance" looks at, and steps of its integral
N_AT_ONCE = 16  # images, each at all steps

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
OUTPUT_HANDLERS = (
    tp.prune_conv_out_channels,
    tp.prune_linear_out_channels,
    tp.prune_depthwise_conv_out_channels,
    tp.prune_batchnorm_out_channels,
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """How channels are ranked.

    Attributes:
        images, labels: normalised images (n, C, H, W) and their classes (n,): "apoz" reads the images, "taylor" and
            "conductance" both.
        seed: of "random".
    """

    heuristic: PruningHeuristic = "l2"
    images: Tensor | None = None
    labels: Tensor | None = None
    seed: int = 0


def scorer(model: nn.Module, ranking: Ranking) -> Scorer:
    """A function that gives the importance of each channel of a dependency group of `model`, higher is dearer.

    Gradients that "taylor" leaves on the model are the caller's to clear. Raises CandidateError where the ranking
    lacks the images that its heuristic needs, ToolchainError where captum is missing for "conductance".
    """
    heuristic = ranking.heuristic
    if heuristic == "taylor":
        _backward(model, _required(ranking.images, heuristic, "images"), _required(ranking.labels, heuristic, "labels"))
        return _taylor
    if heuristic == "apoz":
        return _activity(model, _required(ranking.images, heuristic, "images"))
    if heuristic == "conductance":
        images = _required(ranking.images, heuristic, "images")
        return _conductance(model, images, _required(ranking.labels, heuristic, "labels"))
    if heuristic == "random":
        generator = torch.Generator().manual_seed(ranking.seed)
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)
    if heuristic == "bn_scale":
        return _norm_scale
    norm = tp.importance.GroupMagnitudeImportance(p=1 if heuristic == "l1" else 2)
    return lambda group: _tensor(norm(group))


def _required(value: Tensor | None, heuristic: str, what: str) -> Tensor:
    if value is None:
        raise CandidateError(f"pruning by {heuristic!r} needs {what}; none were given")
    return value


def _tensor(score: object) -> Tensor:
    assert isinstance(score, Tensor)
    return score.detach().cpu()


def _backward(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    with torch.enable_grad():
        torch.autograd.backward(F.cross_entropy(model(images), labels))


def _taylor(group: Any) -> Tensor:
    return _tensor(tp.importance.GroupTaylorImportance()(group))


def _norm_scale(group: Any) -> Tensor:
    has_norm = any(isinstance(item.dep.target.module, _BATCH_NORMS) for item in group)
    return _tensor((tp.importance.BNScaleImportance() if has_norm else tp.importance.GroupMagnitudeImportance())(group))


def _activity(model: nn.Module, images: Tensor) -> Scorer:
    """Scores by how often a channel is above zero, which is where a ReLU lets it through.

    A batch norm stands between its layer and the ReLU, so where a group has one, only norms are looked at.
    """
    active: dict[nn.Module, Tensor] = {}

    def watch(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        axes = [axis for axis in range(output.ndim) if axis != 1]
        active[module] = (output > 0).float().mean(dim=axes).cpu()

    watched = (nn.Conv2d, nn.Linear, *_BATCH_NORMS)
    handles = [module.register_forward_hook(watch) for module in model.modules() if isinstance(module, watched)]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()

    return _by_channel(active.__getitem__)


def _conductance(model: nn.Module, images: Tensor, labels: Tensor) -> Scorer:
    """Scores by how much of an image's class score comes through a channel, on the way from the mean image to it.

    That is the integral of gradient times change of the channel (Dhamdhere et al., "How important is a neuron?", ICLR
    2019). Over the channels of a layer with no way around it, it adds up to the whole change of the score, but for the
    first and the last 1.6 % of the way, which captum leaves out. Of a channel it is summed over positions, and its size
    is averaged over images.
    """
    try:
        from captum.attr import LayerConductance  # noqa: PLC0415 - seconds to load, and only this heuristic needs it
    except ImportError as problem:
        raise ToolchainError("pruning by 'conductance' needs captum: pip install 'trec_dse[explain]'") from problem
    images, labels = images[:N_EXPLAINED], labels[:N_EXPLAINED]

    @functools.cache
    def through(module: nn.Module) -> Tensor:
        explain, found = LayerConductance(model, module), []
        for part, own in zip(torch.split(images, N_AT_ONCE), torch.split(labels, N_AT_ONCE), strict=True):
            with torch.enable_grad():
                shares = _tensor(explain.attribute(part, target=own, n_steps=N_STEPS))
            found.append(shares.reshape(*shares.shape[:2], -1).sum(dim=2).abs())
        return torch.cat(found).mean(dim=0)

    return _by_channel(through)


def _by_channel(value_of: Callable[[nn.Module], Tensor]) -> Scorer:
    """Adds up the values, one per channel, of the layers that make a group; where it has batch norms, of these."""

    def score(group: Any) -> Tensor:
        makers = [item for item in group if item.dep.handler in OUTPUT_HANDLERS]
        norms = [item for item in makers if isinstance(item.dep.target.module, _BATCH_NORMS)]
        total = torch.zeros(len(group[0].idxs))
        for item in norms or makers:
            total[item.root_idxs] += value_of(item.dep.target.module)[item.idxs]
        return total

    return score
