"""The networks: their published shapes, and that every file in the folder keeps the agreement."""

import pytest
import torch
from torch import fx, nn

from trec_dse import plugins
from trec_dse.candidate import Candidate, Recipe
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.networks import build_model, cifarnet, lenet5, tiny
from trec_dse.networks._shapes import scaled
from trec_dse.trec.apply import conv_shapes
from trec_dse.trec.policy import ConvShape


def _n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_cifarnet_has_the_published_parameters_and_shapes() -> None:
    model = cifarnet.build((32, 32, 3), 10)
    assert _n_parameters(model) == 798_218
    assert conv_shapes(model, (32, 32, 3)) == {
        "conv1": ConvShape(5, 5, 3, 64, 784),
        "conv2": ConvShape(5, 5, 64, 64, 100),
    }


def test_a_narrower_cifarnet_is_narrower_everywhere() -> None:
    model = cifarnet.build((32, 32, 3), 10, width=0.25)
    # conv 16*75+16, 16*400+16, norms 2*2*16, dense 400*96+96, 96*48+48, 48*10+10
    assert _n_parameters(model) == 1216 + 6416 + 64 + 38_496 + 4656 + 490


def test_lenet5_has_the_published_parameters() -> None:
    model = lenet5.build((28, 28, 1), 10)
    assert _n_parameters(model) == 61_706
    assert conv_shapes(model, (28, 28, 1)) == {
        "conv1": ConvShape(5, 5, 1, 6, 784),
        "conv2": ConvShape(5, 5, 6, 16, 100),
    }


def test_tiny_keeps_all_positions_of_small_images() -> None:
    model = tiny.build((8, 8, 1), 10, width=4, depth=3)
    assert [shape.n_positions for shape in conv_shapes(model, (8, 8, 1)).values()] == [64, 64, 64]
    # conv 4*9+4, two of 4*36+4, norms 3*8, dense 4*4*4*10+10
    assert _n_parameters(model) == 40 + 2 * 148 + 24 + 650


def test_tiny_halves_large_images_until_they_are_small() -> None:
    model = tiny.build((32, 32, 3), 10, width=4, depth=3, kernel_size=5)
    # 32 -> pool 16 -> stays 16 -> pool 8 after the last
    assert [shape.n_positions for shape in conv_shapes(model, (32, 32, 3)).values()] == [1024, 256, 256]
    assert model.get_parameter("fc1.weight").shape == (10, 4 * 8 * 8)


@pytest.mark.parametrize("name", plugins.names("networks"))
@pytest.mark.parametrize("input_shape", [(28, 28, 1), (32, 30, 3)])
def test_every_network_answers_with_logits_is_traceable_and_has_named_layers(
    name: str, input_shape: tuple[int, int, int]
) -> None:
    height, width, channels = input_shape
    model = build_model(Candidate("digits", name), input_shape, 7).eval()
    images = torch.randn(2, channels, height, width)
    logits = model(images)
    assert logits.shape == (2, 7)
    assert torch.equal(fx.symbolic_trace(model)(images), logits)
    layers = [n for n, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert layers[0] == "conv1"
    assert all(layer.startswith(("conv", "fc")) for layer in layers)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    models = [build_model(Candidate("digits", "tiny", recipe=Recipe(seed=s)), (8, 8, 1), 10) for s in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    weights = [model.get_parameter("conv1.weight") for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_an_unknown_network_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UnsupportedError, match="'vgg'; choose from cifarnet, lenet5, tiny"):
        build_model(Candidate("digits", "vgg"), (8, 8, 1), 10)


def test_an_unknown_argument_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(CandidateError, match=r"'tiny'.*'heads'; it takes width, depth, kernel_size"):
        build_model(Candidate("digits", "tiny", {"heads": 3}), (8, 8, 1), 10)


def test_impossible_sizes_are_errors() -> None:
    with pytest.raises(CandidateError, match="does not fit into 2"):
        cifarnet.build((8, 8, 1), 10)
    with pytest.raises(CandidateError, match="odd kernel, got 8, 2, 4"):
        tiny.build((8, 8, 1), 10, kernel_size=4)
    with pytest.raises(CandidateError, match="width is 0"):
        lenet5.build((28, 28, 1), 10, width=0)


def test_scaled_channels_keep_their_multiple_of_four() -> None:
    assert [scaled(64, width) for width in (0.01, 0.3, 0.5, 2)] == [4, 20, 32, 128]
    assert [scaled(6, width) for width in (0.1, 0.75, 1, 1.5)] == [4, 4, 6, 9]
