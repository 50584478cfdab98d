"""Convolutions that are trained as all are; in int8 they leave out blank windows, or run inside their own input."""

from typing import Self

from torch import nn

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


class GatherConv2d(CopiedConv2d):
    """A convolution that shall be lowered to `sparse_conv2d`; it computes what every convolution does."""


class InPlaceConv2d(CopiedConv2d):
    """A convolution that shall be lowered to `peeled_conv2d`; it computes what every convolution does."""
