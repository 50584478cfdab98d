"""CifarNet as in the TREC papers' experiments: two valid 5x5 convolutions of 64 channels and three dense layers."""

from collections import OrderedDict

from torch import nn

from trec_dse.networks._shapes import map_size, scaled


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0, dropout: float = 0.5) -> nn.Module:
    """CifarNet; 798,218 parameters at width 1 for 32x32x3 and 10 classes.

    `width` multiplies the channels of the convolutions (64) and of the dense layers (384, 192).
    """
    channels, hidden1, hidden2 = scaled(64, width), scaled(384, width), scaled(192, width)
    height, breadth = (_pooled(_pooled(size)) for size in input_shape[:2])
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(input_shape[2], channels, 5),
            bn1=nn.BatchNorm2d(channels),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(channels, channels, 5),
            bn2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(height * breadth * channels, hidden1),
            dropout1=nn.Dropout(dropout),
            relu3=nn.ReLU(),
            fc2=nn.Linear(hidden1, hidden2),
            dropout2=nn.Dropout(dropout),
            relu4=nn.ReLU(),
            fc3=nn.Linear(hidden2, n_classes),
        )
    )


def _pooled(size: int) -> int:
    return map_size(map_size(size, 5), 2, stride=2)
