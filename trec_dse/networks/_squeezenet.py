"""SqueezeNet in its form for 32x32 images: a stem, eight fire modules, three poolings; what its variants share.

A fire module squeezes its input to few channels by 1x1 kernels and expands them by 1x1 and 3x3 kernels side by
side. The variants differ in what is added to a module's output: nothing, its input (where the channels agree), or
also a 1x1 convolution of its input (where they do not).
"""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from trec_dse.networks._shapes import map_size, scaled

Bypass = Literal["none", "identity", "complex"]

_STEM = 96
_FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
_POOLED = (4, 8)  # a pooling follows these fires, as it follows the stem


class Fire(nn.Module):
    """One fire module: (B, in_channels, H, W) to (B, 2 * expanded, H, W), with what bypasses it added."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int, bypass: Bypass) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.bn1 = nn.BatchNorm2d(squeezed)
        self.relu1 = nn.ReLU()
        self.expand1 = nn.Conv2d(squeezed, expanded, 1)
        self.bn2 = nn.BatchNorm2d(expanded)
        self.relu2 = nn.ReLU()
        self.expand3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(expanded)
        self.relu3 = nn.ReLU()
        changes_channels = in_channels != 2 * expanded
        self.is_added = bypass == "complex" or (bypass == "identity" and not changes_channels)
        self.bypass = nn.Conv2d(in_channels, 2 * expanded, 1) if self.is_added and changes_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.relu1(self.bn1(self.squeeze(x)))
        one, three = self.relu2(self.bn2(self.expand1(squeezed))), self.relu3(self.bn3(self.expand3(squeezed)))
        expanded = torch.cat([one, three], 1)
        return expanded + self.bypass(x) if self.is_added else expanded


def build_squeezenet(
    input_shape: tuple[int, int, int], n_classes: int, *, width: float, bypass: Bypass
) -> nn.Sequential:
    """The variant with that `bypass`; `width` multiplies all channels but the classes."""
    for size in input_shape[:2]:
        _map_after_poolings(size)
    channels = scaled(_STEM, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[2], channels, 3, padding=1),
        bn1=nn.BatchNorm2d(channels),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),
    )
    for number, (squeezed, expanded) in _FIRES.items():
        layers[f"fire{number}"] = Fire(channels, scaled(squeezed, width), scaled(expanded, width), bypass)
        channels = 2 * scaled(expanded, width)
        if number in _POOLED:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["conv10"] = nn.Conv2d(channels, n_classes, 1)
    layers["pool10"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    return nn.Sequential(layers)


def _map_after_poolings(size: int) -> int:
    for _ in range(1 + len(_POOLED)):
        size = map_size(size, 2, stride=2)
    return size
