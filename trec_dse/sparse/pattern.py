"""Pattern kernels: of every part of a kernel only few taps stay, and which ones is a pattern out of a small dictionary.

After PatDNN (Niu and others, ASPLOS 2020), which keeps 4 of 3x3 taps and lets every input channel of a kernel choose.
Here `group` neighbouring input channels choose together, for the device multiplies pairs of channels at once; with a
group of 1 it is PatDNN's. A pattern is chosen by the most energy kept; the dictionary is fitted as k-means fits
centres: kernels choose, then every pattern becomes the taps on which those that chose it have most energy.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import KernelConfig
from trec_dse.sparse.gather import CopiedConv2d

FIT_ROUNDS = 8


class PatternConv2d(CopiedConv2d):
    """A convolution of pattern kernels; made by `from_conv`. `weight` is whole, and exactly 0 where a tap is missing.

    Attributes:
        patterns: (n, t), int64: the taps of each pattern, ascending.
        choice: (M, C / group), int64: the pattern of every part of a kernel.
        mask: as `weight`, 1 at the taps that are there.
    """

    patterns: Tensor
    choice: Tensor
    mask: Tensor

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: KernelConfig, rounds: int = FIT_ROUNDS) -> Self:
        """`conv`, a convolution without groups or dilation, with only the taps that `config` leaves it."""
        made = super().from_conv(conv, config)
        n_taps = conv.kernel_size[0] * conv.kernel_size[1]
        parts = conv.weight.detach().reshape(conv.out_channels, -1, config.group, n_taps)
        energy = parts.square().sum(dim=2)  # (M, groups, taps)
        patterns, choice = fit_patterns(energy.flatten(0, 1), config.patterns, config.taps, rounds)
        made.register_buffer("patterns", patterns)
        made.register_buffer("choice", choice.view(energy.shape[:2]))
        kept = place(torch.ones(*energy.shape[:2], config.taps, config.group), patterns, made.choice, n_taps)
        made.register_buffer("mask", kept.permute(0, 2, 1).reshape(conv.weight.shape))
        with torch.no_grad():
            made.weight.mul_(made.mask)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, M, H_out, W_out)."""
        return F.conv2d(x, self.weight * self.mask, self.bias, self.stride, self.padding)

    @property
    def kept(self) -> Tensor:
        """The weights that are there, (M, groups, t, group)."""
        out_channels, groups = self.choice.shape
        parts = self.weight.detach().reshape(out_channels, groups, self.in_channels // groups, -1).transpose(2, 3)
        taps = self.patterns[self.choice].unsqueeze(3).expand(-1, -1, -1, parts.shape[3])
        return parts.gather(2, taps)


def place(weights: Tensor, patterns: Tensor, choice: Tensor, n_taps: int) -> Tensor:
    """Whole kernels (M, n_taps, C), zero at missing taps, from `weights` (M, groups, t, group).

    `patterns` (n, t) and `choice` (M, groups) are int64.
    """
    out_channels, groups, _, group = weights.shape
    taps = patterns[choice].unsqueeze(3).expand(weights.shape)
    parts = weights.new_zeros(out_channels, groups, n_taps, group).scatter(2, taps, weights)
    return parts.transpose(1, 2).reshape(out_channels, n_taps, groups * group)


def fit_patterns(energy: Tensor, n_patterns: int, n_taps: int, rounds: int = FIT_ROUNDS) -> tuple[Tensor, Tensor]:
    """At most `n_patterns` patterns (n, n_taps), taps ascending, and the choice (k,) of rows of `energy` (k, taps)."""
    patterns = _strongest(energy.sum(dim=0, keepdim=True), n_taps)
    while len(patterns) < n_patterns:
        lost = energy.topk(n_taps, dim=1).values.sum(dim=1) - _held(energy, patterns).amax(dim=1)
        if float(lost.max()) <= 0:
            break
        patterns = torch.cat([patterns, _strongest(energy[lost.argmax()].unsqueeze(0), n_taps)])
    for _ in range(rounds):
        choice = _held(energy, patterns).argmax(dim=1)
        total = energy.new_zeros(len(patterns), energy.shape[1]).index_add(0, choice, energy)
        is_chosen = torch.bincount(choice, minlength=len(patterns)) > 0
        patterns = torch.where(is_chosen.unsqueeze(1), _strongest(total, n_taps), patterns)
    return patterns, _held(energy, patterns).argmax(dim=1)


def _strongest(energy: Tensor, n_taps: int) -> Tensor:
    """The taps of most energy, ascending; the earliest on ties."""
    order = energy.argsort(dim=1, descending=True, stable=True)
    return order[:, :n_taps].sort(dim=1).values


def _held(energy: Tensor, patterns: Tensor) -> Tensor:
    """Energy (k, n) that every pattern keeps of every row."""
    is_kept = energy.new_zeros(len(patterns), energy.shape[1]).scatter(1, patterns, 1.0)
    return energy @ is_kept.T
