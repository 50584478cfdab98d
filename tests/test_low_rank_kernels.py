"""Convolutions of low rank: the nearest to trained kernels, trained on, two plain convolutions in the graph."""

import pytest
import torch
from torch import nn

from trec_dse.candidate import Candidate, KernelConfig, TrecConfig, plain_data
from trec_dse.errors import CandidateError
from trec_dse.lower import lower
from trec_dse.sparse.apply import apply_kernels, resolve_kernels
from trec_dse.sparse.low_rank import LowRankLayer
from trec_dse.trec.apply import apply_trec, conv_shapes, trec_layers
from trec_dse.trec.policy import ConvShape


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


def _conv() -> nn.Conv2d:
    return nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=(1, 0))


def test_full_rank_gives_the_convolution_itself() -> None:
    source, x = _conv(), torch.randn(2, 4, 9, 8)
    layer = LowRankLayer.from_conv(source, KernelConfig("low_rank", rank=4))
    torch.testing.assert_close(layer(x), source(x), rtol=1e-4, atol=1e-5)
    assert layer.reduce.weight.shape == (4, 4, 1, 1) and layer.reduce.bias is None
    assert layer.expand.weight.shape == (5, 4, 3, 2)


def test_what_the_rank_leaves_out_is_the_energy_of_the_smaller_singular_values() -> None:
    # kernels 1x1 that read channels of gains 3, 2 and 1 one by one: singular values 3, 2, 1, of which two are kept
    source = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        source.weight.copy_(torch.diag(torch.tensor([2.0, 3.0, 1.0]))[:, :, None, None])
    layer = LowRankLayer.from_conv(source, KernelConfig("low_rank", rank=2))
    assert layer(torch.ones(1, 3, 1, 1)).flatten().tolist() == pytest.approx([2, 3, 0], abs=1e-6)
    assert layer.reduce.weight.flatten().tolist() == pytest.approx([0, 1, 0, 1, 0, 0], abs=1e-6)


def test_both_convolutions_learn() -> None:
    layer = LowRankLayer.from_conv(_conv(), KernelConfig("low_rank", rank=2))
    torch.autograd.backward(layer(torch.randn(2, 4, 9, 8)).square().sum())
    assert {name for name, _ in layer.named_parameters()} == {"reduce.weight", "expand.weight", "expand.bias"}
    assert all(p.grad is not None and bool(p.grad.any()) for p in layer.parameters())


def test_a_graph_has_two_convolutions_and_trec_can_treat_the_second() -> None:
    model = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 49, 3)).eval()
    changed = apply_kernels(model, {"0": KernelConfig("low_rank", rank=2)})
    assert [node.op.kind for node in lower(changed, (9, 9, 4)).nodes] == ["conv2d", "conv2d", "dense"]
    assert conv_shapes(changed, (9, 9, 4))["0.expand"] == ConvShape(3, 3, 2, 5, 49)
    clustered = apply_trec(changed, {"0.expand": TrecConfig(3, 6)}, torch.randn(4, 4, 9, 9))
    assert list(trec_layers(clustered)) == ["0.expand"]
    assert isinstance(model[0], nn.Conv2d), "the network itself stays"


def test_only_what_has_fewer_weights_becomes_of_low_rank() -> None:
    shapes = {"stem": ConvShape(3, 3, 3, 8, 64), "next": ConvShape(3, 3, 32, 8, 64)}
    # 9 * 3 * 8 = 216 whole; 3 * (3 + 9 * 8) = 225 and 2 * (3 + 9 * 8) = 150. 9 * 32 * 8 = 2304; 12 * (32 + 72) = 1248
    found = resolve_kernels({"*": KernelConfig("low_rank", dictionary=5, rank=12)}, shapes)
    assert found == {"next": KernelConfig("low_rank", rank=12)}
    assert resolve_kernels({"stem": KernelConfig("low_rank", rank=3)}, shapes) == {}
    assert list(resolve_kernels({"*": KernelConfig("low_rank", rank=2)}, shapes)) == ["stem", "next"]
    # 22 * 104 = 2288 and 23 * 104 = 2392
    assert resolve_kernels({"next": KernelConfig("low_rank", rank=22)}, shapes)
    assert not resolve_kernels({"next": KernelConfig("low_rank", rank=23)}, shapes)


def test_a_rank_of_nothing_is_refused_and_other_forms_have_none() -> None:
    with pytest.raises(CandidateError, match="rank is 0; it must be at least 1"):
        KernelConfig("low_rank", rank=0)
    forms = {"conv1": KernelConfig("lookup"), "conv2": KernelConfig("low_rank", rank=6)}
    kept = plain_data(Candidate("cifar10", "cifarnet", kernels=forms))["kernels"]
    assert isinstance(kept, dict)
    assert "rank" not in kept["conv1"] and kept["conv2"]["rank"] == 6
