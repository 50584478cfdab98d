"""Layers with an int8 kernel of their own: without blank windows, inside their own input, without zero weights."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import KernelConfig


class CopiedConv2d(nn.Conv2d):
    """A convolution made from another one, which stays as it is."""

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: KernelConfig, rounds: int = 0) -> Self:
        """`conv`, a convolution without groups or dilation, with its own weights."""
        made = cls(
            conv.in_channels,
            conv.out_channels,
            (conv.kernel_size[0], conv.kernel_size[1]),
            stride=(conv.stride[0], conv.stride[1]),
            padding=conv.padding if isinstance(conv.padding, str) else (conv.padding[0], conv.padding[1]),
            bias=conv.bias is not None,
        )
        made.load_state_dict(conv.state_dict())
        return made.train(conv.training)


class PrunedConv2d(CopiedConv2d):
    """A convolution of whose weights the smallest are zero, and stay so in training. `mask`: 1 where one is left."""

    mask: Tensor

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: KernelConfig, rounds: int = 0) -> Self:
        """`conv` without the share of its weights that `config` says; its names as they were."""
        made = super().from_conv(conv, config)
        made.register_buffer("mask", largest(conv.weight.detach(), config.share))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, M, H_out, W_out)."""
        return F.conv2d(x, self.kept, self.bias, self.stride, self.padding)

    @property
    def kept(self) -> Tensor:
        """The weights, those that were pruned zero."""
        return self.weight * self.mask


class PrunedLinear(nn.Linear):
    """A fully connected layer of whose weights the smallest are zero, and stay so. `mask`: 1 where one is left."""

    mask: Tensor

    @classmethod
    def from_linear(cls, layer: nn.Linear, config: KernelConfig) -> Self:
        """`layer` without the share of its weights that `config` says."""
        made = cls(layer.in_features, layer.out_features, bias=layer.bias is not None)
        made.load_state_dict(layer.state_dict())
        made.register_buffer("mask", largest(layer.weight.detach(), config.share))
        return made.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, M)."""
        return F.linear(x, self.kept, self.bias)

    @property
    def kept(self) -> Tensor:
        """The weights, those that were pruned zero."""
        return self.weight * self.mask


def largest(weights: Tensor, share: float) -> Tensor:
    """1 for all but the smallest `share`, rounded, of the weights of a layer, 0 for these; the first go on ties."""
    order = weights.abs().flatten().argsort(stable=True)
    mask = torch.ones_like(order, dtype=weights.dtype)
    mask[order[: round(share * len(order))]] = 0
    return mask.view_as(weights)


class GatherConv2d(CopiedConv2d):
    """A convolution that shall be lowered to `sparse_conv2d`; it computes what every convolution does."""


class InPlaceConv2d(CopiedConv2d):
    """A convolution that shall be lowered to `peeled_conv2d`; it computes what every convolution does."""
