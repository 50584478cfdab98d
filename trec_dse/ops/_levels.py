"""Quantised tensors in training: whole numbers in floating point, rounded so that gradients pass."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Levels:
    """A quantised tensor: real = scale * values, with whole `values` from -128 - zero_point to 127 - zero_point."""

    values: Tensor
    scale: Tensor
    zero_point: int

    @property
    def real(self) -> Tensor:
        """The numbers that the levels stand for."""
        return self.values * self.scale


def round_half_up(x: Tensor) -> Tensor:
    """floor(x + 1/2), with the gradient of x itself."""
    return x + (torch.floor(x + 0.5) - x).detach()


def to_levels(real: Tensor, scale: Tensor, zero_point: int) -> Levels:
    """The nearest levels of `real`, saturated. Gradients reach `real` where it is not saturated, and `scale`."""
    values = round_half_up(real / scale).clamp(-128 - zero_point, 127 - zero_point)
    return Levels(values, scale, zero_point)


def whole_channels(weights: Tensor, axis: int, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Whole weights in -127..127 and the scales of their slices along `axis`, which follow the largest weight.

    With `own` scales that the weights came with, these, and whole weights from -128.
    """
    others = [i for i in range(weights.ndim) if i != axis]
    if own is not None:
        shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
        return round_half_up(weights / own.view(shape)).clamp(-128, 127), own
    largest = weights.detach().abs().amax(dim=others, keepdim=True)
    scales = torch.where(largest > 0, largest, torch.ones_like(largest)) / 127
    return round_half_up(weights / scales).clamp(-127, 127), scales.flatten()
