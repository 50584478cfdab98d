"""Every network in the folder goes all the way: pruned, folded, clustered, trained, int8, C, bit for bit."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trec_dse import plugins
from trec_dse.candidate import Candidate, Recipe, TrecPolicy
from trec_dse.codegen import constant_bytes
from trec_dse.datasets import Dataset
from trec_dse.datasets._types import placeholder
from trec_dse.evaluate import host_network
from trec_dse.graph import QuantizedGraph
from trec_dse.lower import lower
from trec_dse.networks import build_model, own_names
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.prune import fold_batch_norms, prune
from trec_dse.quantize import quantize
from trec_dse.train import train
from trec_dse.trec.apply import apply_trec, conv_shapes, trec_layers
from trec_dse.trec.policy import resolve

NAMES = own_names()
SMALL = (16, 16, 3)
POLICY = TrecPolicy(3, 2, n_kernel_reuse=2)
# What fits a board of 2 MiB Flash: whole where it does, else a quarter or half of the width.
PRESETS = {
    "cifarnet": ({}, (32, 32, 3)),
    "gru": ({}, (32, 32, 3)),
    "lenet5": ({}, (28, 28, 1)),
    "mnist2k": ({}, (28, 28, 1)),
    "mobilenet_v1": ({}, (96, 96, 3)),
    "resnet8": ({}, (32, 32, 3)),
    "resnet18": ({"width": 0.25}, (32, 32, 3)),
    "resnet34": ({"width": 0.25}, (64, 64, 3)),
    "squeezenet": ({}, (32, 32, 3)),
    "sru": ({}, (32, 32, 3)),
    "squeezenet_bypass": ({}, (32, 32, 3)),
    "squeezenet_complex_bypass": ({}, (32, 32, 3)),
    "tiny": ({}, (8, 8, 1)),
    "zfnet_cifar": ({"width": 0.5}, (32, 32, 3)),
}


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def narrow(name: str) -> Candidate:
    """The network at a small width: an eighth, or four channels where it is counted in channels."""
    is_share = isinstance(inspect.signature(plugins.load("networks", name).build).parameters["width"].default, float)
    return Candidate("digits", name, {"width": 0.125 if is_share else 4})


def with_lively_norms(model: nn.Module, shape: tuple[int, int, int] = SMALL) -> nn.Module:
    """`model` as if it had been trained: norms that know their inputs and are no identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images_of(placeholder("photos", shape, 10), 32))
    return model.eval()


def folded(name: str) -> nn.Module:
    pruned = prune(build_model(narrow(name), SMALL, 10), SMALL, {"*": 0.5})
    return fold_batch_norms(with_lively_norms(pruned))


def images_of(dataset: Dataset, n: int = 8) -> Tensor:
    return dataset.normalise(dataset.train.images[:n])


def nhwc(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()


def assert_c_and_oracle_agree(graph: QuantizedGraph, photos: Tensor) -> None:
    images = graph.quantize_images(nhwc(photos).numpy())
    tensors = [graph.run(image) for image in images]
    counts = [
        [node.op.count(run[node.inputs[0]], graph.weights[node.name], graph.node_quantization(node)) for run in tensors]
        for node in graph.nodes
        if isinstance(node.op, TrecConv2d)
    ]
    with host_network(graph) as network:
        found = network.run(images)
    assert np.array_equal(found.outputs, np.stack([run[graph.output].reshape(-1) for run in tensors]))
    assert found.n_clusters.T.tolist() == counts
    assert len(np.unique(found.outputs, axis=0)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_its_small_form_is_the_same_network_after_pruning_folding_and_lowering(name: str) -> None:
    pruned = with_lively_norms(prune(build_model(narrow(name), SMALL, 10), SMALL, {"*": 0.5}))
    images = images_of(placeholder("photos", SMALL, 10))
    model = fold_batch_norms(pruned)
    logits = pruned(images)
    assert logits.shape == (8, 10)
    torch.testing.assert_close(model(images), logits, rtol=1e-3, atol=1e-4)
    graph = lower(model, SMALL)
    lowered = graph.forward(nhwc(images))[graph.nodes[-1].name].reshape(8, 10)
    torch.testing.assert_close(lowered, logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_pruning_halves_every_hidden_layer_whatever_its_weights_are(name: str) -> None:
    shapes = []
    for _ in range(2):
        model = build_model(replace(narrow(name), network_args={}), (32, 32, 3), 10)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=10 ** float(torch.empty(()).uniform_(-3, 3)))
        before = _channels(model)
        shapes.append(_channels(prune(model, (32, 32, 3), {"*": 0.5}, round_to=1)))
    assert shapes[0] == shapes[1]
    *hidden, classifier = before
    assert shapes[0] == {**{layer: -(-before[layer] // 2) for layer in hidden}, classifier: 10}


def _channels(model: nn.Module) -> dict[str, int]:
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    return {name: layer.weight.shape[0] for name, layer in layers.items()}


@pytest.mark.parametrize("name", NAMES)
def test_its_c_gives_the_oracle_s_integers_dense_and_clustered(name: str) -> None:
    model, images = folded(name), images_of(placeholder("photos", SMALL, 10))
    configs = resolve(POLICY, conv_shapes(model, SMALL))
    for network in (model, apply_trec(model, configs, images).eval()):
        graph = quantize(lower(network, SMALL), nhwc(images))
        assert_c_and_oracle_agree(graph, images[:4])


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_for_an_epoch_with_every_convolution_clustered(name: str) -> None:
    dataset = placeholder("photos", SMALL, 10)
    model = folded(name)
    model = apply_trec(model, resolve(POLICY, conv_shapes(model, SMALL)), images_of(dataset))
    before = {layer: module.weight.detach().clone() for layer, module in trec_layers(model).items()}
    losses: list[float] = []
    recipe = Recipe(batch_size=16)
    train(model, dataset, recipe, epochs=1, learning_rate=1e-3, on_epoch=lambda *seen: losses.append(seen[2]))
    assert np.isfinite(losses).all()
    changed = [layer for layer, module in trec_layers(model).items() if not torch.equal(module.weight, before[layer])]
    assert changed == list(before)


def test_every_network_has_a_preset_here() -> None:
    assert sorted(PRESETS) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_preset_form_fits_2_mib_and_is_bit_exact(name: str) -> None:
    args, shape = PRESETS[name]
    model = fold_batch_norms(with_lively_norms(build_model(Candidate("digits", name, args), shape, 10), shape))
    images = images_of(placeholder("photos", shape, 10))
    configs = resolve(TrecPolicy(5, 4, n_kernel_reuse=1), conv_shapes(model, shape))
    for network in (model, apply_trec(model, configs, images).eval()):
        graph = quantize(lower(network, shape), nhwc(images))
        assert sum(item.total for item in constant_bytes(graph).values()) < 2 << 20
        assert_c_and_oracle_agree(graph, images[:2])
