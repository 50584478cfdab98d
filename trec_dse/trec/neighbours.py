"""The soft gradient for hashes of many bits: memberships of a vector's own cluster and its one-bit neighbours only.

Among all 2**H signatures those that differ from a vector's own in one bit are the likeliest after it. Here a membership
is the softmax of `surrogate.soft_memberships` over the own cluster and its H neighbours: the work per vector is H + 1
dot products, whatever 2**H is. Where nobody has a neighbouring signature the vector would be alone there, and
so its own mean; without those places clusters only ever merge, and the error rises. For H = 1, where both clusters
exist, the two forms are the same.
"""

from typing import Any

import torch
from torch import Tensor

from trec_dse.trec.hashing import slice_rows

MISSING = -1


def neighbour_clusters(codes: Tensor, indices: Tensor, hash_bits: int) -> Tensor:
    """Clusters (B, n, N, H) of the signatures that differ from `codes` (B, n, N) in bit 0, 1, ...; -1 for none.

    `codes` are those of the vectors' clusters, `indices` (B, n, N) the clusters; bit 0 is the most significant.
    """
    batch, slices, _ = codes.shape
    table = torch.full((batch, slices, 2**hash_bits), MISSING, dtype=indices.dtype, device=codes.device)
    table.scatter_(2, codes, indices)
    columns = [table.gather(2, codes ^ (1 << (hash_bits - 1 - h))) for h in range(hash_bits)]
    return torch.stack(columns, dim=-1)


def neighbour_memberships(projections: Tensor, thresholds: Tensor, codes: Tensor, slope: float) -> Tensor:
    """Probabilities (B, n, N, 1 + H) of the own cluster and of the signatures one bit away from its `codes` (B, n, N).

    Distances are in standard deviations of the projections (B, n, N, H), as in `soft_memberships`.
    """
    hash_bits = projections.shape[-1]
    scale = projections.detach().std(dim=(0, 2), keepdim=True, unbiased=False).clamp(min=1e-6)
    z = (projections - thresholds.unsqueeze(1)) / scale
    places = torch.arange(hash_bits - 1, -1, -1, device=codes.device)
    signs = 2 * (codes.unsqueeze(-1) >> places & 1) - 1
    return torch.softmax(torch.cat([torch.zeros_like(z[..., :1]), -slope * signs * z], dim=-1), dim=-1)


def neighbour_centroid_rows(rows: Tensor, indices: Tensor, neighbours: Tensor, memberships: Tensor) -> Tensor:
    """As `clustering.centroid_rows` in value; the gradient is that of `soft_centroid_rows`, kept to the neighbours."""
    vectors = slice_rows(rows, rows.shape[-1] // indices.shape[1])
    means: Tensor = _NeighbourMeans.apply(vectors, indices, neighbours, memberships)  # type: ignore[no-untyped-call]
    return means.transpose(1, 2).reshape(rows.shape)


class _NeighbourMeans(torch.autograd.Function):
    """Vectors (B, n, N, L), clusters (B, n, N) and (B, n, N, H), memberships -> means (B, n, N, L)."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, indices: Tensor, neighbours: Tensor, memberships: Tensor) -> Tensor:
        width = int(indices.amax()) + 1
        sizes = vectors.new_zeros(*indices.shape[:2], width)
        sizes.scatter_add_(2, indices, torch.ones_like(indices, dtype=vectors.dtype))
        sizes = sizes.clamp(min=1).unsqueeze(-1)
        means = _sum_by_cluster(vectors, indices, width) / sizes
        ctx.save_for_backward(vectors, indices, neighbours, means, sizes)
        return _take(means, indices)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, Tensor]:
        vectors, indices, neighbours, means, sizes = ctx.saved_tensors
        gradient = gradients[0]
        per_member = _sum_by_cluster(gradient, indices, means.shape[2]) / sizes
        constants = (means * per_member).sum(dim=-1)
        alone = (gradient * vectors).sum(dim=-1)
        columns = []
        for clusters in (indices, *neighbours.unbind(dim=-1)):
            there = clusters.clamp(min=0)
            moved = (gradient * _take(means, there)).sum(dim=-1) + (vectors * _take(per_member, there)).sum(dim=-1)
            moved = moved - constants.gather(2, there)
            columns.append(torch.where(clusters == MISSING, alone, moved))
        return _take(per_member, indices), None, None, torch.stack(columns, dim=-1)


def _sum_by_cluster(vectors: Tensor, indices: Tensor, width: int) -> Tensor:
    """Sums (B, n, width, L) of the vectors of each cluster."""
    sums = vectors.new_zeros(*indices.shape[:2], width, vectors.shape[-1])
    return sums.scatter_add_(2, indices.unsqueeze(-1).expand(vectors.shape), vectors)


def _take(table: Tensor, indices: Tensor) -> Tensor:
    """Per vector, the row (B, n, N, L) of a table (B, n, width, L)."""
    return table.gather(2, indices.unsqueeze(-1).expand(*indices.shape, table.shape[-1]))
