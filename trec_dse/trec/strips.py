"""Strips of an image as rows, and outputs from their means: strip-shared clustering in plain PyTorch.

A neuron vector of m consecutive pixels of one kernel row is the same strip of the input for every output that it
belongs to: the slice at kernel place (ky, kx) of output (y, x) starts at input pixel (y * step - pad + ky,
x * step - pad + kx). With one hash for all slices it is enough to cluster every strip once. Against slices of the same
pixels, with T strips (see `strip_layout`) instead of N * kh * kw / m slices of rows:

    hashing            T * C * m * H       instead of  N * kh * kw * C * H
    ids                T * g               instead of  N * kh * kw / m (g = 1)
    centroid products  sum of N_c * kh * kw * C / g * M, each of the g tables serving kh * kw / m kernel slices
    recovery           N * M * g * kh * kw / m additions, as many as for slices

N_c is at most min(2**H, T) for each of the g tables; a table has to serve all slices at once, so that at the same H a
cluster is coarser than one that serves a single slice. r_t = 1 - sum of N_c / (g * N) compares the products.
"""

import torch.nn.functional as F
from torch import Tensor

from trec_dse.candidate import TrecConfig
from trec_dse.errors import CandidateError
from trec_dse.trec.hashing import weight_matrix
from trec_dse.trec.layout import ConvGeometry, Layout


def strip_rows(x: Tensor, geometry: ConvGeometry, layout: Layout) -> Tensor:
    """The strips of `x` (B, C, H, W) as rows (B, T, g * L), zeros outside the image."""
    pad_h, pad_w = geometry.padding
    behind = geometry.padded_width - geometry.size[1] - pad_w
    image = F.pad(x, (pad_w, behind, pad_h, pad_h)).permute(0, 2, 3, 1).reshape(len(x), -1)
    places = layout.bases.long()[:, None, None] + layout.elements
    return image[:, places.reshape(-1).to(x.device)].view(len(x), layout.n_vectors, -1)


def multiply_strips(means: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    """Output rows (B, N, M) of the strips' means (B, T, g * L): what each output's parts add up to."""
    matrix = weight_matrix(weight)
    means = F.pad(means, (0, 0, 0, 1))  # strip -1: padding alone
    uses = layout.uses.long().to(means.device)
    order = layout.order.to(means.device)
    output = means.new_zeros(())
    for part in range(layout.n_parts):
        output = output + means[:, uses[part]] @ matrix[order[:, part].reshape(-1)]
    return output


def require_strips(kernel_w: int, channels: int, config: TrecConfig) -> None:
    """Raises CandidateError where `config` does not ask for strips of whole pixels that tile a kernel row."""
    groups, length = config.channel_groups, config.vector_length
    if channels % groups:
        raise CandidateError(f"channel_groups {groups} does not divide the {channels} channels; take a divisor")
    depth = channels // groups
    if length % depth or kernel_w % max(1, length // depth):
        lengths = ", ".join(str(depth * m) for m in range(1, kernel_w + 1) if kernel_w % m == 0)
        raise CandidateError(f"vector_length {length} is no strip of a kernel row; choose from {lengths}")
