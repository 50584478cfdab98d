"""The hash gradient as the TREC paper and its artifact have it, kept for comparisons: it is numerically almost zero.

A bit is sigmoid(alpha * (projection - 0.1 / 2**H)), a signature plus one is divided by every cluster's number j, and
exp(-(q - 1)**2 / (2 sigma**2)) of the quotient q says whether the vector belongs to it, with sigma = 1 / (5 * 2**H) and
the hard signature in q. With alpha = 10**4 only vectors within about 1e-3 of a threshold have a slope at all, and for
a vector's own cluster q is 1, where the Gaussian is flat. Neither images nor thresholds get a gradient this way.
"""

from typing import Any

import torch
from torch import Tensor

from trec_dse.trec.hashing import slice_rows

ALPHA, SHARPNESS = 1e4, 5.0


def published_centroid_rows(
    rows: Tensor, projections: Tensor, codes: Tensor, alpha: float = ALPHA, sharpness: float = SHARPNESS
) -> Tensor:
    """As `clustering.centroid_rows` in value, with the published gradient for `projections` (B, n, N, H).

    `projections` are less their thresholds; pass them with `rows` detached. `codes` (B, n, N) are the signatures.
    """
    vectors = slice_rows(rows, rows.shape[-1] // codes.shape[1])
    means: Tensor = _PublishedMeans.apply(vectors, projections, codes, alpha, sharpness)  # type: ignore[no-untyped-call]
    return means.transpose(1, 2).reshape(rows.shape)


class _PublishedMeans(torch.autograd.Function):
    """Vectors (B, n, N, L), projections (B, n, N, H), codes (B, n, N) -> means (B, n, N, L)."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, projections: Tensor, codes: Tensor, alpha: float, sharpness: float
    ) -> Tensor:
        members = torch.nn.functional.one_hot(codes, 2 ** projections.shape[-1]).to(vectors.dtype)  # (B, n, N, S)
        counts = members.sum(dim=2).unsqueeze(-1)  # (B, n, S, 1)
        ctx.save_for_backward(vectors, projections, codes, members, counts)
        ctx.alpha, ctx.sharpness = alpha, sharpness
        return members @ (members.transpose(2, 3) @ vectors / counts.clamp(min=1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        vectors, projections, codes, members, counts = ctx.saved_tensors
        hash_bits = projections.shape[-1]
        averaged = members.transpose(2, 3) @ gradients[0] / counts.clamp(min=1)  # (B, n, S, L)
        # The second division by the cluster's size is the artifact's.
        to_bitmap = vectors @ (averaged / counts.clamp(min=1)).transpose(2, 3)
        numbers = torch.arange(1, members.shape[-1] + 1, device=codes.device, dtype=vectors.dtype)
        quotients = (codes + 1).unsqueeze(-1) / numbers
        variance = (1 / (ctx.sharpness * 2**hash_bits)) ** 2
        bitmap = torch.exp(-((quotients - 1) ** 2) / (2 * variance))
        to_quotient = to_bitmap * bitmap * -(quotients - 1) / variance * (counts > 0).transpose(2, 3)
        weights = 2.0 ** torch.arange(hash_bits - 1, -1, -1, device=codes.device, dtype=vectors.dtype)
        to_bits = (to_quotient / numbers).sum(dim=-1, keepdim=True) * weights
        bits = torch.sigmoid(ctx.alpha * (projections - 0.1 / 2**hash_bits))
        return members @ averaged, to_bits * ctx.alpha * bits * (1 - bits), None, None, None
