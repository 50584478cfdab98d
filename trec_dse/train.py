"""The training loop: augmented images, a one-cycle or cosine learning rate, checkpoints; repeatable from a seed."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trec_dse.augment import augmented
from trec_dse.candidate import LearningSchedule, Recipe, TrainingRecipe
from trec_dse.checkpoint import Training, restore_training, save_training
from trec_dse.datasets import Dataset, Split
from trec_dse.errors import CandidateError
from trec_dse.imitate import Imitation

OnEpoch = Callable[[int, int, float, float], None]

_WARM_UP = 0.2  # share of the steps in which the learning rate rises
_MAX_NORM = 5.0  # gradients are clipped to this norm
_EVALUATION_BATCH = 256
_FORMAT = torch.channels_last  # half as fast again as torch's default, on the CPU, for what is trained here


@runtime_checkable
class FollowsTraining(Protocol):
    """A layer that changes while it is trained, told before every epoch what share of it is done, 0 to 1."""

    def follow(self, progress: float) -> None:
        """Adapt to that share."""
        ...


@dataclass(frozen=True)
class Aids:
    """What a training may lean on.

    Attributes:
        teacher: the network that is imitated where `TrainingRecipe` asks for distillation.
        checkpoint: file that holds the state after every epoch; a training that finds it goes on from there.
        until: pause after so many of the epochs; with the checkpoint the rest can follow as if it had not been paused.
    """

    teacher: nn.Module | None = None
    checkpoint: Path | None = None
    until: int | None = None


def train(  # noqa: PLR0913 - the eight are one sentence: who learns what, how, how long, where, who watches and helps
    model: nn.Module,
    dataset: Dataset,
    recipe: Recipe,
    *,
    epochs: int,
    learning_rate: float,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    aids: Aids | None = None,
) -> float:
    """Change the weights of `model` in place and leave it in evaluation mode on `device`.

    Returns the share of the validation images that it then classifies correctly. `on_epoch` gets (epoch from 1, number
    of epochs, mean loss, validation accuracy). Raises CandidateError when the loss is no longer a number, StudyError
    for a checkpoint of something else.
    """
    aids = aids or Aids()
    model.to(device, memory_format=_FORMAT)  # type: ignore[call-overload]
    imitation = None
    if aids.teacher is not None:
        teacher = aids.teacher.to(device, memory_format=_FORMAT)  # type: ignore[call-overload]
        imitation = Imitation(teacher.eval(), recipe.training)
    with torch.random.fork_rng(devices=[] if device == "cpu" else None):
        torch.manual_seed(recipe.seed)  # augmentation, dropout
        training = _start(model, recipe)
        if aids.checkpoint is not None:
            restore_training(aids.checkpoint, training)
        lesson = _Lesson.of(dataset, recipe, imitation, device)
        last = epochs if aids.until is None else min(epochs, aids.until)
        while training.epoch < last:
            loss = _epoch(training, lesson, epochs, learning_rate)
            if not math.isfinite(loss):
                raise CandidateError(
                    f"training diverged: the loss of epoch {training.epoch + 1} of {epochs} is {loss} at learning rate "
                    f"{learning_rate}; try a smaller one"
                )
            judged = model if training.averaged is None else training.averaged.module
            training.accuracy = accuracy(judged, dataset, dataset.validation, device=device)
            training.epoch += 1
            if aids.checkpoint is not None:
                save_training(aids.checkpoint, training)
            if on_epoch is not None:
                on_epoch(training.epoch, epochs, loss, training.accuracy)
    if training.averaged is not None and training.epoch:
        model.load_state_dict(training.averaged.module.state_dict())
    model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return training.accuracy if training.epoch else accuracy(model, dataset, dataset.validation, device=device)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What is learnt from: the images on their device, and how.

    `steps`: batches of an epoch. An image is seen at most once; a rest smaller than a batch waits for the next shuffle.
    """

    dataset: Dataset
    recipe: Recipe
    imitation: Imitation | None
    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, dataset: Dataset, recipe: Recipe, imitation: Imitation | None, device: str) -> "_Lesson":
        subset = dataset.train.stratified(recipe.n_train, recipe.seed) if recipe.n_train else dataset.train
        images, labels = torch.from_numpy(subset.images.copy()), torch.from_numpy(subset.labels.copy())
        return cls(dataset, recipe, imitation, images.to(device), labels.to(device))

    @property
    def steps(self) -> int:
        return max(1, len(self.labels) // self.recipe.batch_size)


def _start(model: nn.Module, recipe: Recipe) -> Training:
    decay = recipe.training.ema
    averaged = _averaged(model, decay) if decay else None
    return Training(model, averaged, _optimizer(model, recipe), torch.Generator().manual_seed(recipe.seed))


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups = _parameter_groups(model, recipe.weight_decay)
    if recipe.training.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.momentum > 0)


def _epoch(training: Training, lesson: _Lesson, epochs: int, learning_rate: float) -> float:
    """One pass over the images; returns the mean loss."""
    model, recipe, steps = training.model, lesson.recipe, lesson.steps
    for module in model.modules():
        if isinstance(module, FollowsTraining):
            module.follow(training.epoch / max(1, epochs - 1))
    order = torch.randperm(len(lesson.labels), generator=training.shuffle).to(lesson.labels.device)
    total = torch.zeros((), device=lesson.labels.device)
    model.train()
    for step in range(steps):
        progress = (training.epoch * steps + step + 0.5) / (epochs * steps)
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate * rate_at(progress, recipe.training.schedule)
        chosen = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
        images = augmented(lesson.dataset.normalise(lesson.images[chosen]), recipe.training)
        images = images.contiguous(memory_format=_FORMAT)
        loss = _loss(model, lesson.imitation, images, lesson.labels[chosen], recipe.training)
        training.optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), _MAX_NORM)
        training.optimizer.step()
        if training.averaged is not None:
            training.averaged.update_parameters(model)
        total += loss.detach()
    return float(total) / steps


def _loss(model: nn.Module, imitation: Imitation | None, images: Tensor, labels: Tensor, how: TrainingRecipe) -> Tensor:
    """Cross entropy, and what a teacher adds to it."""
    watched = nullcontext() if imitation is None else imitation.following(model)
    with watched, torch.autocast(images.device.type, torch.bfloat16, enabled=how.mixed_precision):
        logits = model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=how.label_smoothing)
        return loss if imitation is None else imitation.blend(loss, logits, images)


def rate_at(progress: float, schedule: LearningSchedule) -> float:
    """Share of the peak learning rate after this share of the steps: `one_cycle`, or half a cosine from the start."""
    return one_cycle(progress) if schedule == "one_cycle" else 0.5 * (1 + math.cos(math.pi * progress))


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
