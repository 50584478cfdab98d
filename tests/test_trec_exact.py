"""Exact directions beside clusters: nothing is lost that they span, and the device runs the same integers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import Candidate, TrecConfig, TrecPolicy
from trec_dse.codegen import generate, kernel_sources
from trec_dse.cost import cycles_of, relative_time
from trec_dse.datasets._types import placeholder
from trec_dse.errors import CandidateError
from trec_dse.evaluate import cost_of, untrained_graph
from trec_dse.executors import twin
from trec_dse.firmware import build_firmware, write_export
from trec_dse.graph import QuantizedGraph, Window
from trec_dse.lower import lower
from trec_dse.memory import plan_memory
from trec_dse.ops.add import Add
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.quantize import quantize
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.trec.apply import apply_trec, trec_layers
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.exact import PartlyExactConv2d
from trec_dse.trec.policy import ConvShape, relative_operations, resolve

BUILD_ID = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(data_folder("targets") / "stm32f469i-disco.toml")


# (conv, config): one pixel, one pixel in groups, a whole kernel row; strides and padding that differ by axis
LAYERS = [
    (nn.Conv2d(4, 5, 3), TrecConfig(2, 4, "strip_shared", exact_directions=2)),
    (nn.Conv2d(4, 5, 3, (2, 1), (1, 0)), TrecConfig(2, 2, "strip_shared", channel_groups=2, exact_directions=1)),
    (nn.Conv2d(4, 5, (3, 2), (1, 2), (0, 1)), TrecConfig(2, 8, "strip_shared", exact_directions=3)),
    (nn.Conv2d(4, 5, 3, 2, 1), TrecConfig(2, 6, "strip_shared", channel_groups=2, exact_directions=2)),
]


def _rank(x: Tensor, rank: int) -> Tensor:
    """Images whose pixels lie in `rank` dimensions."""
    basis, _ = torch.linalg.qr(torch.randn(x.shape[1], rank))
    return torch.einsum("bchw,cr,dr->bdhw", x, basis, basis)


@pytest.mark.parametrize(("conv", "config"), LAYERS)
def test_what_the_directions_and_what_the_clusters_multiply_is_the_whole_kernel(
    conv: nn.Conv2d, config: TrecConfig
) -> None:
    layer = PartlyExactConv2d.from_conv(conv, config).eval()
    x = torch.randn(3, 4, 6, 7)
    layer.initialise_hash(x)
    left = F.conv2d(x, layer.clustered.weight, conv.bias, conv.stride, conv.padding)
    torch.testing.assert_close(left + layer.exact(layer.directions(x)), conv(x), rtol=1e-4, atol=1e-5)


def test_what_the_directions_span_is_not_multiplied_twice() -> None:
    conv, config = LAYERS[0]
    layer = PartlyExactConv2d.from_conv(conv, config).eval()
    layer.initialise_hash(torch.randn(3, 4, 6, 7))
    directions = layer.directions.weight[:, :, 0, 0]  # (2, 4)
    torch.testing.assert_close(directions @ directions.T, torch.eye(2))
    left = torch.einsum("mchw,nc->mnhw", layer.clustered.weight, directions)
    torch.testing.assert_close(left, torch.zeros_like(left), rtol=0, atol=1e-6)


def test_vectors_of_as_many_dimensions_as_directions_lose_nothing_to_their_clusters() -> None:
    conv = nn.Conv2d(6, 5, 3, padding=1)
    x = _rank(torch.randn(4, 6, 8, 8), 2)
    y = conv(x).detach()
    found = {}
    for n in (0, 1, 2):
        kind = PartlyExactConv2d if n else TrecConv2d
        layer = kind.from_conv(conv, TrecConfig(1, 6, "strip_shared", exact_directions=n)).eval()
        layer.initialise_hash(x)
        found[n] = float((layer(x).detach() - y).square().mean() / y.square().mean())
    assert found[2] < 1e-9 < found[1] < found[0]


def test_the_hash_sees_what_the_directions_leave() -> None:
    # two channels of which the first varies more: it is the direction, and the only bit tells signs of the second
    conv = nn.Conv2d(2, 1, 1, bias=False)
    torch.nn.init.ones_(conv.weight)
    layer = PartlyExactConv2d.from_conv(conv, TrecConfig(1, 2, "strip_shared", exact_directions=1)).eval()
    x = torch.tensor([[[[9.0, -9, 3, -3]], [[1.0, 1, -1, -1]]]])
    layer.initialise_hash(x)
    assert layer.directions.weight.flatten().tolist() == pytest.approx([1, 0], abs=1e-6)
    assert layer.exact.weight.flatten().tolist() == pytest.approx([1])
    assert layer.clustered.weight.flatten().tolist() == pytest.approx([0, 1], abs=1e-6)
    assert layer.clustered.hash_vectors.flatten().tolist() == pytest.approx([0, 1], abs=1e-6)
    assert layer(x).flatten().tolist() == pytest.approx([10, -8, 2, -4])  # exact, for both clusters are of one value


@pytest.mark.parametrize("start", ["principal", "levels"])
def test_all_three_sets_of_weights_are_trained(start: str) -> None:
    layer = PartlyExactConv2d.from_conv(LAYERS[0][0], LAYERS[0][1]).train()
    x = torch.randn(3, 4, 6, 6)
    layer.initialise_hash(x, start)  # type: ignore[arg-type]
    torch.autograd.backward(layer(x).square().sum())
    names = {name for name, p in layer.named_parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)}
    clustered = {f"clustered.{name}" for name in ("weight", "bias", "hash", "thresholds")}
    assert names == clustered | {"directions.weight", "exact.weight"}


def _quantized() -> tuple[QuantizedGraph, nn.Module]:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.ReLU())
    images = torch.randn(8, 3, 8, 8)
    configs = {
        "0": TrecConfig(4, 9, "strip_shared", max_clusters=11, exact_directions=1),
        "2": TrecConfig(3, 4, "strip_shared", channel_groups=2, exact_directions=2),
    }
    clustered = apply_trec(model.eval(), configs, images).eval()
    assert list(trec_layers(clustered)) == ["0.clustered", "2.clustered"]
    return quantize(lower(clustered, (8, 8, 3)), images.permute(0, 2, 3, 1)), clustered


def test_a_device_runs_clusters_two_small_convolutions_and_a_sum(target: Target, tmp_path: Path) -> None:
    graph, _ = _quantized()
    nodes = {node.name: node.op for node in graph.nodes}
    for name, n in (("0", 1), ("2", 4)):
        clustered, first, sum_ = (nodes[f"{name}.{part}"] for part in ("clustered", "directions", "add"))
        assert isinstance(clustered, TrecStripConv2d)
        assert (clustered.activation, clustered.config.exact_directions) == ("none", 0)
        assert isinstance(first, Conv2d)
        assert first.out_channels == n
        assert isinstance(sum_, Add)
        assert sum_.activation == "relu"
    plan = plan_memory(graph)
    files = {**generate(graph, plan, BUILD_ID), "manifest.json": f'{{"build_id": "{BUILD_ID}"}}'}
    write_export(tmp_path / "export", target, files, kernel_sources(graph))
    firmware = build_firmware(tmp_path / "export", target)
    images = np.random.default_rng(5).integers(-128, 128, (3, 8, 8, 3)).astype(np.int8)
    with twin.open(firmware.elf, target, build_id=BUILD_ID) as executor:
        for image in images:
            assert np.array_equal(executor.infer(image).output, graph.run(image)[graph.output].reshape(-1))


def test_int8_is_near_the_float_network() -> None:
    graph, model = _quantized()
    images = torch.randn(8, 3, 8, 8)
    with torch.no_grad():
        wanted = model(images).permute(0, 2, 3, 1).numpy()
    given = [graph.run(image)[graph.output] for image in graph.quantize_images(images.permute(0, 2, 3, 1).numpy())]
    found = np.stack(given).astype(float) - graph.quantization[graph.output].zero_point
    found *= graph.quantization[graph.output].scale
    assert np.corrcoef(found.reshape(-1), wanted.reshape(-1))[0, 1] > 0.98


def test_a_policy_gives_directions_where_strips_can_have_them() -> None:
    shapes = {"conv1": ConvShape(5, 5, 3, 64, 784), "conv2": ConvShape(3, 3, 4, 4, 16)}
    asked = TrecPolicy(3, 3, "channels", scope="strip_shared", channel_groups=4, exact_directions=2)
    # of one channel nothing would be left to cluster; conv1 has 3 groups of one channel
    assert [config.exact_directions for config in resolve(asked, shapes).values()] == [0, 0]
    asked = replace(asked, channel_groups=1)
    assert [config.exact_directions for config in resolve(asked, shapes).values()] == [2, 2]
    # 12 elements are 4 pixels of conv1, of which a row has 5: five it is; and of conv2 three
    asked = replace(asked, slice_policy="custom", vector_length=12)
    assert [config.exact_directions for config in resolve(asked, shapes).values()] == [2, 2]
    six = {"conv": ConvShape(3, 6, 4, 8, 100)}  # 3 of 6 pixels are no whole row
    assert resolve(asked, six)["conv"].exact_directions == 0


def test_what_directions_cost_is_counted() -> None:
    # conv2 of CifarNet: n / L of the dense products, and n of 64 kernels at one of 25 taps
    shape, config = ConvShape(5, 5, 64, 64, 100), TrecConfig(4, 16, "strip_shared", channel_groups=4)
    more = relative_operations(shape, replace(config, exact_directions=2)) - relative_operations(shape, config)
    assert more == pytest.approx(2 / 16 + 2 / 64 / 25)


def test_the_time_of_a_layer_counts_all_that_it_becomes(target: Target) -> None:
    config = TrecConfig(3, 16, "strip_shared", channel_groups=2, exact_directions=1)
    shape = (104, 5, 32)  # a column of 100 positions
    reading = 104, 5, 2
    works = (
        TrecStripConv2d(24, Window((5, 5)), replace(config, exact_directions=0)).work(shape, worst=True),
        Conv2d(2, Window((1, 1))).work(shape, worst=True),
        Conv2d(24, Window((5, 5))).work(reading, worst=True),
        Add().work((100, 1, 24), (100, 1, 24), worst=True),
    )
    expected = sum(cycles_of(work, target.timing, "") for work in works)
    dense = cycles_of(Conv2d(24, Window((5, 5))).work(shape, worst=True), target.timing, "")
    assert relative_time((5, 5), shape, 24, config, target) == pytest.approx(expected / dense)


def test_the_network_without_trec_has_nothing_beside_clusters(target: Target) -> None:
    config = TrecConfig(3, 16, "strip_shared", exact_directions=1)
    policy = TrecPolicy(3, 3, layers=(), layer_configs={"conv2": config})
    clustered = Candidate("digits", "tiny", {"width": 16, "depth": 2}, trec=policy)
    with_trec, without = (
        cost_of(untrained_graph(candidate, placeholder("digits", (8, 8, 1), 10)), target)
        for candidate in (clustered, replace(clustered, trec=None))
    )
    assert with_trec.dense_macs == without.dense_macs == without.macs


def test_older_candidates_keep_their_keys() -> None:
    policy = TrecPolicy(3, 3, layers=(), layer_configs={"conv1": TrecConfig(2, 3, "strip_shared")})
    candidate = Candidate("cifar10", "cifarnet", trec=policy)
    given = TrecConfig(2, 3, "strip_shared", exact_directions=1)
    other = replace(candidate, trec=replace(policy, layer_configs={"conv1": given}))
    # the first is the key that this candidate had before there were exact directions
    assert candidate.key == "d709e0f545a4b081"
    assert other.key != candidate.key


@pytest.mark.parametrize(
    ("conv", "config", "message"),
    [
        (nn.Conv2d(4, 5, (3, 4)), TrecConfig(2, 8, "strip_shared", exact_directions=1), "4 here; these have 2"),
        (nn.Conv2d(4, 5, 3), TrecConfig(2, 4, "strip_shared", exact_directions=4), "choose 1 to 3"),
    ],
)
def test_what_cannot_be_exact_is_refused(conv: nn.Conv2d, config: TrecConfig, message: str) -> None:
    with pytest.raises(CandidateError, match=message):
        PartlyExactConv2d.from_conv(conv, config)


def test_only_strips_have_exact_directions() -> None:
    with pytest.raises(CandidateError, match="exact_directions is 1 with scope 'shared'"):
        TrecConfig(2, 4, "shared", exact_directions=1)
