"""Pruning step by step: the schedule, and masks that do to a network what pruning will."""

from itertools import pairwise

import pytest
import torch
from test_prune import _Residual, _same_random_numbers_in_every_run, _small, _with_lively_norms
from torch import Tensor, nn

from trec_dse import plugins
from trec_dse.candidate import PruningHeuristic, PruningRecipe
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.importance import Ranking
from trec_dse.networks import cifarnet, own_names
from trec_dse.prune import GradualPruning, agp_progress, prune

__all__ = ["_same_random_numbers_in_every_run"]  # a fixture


def test_the_cubic_schedule_prunes_early_and_ends_where_it_should() -> None:
    recipe = PruningRecipe(schedule="agp", start=10, end=60, interval=10)
    due = {epoch: agp_progress(epoch, 90, recipe) for epoch in range(1, 91)}
    found = {epoch: value for epoch, value in due.items() if value is not None}
    # 1 - (4/5)**3 = 0.488, 1 - (3/5)**3 = 0.784, 1 - (2/5)**3 = 0.936, 1 - (1/5)**3 = 0.992
    assert list(found) == [10, 20, 30, 40, 50, 60]
    assert list(found.values()) == pytest.approx([0, 0.488, 0.784, 0.936, 0.992, 1])


def test_the_schedule_ends_with_the_training_at_the_latest() -> None:
    assert agp_progress(5, 5, PruningRecipe(schedule="agp", start=1, interval=3)) == 1
    assert agp_progress(5, 5, PruningRecipe(schedule="agp", start=1, end=9)) == 1
    assert agp_progress(5, 5, PruningRecipe(schedule="agp", start=5)) is None  # nothing left of the training


@pytest.mark.parametrize("faulty", [{"start": -1}, {"start": 3, "end": 3}, {"interval": 0}])
def test_an_impossible_schedule_is_refused(faulty: dict[str, int]) -> None:
    with pytest.raises(CandidateError, match="needed 0 <= start < end"):
        PruningRecipe(schedule="agp", **faulty)  # type: ignore[arg-type]


def test_masked_channels_give_zero_learn_nothing_and_are_the_ones_removed() -> None:
    model = _small().train()
    gradual = GradualPruning(model, (8, 8, 1), {"*": 0.5})
    gradual.mask(0.488)  # 24 % of 8 channels: 6 or 8 stay, to the next multiple of 4 it is 8
    assert [list(group) for group in gradual.masked] == [[]]
    gradual.mask(1.0)
    masked: list[int] = list(gradual.masked[0])
    assert len(masked) == 4
    before = model.get_parameter("0.weight").detach().clone()
    images = torch.randn(16, 1, 8, 8)
    torch.autograd.backward(nn.functional.cross_entropy(model(images), torch.arange(16) % 4))
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = model.get_parameter("0.weight")
    assert torch.equal(after[masked], before[masked])
    kept = [i for i in range(8) if i not in masked]
    assert not torch.equal(after[kept], before[kept])
    with torch.no_grad():
        after[masked] *= 1000  # important by its norm, but masked it is
    answers = model.eval()(images)
    gradual.release()
    pruned = prune(model, (8, 8, 1), {"*": 0.5}, masked=gradual.masked)
    assert torch.equal(pruned.get_parameter("0.weight"), after[kept])
    torch.testing.assert_close(pruned(images), answers)


def test_masks_only_grow() -> None:
    model = cifarnet.build((32, 32, 3), 10, width=0.5)
    gradual = GradualPruning(model, (32, 32, 3), {"*": 0.75}, ranking=Ranking("random", seed=3))
    seen: list[list[set[int]]] = []
    for progress in (0.3, 0.6, 1.0):
        gradual.mask(progress)
        seen.append([set(channels) for channels in gradual.masked])
    # 32, 32, 192 and 96 channels, from the last layer to the first; 0.3 * 0.75 of 96 is 21.6, to the multiple of 4: 20
    assert [[len(group) for group in step] for step in seen] == [[20, 44, 8, 8], [44, 88, 16, 16], [72, 144, 24, 24]]
    for earlier, later in pairwise(seen):
        assert all(a <= b for a, b in zip(earlier, later, strict=True))
    gradual.release()
    assert not any(module._forward_hooks for module in model.modules())


def test_masks_follow_layers_that_are_added() -> None:
    model = _Residual().eval()
    gradual = GradualPruning(model, (8, 8, 1), {"*": 0.5})
    gradual.mask(1.0)
    masked = list(gradual.masked[0])
    seen: dict[str, Tensor] = {}
    for name in ("stem", "norm"):
        model.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: seen.update({name: y}))
    model(torch.randn(2, 1, 8, 8))
    for output in seen.values():
        assert not output[:, masked].any()
        assert output.any(dim=(0, 2, 3)).sum() == 8


SMALL = {"gru": 8, "sru": 8, "mnist2k": 2.0}  # widths that leave channels to remove; a quarter elsewhere


@pytest.mark.parametrize("network", [name for name in own_names() if name != "tiny"])
@pytest.mark.parametrize("heuristic", ["l2", "apoz"])
def test_a_masked_network_answers_as_the_pruned_one(network: str, heuristic: PruningHeuristic) -> None:
    """Also where layers are added, concatenated, depthwise or normed: what is masked is all that will go."""
    build = plugins.load("networks", network, UnsupportedError).build
    model = _with_lively_norms(build((32, 32, 3), 10, width=SMALL.get(network, 0.25)))
    ranking = Ranking(heuristic, torch.randn(4, 3, 32, 32))
    gradual = GradualPruning(model, (32, 32, 3), {"*": 0.5}, ranking=ranking)
    gradual.mask(0.7)
    gradual.mask(1.0)
    assert any(gradual.masked)
    images = torch.randn(2, 3, 32, 32)
    masked = model(images)
    gradual.release()
    pruned = prune(model, (32, 32, 3), {"*": 0.5}, ranking=ranking, masked=gradual.masked)
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in model.parameters())
    torch.testing.assert_close(pruned(images), masked, rtol=1e-3, atol=1e-3 * float(masked.detach().abs().max()))
