"""Hashes that cut at several levels of few directions."""

import pytest
import torch
from torch import Tensor, nn

from trec_dse.candidate import HashScope, TrecConfig
from trec_dse.trec.clustering import assign_clusters, centroid_rows
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.hashing import principal_hash, signatures
from trec_dse.trec.levels import level_hash


def _on_a_line(*values: float) -> Tensor:
    """One image whose vectors are single numbers."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


def test_one_bit_cuts_halfway_between_the_means_of_what_it_separates() -> None:
    # the means are 1 and 11
    hash, thresholds = level_hash(_on_a_line(0, 2, 10, 12), torch.ones(1, 1), 1)
    assert hash.tolist() == [[1.0]]
    assert thresholds.tolist() == pytest.approx([6.0])


def test_three_bits_make_four_levels_of_one_direction() -> None:
    hash, thresholds = level_hash(_on_a_line(14, 0, 10, 4), torch.full((1, 3), -2.0), 3)
    assert hash.tolist() == [[1.0, 1.0, 1.0]]
    assert thresholds.tolist() == pytest.approx([2.0, 7.0, 12.0])


def test_a_bit_that_would_separate_nothing_stays_zero() -> None:
    vectors = _on_a_line(0, 0, 5, 5)
    hash, thresholds = level_hash(vectors, torch.ones(1, 1), 3)
    codes = signatures(vectors, hash.float().unsqueeze(0), thresholds.float().unsqueeze(0))
    assert codes.flatten().tolist() == [0, 0, 4, 4]  # the first bit of three


def test_what_the_kernels_do_not_see_is_not_cut() -> None:
    vectors = torch.tensor([[[100.0, 0.0], [-100.0, 2.0], [50.0, 0.0], [-50.0, 2.0]]])
    hash, thresholds = level_hash(vectors, torch.tensor([[0.0], [3.0]]), 1)
    assert hash.T.tolist() == [pytest.approx([0.0, 1.0], abs=1e-9)]
    assert thresholds.tolist() == pytest.approx([1.0])


def test_images_that_differ_only_from_each_other_need_no_cut() -> None:
    vectors = torch.tensor([[[1.0], [1.0]], [[9.0], [9.0]]])
    _, thresholds = level_hash(vectors, torch.ones(1, 1), 1)
    assert float(thresholds) > 9


def test_a_cut_serves_the_images_that_vary_most() -> None:
    # between images there are 8, within them 2 along the first axis, and 4 along the second
    vectors = torch.tensor([[[0.0, 0.0], [2.0, 4.0]], [[8.0, 4.0], [10.0, 0.0]]])
    hash, thresholds = level_hash(vectors, torch.eye(2), 1)
    assert hash.T.tolist() == [pytest.approx([0.0, 1.0])]
    assert thresholds.tolist() == pytest.approx([2.0])


def test_without_bits_there_is_no_hash() -> None:
    hash, thresholds = level_hash(torch.randn(2, 5, 3), torch.randn(3, 4), 0)
    assert hash.shape == (3, 0)
    assert thresholds.shape == (0,)


def _error_and_clusters(vectors: Tensor, kernels: Tensor, hash: Tensor, thresholds: Tensor) -> tuple[float, float]:
    """Mean squared error of the outputs, and mean number of clusters of an image."""
    codes = signatures(vectors, hash.float().unsqueeze(0), thresholds.float().unsqueeze(0))
    indices, counts = assign_clusters(codes, hash.shape[1], None)
    return float(((centroid_rows(vectors, indices, counts) - vectors) @ kernels).square().mean()), float(
        counts.float().mean()
    )


def test_pixels_at_levels_have_half_the_error_of_principal_signs_with_no_more_clusters() -> None:
    torch.manual_seed(0)
    # channels that mostly vary together, as those of a photograph
    vectors = torch.randn(16, 200, 1) + 0.2 * torch.randn(16, 200, 3)
    kernels = torch.randn(3, 8)
    signs, means = principal_hash(vectors, 7, 3, shared=False)
    by_sign, n_by_sign = _error_and_clusters(vectors, kernels, signs[0], means[0])
    at_levels, n_at_levels = _error_and_clusters(vectors, kernels, *level_hash(vectors, kernels, 7))
    assert n_at_levels <= n_by_sign
    assert at_levels <= by_sign / 2


@pytest.mark.parametrize("scope", ["per_slice", "shared", "strip_shared"])
def test_a_layer_starts_at_levels_whatever_its_hash_is_shared_by(scope: HashScope) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 2, 6, 6)
    layer = TrecConv2d.from_conv(nn.Conv2d(2, 5, 3, padding=1), TrecConfig(6, 6, scope)).eval()
    layer.initialise_hash(x, "levels")
    assert layer.hash is not None
    norms = layer.hash.detach().norm(dim=1)
    assert norms.flatten().tolist() == pytest.approx([1.0] * norms.numel())
    exact = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
    with torch.no_grad():
        at_levels = (layer(x) - exact).square().mean()
        layer.thresholds.fill_(1e9)  # one cluster
        at_once = (layer(x) - exact).square().mean()
    assert float(at_levels) < 0.5 * float(at_once)


def test_the_hash_of_a_group_looks_at_the_kernels_of_that_group_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 2, 5, 5)
    layer = TrecConv2d.from_conv(nn.Conv2d(2, 3, 1), TrecConfig(1, 1, "strip_shared", channel_groups=2))
    with torch.no_grad():
        layer.weight[:, 1] = 0
    layer.initialise_hash(x, "levels")
    first, second = layer.thresholds.flatten().tolist()
    assert abs(first) < 1
    assert second > float(x[:, 1].abs().max())  # nobody reads the second channel
