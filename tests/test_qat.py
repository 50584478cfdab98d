"""Training in the kernels' integers: the simulation is the int8 network, and everything in it learns."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from trec_dse import plugins
from trec_dse.candidate import TrecConfig
from trec_dse.errors import UnsupportedError
from trec_dse.graph import INPUT, Graph, Node, Quantization, Window, quantize_array
from trec_dse.lower import lower
from trec_dse.ops._levels import round_half_up, to_levels
from trec_dse.ops.add import Add
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.ops.max_pool2d import MaxPool2d
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.prune import fold_batch_norms
from trec_dse.qat import QatNetwork
from trec_dse.quantize import FULL_RANGE, calibrate, quantize_with
from trec_dse.train import _parameter_groups


def in_double(graph: Graph, images: torch.Tensor) -> tuple[QatNetwork, dict[str, Quantization]]:
    """The training network in double precision, on ranges that single precision holds exactly."""
    network = QatNetwork(graph, calibrate(graph, images, FULL_RANGE)).double().eval()
    return network, network.ranges


def mismatches(graph: Graph, images: torch.Tensor) -> tuple[int, int]:
    """Outputs in which training and the integer oracle differ, and how many were compared."""
    network, ranges = in_double(graph, images)
    quantized = quantize_with(network.graph, ranges, images)
    q = ranges[quantized.output]
    with torch.no_grad():
        found = np.rint(network(images.permute(0, 3, 1, 2).double()).numpy() / q.scale).astype(int) + q.zero_point
    expected = np.stack(
        [quantized.run(image)[quantized.output].reshape(-1) for image in quantized.quantize_images(images.numpy())]
    )
    return int((found != expected).sum()), expected.size


# 4 bits have a training of their own
@pytest.mark.parametrize("kind", [kind for kind in plugins.names("ops") if "_u4" not in kind])
def test_training_sees_the_integers_of_the_kernels(kind: str) -> None:
    compared = 0
    for seed in range(20):
        random = np.random.default_rng([5, seed])
        graph: Graph = importlib.import_module(f"trec_dse.ops.{kind}.cases").random_graph(random)
        images = torch.from_numpy(random.standard_normal((3, *graph.input_shape)))
        different, outputs = mismatches(graph, images)
        assert different == 0, f"seed {seed}: {different} of {outputs}"
        compared += outputs
    assert compared > 500


def clustered(config: TrecConfig) -> tuple[Graph, torch.Tensor]:
    """One TREC convolution of 3x3 on 8x8x2."""
    random = np.random.default_rng(4)
    is_strips = config.scope == "strip_shared"
    n = config.channel_groups if is_strips else 1 if config.scope == "shared" else 18 // config.vector_length
    weights = {"weights": random.normal(size=(5, 3, 3, 2)), "bias": random.normal(size=5)}
    if config.scope != "kernel_reuse":
        weights |= {"hash": random.normal(size=(n, config.vector_length, config.hash_bits))}
        weights |= {"thresholds": random.normal(size=(n, config.hash_bits))}
    op = (TrecStripConv2d if is_strips else TrecConv2d)(5, Window((3, 3)), config)
    return Graph((8, 8, 2), (Node("conv", op, (INPUT,)),), {"conv": weights}), torch.from_numpy(
        random.normal(size=(6, 8, 8, 2))
    )


@pytest.mark.parametrize(
    "config",
    [
        TrecConfig(3, 6, "per_slice"),
        TrecConfig(3, 6, "shared"),
        TrecConfig(7, 6, "per_slice"),  # more bits than soft memberships have columns for: one-bit neighbours
        TrecConfig(3, 6, "strip_shared"),
        TrecConfig(3, 1, "strip_shared", channel_groups=2),
        TrecConfig(7, 6, "strip_shared"),
    ],
)
def test_hashes_learn_and_change_no_value(config: TrecConfig) -> None:
    graph, images = clustered(config)
    network, _ = in_double(graph, images)
    x = images.permute(0, 3, 1, 2)
    hard = network(x).detach()
    network.train()
    network.follow(0.5)
    soft = network(x)
    assert torch.equal(soft, hard)
    soft.square().sum().backward()
    gradients = {name.rpartition(".")[2]: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert {"weight", "bias", "hash", "thresholds"} <= set(gradients)
    assert all(bool(gradients[name].any()) for name in ("weight", "hash", "thresholds"))


@pytest.mark.parametrize(
    "config",
    [
        TrecConfig(3, 6, "kernel_reuse"),
        TrecConfig(3, 6, max_clusters=2),
        TrecConfig(0, 6),
        TrecConfig(3, 6, "strip_shared", max_clusters=2),
    ],
)
def test_hashes_that_cannot_learn_stay_and_the_rest_learns(config: TrecConfig) -> None:
    graph, images = clustered(config)
    network, _ = in_double(graph, images)
    network.train()
    network(images.permute(0, 3, 1, 2)).square().sum().backward()
    learned = {name.rpartition(".")[2] for name, p in network.named_parameters() if p.grad is not None}
    assert {"weight", "bias"} <= learned
    assert not {"hash", "thresholds"} & learned


def residual() -> tuple[Graph, torch.Tensor]:
    """A convolution, pooled and added to itself, and a dense layer: 6x6x2 -> 4 classes."""
    random = np.random.default_rng(3)
    nodes = (
        Node("conv", Conv2d(3, Window((3, 3), (1, 1), (1, 1)), "relu"), (INPUT,)),
        Node("block.pool", MaxPool2d(Window((2, 2), (2, 2))), ("conv",)),
        Node("add", Add("relu"), ("block.pool", "block.pool")),
        Node("fc", Dense(4), ("add",)),
    )
    weights = {
        "conv": {"weights": random.normal(size=(3, 3, 3, 2)), "bias": random.normal(size=3)},
        "block.pool": {},
        "add": {},
        "fc": {"weights": random.normal(size=(4, 27)), "bias": random.normal(size=4)},
    }
    return Graph((6, 6, 2), nodes, weights), torch.from_numpy(random.normal(size=(32, 6, 6, 2)))


def test_a_whole_network_with_shared_scales_is_simulated_exactly() -> None:
    graph, images = residual()
    assert mismatches(graph, images) == (0, 32 * 4)


@pytest.mark.parametrize("network", ["cifarnet", "mobilenet_v1", "resnet8", "squeezenet_bypass"])
def test_the_shipped_networks_are_simulated_exactly(network: str) -> None:
    torch.manual_seed(0)
    model = plugins.load("networks", network, UnsupportedError).build((32, 32, 3), 10, width=0.25)
    images = torch.randn(4, 32, 32, 3, dtype=torch.float64)
    model.train()(images.permute(0, 3, 1, 2).float())  # norms that are not those of nothing
    graph = lower(fold_batch_norms(model.eval()), (32, 32, 3))
    assert mismatches(graph, images) == (0, 4 * 10)


def test_an_update_moves_weights_biases_and_scales_but_neither_zero_points_nor_the_input() -> None:
    graph, images = residual()
    network = QatNetwork(graph, calibrate(graph, images, FULL_RANGE))
    before, ranges = network.graph, network.ranges
    optimizer = torch.optim.SGD(_parameter_groups(network, 1e-4), lr=0.1)
    loss = nn.functional.cross_entropy(network(images.permute(0, 3, 1, 2).float()), torch.arange(32) % 4)
    torch.autograd.backward(loss)
    optimizer.step()
    for node, name in (("conv", "weights"), ("conv", "bias"), ("fc", "weights"), ("fc", "bias")):
        assert not np.array_equal(network.graph.weights[node][name], before.weights[node][name])
    after = network.ranges
    assert all(after[name].scale != ranges[name].scale for name in ("conv", "add", "fc"))
    assert after["block.pool"] == ranges["block.pool"]  # unused: pooling keeps the scale of what it reads
    assert after[INPUT] == ranges[INPUT]
    assert all(after[name].zero_point == ranges[name].zero_point for name in ranges)


def test_weights_decay_and_scales_do_not() -> None:
    graph, images = residual()
    network = QatNetwork(graph, calibrate(graph, images, FULL_RANGE))
    decaying, free = _parameter_groups(network, 0.1)
    assert [tuple(p.shape) for p in decaying["params"]] == [(3, 3, 3, 2), (4, 27)]  # type: ignore[attr-defined]
    assert len(free["params"]) == 2 + 3  # type: ignore[arg-type]


def test_rounding_goes_half_upwards_and_lets_gradients_through() -> None:
    x = torch.tensor([-1.5, -0.5, 0.5, 1.4], requires_grad=True)
    y = round_half_up(x)
    assert y.tolist() == [-1, 0, 1, 1]
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [1, 1, 1, 1]


def test_levels_saturate_without_gradient_and_their_scale_learns_from_both() -> None:
    real = torch.tensor([0.26, 99.0], requires_grad=True)
    scale = torch.tensor(0.1, requires_grad=True)
    levels = to_levels(real, scale, zero_point=27)
    assert levels.values.tolist() == [3, 100]  # 2.6 rounded; at most 127 - 27
    levels.real.sum().backward()  # type: ignore[no-untyped-call]
    assert real.grad is not None
    assert scale.grad is not None
    assert real.grad.tolist() == [1, 0]
    assert float(scale.grad) == pytest.approx((3 - 2.6) + 100)  # q - x / s inside, the bound itself outside


def test_levels_are_those_that_images_are_quantised_to() -> None:
    values, q = np.random.default_rng(0).normal(size=100), Quantization(0.02, -7)
    levels = to_levels(torch.from_numpy(values), torch.tensor(q.scale, dtype=torch.float64), q.zero_point)
    assert np.array_equal(levels.values.numpy(), quantize_array(values, q).astype(int) - q.zero_point)


def test_training_recovers_what_a_range_sixty_times_too_wide_lost() -> None:
    graph, images = residual()
    wide = {name: replace(q, scale=60 * q.scale) for name, q in calibrate(graph, images, FULL_RANGE).items()}
    with torch.no_grad():
        labels = graph.forward(images)["fc"].argmax(dim=1)
    network = QatNetwork(graph, wide)
    x = images.permute(0, 3, 1, 2).float()

    def right() -> float:
        with torch.no_grad():
            return float((network(x).argmax(dim=1) == labels).float().mean())

    before = right()
    optimizer = torch.optim.SGD(_parameter_groups(network, 0.0), lr=0.05, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(network(x), labels))
        optimizer.step()
    assert right() >= before + 0.1
    assert right() >= 0.9
