"""Soft memberships: probabilities that sharpen to the hard signature, and a gradient for every hash vector."""

import math

import pytest
import torch

from trec_dse.trec.clustering import assign_clusters, centroid_rows
from trec_dse.trec.hashing import codes_from_projections
from trec_dse.trec.surrogate import soft_centroid_rows, soft_memberships


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


def test_a_membership_is_the_product_of_its_bit_probabilities() -> None:
    # One bit pair, thresholds 0; columns have deviation 1, so z is the projection itself.
    projections = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
    p = soft_memberships(projections, torch.zeros(1, 2), slope=2.0)[0, 0, 0]
    on = 1 / (1 + math.exp(-2))  # sigmoid(2)
    off = 1 - on
    # codes 00, 01, 10, 11 of the row (1, -1): first bit likely, second unlikely
    torch.testing.assert_close(p, torch.tensor([off * on, off * off, on * on, on * off]))


def test_memberships_sum_to_one_and_the_hard_signature_is_the_likeliest() -> None:
    projections, thresholds = torch.randn(2, 3, 9, 4), torch.randn(3, 4)
    p = soft_memberships(projections, thresholds, slope=5.0)
    torch.testing.assert_close(p.sum(dim=-1), torch.ones(2, 3, 9))
    assert torch.equal(p.argmax(dim=-1), codes_from_projections(projections, thresholds))


def test_soft_means_are_the_hard_means_in_value() -> None:
    rows, projections = torch.randn(2, 8, 6, dtype=torch.float64), torch.randn(2, 2, 8, 3, dtype=torch.float64)
    thresholds = torch.zeros(2, 3, dtype=torch.float64)
    codes = codes_from_projections(projections, thresholds)
    soft = soft_centroid_rows(rows, codes, soft_memberships(projections, thresholds, 3.0))
    torch.testing.assert_close(soft, centroid_rows(rows, *assign_clusters(codes, 3, None)))


def test_gradients_reach_projections_thresholds_and_rows() -> None:
    rows = torch.randn(1, 8, 6, requires_grad=True)
    projections = torch.randn(1, 2, 8, 3, requires_grad=True)
    thresholds = torch.zeros(2, 3, requires_grad=True)
    codes = codes_from_projections(projections, thresholds)
    means = soft_centroid_rows(rows, codes, soft_memberships(projections, thresholds, 3.0))
    torch.autograd.backward(((means - torch.randn(1, 8, 6)) ** 2).sum())
    for tensor in (rows, projections, thresholds):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
        assert tensor.grad.abs().max() > 1e-3


def _by_matrices(rows: torch.Tensor, codes: torch.Tensor, memberships: torch.Tensor) -> torch.Tensor:
    """The formula of `soft_centroid_rows` as it stands, differentiated by autograd."""
    hard = torch.nn.functional.one_hot(codes, memberships.shape[-1]).to(rows.dtype)
    belongs = hard + (memberships - memberships.detach())
    is_empty = hard.sum(dim=2, keepdim=True) == 0
    weights = torch.where(is_empty, memberships.detach(), belongs)
    vectors = rows.view(rows.shape[0], rows.shape[1], codes.shape[1], -1).transpose(1, 2)
    centroids = weights.transpose(2, 3) @ vectors / weights.sum(dim=2).unsqueeze(-1)
    return (belongs @ centroids).transpose(1, 2).reshape(rows.shape)


def test_the_gradient_is_that_of_the_matrix_formula() -> None:
    rows = torch.randn(2, 12, 6, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 3, 12, 8, dtype=torch.float64, requires_grad=True)
    codes = torch.randint(0, 6, (2, 3, 12))  # codes 6 and 7 are empty
    target = torch.randn(2, 12, 6, dtype=torch.float64)
    gradients = []
    for means in (soft_centroid_rows, _by_matrices):
        loss = ((means(rows, codes, torch.softmax(logits, dim=-1)) - target) ** 2).sum()
        gradients.append(torch.autograd.grad(loss, (rows, logits)))
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected)
        assert expected.abs().max() > 0.1
