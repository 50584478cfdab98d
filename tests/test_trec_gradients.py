"""Gradients for hashes besides the full soft memberships: one-bit neighbours, the published one, reused kernels."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import HashGradient, TrecConfig
from trec_dse.trec import native
from trec_dse.trec.clustering import assign_clusters, centroid_rows
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.hashing import codes_from_projections
from trec_dse.trec.neighbours import neighbour_centroid_rows, neighbour_clusters, neighbour_memberships
from trec_dse.trec.published import published_centroid_rows
from trec_dse.trec.surrogate import soft_centroid_rows, soft_memberships


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


def test_neighbours_are_the_clusters_one_bit_away() -> None:
    # Clusters in order: 00, 01, 11. From 00 the first bit leads to 10 (nobody), the second to 01: cluster 1.
    codes, indices = torch.tensor([[[0b00, 0b01, 0b11, 0b00]]]), torch.tensor([[[0, 1, 2, 0]]])
    assert neighbour_clusters(codes, indices, 2).tolist() == [[[[-1, 1], [2, 0], [1, -1], [-1, 1]]]]


def _neighbour_means(rows: Tensor, projections: Tensor, thresholds: Tensor) -> Tensor:
    bits = projections.shape[-1]
    codes = codes_from_projections(projections, thresholds)
    indices, _ = assign_clusters(codes, bits, None)
    neighbours = neighbour_clusters(codes, indices, bits)
    memberships = neighbour_memberships(projections, thresholds, codes, slope=3.0)
    return neighbour_centroid_rows(rows, indices, neighbours, memberships)


def _soft_means(rows: Tensor, projections: Tensor, thresholds: Tensor) -> Tensor:
    codes = codes_from_projections(projections, thresholds)
    return soft_centroid_rows(rows, codes, soft_memberships(projections, thresholds, slope=3.0))


def _inputs(bits: int) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.randn(2, 20, 6, dtype=torch.float64, requires_grad=True)
    projections = torch.randn(2, 3, 20, bits, dtype=torch.float64, requires_grad=True)
    return rows, projections, torch.zeros(3, bits, dtype=torch.float64, requires_grad=True)


def test_with_one_bit_neighbours_are_all_there_is() -> None:
    inputs, target = _inputs(bits=1), torch.randn(2, 20, 6).double()
    gradients = []
    for means in (_neighbour_means, _soft_means):
        gradients.append(torch.autograd.grad(((means(*inputs) - target) ** 2).sum(), inputs))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)
        assert expected.abs().max() > 0.1


def _by_matrices(rows: Tensor, projections: Tensor, thresholds: Tensor) -> Tensor:
    """Memberships over all signatures, those further than one bit struck out, and autograd.

    A vector that moves to a signature nobody has would be its own mean."""
    bits = projections.shape[-1]
    codes = codes_from_projections(projections, thresholds)
    hard = F.one_hot(codes, 2**bits).to(rows.dtype)
    scale = projections.detach().std(dim=(0, 2), keepdim=True, unbiased=False)
    z = 3.0 * (projections - thresholds.unsqueeze(1)) / scale
    table = torch.tensor([[c >> (bits - 1 - h) & 1 for c in range(2**bits)] for h in range(bits)]).to(z.dtype)
    distance = (hard @ table.T).unsqueeze(-2).sub(table.T).abs().sum(dim=-1)
    p = torch.softmax((z @ table).masked_fill(distance > 1, -torch.inf), dim=-1)
    is_empty = hard.sum(dim=2, keepdim=True) == 0
    belongs = (hard + p - p.detach()).masked_fill(is_empty, 0)
    leaves = (p - p.detach()).masked_fill(~is_empty, 0).sum(dim=-1, keepdim=True)
    vectors = rows.view(2, 20, 3, 2).transpose(1, 2)
    counts = belongs.sum(dim=2) + (hard.sum(dim=2) == 0)
    centroids = belongs.transpose(2, 3) @ vectors / counts.unsqueeze(-1)
    return (belongs @ centroids + leaves * vectors.detach()).transpose(1, 2).reshape(rows.shape)


def test_the_neighbour_gradient_is_that_of_the_matrix_formula() -> None:
    inputs, target = _inputs(bits=4), torch.randn(2, 20, 6).double()
    assert torch.equal(
        _neighbour_means(*inputs),
        centroid_rows(inputs[0], *assign_clusters(codes_from_projections(inputs[1], inputs[2]), 4, None)),
    )
    gradients = []
    for means in (_neighbour_means, _by_matrices):
        gradients.append(torch.autograd.grad(((means(*inputs) - target) ** 2).sum(), inputs))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)
        assert expected.abs().max() > 0.1


@pytest.mark.parametrize("scope", ["per_slice", "strip_shared"])
def test_learning_a_hash_of_eight_bits_lowers_the_error(scope: str) -> None:
    smooth = F.avg_pool2d(torch.randn(4, 3, 20, 20), 5, 1) * 5
    x = torch.relu(smooth + 0.5 * torch.randn(4, 3, 16, 16))
    conv = nn.Conv2d(3, 8, 3)
    layer = TrecConv2d.from_conv(conv, TrecConfig(8, 9, scope)).train()  # type: ignore[arg-type]
    layer.initialise_hash(x)
    target = conv(x).detach()
    assert layer.hash is not None
    optimizer = torch.optim.Adam([layer.hash, layer.thresholds], lr=0.01)
    errors = []
    for step in range(40):
        layer.follow(step / 39)
        loss = F.mse_loss(layer(x), target)
        errors.append(loss.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert errors[-1] < 0.9 * errors[0]


def test_the_published_gradient_by_hand() -> None:
    # One bit, L = 1: projections 1 and -1 give signatures 1 and 0, so numbers 2 and 1, each a cluster of one vector.
    # alpha 1, sharpness 1/2: sigma = 1 / (0.5 * 2) = 1. With vectors 3 and 5 and gradients 1 and 10:
    rows = torch.tensor([[[3.0], [5.0]]], dtype=torch.float64)
    projections = torch.tensor([[[[1.0], [-1.0]]]], dtype=torch.float64, requires_grad=True)
    means = published_centroid_rows(rows, projections, torch.tensor([[[1, 0]]]), alpha=1.0, sharpness=0.5)
    assert means.flatten().tolist() == [3, 5]
    torch.autograd.backward(means, torch.tensor([[[1.0], [10.0]]], dtype=torch.float64))
    # first vector, q = 2/1 and 2/2: -(1) exp(-1/2) * (3 * 10) / 1 for number 1, nothing for its own number 2
    # second, q = 1/1 and 1/2: nothing for its own, 1/2 exp(-1/8) * (5 * 1) / 2 for number 2
    first, second = -30 * torch.exp(torch.tensor(-0.5)), 1.25 * torch.exp(torch.tensor(-0.125))
    bits = torch.sigmoid(torch.tensor([1 - 0.05, -1 - 0.05]))
    expected = torch.stack([first, second]) * bits * (1 - bits)
    assert projections.grad is not None
    torch.testing.assert_close(projections.grad.flatten().float(), expected)


def _hash_gradient_norm(gradient: HashGradient) -> float:
    torch.manual_seed(1)
    layer = TrecConv2d.from_conv(nn.Conv2d(3, 8, 3), TrecConfig(5, 9), hash_gradient=gradient).train()
    x = torch.randn(4, 3, 8, 8)
    layer.initialise_hash(x)
    torch.autograd.backward(layer(x).square().mean())
    assert layer.hash is not None
    assert layer.hash.grad is not None
    return float(layer.hash.grad.norm())


def test_the_published_gradient_is_numerically_dead() -> None:
    assert _hash_gradient_norm("paper") < 1e-3 * _hash_gradient_norm("soft")


def _reusing(kernel_surrogate: bool, bits: int = 3) -> TrecConv2d:
    torch.manual_seed(2)
    config = TrecConfig(bits, 9, "kernel_reuse")
    return TrecConv2d.from_conv(nn.Conv2d(3, 8, 3), config, kernel_surrogate=kernel_surrogate).train()


def test_the_surrogate_changes_the_gradient_of_reused_kernels_alone() -> None:
    gradients = []
    x = torch.randn(4, 3, 8, 8)
    for surrogate in (False, True):
        layer = _reusing(surrogate)
        torch.autograd.backward(layer(x).square().mean())
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad)
    torch.testing.assert_close(gradients[0][3:], gradients[1][3:])
    assert (gradients[0][:3] - gradients[1][:3]).abs().amax(dim=(1, 2, 3)).min() > 1e-4


@pytest.mark.skipif(native.library() is None, reason="no C compiler for this machine")
def test_the_compiled_surrogate_of_reused_kernels_is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    x = torch.randn(4, 3, 8, 8)
    for is_compiled in (True, False):
        if not is_compiled:
            monkeypatch.setattr(native, "is_usable", lambda x, config: False)
        layer, images = _reusing(True), x.clone().requires_grad_()
        torch.autograd.backward(layer(images).square().mean())
        assert layer.weight.grad is not None
        assert images.grad is not None
        gradients.append((layer.weight.grad, images.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
