"""LeNet-5 with ReLU and maximum pooling: two 5x5 convolutions (6 and 16 channels) and three dense layers."""

from collections import OrderedDict

from torch import nn

from trec_dse.networks._shapes import map_size, scaled


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0) -> nn.Module:
    """LeNet-5; 61,706 parameters at width 1 for 28x28x1 and 10 classes. `width` multiplies all hidden channels."""
    first, second, hidden1, hidden2 = (scaled(channels, width) for channels in (6, 16, 120, 84))
    height, breadth = (_map_after_pooling(size) for size in input_shape[:2])
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(input_shape[2], first, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(height * breadth * second, hidden1),
            relu3=nn.ReLU(),
            fc2=nn.Linear(hidden1, hidden2),
            relu4=nn.ReLU(),
            fc3=nn.Linear(hidden2, n_classes),
        )
    )


def _map_after_pooling(size: int) -> int:
    pooled = map_size(map_size(size, 5, padding=2), 2, stride=2)
    return map_size(map_size(pooled, 5), 2, stride=2)
