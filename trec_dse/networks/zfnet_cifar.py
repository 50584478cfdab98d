"""ZFNet (Zeiler and Fergus, 2014) for 32x32 images: a form of our own, for the TREC papers do not print theirs.

The published network is for 224x224. Here its five convolutions keep their kernels and channels but not their strides,
and its three poolings halve 32 to 4; that is about the work which the papers' latency stands for. Its two dense
layers of 4096 would take 34 MB of int8 weights, so they have 512.
"""

from collections import OrderedDict

from torch import nn

from trec_dse.networks._shapes import map_size, scaled

_CONVOLUTIONS = {1: (96, 7), 2: (256, 5), 3: (384, 3), 4: (384, 3), 5: (256, 3)}  # channels, kernel
_POOLED = (1, 2, 5)
_HIDDEN = 512


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0, dropout: float = 0.5) -> nn.Module:
    """6,094,666 parameters and 372 million MACs at width 1 for 32x32x3 and 10 classes.

    `width` multiplies the channels of the convolutions and of the dense layers.
    """
    height, breadth, channels = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (unscaled, kernel) in _CONVOLUTIONS.items():
        layers[f"conv{i}"] = nn.Conv2d(channels, scaled(unscaled, width), kernel, padding=kernel // 2)
        channels = scaled(unscaled, width)
        layers[f"bn{i}"] = nn.BatchNorm2d(channels)
        layers[f"relu{i}"] = nn.ReLU()
        if i in _POOLED:
            layers[f"pool{i}"] = nn.MaxPool2d(3, 2, 1)
            height, breadth = (map_size(size, 3, padding=1, stride=2) for size in (height, breadth))
    hidden = scaled(_HIDDEN, width)
    layers["flatten"] = nn.Flatten()
    layers["fc6"] = nn.Linear(height * breadth * channels, hidden)
    layers["dropout6"] = nn.Dropout(dropout)
    layers["relu6"] = nn.ReLU()
    layers["fc7"] = nn.Linear(hidden, hidden)
    layers["dropout7"] = nn.Dropout(dropout)
    layers["relu7"] = nn.ReLU()
    layers["fc8"] = nn.Linear(hidden, n_classes)
    return nn.Sequential(layers)
