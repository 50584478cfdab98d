"""Training: it learns, it repeats itself, it says when it diverges."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trec_dse.candidate import Recipe, TrainingRecipe, TrecConfig
from trec_dse.datasets import Dataset, Split
from trec_dse.errors import CandidateError
from trec_dse.train import _parameter_groups, accuracy, one_cycle, rate_at, train
from trec_dse.trec.apply import apply_trec, trec_layers


@pytest.fixture(scope="module")
def halves() -> Dataset:
    """Two classes of 4x4 images: the bright half is on the left or on the right."""
    random = np.random.RandomState(0)
    labels = np.arange(240) % 2
    images = random.randint(0, 120, (240, 4, 4, 1))
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 2] += 100
    whole = Split(images.astype(np.uint8), labels.astype(np.int64))
    rows = np.arange(240)
    return Dataset.of("halves", whole.take(rows[:160]), whole.take(rows[160:200]), whole.take(rows[200:]))


def _model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 2)
        )


def test_training_learns_and_reports_every_epoch(halves: Dataset) -> None:
    seen: list[tuple[int, int, float, float]] = []
    model = _model()
    result = train(
        model,
        halves,
        Recipe(batch_size=16),
        epochs=3,
        learning_rate=0.05,
        on_epoch=lambda *report: seen.append(report),
    )
    assert result > 0.95
    assert [(epoch, n_epochs) for epoch, n_epochs, _, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[-1][2] < seen[0][2]
    assert seen[-1][3] == result == accuracy(model, halves, halves.validation)
    assert not model.training


def test_the_same_recipe_gives_the_same_weights_whatever_was_drawn_before(halves: Dataset) -> None:
    models = [_model(), _model(), _model()]
    for model, seed, noise in zip(models, (3, 3, 4), (1, 2, 1), strict=True):
        torch.manual_seed(noise)
        train(model, halves, Recipe(batch_size=16, seed=seed), epochs=1, learning_rate=0.05)
    first, same, other = (model.state_dict()["5.weight"] for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_no_epochs_only_measure(halves: Dataset) -> None:
    model = _model()
    before = copy.deepcopy(model.state_dict())
    result = train(model, halves, Recipe(), epochs=0, learning_rate=0.05)
    assert result == accuracy(model, halves, halves.validation)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_n_train_takes_a_part_of_the_training_images(halves: Dataset) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = _model()
            self.n_seen = 0

        def forward(self, x: Tensor) -> Tensor:
            self.n_seen += len(x) if self.training else 0
            result: Tensor = self.inner(x)
            return result

    model = Counts()
    train(model, halves, Recipe(batch_size=8, n_train=24), epochs=2, learning_rate=0.01)
    assert model.n_seen == 2 * 24


def test_fewer_images_than_a_batch_still_train(halves: Dataset) -> None:
    model = _model()
    before = copy.deepcopy(model.state_dict())
    train(model, halves, Recipe(batch_size=64, n_train=10), epochs=1, learning_rate=0.05)
    assert not torch.equal(model.state_dict()["0.weight"], before["0.weight"])


def test_a_loss_that_is_no_number_stops_the_training(halves: Dataset) -> None:
    model = _model()
    with torch.no_grad():
        model.get_parameter("5.weight").fill_(math.inf)
    with pytest.raises(CandidateError, match=r"epoch 1 of 5 is nan at learning rate 0\.1; try a smaller one"):
        train(model, halves, Recipe(batch_size=16), epochs=5, learning_rate=0.1)


def test_trec_layers_learn_their_hash_and_sharpen_it(halves: Dataset) -> None:
    dense = _model()
    train(dense, halves, Recipe(batch_size=16), epochs=2, learning_rate=0.05)
    model = apply_trec(dense, {"0": TrecConfig(2, 9)}, halves.normalise(halves.train.images[:32]))
    layer = trec_layers(model)["0"]
    assert layer.hash is not None
    before = layer.hash.detach().clone()
    assert train(model, halves, Recipe(batch_size=16), epochs=2, learning_rate=0.02) > 0.9
    assert not torch.equal(layer.hash, before)
    assert layer.slope == pytest.approx(8)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    assert [one_cycle(p) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_only_weight_matrices_decay() -> None:
    model = apply_trec(_model(), {"0": TrecConfig(2, 9)}, torch.randn(2, 1, 4, 4))
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = torch.optim.SGD(_parameter_groups(model, 0.1)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [names[parameter] for parameter in groups[0]["params"]] == ["0.weight", "5.weight"]
    free = {names[parameter] for parameter in groups[1]["params"]}
    assert free == {"0.bias", "0.hash", "0.thresholds", "1.weight", "1.bias", "5.bias"}


def test_accuracy_counts_right_answers() -> None:
    class Brightest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    images = np.zeros((4, 1, 2, 1), np.uint8)
    images[[0, 1, 2, 3], 0, [0, 1, 1, 1], 0] = 255
    split = Split(images, np.array([0, 1, 1, 0]))  # three of four are right
    assert accuracy(Brightest(), Dataset.of("dots", split, split, split), split) == 0.75


def test_cosine_falls_from_the_start() -> None:
    assert [rate_at(p, "cosine") for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    assert rate_at(0.1, "one_cycle") == pytest.approx(0.5)


def test_the_average_of_the_weights_is_what_stays(halves: Dataset) -> None:
    models = [_model(), _model()]
    recipes = [Recipe(batch_size=16, training=TrainingRecipe(ema=ema)) for ema in (0.0, 0.999)]
    results = [
        train(model, halves, recipe, epochs=1, learning_rate=0.05)
        for model, recipe in zip(models, recipes, strict=True)
    ]
    moved = [(model.get_parameter("5.weight") - _model().get_parameter("5.weight")).norm() for model in models]
    assert 0 < moved[1] < 0.1 * moved[0]  # ten steps at 0.999 hardly move
    assert results[1] == accuracy(models[1], halves, halves.validation)


@pytest.mark.parametrize("training", [TrainingRecipe(optimizer="adamw"), TrainingRecipe(mixed_precision=True)])
def test_other_ways_of_learning_learn(training: TrainingRecipe, halves: Dataset) -> None:
    rate = 0.01 if training.optimizer == "adamw" else 0.05
    assert train(_model(), halves, Recipe(batch_size=16, training=training), epochs=3, learning_rate=rate) > 0.95


def test_a_training_recipe_out_of_range_is_refused() -> None:
    with pytest.raises(CandidateError, match=r"ema is 1\.0; it must lie in"):
        TrainingRecipe(ema=1.0)
    with pytest.raises(CandidateError, match=r"label_smoothing is -0\.1"):
        TrainingRecipe(label_smoothing=-0.1)
    with pytest.raises(CandidateError, match=r"distillation is 1\.1"):
        TrainingRecipe(distillation=1.1)
    with pytest.raises(CandidateError, match=r"shift is -1; it must be at least 0"):
        TrainingRecipe(shift=-1)
    with pytest.raises(CandidateError, match=r"temperature is 0; it must be above 0"):
        TrainingRecipe(temperature=0)
