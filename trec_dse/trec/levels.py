"""Where a hash cuts: several thresholds along few directions, each where it takes most off the error of the outputs.

A cluster is as good as the outputs that its mean gives. Over all vectors of one image, the expected squared error of
x W for x replaced by its cluster's mean is trace(W^T V W), V the covariance within the clusters of an image. So the
directions are the principal ones of the vectors as the kernels see them, x (W W^T)^1/2, each image about its own mean,
and H bits are given out one at a time: the next threshold goes to the direction along which it lowers that error most.
Along a direction thresholds lie halfway between the means of what they separate (Lloyd, 1982). A direction with t
thresholds has t + 1 levels, so that H bits make far fewer than 2^H clusters, and much finer ones where it matters.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_VECTORS = 2**15  # that are looked at, in whole images
_ROUNDS = 50  # of moving thresholds; they settle far earlier
_FLAT = 1e-7  # of the whole error: what rounding to int8 cannot show


@dataclass(frozen=True)
class _Cuts:
    """Thresholds (t,) along one direction, ascending, and the mean squared error that they leave within an image."""

    thresholds: Tensor
    error: float


def level_hash(vectors: Tensor, kernels: Tensor, hash_bits: int) -> tuple[Tensor, Tensor]:
    """Unit hash vectors (L, H) and thresholds (H,) for `vectors` (B, N, L) of B images, clustered image by image.

    `kernels` (L, M): what the vectors are multiplied with. Bits of the same direction stand side by side, their
    thresholds ascending. A bit that would separate nothing gets a threshold above all vectors and stays 0.
    """
    vectors = vectors[: max(1, MOST_VECTORS // vectors.shape[1])].detach().cpu().double()
    directions = _directions(vectors, kernels.detach().cpu().double())
    projections = vectors @ directions  # (B, N, at most L)
    cuts = _distributed(projections, hash_bits)
    above_all = float(vectors.norm(dim=2).max()) + 1
    hash, thresholds = [], []
    for direction, cut in zip(directions.T, cuts, strict=True):
        norm = direction.norm()
        for threshold in cut.thresholds:
            hash.append(direction / norm)
            thresholds.append(threshold / norm)
    missing = hash_bits - len(hash)
    hash += [torch.nn.functional.one_hot(torch.tensor(0), vectors.shape[2]).double()] * missing
    thresholds += [torch.tensor(above_all, dtype=torch.float64)] * missing
    if not hash:
        return vectors.new_zeros(vectors.shape[2], 0), vectors.new_zeros(0)
    return torch.stack(hash, dim=1), torch.stack(thresholds)


def _directions(vectors: Tensor, kernels: Tensor) -> Tensor:
    """Directions (L, L) to project vectors (B, N, L) on, the most important first.

    Their squared projections add up to the squared outputs. The largest component of each is positive.
    """
    strengths, axes = torch.linalg.eigh(kernels @ kernels.T)
    seen = axes * strengths.clamp(min=0).sqrt()  # x seen has the products that x kernels has
    centred = (vectors - vectors.mean(dim=1, keepdim=True)).reshape(-1, vectors.shape[2]) @ seen
    _, principal = torch.linalg.eigh(centred.T @ centred)
    directions = seen @ principal.flip(1)
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return torch.where(largest < 0, -directions, directions)


def _distributed(projections: Tensor, hash_bits: int) -> list[_Cuts]:
    """Thresholds for each of the directions of `projections` (B, N, D), `hash_bits` in all, or fewer if none helps."""
    n_tried = min(hash_bits, projections.shape[2])
    columns = [column.contiguous() for column in projections.unbind(2)]
    nothing = projections.new_zeros(0)
    now = [_Cuts(nothing, _error(column, nothing)) for column in columns]
    next_ones = [_cut(column, 1) for column in columns[:n_tried]]
    least_gain = _FLAT * sum(cut.error for cut in now)
    for _ in range(hash_bits):
        gains = [cut.error - better.error for cut, better in zip(now, next_ones, strict=False)]
        best = max(range(n_tried), key=lambda i: gains[i])
        if gains[best] <= least_gain:
            break
        now[best] = next_ones[best]
        next_ones[best] = _cut(columns[best], len(now[best].thresholds) + 1)
    return now


def _cut(projected: Tensor, n: int) -> _Cuts:
    """`n` thresholds for projections (B, N), from equal shares on."""
    values = projected.flatten().sort().values
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    ends = torch.arange(n + 2) * len(values) // (n + 1)
    thresholds = values.new_zeros(n)
    for _ in range(_ROUNDS):
        means = (sums[ends[1:]] - sums[ends[:-1]]) / (ends[1:] - ends[:-1]).clamp(min=1)
        thresholds = (means[1:] + means[:-1]) / 2
        moved = torch.cat([ends[:1], torch.searchsorted(values, thresholds, right=True), ends[-1:]])
        if torch.equal(moved, ends):
            break
        ends = moved
    thresholds = thresholds.sort().values
    return _Cuts(thresholds, _error(projected, thresholds))


def _error(projected: Tensor, thresholds: Tensor) -> float:
    """Mean squared distance of projections (B, N) to the mean of their level in their image."""
    levels = torch.searchsorted(thresholds, projected)
    sums = projected.new_zeros(len(projected), len(thresholds) + 1)
    members = torch.zeros_like(sums).scatter_add(1, levels, torch.ones_like(projected))
    means = sums.scatter_add(1, levels, projected) / members.clamp(min=1)
    return float((projected - means.gather(1, levels)).square().mean())
