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
    return Levels(values.to(scale.dtype), scale, zero_point)


def whole_channels(weights: Tensor, axis: int, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Whole weights in -127..127 and the double-precision scales of their slices along `axis`, which follow the
    largest weight. With `own` scales that the weights came with, these, and whole weights from -128."""
    others = [i for i in range(weights.ndim) if i != axis]
    if own is not None:
        shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
        exact = own.double()
        return round_half_up(weights.double() / exact.view(shape)).clamp(-128, 127).to(weights), exact
    whole, scales = whole_levels(weights, others)
    return whole, scales.flatten()


def whole_levels(values: Tensor, axes: list[int]) -> tuple[Tensor, Tensor]:
    """Whole numbers in -127..127 with one double-precision scale for all along `axes`."""
    exact = values.double()
    largest = exact.detach().abs().amax(dim=axes, keepdim=True)
    scales = torch.where(largest > 0, largest, torch.ones_like(largest)) / 127
    return round_half_up(exact / scales).clamp(-127, 127).to(values), scales
