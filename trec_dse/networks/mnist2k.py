"""The network of two kilobytes: the image averaged to half its size, three 3x3 convolutions, a pooling, a dense layer.

Of Gural and Murmann, "Memory-Optimal Direct Convolutions" (ICML 2019), for 4-bit weights and activations.
"""

from collections import OrderedDict

from torch import nn

from trec_dse.networks._shapes import map_size, scaled

KERNEL, POOL = 3, 2


def build(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    width: float = 1.0,
    first: int = 5,
    second: int = 8,
    third: int = 11,
) -> nn.Module:
    """2,991 parameters for 28x28x1, 10 classes and the published channels, which `width` multiplies."""
    first, second, third = (scaled(channels, width) for channels in (first, second, third))
    height, breadth = (_after_pooling(size) for size in input_shape[:2])
    return nn.Sequential(
        OrderedDict(
            average=nn.AvgPool2d(2),
            conv1=nn.Conv2d(input_shape[2], first, KERNEL),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(first, second, KERNEL),
            relu2=nn.ReLU(),
            conv3=nn.Conv2d(second, third, KERNEL),
            relu3=nn.ReLU(),
            pool=nn.MaxPool2d(POOL),
            flatten=nn.Flatten(),
            fc=nn.Linear(height * breadth * third, n_classes),
        )
    )


def _after_pooling(size: int) -> int:
    size = size // 2
    for _ in range(3):
        size = map_size(size, KERNEL)
    return size // POOL
