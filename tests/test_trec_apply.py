"""TREC goes into a copy of a network, each hash set from what its layer really sees."""

import pytest
import torch
from torch import Tensor, nn

from trec_dse.candidate import TrecConfig
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.networks.tiny import build
from trec_dse.trec.apply import apply_trec, conv_shapes, draw_hashes, trec_layers
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.policy import ConvShape

CONFIGS = {"conv1": TrecConfig(2, 3), "conv2": TrecConfig(3, 12)}


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


def _model() -> nn.Module:
    return build((8, 8, 1), 10, width=4, depth=2)


def test_shapes_are_those_of_the_convolutions_in_running_order() -> None:
    assert conv_shapes(_model(), (8, 8, 1)) == {
        "conv1": ConvShape(3, 3, 1, 4, 64),
        "conv2": ConvShape(3, 3, 4, 4, 64),
    }


class _DefinedBackwards(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(4, 2, 3, stride=2)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.first = nn.Conv2d(1, 4, (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.depthwise(self.first(x)))
        return result


def test_running_order_counts_and_grouped_convolutions_do_not() -> None:
    # 7x8 -> 7x7 -> 5x5 -> 2x2
    assert conv_shapes(_DefinedBackwards(), (7, 8, 1)) == {
        "first": ConvShape(1, 2, 1, 4, 49),
        "second": ConvShape(3, 3, 4, 2, 4),
    }


def test_the_given_network_stays_as_it_was() -> None:
    model = _model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = apply_trec(model, CONFIGS, torch.randn(4, 1, 8, 8))
    conv_shapes(model, (8, 8, 1))
    assert changed.training
    assert not trec_layers(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_named_layers_become_trec_layers_with_the_same_weights() -> None:
    model = _model()
    changed = apply_trec(model, {"conv2": CONFIGS["conv2"]}, torch.randn(4, 1, 8, 8), hash_gradient="none")
    assert list(trec_layers(changed)) == ["conv2"]
    layer = trec_layers(changed)["conv2"]
    assert layer.config == CONFIGS["conv2"]
    assert torch.equal(layer.weight, model.get_parameter("conv2.weight"))
    assert not layer.thresholds.requires_grad


def test_a_later_hash_is_set_from_what_the_earlier_trec_layers_give() -> None:
    model, images = _model().eval(), torch.randn(16, 1, 8, 8)
    changed = apply_trec(model, CONFIGS, images).eval()
    seen: list[Tensor] = []
    hook = changed.get_submodule("conv2").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    changed(images)
    hook.remove()
    expected = TrecConv2d.from_conv(nn.Conv2d(4, 4, 3, padding=1), CONFIGS["conv2"])
    expected.initialise_hash(seen[0])
    torch.testing.assert_close(trec_layers(changed)["conv2"].thresholds, expected.thresholds)
    alone = apply_trec(model, {"conv2": CONFIGS["conv2"]}, images)
    assert not torch.allclose(trec_layers(alone)["conv2"].thresholds, expected.thresholds)


@pytest.mark.parametrize(("name", "found"), [("conv9", "no such layer"), ("bn1", "BatchNorm2d")])
def test_what_is_no_convolution_cannot_become_one(name: str, found: str) -> None:
    with pytest.raises(CandidateError, match=f"'{name}': found {found}"):
        apply_trec(_model(), {name: TrecConfig(2, 3)}, torch.randn(1, 1, 8, 8))


def test_drawn_hashes_go_through_the_origin_and_follow_the_seed() -> None:
    model = apply_trec(_model(), CONFIGS, torch.randn(4, 1, 8, 8))
    found = []
    for seed in (1, 1, 2):
        draw_hashes(model, seed)
        found.append([layer.hash_vectors.detach().clone() for layer in trec_layers(model).values()])
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(found[0], found[2], strict=True))
    assert not any(bool(layer.thresholds.any()) for layer in trec_layers(model).values())
    everything = torch.cat([vectors.flatten() for vectors in found[2]])
    assert 0.5 < float(everything.std()) < 1.5


def test_a_reused_kernel_is_no_drawn_hash() -> None:
    model = apply_trec(_model(), {"conv2": TrecConfig(2, 9, "kernel_reuse")}, torch.randn(4, 1, 8, 8))
    with pytest.raises(CandidateError, match="conv2 reuses its kernel as hash"):
        draw_hashes(model, 0)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"groups": 2}, r"has 2 and \(1, 1\)"),
        ({"dilation": 2}, r"has 1 and \(2, 2\)"),
        ({"padding": "same"}, "padding 'same', 'zeros'"),
        ({"padding": 1, "padding_mode": "reflect"}, r"padding \(1, 1\), 'reflect'"),
    ],
)
def test_a_convolution_that_trec_cannot_treat_is_refused_with_what_it_has(
    options: dict[str, int | str], found: str
) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, **options))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=found):
        apply_trec(model, {"0": TrecConfig(2, 4)}, torch.randn(1, 4, 8, 8))


def test_any_stride_and_any_number_of_padding_zeros_is_treated() -> None:
    conv = nn.Conv2d(1, 2, (2, 3), stride=(2, 3), padding=(1, 2))
    changed = apply_trec(nn.Sequential(conv), {"0": TrecConfig(8, 3)}, torch.randn(3, 1, 5, 7))
    x = torch.full((1, 1, 5, 7), 2.0)  # rows differ by what padding they touch: 256 signatures tell them apart
    assert changed(x).shape == conv(x).shape == (1, 2, 3, 3)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.conv(self.conv(x))
        return result


def test_a_layer_that_runs_twice_is_refused_for_it_has_one_hash() -> None:
    with pytest.raises(UnsupportedError, match="'conv' runs 2 times"):
        apply_trec(_Twice(), {"conv": TrecConfig(1, 1)}, torch.randn(1, 1, 4, 4))
