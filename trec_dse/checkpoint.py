"""A training on disk after every epoch, as safetensors: continued from there, it ends as if it had never stopped."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trec_dse.durable import write_bytes
from trec_dse.errors import StudyError

_PROGRESS = "progress"


@dataclass
class Training:
    """What changes while a network is trained.

    Attributes:
        averaged: the running average of the weights, where one is kept.
        shuffle: draws the order of the images; everything else draws from torch's own generators.
        epoch: epochs done; accuracy: of the validation images after the last of them, NaN before the first.
    """

    model: nn.Module
    averaged: AveragedModel | None
    optimizer: torch.optim.Optimizer
    shuffle: torch.Generator
    epoch: int = 0
    accuracy: float = float("nan")


def save_training(path: Path, training: Training) -> None:
    """Replace the file at `path` by the state of `training`, in one step that survives a crash."""
    progress = json.dumps({"epoch": training.epoch, "accuracy": training.accuracy})
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _tensors(training).items()}
    write_bytes(path, save(tensors, {_PROGRESS: progress}))


def epochs_done(path: Path) -> int:
    """After how many epochs the file at `path` was written; 0 if there is none, or none that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return int(json.loads(file.metadata()[_PROGRESS])["epoch"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return 0


def restore_training(path: Path, training: Training) -> bool:
    """Put `training` where the file at `path` left it; False, and nothing changed, if there is no file.

    Raises StudyError if the file is damaged or belongs to another network or optimiser.
    """
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()[_PROGRESS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        training.epoch, training.accuracy = int(progress["epoch"]), float(progress["accuracy"])
        _restore(tensors, training)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as problem:
        found = " ".join(str(problem).split())
        raise StudyError(f"{path}: no checkpoint of this training: {found}; remove it to start afresh") from problem
    return True


def _tensors(training: Training) -> dict[str, Tensor]:
    found = {f"model.{name}": tensor for name, tensor in training.model.state_dict().items()}
    if training.averaged is not None:
        found |= {f"averaged.{name}": tensor for name, tensor in training.averaged.state_dict().items()}
    for index, slots in training.optimizer.state_dict()["state"].items():
        found |= {f"optimizer.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    found |= {"random.cpu": torch.get_rng_state(), "random.shuffle": training.shuffle.get_state()}
    if torch.cuda.is_available():
        found["random.cuda"] = torch.cuda.get_rng_state()
    return found


def _restore(tensors: dict[str, Tensor], training: Training) -> None:
    training.model.load_state_dict(_part(tensors, "model."))
    if training.averaged is not None:
        training.averaged.load_state_dict(_part(tensors, "averaged."))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, _, slot = name.partition(".")
        state.setdefault(int(index), {})[slot] = tensor
    groups = training.optimizer.state_dict()["param_groups"]
    training.optimizer.load_state_dict({"state": state, "param_groups": groups})
    torch.set_rng_state(tensors["random.cpu"])
    training.shuffle.set_state(tensors["random.shuffle"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
