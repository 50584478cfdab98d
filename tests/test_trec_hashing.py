"""Unfolding, signatures and the principal hash, with hand-computed numbers."""

import pytest
import torch
import torch.nn.functional as F

from trec_dse.trec.hashing import (
    kernel_hash,
    principal_hash,
    project,
    signatures,
    slice_rows,
    unfold_rows,
    weight_matrix,
)

# The worked example of the TREC slides: four rows of length 3, two hash vectors.
ROWS = torch.tensor([[[1.0, 2, 3], [0, 0, 1], [0, 2, 1], [1, 3, 2]]])
HASH = torch.tensor([[[-1.0, 1], [1, 2], [0, -1]]])


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


def test_the_slide_example_has_the_slide_signatures() -> None:
    assert project(ROWS, HASH).tolist() == [[[[1, 2], [0, -1], [2, 3], [2, 5]]]]
    # bits 11, 00, 11, 11; a projection of exactly 0 is not above the threshold 0
    assert signatures(ROWS, HASH, torch.zeros(1, 2)).tolist() == [[[3, 0, 3, 3]]]


def test_the_first_hash_vector_gives_the_most_significant_bit() -> None:
    rows = torch.tensor([[[1.0, -1], [-1, 1]]])
    assert signatures(rows, torch.eye(2).unsqueeze(0), torch.zeros(1, 2)).tolist() == [[[0b10, 0b01]]]


def test_a_threshold_belongs_to_one_bit_of_one_slice() -> None:
    rows = torch.tensor([[[1.0, 2, 1, 2]]])  # two slices of length 2
    one_bit = torch.tensor([[[1.0], [0]], [[0.0], [1]]])  # picks 1 in the first slice and 2 in the second
    assert signatures(rows, one_bit, torch.tensor([[0.5], [2.5]])).tolist() == [[[1], [0]]]
    assert signatures(rows, one_bit, torch.tensor([[1.0], [1.5]])).tolist() == [[[0], [1]]]


def test_a_shared_hash_serves_every_slice() -> None:
    rows = torch.randn(2, 5, 12)
    shared, thresholds = torch.randn(1, 4, 3), torch.randn(1, 3)
    expected = signatures(rows, shared.expand(3, 4, 3), thresholds.expand(3, 3))
    assert torch.equal(signatures(rows, shared, thresholds), expected)


def test_without_hash_bits_every_signature_is_zero() -> None:
    assert signatures(torch.randn(2, 5, 6), torch.zeros(2, 3, 0), torch.zeros(2, 0)).tolist() == [[[0] * 5] * 2] * 2


def test_a_row_runs_over_kernel_rows_then_columns_then_channels() -> None:
    # channel 0 is 0 1 2 / 3 4 5 / 6 7 8, channel 1 the same plus 10
    x = torch.stack([torch.arange(9.0).view(3, 3), 10 + torch.arange(9.0).view(3, 3)]).unsqueeze(0)
    rows = unfold_rows(x, (2, 2), (1, 1), (0, 0))
    assert rows.shape == (1, 4, 8)
    assert rows[0, 0].tolist() == [0, 10, 1, 11, 3, 13, 4, 14]
    assert rows[0, 1].tolist() == [1, 11, 2, 12, 4, 14, 5, 15]  # the next position of the same output row


def test_a_slice_of_one_kernel_row_is_a_strip_of_the_image() -> None:
    x = torch.randn(1, 3, 4, 4)
    slices = slice_rows(unfold_rows(x, (2, 2), (1, 1), (0, 0)), 2 * 3)  # (1, 2, 9, 6)
    assert torch.equal(slices[0, 1, 0], x[0, :, 1, 0:2].T.reshape(-1))


@pytest.mark.parametrize(("stride", "padding"), [((1, 1), (0, 0)), ((2, 1), (1, 2)), ((2, 2), (1, 1))])
def test_rows_times_the_weight_matrix_are_the_convolution(stride: tuple[int, int], padding: tuple[int, int]) -> None:
    x, weight = torch.randn(2, 3, 7, 6, dtype=torch.float64), torch.randn(5, 3, 3, 2, dtype=torch.float64)
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    rows = unfold_rows(x, (3, 2), stride, padding)
    torch.testing.assert_close((rows @ weight_matrix(weight)).transpose(1, 2).reshape(expected.shape), expected)


def test_the_kernel_hash_of_a_slice_is_its_part_of_the_first_kernels() -> None:
    weight = torch.randn(4, 3, 2, 2)
    matrix = weight_matrix(weight)  # (12, 4)
    hash_vectors = kernel_hash(weight, hash_bits=2, vector_length=6)
    assert torch.equal(hash_vectors[0], matrix[:6, :2])
    assert torch.equal(hash_vectors[1], matrix[6:, :2])


def test_the_principal_hash_splits_along_the_longest_axis_at_the_mean() -> None:
    # Points on the line (1, 1) around (5, 1): mean 5 and 1, direction (1, 1) / sqrt(2)
    rows = torch.tensor([[[3.0, -1.0], [5, 1], [7, 3]]])
    hash_vectors, thresholds = principal_hash(rows, hash_bits=1, vector_length=2, shared=False)
    torch.testing.assert_close(hash_vectors, torch.full((1, 2, 1), 0.5**0.5))
    torch.testing.assert_close(thresholds, torch.tensor([[6 * 0.5**0.5]]))
    assert signatures(rows + 1e-3, hash_vectors, thresholds).tolist() == [[[0, 1, 1]]]


def test_a_direction_without_spread_gives_a_constant_bit() -> None:
    rows = torch.full((1, 50, 4), -0.7) + torch.randn(1, 50, 1) * torch.tensor([1.0, 0, 0, 0])
    hash_vectors, thresholds = principal_hash(rows, hash_bits=3, vector_length=4, shared=False)
    codes = signatures(rows, hash_vectors, thresholds)
    assert set(codes.flatten().tolist()) == {0b000, 0b100}


def test_a_constant_input_has_one_cluster_whatever_the_rounding() -> None:
    rows = torch.full((4, 16, 6), 0.1)
    hash_vectors, thresholds = principal_hash(rows, hash_bits=2, vector_length=3, shared=False)
    assert set(signatures(rows, hash_vectors, thresholds).flatten().tolist()) == {0}


@pytest.mark.parametrize("shared", [False, True])
def test_the_principal_hash_has_a_unit_vector_per_bit_even_beyond_the_vector_length(shared: bool) -> None:
    rows = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(1))
    hash_vectors, thresholds = principal_hash(rows, hash_bits=5, vector_length=2, shared=shared)
    n_hashes = 1 if shared else 3
    assert hash_vectors.shape == (n_hashes, 2, 5)
    assert thresholds.shape == (n_hashes, 5)
    torch.testing.assert_close(hash_vectors.norm(dim=1), torch.ones(n_hashes, 5))
    again, _ = principal_hash(rows, hash_bits=5, vector_length=2, shared=shared)
    assert torch.equal(hash_vectors, again)


def test_a_principal_hash_of_no_bits_is_empty() -> None:
    hash_vectors, thresholds = principal_hash(torch.randn(1, 9, 6), hash_bits=0, vector_length=3, shared=False)
    assert hash_vectors.shape == (2, 3, 0)
    assert thresholds.shape == (2, 0)


def test_fewer_rows_than_components_give_the_same_directions() -> None:
    torch.manual_seed(1)
    rows = torch.randn(1, 5, 40, dtype=torch.float64)
    vectors, thresholds = principal_hash(rows, 4, 40, shared=False)
    centred = rows[0] - rows[0].mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / 5)
    alignment = (directions.flip(1)[:, :4].T @ vectors[0]).abs()
    torch.testing.assert_close(alignment, torch.eye(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(thresholds[0], rows[0].mean(dim=0) @ vectors[0])
    assert variances[-4] > 0


def test_directions_that_no_row_spans_leave_their_bits_at_zero() -> None:
    torch.manual_seed(1)
    rows = torch.randn(1, 3, 40)  # three rows about their mean span two directions
    vectors, thresholds = principal_hash(rows, 6, 40, shared=False)
    torch.testing.assert_close(vectors[0].T @ vectors[0], torch.eye(6), atol=1e-5, rtol=0)
    codes = signatures(rows, vectors, thresholds)
    assert not (codes & 0b001111).any()
    assert int(codes.max()) > int(codes.min())
