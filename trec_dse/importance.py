"""How much a channel matters: the heuristics that decide which ones structured pruning removes.

A channel's score is that of its whole group: of all layers that would lose something if it went.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn

from trec_dse.candidate import PruningHeuristic
from trec_dse.errors import CandidateError

Scorer = Callable[[Any], Tensor]

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
        images, labels: normalised images (n, C, H, W) and their classes (n,): "apoz" reads the images, "taylor" both.
        seed: of "random".
    """

    heuristic: PruningHeuristic = "l2"
    images: Tensor | None = None
    labels: Tensor | None = None
    seed: int = 0


def scorer(model: nn.Module, ranking: Ranking) -> Scorer:
    """A function that gives the importance of each channel of a dependency group of `model`, higher is dearer.

    Gradients that "taylor" leaves on the model are the caller's to clear. Raises CandidateError where the ranking
    lacks the images that its heuristic needs.
    """
    heuristic = ranking.heuristic
    if heuristic == "taylor":
        _backward(model, _required(ranking.images, heuristic, "images"), _required(ranking.labels, heuristic, "labels"))
        return _taylor
    if heuristic == "apoz":
        return _activity(model, _required(ranking.images, heuristic, "images"))
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

    def score(group: Any) -> Tensor:
        makers = [item for item in group if item.dep.handler in OUTPUT_HANDLERS]
        norms = [item for item in makers if isinstance(item.dep.target.module, _BATCH_NORMS)]
        total = torch.zeros(len(group[0].idxs))
        for item in norms or makers:
            total[item.root_idxs] += active[item.dep.target.module][item.idxs]
        return total

    return score
