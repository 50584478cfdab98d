"""Convolutions of low rank: the input's channels are mixed into a few first, and the kernels read those.

    W[m, c, ky, kx] = sum over q < rank of expand[m, q, ky, kx] * reduce[q, c]

so the convolution is a 1x1 convolution with `rank` kernels and then one of the old size over `rank` channels, which
takes rank / C of the products. `reduce` is spanned by the first left singular vectors of the trained kernels, taken as
a matrix of C rows: the choice nearest to them (Eckart and Young, 1936). Both are trained on, and a device needs no
kernel of its own for them.
"""

import copy
from typing import Self

import torch
from torch import nn

from trec_dse.candidate import KernelConfig


class LowRankLayer(nn.Sequential):
    """A convolution of low rank: `reduce`, a 1x1 `nn.Conv2d` without bias, and `expand`. Made by `from_conv`.

    TREC can treat either by its name; K of `expand` is kernel_h * kernel_w * rank.
    """

    reduce: nn.Conv2d
    expand: nn.Conv2d

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: KernelConfig, rounds: int = 1) -> Self:
        """The layer of that rank nearest to `conv`, a convolution without groups or dilation. Nothing is iterated."""
        kernels = conv.weight.detach()  # (M, C, kh, kw)
        rows = kernels.permute(1, 0, 2, 3)
        left, _, _ = torch.linalg.svd(rows.flatten(1).double(), full_matrices=False)
        basis = left[:, : config.rank].to(kernels.dtype)  # (C, rank)
        largest = basis.gather(0, basis.abs().argmax(dim=0, keepdim=True))
        basis = torch.where(largest < 0, -basis, basis)  # whichever sign the linear algebra library chose
        reduce = nn.Conv2d(conv.in_channels, basis.shape[1], 1, bias=False)
        expand = copy.deepcopy(conv)
        expand.in_channels = basis.shape[1]
        expand.weight = nn.Parameter(torch.einsum("cq,cmhw->mqhw", basis, rows))
        with torch.no_grad():
            reduce.weight.copy_(basis.T[:, :, None, None])
        layer = cls()
        layer.add_module("reduce", reduce)
        layer.add_module("expand", expand)
        return layer.train(conv.training)
