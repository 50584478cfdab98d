"""The networks: their published shapes, and that every file in the folder keeps the agreement."""

import inspect

import pytest
import torch
from torch import fx, nn

from trec_dse import plugins
from trec_dse.candidate import Candidate, Recipe
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.lower import Tracer, lower
from trec_dse.networks import (
    build_model,
    cifarnet,
    lenet5,
    mobilenet_v1,
    own_names,
    resnet8,
    resnet18,
    resnet34,
    squeezenet,
    squeezenet_bypass,
    squeezenet_complex_bypass,
    tiny,
    zfnet_cifar,
)
from trec_dse.networks._shapes import scaled
from trec_dse.prune import fold_batch_norms
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


def _n_in_convolutions(model: nn.Module) -> int:
    return sum(_n_parameters(module) for module in model.modules() if isinstance(module, nn.Conv2d))


def _n_with_statistics(model: nn.Module) -> int:
    """As other tools count: a norm's running mean and variance are parameters too."""
    return _n_parameters(model) + sum(b.numel() for name, b in model.named_buffers() if "running" in name)


def _macs(model: nn.Module, input_shape: tuple[int, int, int]) -> int:
    graph = lower(fold_batch_norms(model), input_shape)
    return sum(node.op.macs(*(graph.shapes[source] for source in node.inputs)) for node in graph.nodes)


# (squeeze, expand) of the eight fires, and the output positions N that they see in a 32x32 image
FIRES = {
    "fire2": (16, 64, 256),
    "fire3": (16, 64, 256),
    "fire4": (32, 128, 256),
    "fire5": (32, 128, 64),
    "fire6": (48, 192, 64),
    "fire7": (48, 192, 64),
    "fire8": (64, 256, 64),
    "fire9": (64, 256, 16),
}


def test_squeezenet_has_the_published_shapes() -> None:
    model, channels = squeezenet.build((32, 32, 3), 10), 96
    expected = {"conv1": ConvShape(3, 3, 3, 96, 1024)}
    for name, (squeezed, expanded, n) in FIRES.items():
        expected[f"{name}.squeeze"] = ConvShape(1, 1, channels, squeezed, n)
        expected[f"{name}.expand1"] = ConvShape(1, 1, squeezed, expanded, n)
        expected[f"{name}.expand3"] = ConvShape(3, 3, squeezed, expanded, n)
        channels = 2 * expanded
    expected["conv10"] = ConvShape(1, 1, 512, 10, 16)
    assert conv_shapes(model, (32, 32, 3)) == expected
    assert sum(shape.unfolded_length for shape in expected.values()) == 5883


def test_squeezenets_have_the_published_parameters_and_macs() -> None:
    plain, identity = (module.build((32, 32, 3), 10) for module in (squeezenet, squeezenet_bypass))
    assert _n_in_convolutions(plain) == _n_in_convolutions(identity) == 729_034
    # fire2 alone: 256 * (96*16 + 16*64 + 144*64) = 3,014,656
    assert _macs(plain, (32, 32, 3)) == _macs(identity, (32, 32, 3)) == 52_543_488
    bypassed = squeezenet_complex_bypass.build((32, 32, 3), 10)
    # 96*128+128 + 128*256+256 + 256*384+384 + 384*512+512 more, and 256*(96*128 + 128*256) + 64*(256*384 + 384*512)
    assert _n_in_convolutions(bypassed) == 729_034 + 341_248 == 1_070_282
    assert _macs(bypassed, (32, 32, 3)) == 52_543_488 + 30_408_704 == 82_952_192
    assert sum(shape.unfolded_length for shape in conv_shapes(bypassed, (32, 32, 3)).values()) == 6747


def test_identity_bypass_adds_where_channels_agree_and_complex_bypass_everywhere() -> None:
    def added(model: nn.Module) -> list[str]:
        nodes = lower(fold_batch_norms(model), (32, 32, 3)).nodes
        return [node.name for node in nodes if node.op.kind == "add"]

    assert added(squeezenet.build((32, 32, 3), 10, 0.25)) == []
    assert added(squeezenet_bypass.build((32, 32, 3), 10, 0.25)) == [f"fire{i}.add" for i in (3, 5, 7, 9)]
    assert added(squeezenet_complex_bypass.build((32, 32, 3), 10, 0.25)) == [f"{name}.add" for name in FIRES]


def test_zfnet_keeps_the_published_kernels_and_channels() -> None:
    model = zfnet_cifar.build((32, 32, 3), 10)
    assert conv_shapes(model, (32, 32, 3)) == {
        "conv1": ConvShape(7, 7, 3, 96, 1024),
        "conv2": ConvShape(5, 5, 96, 256, 256),
        "conv3": ConvShape(3, 3, 256, 384, 64),
        "conv4": ConvShape(3, 3, 384, 384, 64),
        "conv5": ConvShape(3, 3, 384, 256, 64),
    }
    # 1024*147*96 + 256*2400*256 + 64*(2304*384 + 3456*384 + 3456*256), and dense 4096*512 + 512*512 + 512*10
    assert _macs(model, (32, 32, 3)) == 369_917_952 + 2_364_416
    # convolutions with biases, norms 2*1376, dense 4096*512+512 + 512*512+512 + 5130
    assert _n_parameters(model) == 3_726_464 + 2752 + 2_365_450


def test_resnets_have_the_published_parameters_and_macs() -> None:
    assert _n_parameters(resnet18.build((32, 32, 3), 10)) == 11_173_962
    assert _n_parameters(resnet34.build((32, 32, 3), 10)) == 21_282_122
    # stem 1024*27*64; four 3x3 of 37,748,736 in stage 1; in each other stage half of one (strided), three whole and
    # a shortcut of a ninth of the half; dense 512*10
    whole = 1024 * 576 * 64
    stage = whole // 2 + 3 * whole + whole // 18
    assert _macs(resnet18.build((32, 32, 3), 10), (32, 32, 3)) == 1_769_472 + 4 * whole + 3 * stage + 5120
    more = 2 * 1 + 2 * 2 + 2 * 4 + 2 * 1  # blocks that ResNet-34 has more, two convolutions each
    narrow = resnet34.build((32, 32, 3), 10)
    assert _macs(narrow, (32, 32, 3)) == 1_769_472 + 4 * whole + 3 * stage + 5120 + more * whole


def test_resnet34_of_64x64_images_has_four_times_the_positions() -> None:
    shapes = conv_shapes(resnet34.build((64, 64, 3), 1000, width=0.25), (64, 64, 3))
    assert len(shapes) == 1 + 2 * 16 + 3
    assert [shapes[f"stage{i}.block2.conv2"].n_positions for i in (1, 2, 3, 4)] == [4096, 1024, 256, 64]
    assert [shapes[f"stage{i}.block2.conv2"].unfolded_length for i in (1, 2, 3, 4)] == [144, 288, 576, 1152]


def test_the_benchmark_networks_have_the_published_parameters_and_macs() -> None:
    small = resnet8.build((32, 32, 3), 10)
    assert _n_with_statistics(small) == 78_666
    # stem 1024*27*16 and two 1024*144*16, then 256*(144*32 + 288*32 + 16*32) and 64*(288*64 + 576*64 + 32*64), 640
    assert _macs(small, (32, 32, 3)) == 5_160_960 + 3_670_016 + 3_670_016 + 640 == 12_501_632
    mobile = mobilenet_v1.build((96, 96, 3), 2)
    assert _n_with_statistics(mobile) == 221_794
    assert _macs(mobile, (96, 96, 3)) == 7_489_664
    pointwise = [name for name in conv_shapes(mobile, (96, 96, 3)) if "depthwise" in name]
    assert pointwise == []


@pytest.mark.parametrize("name", own_names())
@pytest.mark.parametrize("input_shape", [(28, 28, 1), (32, 30, 3)])
def test_every_network_answers_with_logits_is_traceable_and_has_named_layers(
    name: str, input_shape: tuple[int, int, int]
) -> None:
    height, width, channels = input_shape
    is_recurrent = "steps" in inspect.signature(plugins.load("networks", name).build).parameters
    candidate = Candidate("digits", name, {"steps": 16} if is_recurrent else {})  # 16 divides 28 * 28 and 32 * 30 * 3
    model = build_model(candidate, input_shape, 7).eval()
    images = torch.randn(2, channels, height, width)
    logits = model(images)
    assert logits.shape == (2, 7)
    assert torch.equal(fx.GraphModule(model, Tracer().trace(model))(images), logits)
    layers = [n for n, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert layers[0] in ("conv1", "layer1.product.candidate", "layer1.product.reset")
    assert not any(layer.rpartition(".")[2].isdigit() for layer in layers)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    models = [build_model(Candidate("digits", "tiny", recipe=Recipe(seed=s)), (8, 8, 1), 10) for s in (1, 1, 2)]
    assert torch.equal(torch.rand(1), expected)
    weights = [model.get_parameter("conv1.weight") for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_resnet18_can_end_after_three_stages() -> None:
    short = resnet18.build((32, 32, 3), 10, width=0.75, stages=3)
    # stem 3*9*48 + 96; stage 1: 4 * (48*48*9 + 96); stage 2: 48*96*9 + 3*96*96*9 + 4*192 + 48*96 + 192; stage 3 alike
    first = 1_296 + 96 + 4 * (20_736 + 96)
    second = 41_472 + 3 * 82_944 + 4 * 192 + 4_608 + 192
    third = 165_888 + 3 * 331_776 + 4 * 384 + 18_432 + 384
    assert _n_parameters(short) == first + second + third + 1_930 == 1_564_090
    with pytest.raises(CandidateError, match=r"stages is 5; it must lie in 1\.\.4"):
        resnet18.build((32, 32, 3), 10, stages=5)


def test_an_unknown_network_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UnsupportedError, match="'vgg'; choose from cifarnet, gru, imported, lenet5, "):
        build_model(Candidate("digits", "vgg"), (8, 8, 1), 10)


def test_an_unknown_argument_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(CandidateError, match=r"'tiny'.*'heads'; it takes width, depth, kernel_size"):
        build_model(Candidate("digits", "tiny", {"heads": 3}), (8, 8, 1), 10)


def test_impossible_sizes_are_errors() -> None:
    with pytest.raises(CandidateError, match="does not fit into 2"):
        cifarnet.build((8, 8, 1), 10)
    with pytest.raises(CandidateError, match="does not fit into 1"):
        squeezenet.build((32, 6, 3), 10)
    with pytest.raises(CandidateError, match="odd kernel, got 8, 2, 4"):
        tiny.build((8, 8, 1), 10, kernel_size=4)
    with pytest.raises(CandidateError, match="width is 0"):
        lenet5.build((28, 28, 1), 10, width=0)


def test_scaled_channels_keep_their_multiple_of_four() -> None:
    assert [scaled(64, width) for width in (0.01, 0.3, 0.5, 2)] == [4, 20, 32, 128]
    assert [scaled(6, width) for width in (0.1, 0.75, 1, 1.5)] == [4, 4, 6, 9]
