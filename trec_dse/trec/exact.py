"""A TREC layer that keeps few directions of every vector exact, in a dense convolution of few channels beside it.

    y = TREC(x; W - P W) + (x D) (D^T W),    P = D D^T

D are the principal directions of a channel group's vectors, as they are before any training with clusters; the hash
sees what they leave. All three sets of weights are then trained on. Strips of one pixel are projected by a 1x1
convolution, strips of a whole kernel row by one of a single row, so that a device needs no kernel of its own: it runs
the clustered convolution, two small dense ones and a sum. Of K / L vectors of a row with n directions each the second
costs N M n K / L products, n / L of a dense convolution's.
"""

from typing import Self

import torch
from torch import Tensor, nn

from trec_dse.candidate import HashGradient, HashStart, TrecConfig
from trec_dse.errors import CandidateError
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.hashing import principal_hash
from trec_dse.trec.layout import strip_pixels

CLUSTERED, BESIDE = "clustered", ("directions", "exact")  # what a layer's parts are called, and its nodes in a graph


def exact_kernels(kernel: tuple[int, int], pixels: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Kernel sizes of the projection and of the convolution that reads it, for strips of `pixels`.

    Raises CandidateError for strips of several pixels that are not a whole row of the kernel.
    """
    if pixels not in (1, kernel[1]):
        raise CandidateError(
            f"exact directions need strips of one pixel or of a whole kernel row, {kernel[1]} here; these have {pixels}"
        )
    return (1, pixels), (kernel[0], kernel[1] if pixels == 1 else 1)


class PartlyExactConv2d(nn.Module):
    """A convolution with TREC on strips beside exact directions; made by `from_conv`, then `initialise_hash`.

    Attributes:
        clustered: the TREC layer, with the bias.
        directions: D as a convolution, C to g * n channels; exact: from those to the outputs. Both without a bias.
    """

    def __init__(self, clustered: TrecConv2d) -> None:
        super().__init__()
        config, (step_h, step_w), (pad_h, pad_w) = clustered.config, clustered.stride, clustered.padding
        pixels = strip_pixels(config, clustered.in_channels)
        if not 0 < config.exact_directions < config.vector_length:
            raise CandidateError(
                f"{config.exact_directions} exact directions of vectors of {config.vector_length} elements; "
                f"choose 1 to {config.vector_length - 1}, or none"
            )
        first, second = exact_kernels(clustered.kernel_size, pixels)
        is_row = first[1] > 1
        n = config.channel_groups * config.exact_directions
        self.clustered = clustered
        self.directions = nn.Conv2d(
            clustered.in_channels, n, first, (1, step_w if is_row else 1), (0, pad_w if is_row else 0), bias=False
        )
        self.exact = nn.Conv2d(
            *(n, clustered.out_channels, second),
            (step_h, 1 if is_row else step_w),
            (pad_h, 0 if is_row else pad_w),
            bias=False,
        )

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        config: TrecConfig,
        *,
        hash_gradient: HashGradient = "soft",
        kernel_surrogate: bool = False,
    ) -> Self:
        """As `TrecConv2d.from_conv`; the directions are random until `initialise_hash`."""
        made = cls(TrecConv2d(conv, config, hash_gradient, kernel_surrogate))
        return made.to(conv.weight.device).train(conv.training)

    @torch.no_grad()
    def initialise_hash(self, x: Tensor, start: HashStart = "principal") -> None:
        """Take the directions from calibration activations `x` (B, C, H, W), and the hash from what they leave."""
        layer = self.clustered
        rows = layer.rows(x)
        length, n = layer.config.vector_length, layer.config.exact_directions
        directions, _ = principal_hash(rows, n, length, shared=False)  # (g, L, n), orthonormal
        self._project(directions)
        vectors = rows.view(*rows.shape[:2], -1, length)
        kept = torch.einsum("btgl,gln,gmn->btgm", vectors, directions, directions)
        layer.initialise_from_rows((vectors - kept).view(rows.shape), x, start)

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, M, H_out, W_out) of `x` (B, C, H, W)."""
        clustered: Tensor = self.clustered(x)
        exact: Tensor = self.exact(self.directions(x))
        return clustered + exact

    def _project(self, directions: Tensor) -> None:
        """Set both convolutions from directions (g, L, n), and take from the kernels what they compute."""
        kernels = self.clustered.weight  # (M, C, kh, kw)
        groups, length, n = directions.shape
        depth = kernels.shape[1] // groups
        pixels = length // depth
        by_channel = directions.view(groups, pixels, depth, n)  # a strip's elements run over (pixel, channel)
        self.directions.weight.zero_()
        for group, each in enumerate(by_channel):
            channels, places = slice(group * depth, (group + 1) * depth), slice(group * n, (group + 1) * n)
            self.directions.weight[places, channels, 0] = each.permute(2, 1, 0)
            part = kernels[:, channels].reshape(len(kernels), depth, kernels.shape[2], -1, pixels)
            exact = torch.einsum("mchwp,pcn->mnhw", part, each)
            self.exact.weight[:, places] = exact
            kernels[:, channels] -= torch.einsum("mnhw,pcn->mchwp", exact, each).flatten(3)
