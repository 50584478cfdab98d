"""Clusters, their numbering, the cap on their number and their means, with hand-computed numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_dse.trec.clustering import assign_clusters, centroid_rows


def _assign(codes: list[int], hash_bits: int, max_clusters: int | None = None) -> tuple[list[int], int]:
    indices, counts = assign_clusters(torch.tensor([[codes]]), hash_bits, max_clusters)
    return indices[0, 0].tolist(), int(counts[0, 0])


def test_the_slide_example_has_two_clusters_and_these_means() -> None:
    rows = torch.tensor([[[1.0, 2, 3], [0, 0, 1], [0, 2, 1], [1, 3, 2]]])
    indices, counts = assign_clusters(torch.tensor([[[3, 0, 3, 3]]]), 2, None)
    assert indices.tolist() == [[[0, 1, 0, 0]]]
    assert counts.tolist() == [[2]]  # r_t = 1 - 2 / 4
    mean = [2 / 3, 7 / 3, 2]  # of (1, 2, 3), (0, 2, 1), (1, 3, 2)
    torch.testing.assert_close(centroid_rows(rows, indices, counts), torch.tensor([[mean, [0, 0, 1], mean, mean]]))


def test_clusters_are_numbered_in_order_of_first_appearance() -> None:
    assert _assign([5, 2, 5, 0, 2, 7], hash_bits=3) == ([0, 1, 0, 2, 1, 3], 4)


def test_beyond_the_cap_a_row_joins_the_nearest_cluster_and_on_ties_the_oldest() -> None:
    # Clusters 0b000 and 0b111 exist. 0b001: distances 1, 2 -> 0. 0b110: 2, 1 -> 1. 0b101: 2, 1 -> 1.
    assert _assign([0b000, 0b111, 0b001, 0b110, 0b101, 0b000], 3, max_clusters=2) == ([0, 1, 0, 1, 1, 0], 2)
    # Clusters 0b01 and 0b10: 0b11 and 0b00 are 1 away from both.
    assert _assign([0b01, 0b10, 0b11, 0b00], 2, max_clusters=2) == ([0, 1, 0, 0], 2)
    # The oldest of the nearest need not be the first: 0b1100 and 0b0011 both differ from 0b1111 in 2 bits.
    assert _assign([0b0000, 0b1100, 0b0011, 0b1111], 4, max_clusters=3) == ([0, 1, 2, 1], 3)


def test_a_cap_that_is_not_reached_changes_nothing() -> None:
    assert _assign([1, 0, 1], 1, max_clusters=2) == ([0, 1, 0], 2)
    assert _assign([1, 0, 1], 1, max_clusters=1) == ([0, 0, 0], 1)


def test_a_cap_counts_per_image_and_slice() -> None:
    codes = torch.tensor([[[0, 1, 2], [3, 3, 3]], [[2, 2, 1], [0, 3, 1]]])
    indices, counts = assign_clusters(codes, 2, 2)
    assert counts.tolist() == [[2, 1], [2, 2]]
    # 2 = 0b10 is nearest to 0b00; 1 = 0b01 is 1 away from both 0b00 and 0b11
    assert indices.tolist() == [[[0, 1, 0], [0, 0, 0]], [[0, 0, 1], [0, 1, 0]]]


def _by_hand(codes: list[int], max_clusters: int | None) -> tuple[list[int], int]:
    """The rule of `TrecConfig`, row by row."""
    opened: list[int] = []
    indices = []
    for code in codes:
        if code not in opened and (max_clusters is None or len(opened) < max_clusters):
            opened.append(code)
        nearest = min(range(len(opened)), key=lambda i: ((opened[i] ^ code).bit_count(), i))
        indices.append(nearest)
    return indices, len(opened)


@given(st.lists(st.integers(0, 31), min_size=1, max_size=40), st.one_of(st.none(), st.integers(1, 33)))
@settings(deadline=None, max_examples=200, derandomize=True)
def test_the_vectorised_rule_is_the_rule_row_by_row(codes: list[int], max_clusters: int | None) -> None:
    assert _assign(codes, 5, max_clusters) == _by_hand(codes, max_clusters)


def test_every_slice_takes_its_own_means() -> None:
    rows = torch.tensor([[[1.0, 10], [3, 20], [5, 60]]])  # L = 1
    indices = torch.tensor([[[0, 0, 1], [0, 1, 1]]])
    means = centroid_rows(rows, indices, torch.tensor([[2, 2]]))
    assert means.tolist() == [[[2, 10], [2, 40], [5, 40]]]


@pytest.mark.parametrize("n_images", [1, 3])
def test_an_image_is_clustered_as_if_it_were_alone(n_images: int) -> None:
    generator = torch.Generator().manual_seed(n_images)
    rows = torch.randint(-8, 9, (n_images, 10, 6), generator=generator).double()
    codes = torch.randint(0, 4, (n_images, 2, 10), generator=generator)
    together = centroid_rows(rows, *assign_clusters(codes, 2, 3))
    alone = [centroid_rows(rows[i : i + 1], *assign_clusters(codes[i : i + 1], 2, 3)) for i in range(n_images)]
    assert torch.equal(together, torch.cat(alone))
