"""The training loop: SGD with Nesterov momentum and a one-cycle learning rate, repeatable from a seed."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import Recipe
from trec_dse.datasets import Dataset, Split
from trec_dse.errors import CandidateError

OnEpoch = Callable[[int, int, float, float], None]

_WARM_UP = 0.2  # share of the steps in which the learning rate rises
_MAX_NORM = 5.0  # gradients are clipped to this norm
_EVALUATION_BATCH = 256


@runtime_checkable
class FollowsTraining(Protocol):
    """A layer that changes while it is trained, told before every epoch what share of it is done, 0 to 1."""

    def follow(self, progress: float) -> None:
        """Adapt to that share."""
        ...


def train(  # noqa: PLR0913 - the seven are one sentence: who learns what, how, how long, where, who watches
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    epochs: int,
    learning_rate: float,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
) -> float:
    """Change the weights of `model` in place and leave it in evaluation mode on `device`.

    Returns the share of the validation images that it then classifies correctly. `on_epoch` gets (epoch from 1, number
    of epochs, mean loss, validation accuracy). Raises CandidateError when the loss is no longer a number.
    """
    model.to(device)
    # An image is seen at most once per epoch; a rest smaller than a batch waits for the next epoch's shuffle.
    subset = dataset.train.stratified(recipe.n_train, recipe.seed) if recipe.n_train else dataset.train
    steps = max(1, len(subset) // recipe.batch_size)
    optimizer = torch.optim.SGD(_parameter_groups(model, recipe.weight_decay), momentum=recipe.momentum, nesterov=True)
    images = torch.from_numpy(subset.images.copy()).to(device)
    labels = torch.from_numpy(subset.labels.copy()).to(device)
    shuffle = torch.Generator().manual_seed(recipe.seed)
    result = math.nan
    with torch.random.fork_rng(devices=[] if device == "cpu" else None):
        torch.manual_seed(recipe.seed)  # dropout
        for epoch in range(epochs):
            for module in model.modules():
                if isinstance(module, FollowsTraining):
                    module.follow(epoch / max(1, epochs - 1))
            order = torch.randperm(len(labels), generator=shuffle).to(device)
            total = torch.zeros((), device=device)
            model.train()
            for step in range(steps):
                rate = learning_rate * one_cycle((epoch * steps + step + 0.5) / (epochs * steps))
                chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
                total += _step(model, optimizer, rate, dataset.normalise(images[chosen]), labels[chosen])
            loss = float(total) / steps
            if not math.isfinite(loss):
                raise CandidateError(
                    f"training diverged: the loss of epoch {epoch + 1} of {epochs} is {loss} at learning rate "
                    f"{learning_rate}; try a smaller one"
                )
            result = accuracy(model, dataset, dataset.validation, device=device)
            if on_epoch is not None:
                on_epoch(epoch + 1, epochs, loss, result)
    return result if epochs else accuracy(model, dataset, dataset.validation, device=device)


def _step(model: nn.Module, optimizer: torch.optim.SGD, rate: float, images: Tensor, labels: Tensor) -> Tensor:
    """One update; returns the loss before it, detached."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), _MAX_NORM)
    optimizer.step()
    return loss.detach()


def one_cycle(progress: float) -> float:
    """Share of the peak learning rate after this share of the steps: linear rise, then half a cosine down to 0."""
    if progress < _WARM_UP:
        return progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


@torch.no_grad()
def accuracy(model: nn.Module, dataset: Dataset, split: Split, *, device: str = "cpu") -> float:
    """Share of the images of `split` that `model` classifies correctly, in evaluation mode and left in it."""
    model.to(device).eval()
    n_correct = 0
    for first in range(0, len(split), _EVALUATION_BATCH):
        images = dataset.normalise(split.images[first : first + _EVALUATION_BATCH]).to(device)
        labels = torch.from_numpy(split.labels[first : first + _EVALUATION_BATCH].copy()).to(device)
        n_correct += int((model(images).argmax(dim=1) == labels).sum())
    return n_correct / len(split)


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight matrices decay; biases, batch norms and what belongs to a hash (its scale means nothing) do not."""
    decaying: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_weight = parameter.ndim > 1 and name.rpartition(".")[2] == "weight"
            (decaying if is_weight else free).append(parameter)
    return [{"params": decaying, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
