"""A training that was cut off ends where it would have ended, and a foreign or damaged checkpoint says so."""

from pathlib import Path

import pytest
import torch
from test_train import _model, halves
from torch import nn

from trec_dse.candidate import Recipe, TrainingRecipe, TrecConfig
from trec_dse.datasets import Dataset
from trec_dse.errors import StudyError
from trec_dse.train import Aids, train
from trec_dse.trec.apply import apply_trec

__all__ = ["halves"]  # a fixture
AUGMENTED = TrainingRecipe(flip=True, shift=1)


class PulledPlugError(Exception):
    """Stands for whatever ends a process in the middle of a training."""


def run(model: nn.Module, data: Dataset, recipe: Recipe, checkpoint: Path | None, stop_after: int = 0) -> list[int]:
    """The epochs that were trained now: four in all, cut off after `stop_after` of them."""
    seen: list[int] = []

    def on_epoch(epoch: int, *_: object) -> None:
        seen.append(epoch)
        if epoch == stop_after:
            raise PulledPlugError

    train(model, data, recipe, epochs=4, learning_rate=0.02, on_epoch=on_epoch, aids=Aids(checkpoint=checkpoint))
    return seen


@pytest.mark.parametrize(
    "training",
    [
        AUGMENTED,
        TrainingRecipe(optimizer="adamw", schedule="cosine"),
        TrainingRecipe(ema=0.9, label_smoothing=0.1, cutout=2),
    ],
)
def test_a_training_cut_off_after_two_epochs_ends_as_if_it_had_not_been(
    training: TrainingRecipe, halves: Dataset, tmp_path: Path
) -> None:
    recipe, checkpoint = Recipe(batch_size=16, seed=5, training=training), tmp_path / "dense.safetensors"
    whole, resumed = _model(), _model(seed=1)  # the second starts elsewhere: all it knows is in the checkpoint
    assert run(whole, halves, recipe, None) == [1, 2, 3, 4]
    with pytest.raises(PulledPlugError):
        run(_model(), halves, recipe, checkpoint, stop_after=2)
    torch.manual_seed(99)
    assert run(resumed, halves, recipe, checkpoint) == [3, 4]
    wanted, found = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_finished_training_is_only_read(halves: Dataset, tmp_path: Path) -> None:
    recipe, checkpoint = Recipe(batch_size=16, training=TrainingRecipe(ema=0.9)), tmp_path / "dense.safetensors"
    model, again = _model(), _model(seed=1)
    run(model, halves, recipe, checkpoint)
    content = checkpoint.read_bytes()
    assert run(again, halves, recipe, checkpoint) == []
    assert checkpoint.read_bytes() == content
    assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())


def test_hashes_and_the_slope_of_their_bits_go_on_too(halves: Dataset, tmp_path: Path) -> None:
    def clustered() -> nn.Module:
        return apply_trec(_model(), {"0": TrecConfig(2, 9)}, halves.normalise(halves.train.images[:32]))

    recipe, checkpoint = Recipe(batch_size=16), tmp_path / "trec.safetensors"
    whole, resumed = clustered(), clustered()
    run(whole, halves, recipe, None)
    with pytest.raises(PulledPlugError):
        run(clustered(), halves, recipe, checkpoint, stop_after=3)
    run(resumed, halves, recipe, checkpoint)
    assert torch.equal(resumed.state_dict()["0.hash"], whole.state_dict()["0.hash"])
    assert resumed.get_submodule("0").slope == whole.get_submodule("0").slope


def test_a_checkpoint_of_another_network_is_refused_by_name(halves: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "dense.safetensors"
    run(_model(), halves, Recipe(batch_size=16), checkpoint)
    with pytest.raises(StudyError, match=r"dense\.safetensors: no checkpoint of this training.*remove it"):
        run(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), halves, Recipe(batch_size=16), checkpoint)


def test_a_cut_file_is_refused(halves: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "dense.safetensors"
    run(_model(), halves, Recipe(batch_size=16), checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(StudyError, match="no checkpoint of this training"):
        run(_model(), halves, Recipe(batch_size=16), checkpoint)
