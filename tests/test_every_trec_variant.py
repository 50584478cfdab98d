"""Every combination of hash scope, hash gradient, cap on clusters and clustering scope trains and evaluates alike.

And the gradient of a whole layer through its memberships is that of the formula as it is written down.
"""

import itertools
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import ClusteringScope, HashGradient, HashScope, TrecConfig
from trec_dse.trec.conv import HASH_PACE, TrecConv2d
from trec_dse.trec.hashing import codes_from_projections, project, unfold_rows, weight_matrix
from trec_dse.trec.surrogate import soft_memberships

VARIANTS = list(
    itertools.product(get_args(HashScope), get_args(HashGradient), [None, 3], get_args(ClusteringScope), [4, 7])
)


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


def _learning(layer: TrecConv2d) -> set[str]:
    """Names of the parameters that got a gradient which is not zero throughout."""
    return {name for name, p in layer.named_parameters() if p.grad is not None and bool(p.grad.abs().max() > 0)}


@pytest.mark.parametrize(("scope", "gradient", "cap", "clustering", "bits"), VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # compiled where there is a compiler, and plain
def test_every_variant_trains_and_evaluates_alike(
    scope: HashScope,
    gradient: HashGradient,
    cap: int | None,
    clustering: ClusteringScope,
    bits: int,
    dtype: torch.dtype,
) -> None:
    config = TrecConfig(bits, 2 if scope == "strip_shared" else 6, scope, cap, 1, clustering)
    conv = nn.Conv2d(2, 8, 3, stride=(1, 2), padding=1).to(dtype)
    layer = TrecConv2d.from_conv(conv, config, hash_gradient=gradient, kernel_surrogate=True).train()
    x = torch.randn(2, 2, 5, 6, dtype=dtype, requires_grad=True)
    layer.initialise_hash(x.detach())
    y = layer(x)
    torch.autograd.backward(y.square().sum())
    counts = layer.clusters_per_image
    assert counts is not None
    assert len(counts) == (1 if clustering == "batch" else 2)
    assert counts.max() == 3 if cap else counts.max() > 3
    expected = {"weight", "bias"}
    if scope != "kernel_reuse" and gradient != "none":
        expected |= {"hash"} if gradient == "paper" else {"hash", "thresholds"}
    learning = _learning(layer)
    assert learning - {"hash"} == expected - {"hash"}
    if gradient != "paper":  # the published gradient is dead: all its hash gradients may be exactly zero
        assert learning == expected
    assert x.grad is not None
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)
    torch.testing.assert_close(layer.eval()(x), y)
    evaluated = layer.clusters_per_image
    assert evaluated is not None
    assert torch.equal(counts, evaluated)


def _as_written(layer: TrecConv2d, x: Tensor, hash: Tensor, thresholds: Tensor) -> Tensor:
    """X-hat = P C with P = one-hot + p - stop(p) and C = P^T X / column sums of P, all by matrices and autograd."""
    rows = unfold_rows(x, layer.kernel_size, layer.stride, layer.padding)
    projections = project(rows, hash)
    hard = F.one_hot(codes_from_projections(projections, thresholds), 2**layer.config.hash_bits).to(rows.dtype)
    p = soft_memberships(projections, thresholds, layer.slope)
    belongs = hard + p - p.detach()
    weights = torch.where(hard.sum(dim=2, keepdim=True) == 0, p.detach(), belongs)  # the soft means of empty clusters
    vectors = rows.view(*rows.shape[:2], projections.shape[1], -1).transpose(1, 2)
    means = belongs @ (weights.transpose(2, 3) @ vectors / weights.sum(dim=2).unsqueeze(-1))
    means = means.transpose(1, 2).reshape(rows.shape)
    matrix, exact = weight_matrix(layer.weight), layer.config.hash_bits if layer.hash is None else 0
    output = torch.cat([rows @ matrix[:, :exact], means @ matrix[:, exact:]], dim=2)
    return output if layer.bias is None else output + layer.bias


@pytest.mark.parametrize("scope", ["per_slice", "shared", "kernel_reuse"])
@pytest.mark.parametrize(
    ("stride", "padding"), [((1, 1), (0, 0)), ((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 1), (0, 1))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_soft_gradient_of_a_layer_is_that_of_its_formula(
    scope: HashScope, stride: tuple[int, int], padding: tuple[int, int], dtype: torch.dtype
) -> None:
    conv = nn.Conv2d(2, 5, 3, stride, padding).to(dtype)
    layer = TrecConv2d.from_conv(conv, TrecConfig(3, 6, scope), kernel_surrogate=True).train()
    x = torch.randn(2, 2, 6, 5, dtype=dtype, requires_grad=True)
    layer.initialise_hash(x.detach())
    parameters = {"x": x, **dict(layer.named_parameters())}
    parameters = {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
    y = layer(x)
    direction = torch.randn_like(y)
    found = torch.autograd.grad((y * direction).sum(), list(parameters.values()))
    hash = weight_matrix(layer.weight)[:, :3].reshape(3, 6, 3) if layer.hash is None else layer.hash
    written = _as_written(layer, x, hash, layer.thresholds).transpose(1, 2).reshape(y.shape)
    torch.testing.assert_close(y, written)
    expected = torch.autograd.grad((written * direction).sum(), list(parameters.values()))
    for name, ours, theirs in zip(parameters, found, expected, strict=True):
        pace = HASH_PACE if name in ("hash", "thresholds") else 1
        torch.testing.assert_close(ours, pace * theirs, rtol=2e-4, atol=2e-5)
