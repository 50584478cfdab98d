"""The clusters of the C kernels as torch sees them: exact sums of centroid products, with gradients.

Values come from whole numbers in double precision, clusters, centroids and rounded products alike, so they are the
kernels' whatever the precision of the network. Gradients are those of the same convolution in floating point: means of
clusters, with a surrogate for the hash.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trec_dse.candidate import TrecConfig
from trec_dse.graph import Window
from trec_dse.ops.trec_conv2d import TrecConv2d
from trec_dse.ops.trec_strip_conv2d import TrecStripConv2d
from trec_dse.trec.clustering import assign_clusters, centroid_rows
from trec_dse.trec.hashing import codes_from_projections, kernel_hash, project, unfold_rows, weight_matrix
from trec_dse.trec.layout import ConvGeometry, Layout, layout_of
from trec_dse.trec.neighbours import neighbour_centroid_rows, neighbour_clusters, neighbour_memberships
from trec_dse.trec.strips import multiply_strips, strip_rows
from trec_dse.trec.surrogate import MAX_SOFT_BITS, soft_centroid_rows, soft_memberships


@dataclass(frozen=True, eq=False)
class WholeRounding:
    """Centroids have `fraction_bits`; products are divided by 2**`shifts` (M,), float64, and rounded."""

    fraction_bits: int
    shifts: Tensor

    @property
    def units(self) -> Tensor:
        """What a sum of products counts, in products of whole levels."""
        return torch.exp2(self.shifts - self.fraction_bits)


def clustered_sums(
    op: TrecConv2d | TrecStripConv2d,
    values: Tensor,
    weights: Mapping[str, Tensor],
    rounding: WholeRounding,
    slope: float | None,
) -> Tensor:
    """Sums (B, H_out, W_out, M) of whole products without bias, in products of whole levels, double precision.

    `values` (B, H, W, C) and `weights`, `hash` and `thresholds` among them, are whole. With a `slope`, that of soft
    bits, gradients also reach the hash.
    """
    config, window = op.config, op.window
    x, kernels = values.permute(0, 3, 1, 2), weights["weights"].permute(0, 3, 1, 2)
    size = (x.shape[2], x.shape[3])
    geometry = ConvGeometry(size, values.shape[3], window.kernel, window.stride, window.padding, window.extra)
    layout = layout_of(geometry, config)
    is_strips, exact = isinstance(op, TrecStripConv2d), op.exact_channels
    rows = strip_rows(x, geometry, layout) if is_strips else _unfolded(x, window)
    if config.scope == "kernel_reuse":
        hash_vectors = kernel_hash(kernels.detach(), config.hash_bits, config.vector_length)
        thresholds = rows.new_zeros(1, config.hash_bits)
    else:
        hash_vectors, thresholds = weights["hash"], weights["thresholds"]
    means, indices = _means(rows, (hash_vectors, thresholds), config, slope)
    if is_strips:
        sums = multiply_strips(means, kernels, layout)
    else:
        matrix = weight_matrix(kernels)
        sums = torch.cat([rows @ matrix[:, :exact], means @ matrix[:, exact:]], dim=-1)
    whole = _whole_sums(rows, indices, kernels, layout, rounding)
    sums = sums.double()
    sums = torch.cat([sums[..., :exact], sums[..., exact:] + (whole[..., exact:] - sums[..., exact:]).detach()], dim=-1)
    return sums.view(len(values), *op.output_shape(tuple(values.shape[1:])))


def _unfolded(x: Tensor, window: Window) -> Tensor:
    image, padding = window.pad(x)
    return unfold_rows(image, window.kernel, window.stride, padding)


def _means(
    rows: Tensor, hashing: tuple[Tensor, Tensor], config: TrecConfig, slope: float | None
) -> tuple[Tensor, Tensor]:
    """Rows of cluster means, and clusters (B, n, vectors); the hash learns where it can and there is a `slope`."""
    hash_vectors, thresholds = hashing
    projections = project(rows, hash_vectors)
    codes = codes_from_projections(projections, thresholds)
    indices, counts = assign_clusters(codes, config.hash_bits, config.max_clusters)
    is_learned = thresholds.requires_grad and config.max_clusters is None and config.hash_bits > 0
    if not is_learned or slope is None:
        return centroid_rows(rows, indices, counts), indices
    if config.hash_bits <= MAX_SOFT_BITS:
        return soft_centroid_rows(rows, codes, soft_memberships(projections, thresholds, slope)), indices
    memberships = neighbour_memberships(projections, thresholds, codes, slope)
    neighbours = neighbour_clusters(codes, indices, config.hash_bits)
    return neighbour_centroid_rows(rows, indices, neighbours, memberships), indices


@torch.no_grad()
def _whole_sums(rows: Tensor, indices: Tensor, kernels: Tensor, layout: Layout, rounding: WholeRounding) -> Tensor:
    """The kernel's sums (B, N, M) in double precision, in products of whole levels."""
    matrix = weight_matrix(kernels).double()
    uses, order = layout.uses.long().to(rows.device), layout.order.to(rows.device)
    total = matrix.new_zeros(len(rows), uses.shape[1], matrix.shape[1])
    for group, vectors in enumerate(torch.split(rows.double(), layout.length, dim=2)):
        clusters = indices[:, group]
        table = _whole_centroids(vectors, clusters, rounding.fraction_bits)
        n = table.shape[1]
        places = F.pad(clusters, (0, 1), value=n)  # strip -1, padding alone, takes a product of zero
        for part in range(layout.n_parts):
            products = torch.floor(torch.ldexp(table @ matrix[order[group, part]], -rounding.shifts) + 0.5)
            products = F.pad(products, (0, 0, 0, 1))
            total += products.gather(1, places[:, uses[part]].unsqueeze(-1).expand(*total.shape))
    return total * rounding.units


def _whole_centroids(vectors: Tensor, clusters: Tensor, fraction_bits: int) -> Tensor:
    """Means (B, clusters, L) of vectors (B, T, L) as whole numbers with `fraction_bits`, rounded half upwards."""
    n = int(clusters.amax()) + 1
    sums = vectors.new_zeros(len(vectors), n, vectors.shape[2])
    sums.scatter_add_(1, clusters.unsqueeze(-1).expand(vectors.shape), vectors)
    counts = vectors.new_zeros(len(vectors), n, 1)
    counts.scatter_add_(1, clusters.unsqueeze(-1), torch.ones_like(vectors[..., :1]))
    counts = counts.clamp(min=1)
    return torch.floor((2 * sums * 2.0**fraction_bits + counts) / (2 * counts))
