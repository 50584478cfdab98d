"""A few small convolutions and one dense layer, for 8x8 digits and for tests; larger images are pooled first."""

from collections import OrderedDict

from torch import nn

from trec_dse.errors import CandidateError
from trec_dse.networks._shapes import map_size

_LARGE = 16  # pixels; maps above this side are halved after every convolution


def build(
    input_shape: tuple[int, int, int], n_classes: int, width: int = 8, depth: int = 2, kernel_size: int = 3
) -> nn.Module:
    """`depth` convolutions of `width` channels that keep the map's size, each with batch norm and ReLU.

    The map is halved after the last convolution, and after each one while it is larger than 16 pixels; so
    8x8 images keep all their 64 positions, which is where TREC has something to reuse. `kernel_size` is odd.
    """
    if min(width, depth) < 1 or kernel_size % 2 == 0:
        raise CandidateError(f"tiny needs width and depth >= 1 and an odd kernel, got {width}, {depth}, {kernel_size}")
    height, breadth, channels = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, depth + 1):
        layers[f"conv{i}"] = nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2)
        layers[f"bn{i}"] = nn.BatchNorm2d(width)
        layers[f"relu{i}"] = nn.ReLU()
        channels = width
        if i == depth or max(height, breadth) > _LARGE:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
            height, breadth = map_size(height, 2, stride=2), map_size(breadth, 2, stride=2)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(height * breadth * channels, n_classes)
    return nn.Sequential(layers)
