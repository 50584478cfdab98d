"""A gradient for hash vectors: hard clusters in the forward pass, soft memberships in the backward pass.

A sign has no useful derivative. Here every bit is also a probability, sigmoid(slope * z), with z the distance of the
projection from its threshold in standard deviations. The probabilities of all 2**H signatures, products over
the bits, are a softmax over linear functions of z. The forward value is that of the hard clusters.
"""

from typing import Any

import torch
from torch import Tensor

from trec_dse.trec.hashing import slice_rows

MAX_SOFT_BITS = 6  # the membership matrix has 2**H columns; neighbours.py serves longer hashes


def soft_memberships(projections: Tensor, thresholds: Tensor, slope: float) -> Tensor:
    """Probabilities (B, n, N, 2**H) of every signature; each row sums to 1.

    `projections` is (B, n, N, H), `thresholds` (n, H) or (1, H). Gradients reach both.
    """
    hash_bits = projections.shape[-1]
    scale = projections.detach().std(dim=(0, 2), keepdim=True, unbiased=False).clamp(min=1e-6)
    z = (projections - thresholds.unsqueeze(1)) / scale
    weights = torch.arange(hash_bits - 1, -1, -1, device=z.device)
    bits = torch.arange(2**hash_bits, device=z.device).unsqueeze(0) >> weights.unsqueeze(1) & 1  # (H, 2**H)
    return torch.softmax(slope * z @ bits.to(z.dtype), dim=-1)


def soft_centroid_rows(rows: Tensor, codes: Tensor, memberships: Tensor) -> Tensor:
    """As `centroid_rows` in value, but its gradient also flows through who belongs to which cluster.

    `codes` (B, n, N) is the signature of the cluster that each vector belongs to, `memberships` p (B, n, N, 2**H) comes
    from `soft_memberships`. The gradient is that of X-hat = P C with P = one-hot + p - stop(p) and
    C = P^T X / column sums of P, worked out without ever storing P. The centroid of a signature that nobody has is its
    soft mean: not seen in the forward pass, but it tells the backward pass what moving there would give.
    """
    vectors = slice_rows(rows, rows.shape[-1] // codes.shape[1])
    means: Tensor = _SoftMeans.apply(vectors, codes, memberships)  # type: ignore[no-untyped-call]
    return means.transpose(1, 2).reshape(rows.shape)


class _SoftMeans(torch.autograd.Function):
    """Vectors (B, n, N, L), codes (B, n, N), memberships (B, n, N, S) -> means (B, n, N, L)."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, codes: Tensor, memberships: Tensor) -> Tensor:
        n_codes = memberships.shape[-1]
        sums, counts = _sum_by_code(vectors, codes, n_codes), _count_codes(codes, n_codes).to(vectors.dtype)
        soft_means = memberships.transpose(2, 3) @ vectors / memberships.sum(dim=2).unsqueeze(-1).clamp(min=1e-12)
        counts = counts.unsqueeze(-1)  # (B, n, S, 1)
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), soft_means)
        ctx.save_for_backward(vectors, codes, centroids, counts)
        return _take_by_code(centroids, codes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor]:
        vectors, codes, centroids, counts = ctx.saved_tensors
        gradient = gradients[0]
        # dL/dC_j over the size of cluster j: what each of its members receives
        per_member = _sum_by_code(gradient, codes, counts.shape[2]) / counts.clamp(min=1)
        to_memberships = gradient @ centroids.transpose(2, 3)  # row i would move to centroid j
        to_memberships += vectors @ per_member.transpose(2, 3)  # centroid j would move towards row i
        to_memberships -= (centroids * per_member).sum(dim=-1).unsqueeze(2)  # and be divided by one row more
        return _take_by_code(per_member, codes), None, to_memberships


def _flat(codes: Tensor, n_codes: int) -> Tensor:
    """Codes (B, n, N) as indices into a table that holds `n_codes` entries per image and slice."""
    groups = torch.arange(codes.shape[0] * codes.shape[1], device=codes.device).view(*codes.shape[:2], 1)
    return (codes + n_codes * groups).reshape(-1)


def _count_codes(codes: Tensor, n_codes: int) -> Tensor:
    return torch.bincount(_flat(codes, n_codes), minlength=codes.shape[0] * codes.shape[1] * n_codes).view(
        *codes.shape[:2], n_codes
    )


def _sum_by_code(vectors: Tensor, codes: Tensor, n_codes: int) -> Tensor:
    """Sums (B, n, S, L) of the vectors (B, n, N, L) with the same code."""
    batch, slices, _, length = vectors.shape
    table = vectors.new_zeros(batch * slices * n_codes, length)
    table.index_add_(0, _flat(codes, n_codes), vectors.reshape(-1, length))
    return table.view(batch, slices, n_codes, length)


def _take_by_code(table: Tensor, codes: Tensor) -> Tensor:
    """Per vector, the entry (B, n, N, L) of a table (B, n, S, L) at its code."""
    flat = table.reshape(-1, table.shape[-1]).index_select(0, _flat(codes, table.shape[2]))
    return flat.view(*codes.shape, -1)
