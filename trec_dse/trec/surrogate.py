"""A gradient for hash vectors: hard clusters in the forward pass, soft memberships in the backward pass.

A sign has no useful derivative. Here every bit is also a probability, sigmoid(slope * z), with z the distance of the
projection from its threshold in standard deviations. The probabilities of all 2**H signatures, products over
the bits, are a softmax over linear functions of z. The forward value is that of the hard clusters.
"""

import torch
from torch import Tensor

from trec_dse.trec.hashing import slice_rows

MAX_SOFT_BITS = 6  # the membership matrix has 2**H columns


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

    `codes` (B, n, N) is the signature of the cluster that each vector belongs to, `memberships` (B, n, N, 2**H) comes
    from `soft_memberships`. The centroid of a signature that nobody has is its soft mean: never seen in the
    forward pass, but it tells the backward pass what moving there would give.
    """
    hard = torch.zeros_like(memberships).scatter_(-1, codes.unsqueeze(-1), 1.0)
    belongs = hard + (memberships - memberships.detach())  # exactly one-hot in value
    is_empty = hard.sum(dim=2, keepdim=True) == 0
    weights = torch.where(is_empty, memberships.detach(), belongs)
    vectors = slice_rows(rows, rows.shape[-1] // codes.shape[1])
    totals = weights.sum(dim=2).unsqueeze(-1)
    centroids = weights.transpose(2, 3) @ vectors / totals.clamp(min=1e-12)
    return (belongs @ centroids).transpose(1, 2).reshape(rows.shape)
