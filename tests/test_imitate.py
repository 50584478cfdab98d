"""Learning from a teacher: what its logits and its layers' activations add to the loss, by hand."""

import math

import pytest
import torch
from test_train import _model, halves
from torch import Tensor, nn

from trec_dse.candidate import Recipe, TrainingRecipe, TrecConfig
from trec_dse.datasets import Dataset
from trec_dse.imitate import Imitation
from trec_dse.train import Aids, train
from trec_dse.trec.apply import apply_trec

__all__ = ["halves"]  # a fixture
X, RIGHT = torch.tensor([[2.0, 0.0]]), torch.tensor(0.25)


class Undecided(nn.Module):
    """All classes alike."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def test_without_distillation_the_loss_is_that_of_the_right_answers() -> None:
    assert Imitation(Undecided(), TrainingRecipe()).blend(RIGHT, X, X) is RIGHT


def test_a_teacher_with_the_same_logits_adds_nothing() -> None:
    imitation = Imitation(nn.Identity(), TrainingRecipe(distillation=0.5, temperature=2.0))
    assert float(imitation.blend(RIGHT, X, X)) == pytest.approx(0.5 * 0.25)


def test_the_distance_to_a_teacher_is_that_of_softened_answers() -> None:
    imitation = Imitation(Undecided(), TrainingRecipe(distillation=1.0, temperature=2.0))
    p = 1 / (1 + math.exp(-1))  # logits over a temperature of 2: (1, 0)
    distance = 0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p))
    assert float(imitation.blend(RIGHT, X, X)) == pytest.approx(4 * distance, abs=1e-6)


class Chain(nn.Module):
    """Two layers without bias; the first multiplies by `factor`, the second by 1."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.first, self.dropout, self.second = (
            nn.Linear(2, 2, bias=False),
            nn.Dropout(0.5),
            nn.Linear(2, 2, bias=False),
        )
        with torch.no_grad():
            self.first.weight.copy_(factor * torch.eye(2))
            self.second.weight.copy_(torch.eye(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.dropout(self.first(x)))
        return y


def test_layers_are_compared_by_what_they_read() -> None:
    pupil, imitation = Chain(1.5), Imitation(Chain(1.0).eval(), TrainingRecipe(layer_distillation=2.0))
    with imitation.following(pupil):
        loss = imitation.blend(RIGHT, pupil(X), X)
        assert not pupil.dropout.training
    # the first layer reads the same, the second half of the teacher's too much: (0 + 0.25) / 2 layers, twice
    assert float(loss.detach()) == pytest.approx(0.25 + 2 * 0.125)
    torch.autograd.backward(loss)
    assert pupil.first.weight.grad is not None
    assert bool(pupil.first.weight.grad.any())
    assert pupil.second.weight.grad is None  # nothing comes after it that would be compared
    assert not pupil.first._forward_pre_hooks  # no hook stays
    assert pupil.dropout.training


def test_a_pupil_without_layers_of_those_names_learns_from_logits_alone() -> None:
    pupil, imitation = nn.Identity(), Imitation(Chain(1.0), TrainingRecipe(layer_distillation=2.0))
    with imitation.following(pupil):
        assert float(imitation.blend(RIGHT, pupil(X), X)) == pytest.approx(0.25)


def test_a_clustered_network_comes_nearer_to_what_it_was(halves: Dataset) -> None:
    dense = _model()
    train(dense, halves, Recipe(batch_size=16), epochs=2, learning_rate=0.05)
    images, how = halves.normalise(halves.validation.images), TrainingRecipe(layer_distillation=1.0)
    distances = []
    for weight in (0.0, 10.0):
        recipe = Recipe(batch_size=16, training=TrainingRecipe(layer_distillation=weight))
        model = apply_trec(dense, {"0": TrecConfig(2, 9)}, images[:32])
        train(model, halves, recipe, epochs=6, learning_rate=0.02, aids=Aids(dense))
        imitation, zero = Imitation(dense.eval(), how), torch.zeros(())
        with torch.no_grad(), imitation.following(model):
            distances.append(float(imitation.blend(zero, model(images), images)))
    assert distances[1] < 0.97 * distances[0]
