"""Pruning gives shapes that only the shares decide; folding batch norms changes no answer."""

import copy
import sys
from typing import get_args

import pytest
import torch
import torch_pruning as tp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trec_dse.candidate import PruningHeuristic, TrecConfig
from trec_dse.errors import CandidateError, ToolchainError, UnsupportedError
from trec_dse.importance import Ranking, scorer
from trec_dse.networks import cifarnet, lenet5, mobilenet_v1, tiny
from trec_dse.prune import channel_target, fold_batch_norms, prune
from trec_dse.trec.apply import apply_trec


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)


def _channels(model: nn.Module) -> dict[str, int]:
    return {
        name: module.weight.shape[0]
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


@pytest.mark.parametrize(
    ("channels", "share", "round_to", "kept"),
    [
        (32, 0.7, 8, 8),  # 9.6 channels
        (16, 0.7, 8, 8),  # 4.8: at least one group stays
        (32, 0.9, 8, 8),  # 3.2
        (16, 0.25, 4, 12),
        (16, 0.35, 4, 12),  # 10.4 is nearer to 12
        (16, 0.4, 4, 8),  # 9.6 is nearer to 8
        (10, 0.0, 4, 10),
        (10, 0.05, 4, 8),  # 9.5
        (3, 0.9, 4, 3),
        (6, 0.1, 4, 4),
        (7, 0.3, 1, 5),  # 4.9
    ],
)
def test_the_channels_that_stay(channels: int, share: float, round_to: int, kept: int) -> None:
    assert channel_target(channels, share, round_to) == kept


@given(st.integers(1, 512), st.floats(0, 0.99), st.floats(0, 0.99), st.sampled_from([1, 4, 8]))
def test_a_larger_share_never_keeps_more(channels: int, share: float, other: float, round_to: int) -> None:
    small, large = sorted((share, other))
    assert 1 <= channel_target(channels, large, round_to) <= channel_target(channels, small, round_to) <= channels


def test_shares_decide_the_shapes() -> None:
    model = cifarnet.build((32, 32, 3), 10, width=0.25)  # 16, 16, 96, 48, 10
    pruned = prune(model, (32, 32, 3), {"*": 0.5, "conv1": 0.25, "fc2": 0.0})
    assert _channels(pruned) == {"conv1": 12, "conv2": 8, "fc1": 48, "fc2": 48, "fc3": 10}
    assert pruned.get_parameter("fc1.weight").shape == (48, 5 * 5 * 8)
    assert pruned(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_a_high_share_prunes_more_than_a_low_one_and_never_nothing() -> None:
    """Rounding the kept channels down to 0 must not mean that the layer is left alone."""
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32 * 16, 4))
    kept = []
    for share in (0.0, 0.3, 0.5, 0.7, 0.9, 0.99):
        pruned = prune(model, (8, 8, 1), {"*": share}, round_to=8)
        kept.append((pruned.get_parameter("0.weight").shape[0], pruned.get_parameter("2.weight").shape[0]))
    assert kept == [(16, 32), (8, 24), (8, 16), (8, 8), (8, 8), (8, 8)]


@pytest.mark.parametrize("share", [0.1, 0.33, 0.5, 0.65, 0.9])
def test_weights_do_not_decide_the_shapes(share: float) -> None:
    shapes = []
    for _ in range(3):
        model = tiny.build((8, 8, 1), 10, width=20, depth=3)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=10 ** float(torch.empty(()).uniform_(-3, 3)))
        shapes.append(_channels(prune(model, (8, 8, 1), {"*": share})))
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0]["conv2"] == channel_target(20, share, 4)


def test_the_weak_channels_go() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    weak = [1, 2, 5, 7]
    with torch.no_grad():
        model.get_parameter("0.weight")[weak] *= 1e-3
        model.get_parameter("1.weight")[weak] *= 1e-3
        model.get_parameter("4.weight").view(4, 8, 36)[:, weak] *= 1e-3
    pruned = prune(model, (8, 8, 1), {"0": 0.5})
    assert torch.equal(pruned.get_parameter("0.weight"), model.get_parameter("0.weight")[[0, 3, 4, 6]])
    assert torch.equal(
        pruned.get_parameter("4.weight"), model.get_parameter("4.weight").view(4, 8, 36)[:, [0, 3, 4, 6]].reshape(4, -1)
    )


def test_pruning_changes_a_copy_repeats_itself_and_share_zero_changes_nothing() -> None:
    model = lenet5.build((28, 28, 1), 10).train()
    before = copy.deepcopy(model.state_dict())
    first, second = (prune(model, (28, 28, 1), {"*": 0.4}) for _ in range(2))
    assert first.training
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    untouched = prune(model, (28, 28, 1), {"*": 0.0})
    assert all(torch.equal(before[name], value) for name, value in untouched.state_dict().items())
    assert _channels(first) == {"conv1": 4, "conv2": 8, "fc1": 72, "fc2": 52, "fc3": 10}


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.branch = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16 * 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        result: Tensor = self.head(torch.relu(x + self.norm(self.branch(x))).flatten(1))
        return result


def test_layers_that_are_added_keep_as_many_as_the_smallest_share_asks() -> None:
    pruned = prune(_Residual(), (8, 8, 1), {"stem": 0.75, "branch": 0.25})
    assert _channels(pruned) == {"stem": 12, "branch": 12, "head": 3}
    assert pruned(torch.randn(1, 1, 8, 8)).shape == (1, 3)


class _Concatenated(nn.Module):
    """A wide layer is added to two narrow ones side by side, as in SqueezeNet's complex bypass."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 8, 1)
        self.right = nn.Conv2d(1, 16, 3, padding=1)
        self.wide = nn.Conv2d(1, 24, 1)
        self.head = nn.Conv2d(24, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = self.wide(x) + torch.cat([self.left(x), self.right(x)], 1)
        result: Tensor = self.head(torch.relu(both)).mean((2, 3))
        return result


def test_concatenated_layers_that_meet_a_wide_one_are_pruned_part_by_part() -> None:
    model = _Concatenated()
    with torch.no_grad():
        model.right.weight *= 1e-3  # so that all weak channels lie in one part
    pruned = prune(model, (8, 8, 1), {"*": 0.5})
    assert _channels(pruned) == {"left": 4, "right": 8, "wide": 12, "head": 3}
    pruned = prune(model, (8, 8, 1), {"right": 0.5, "wide": 0.25})
    assert _channels(pruned) == {"left": 8, "right": 12, "wide": 20, "head": 3}
    assert pruned(torch.randn(1, 1, 8, 8)).shape == (1, 3)


def test_a_depthwise_layer_keeps_what_it_is_given_and_cannot_be_asked_for() -> None:
    model = mobilenet_v1.build((16, 16, 3), 10)
    pruned = prune(model, (16, 16, 3), {"block2.pointwise": 0.5})
    changed = {name: kept for name, kept in _channels(pruned).items() if kept != _channels(model)[name]}
    assert changed == {"block2.pointwise": 16, "block3.depthwise": 16}
    with pytest.raises(CandidateError, match=r"'block3.depthwise'; choose from \*, conv1, block1.pointwise"):
        prune(model, (16, 16, 3), {"block3.depthwise": 0.5})


@pytest.mark.parametrize("name", ["conv9", "fc3", "bn1"])
def test_only_hidden_convolutions_and_dense_layers_can_be_pruned(name: str) -> None:
    with pytest.raises(CandidateError, match=rf"'{name}'; choose from \*, conv1, conv2, fc1, fc2"):
        prune(lenet5.build((28, 28, 1), 10), (28, 28, 1), {name: 0.5})


def _with_lively_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.1
    return model.eval()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (cifarnet.build((20, 20, 3), 10, width=0.25), (2, 3, 20, 20)),
        (tiny.build((8, 8, 1), 10, width=4, depth=3), (2, 1, 8, 8)),
        (nn.Sequential(nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2)), (3, 5)),
    ],
)
def test_folding_norms_changes_no_answer(model: nn.Module, shape: tuple[int, ...]) -> None:
    lively = _with_lively_norms(model)
    folded = fold_batch_norms(lively)
    x = torch.randn(shape)
    torch.testing.assert_close(folded(x), lively(x), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in folded.modules())
    assert [name for name, _ in folded.named_modules()] == [name for name, _ in lively.named_modules()]
    assert not folded.training
    assert any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in lively.modules())


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)),
    ],
)
def test_a_norm_that_follows_nothing_to_fold_into_is_refused(model: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="must follow a convolution or dense layer"):
        fold_batch_norms(model)


def test_a_layer_that_is_read_twice_is_not_folded_into() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            result: Tensor = x + self.norm(x)
            return result

    with pytest.raises(UnsupportedError, match="whose output nothing else reads"):
        fold_batch_norms(Shared())


def test_a_norm_after_a_trec_layer_is_refused_but_trec_layers_elsewhere_are_fine() -> None:
    model = tiny.build((8, 8, 1), 10, width=4, depth=2).eval()
    images = torch.randn(4, 1, 8, 8)
    partly = apply_trec(fold_batch_norms(model), {"conv1": TrecConfig(2, 3)}, images)
    torch.testing.assert_close(fold_batch_norms(partly)(images), partly.eval()(images))
    with pytest.raises(UnsupportedError, match="'bn1' follows 'conv1'"):
        fold_batch_norms(apply_trec(model, {"conv1": TrecConfig(2, 3)}, images))


def test_a_network_that_decides_by_its_data_is_refused() -> None:
    class Moody(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedError, match="depends on its data"):
        fold_batch_norms(Moody())


def _ranked(model: nn.Module, heuristic: PruningHeuristic, shape: tuple[int, int, int], share: float) -> list[int]:
    """The channels of the first layer that a heuristic keeps."""
    height, width, channels = shape
    labels = torch.arange(32) % 4
    ranking = Ranking(heuristic, torch.randn(32, channels, height, width), labels, seed=1)
    first = next(iter(model.parameters()))
    kept = next(iter(prune(model, shape, {"0": share}, ranking=ranking).parameters()))
    return [i for i, channel in enumerate(first) if any(torch.equal(channel, other) for other in kept)]


def _small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))


def test_l1_and_l2_disagree_about_one_large_and_many_small_weights() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    with torch.no_grad():
        model.get_parameter("3.weight").fill_(0.0)
        weight = model.get_parameter("0.weight").zero_()
        weight[:4] = 0.5  # L1 4.5, L2 squared 2.25
        weight[4:, 0, 0, 0] = 2.0  # L1 2.0, L2 squared 4.0
    assert _ranked(model, "l1", (8, 8, 1), 0.5) == [0, 1, 2, 3]
    assert _ranked(model, "l2", (8, 8, 1), 0.5) == [4, 5, 6, 7]


def test_taylor_drops_what_the_loss_does_not_depend_on_however_large_it_is() -> None:
    model = _small().eval()
    with torch.no_grad():
        model.get_parameter("0.weight")[4:] *= 100
        model.get_parameter("4.weight").view(4, 8, 36)[:, 4:] = 0.0  # nothing reads them
    assert _ranked(model, "taylor", (8, 8, 1), 0.5) == [0, 1, 2, 3]
    assert _ranked(model, "l2", (8, 8, 1), 0.5) == [4, 5, 6, 7]


def test_apoz_drops_what_is_mostly_zero_after_the_batch_norm_and_its_relu() -> None:
    model = _small().eval()
    with torch.no_grad():
        model.get_parameter("1.bias").copy_(torch.tensor([3.0, -3.0] * 4))
    assert _ranked(model, "apoz", (8, 8, 1), 0.5) == [0, 2, 4, 6]


def test_conductance_drops_what_does_not_reach_the_class_that_is_right() -> None:
    model = _small().eval()
    with torch.no_grad():
        model.get_parameter("0.weight")[4:] *= 100
        readers = model.get_parameter("4.weight").view(4, 8, 36)
        readers[:, 4:] = 0.0  # nothing reads the large ones
        readers[:, 2:4] *= 0.001
        readers[:, :2] = 1.0
    assert _ranked(model, "conductance", (8, 8, 1), 0.5) == [0, 1, 2, 3]


def test_conductances_add_up_to_what_an_image_changes_in_its_class() -> None:
    conv, fc = nn.Conv2d(1, 4, 1, bias=False), nn.Linear(4, 2, bias=False)
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), fc)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]).view(4, 1, 1, 1))
        fc.weight.copy_(torch.tensor([[3.0, -1.0, 5.0, 2.0], [0.0, 0.0, 0.0, 8.0]]))
    # a pixel of 2 after 0: channels give 2, 4, 0 (negative) and 1; class 0 weighs them 3, -1, 5, 2, class 1 the last
    images, labels = torch.full((2, 1, 1, 1), 2.0), torch.tensor([0, 1])
    scores: list[list[float]] = []
    for own in (labels[:1], labels[1:], labels):
        score = scorer(model, Ranking("conductance", images[: len(own)], own))
        group = (
            tp.DependencyGraph()
            .build_dependency(model, images)
            .get_pruning_group(conv, tp.prune_conv_out_channels, [0, 1, 2, 3])
        )
        scores.append(score(group).tolist())
    assert scores[0] == pytest.approx([6, 4, 0, 2], rel=0.04)
    assert scores[1] == pytest.approx([0, 0, 0, 8], rel=0.04)
    assert scores[2] == pytest.approx([3, 2, 0, 5], rel=0.04)  # the mean over both images


def test_without_captum_its_heuristic_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ToolchainError, match=r"needs captum: pip install 'trec_dse\[explain\]'"):
        _ranked(_small(), "conductance", (8, 8, 1), 0.5)


def test_batch_norm_scales_decide_where_there_are_any() -> None:
    model = _small()
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.tensor([0.1, 1.0] * 4))
    assert _ranked(model, "bn_scale", (8, 8, 1), 0.5) == [1, 3, 5, 7]
    bare = lenet5.build((28, 28, 1), 10)
    by_scale, by_norm = (
        prune(bare, (28, 28, 1), {"*": 0.5}, ranking=Ranking(heuristic)) for heuristic in ("bn_scale", "l2")
    )
    assert all(torch.equal(a, b) for a, b in zip(by_scale.parameters(), by_norm.parameters(), strict=True))


def test_random_pruning_follows_its_seed() -> None:
    model = _small()
    kept = [
        prune(model, (8, 8, 1), {"0": 0.5}, ranking=Ranking("random", seed=seed)).get_parameter("0.weight")
        for seed in (1, 1, 2)
    ]
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])


@pytest.mark.parametrize("heuristic", get_args(PruningHeuristic))
def test_every_heuristic_gives_the_same_shapes_and_leaves_no_gradient(heuristic: PruningHeuristic) -> None:
    images = torch.randn(8, 1, 8, 8)
    ranking = Ranking(heuristic, images, torch.arange(8) % 3)
    pruned = prune(_Residual(), (8, 8, 1), {"*": 0.5}, ranking=ranking)
    assert _channels(pruned) == {"stem": 8, "branch": 8, "head": 3}
    assert pruned(images).shape == (8, 3)
    assert all(parameter.grad is None for parameter in pruned.parameters())


@pytest.mark.parametrize(
    ("heuristic", "missing"), [("apoz", "images"), ("taylor", "images"), ("conductance", "images")]
)
def test_a_heuristic_without_its_images_is_refused(heuristic: PruningHeuristic, missing: str) -> None:
    with pytest.raises(CandidateError, match=f"'{heuristic}' needs {missing}; none were given"):
        prune(_small(), (8, 8, 1), {"*": 0.5}, ranking=Ranking(heuristic))
