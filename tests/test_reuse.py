"""The kernels that are reused as hashes: the most telling ones, and a network that answers as before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_pipeline import CANDIDATE, RECIPE, request
from torch import Tensor, nn

from trec_dse.candidate import TrecConfig, TrecPolicy, plain_data
from trec_dse.evaluate import evaluate
from trec_dse.networks import lenet5, mobilenet_v1, resnet8, squeezenet, sru
from trec_dse.prune import fold_batch_norms
from trec_dse.reuse import most_telling, telling_kernels_first
from trec_dse.trec.apply import apply_trec, conv_shapes, trec_layers

SHAPE = (16, 16, 3)


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


def in_rows(kernel: Tensor) -> Tensor:
    """A kernel (C, kh, kw) as rows are unfolded."""
    return kernel.permute(1, 2, 0).flatten()


def kernels(*vectors: tuple[float, float]) -> Tensor:
    """1x1 kernels of two channels."""
    return torch.tensor(vectors, dtype=torch.float32).view(-1, 2, 1, 1)


def test_bits_that_are_balanced_and_differ_are_chosen() -> None:
    # the corners of a square: the first kernel is positive for all, the second and its double part left from right,
    # the fourth parts one corner from three, the last the upper from the lower ones
    rows = torch.tensor([[1.0, 1.0], [1.0, 3.0], [-1.0, 1.0], [-1.0, 3.0]])
    weight = kernels((0, 1), (1, 0), (2, 0), (2, -1), (1, -1.2))
    assert most_telling(rows, weight, TrecConfig(1, 2, "kernel_reuse")) == [1]
    # x - 1.2 y < 0 for all: it tells nothing; 2 x - y > 0 for (1, 1) alone: with the second it makes three groups
    assert most_telling(rows, weight, TrecConfig(2, 2, "kernel_reuse")) == [1, 3]
    # a kernel that parts y from y: two bits, four signatures, which no other pair has
    better = torch.cat([weight, kernels((0.1, 0))])
    up_or_down = torch.tensor([[1.0, 1.0], [1.0, -3.0], [-1.0, 1.0], [-1.0, -3.0]])
    assert most_telling(up_or_down, better, TrecConfig(2, 2, "kernel_reuse")) == [0, 1]


def test_slices_count_each_for_itself() -> None:
    rows = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])
    # the second kernel splits the slice of the first value; the first is 0 there, and the second value never changes
    assert most_telling(rows, kernels((0, 1), (1, 1)), TrecConfig(1, 1, "kernel_reuse")) == [1]


@pytest.mark.parametrize(
    "model",
    [
        lenet5.build(SHAPE, 10),
        resnet8.build(SHAPE, 10, width=0.5),
        mobilenet_v1.build(SHAPE, 10, width=0.25),
        squeezenet.build(SHAPE, 10, width=0.25),
        sru.build(SHAPE, 10, width=16, layers=2, steps=16),
    ],
    ids=["plain and flattened", "sums", "depthwise", "concatenated", "recurrent"],
)
def test_a_network_answers_alike_with_its_channels_in_another_order(model: nn.Module) -> None:
    folded = fold_batch_norms(model.eval())
    images = torch.randn(4, 3, 16, 16)
    shapes = conv_shapes(folded, SHAPE)
    configs = {
        name: TrecConfig(2, shape.unfolded_length, "kernel_reuse")
        for name, shape in shapes.items()
        if shape.out_channels > 2
    }
    changed = telling_kernels_first(folded, configs, images)
    torch.testing.assert_close(changed(images), folded(images), rtol=1e-4, atol=1e-5)
    before, after = folded.state_dict(), changed.state_dict()
    moved = [name for name in configs if not torch.equal(before[f"{name}.weight"], after[f"{name}.weight"])]
    assert bool(moved) == ("recurrence" not in " ".join(dict(model.named_modules())))
    for name in moved:  # the same kernels with the same biases, wherever they are now
        assert torch.allclose(before[f"{name}.bias"].sort().values, after[f"{name}.bias"].sort().values)


def test_the_chosen_kernels_are_what_the_layer_hashes_with() -> None:
    model = lenet5.build((16, 16, 3), 10).eval()
    images = torch.randn(4, 3, 16, 16)
    config = TrecConfig(3, 15, "kernel_reuse")
    rows = nn.functional.unfold(images, 5, padding=2).transpose(1, 2).reshape(-1, 75)
    assert isinstance(model.conv1, nn.Conv2d)
    kernels_of = model.conv1.weight.detach()
    in_order = rows.view(-1, 3, 25).transpose(1, 2).reshape(-1, 75)  # (kh, kw, C), as rows are unfolded
    chosen = most_telling(in_order, kernels_of, config)
    changed = telling_kernels_first(model, {"conv1": config}, images)
    assert torch.equal(changed.get_parameter("conv1.weight")[:3], kernels_of[chosen])
    clustered = apply_trec(changed, {"conv1": config}, images)
    assert torch.equal(trec_layers(clustered)["conv1"].hash_vectors[..., 0].flatten(), in_rows(kernels_of[chosen[0]]))


def test_layers_with_hashes_of_their_own_stay_as_they_are() -> None:
    model = lenet5.build((16, 16, 3), 10).eval()
    changed = telling_kernels_first(model, {"conv1": TrecConfig(3, 15)}, torch.randn(2, 3, 16, 16))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), changed.parameters(), strict=True))


def test_a_candidate_says_which_kernels_are_reused_and_its_key_tells(tmp_path: Path) -> None:
    reused = replace(CANDIDATE, trec=TrecPolicy(3, 3, n_kernel_reuse=2))
    training = replace(RECIPE.training, layer_distillation=1.0)  # compares with the network before, channel by channel
    telling = replace(reused, recipe=replace(RECIPE, reused_kernels="telling", training=training))
    first = replace(reused, recipe=replace(RECIPE, training=training))
    found = {}
    for candidate in (first, telling):
        evaluation = evaluate(request(tmp_path, candidate), lambda text: None)
        found[evaluation.key] = evaluation
    assert len(found) == 2
    costs = [evaluation.estimated for evaluation in found.values()]
    assert costs[0].sram_bytes == costs[1].sram_bytes  # shapes are the same
    assert all(evaluation.is_trained for evaluation in found.values())


def test_candidates_that_reuse_the_first_kernels_keep_the_keys_they_had() -> None:
    assert "reused_kernels" not in str(plain_data(CANDIDATE))
    telling = replace(CANDIDATE, recipe=replace(RECIPE, reused_kernels="telling"))
    assert "'reused_kernels': 'telling'" in str(plain_data(telling))
