"""The residual network of MLPerf Tiny's image classification: one block in each of three stages."""

from torch import nn

from trec_dse.networks._resnet import build_resnet
from trec_dse.networks._shapes import scaled


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0) -> nn.Module:
    """78,666 parameters, the norms' statistics included, and 12.5 million MACs at width 1 for 32x32x3, 10 classes.

    The benchmark pads the inputs of its strided convolutions on one side only; here both sides are padded, which gives
    maps of the same size.
    """
    channels = [scaled(size, width) for size in (16, 32, 64)]
    return build_resnet(input_shape, n_classes, channels=channels, blocks=(1, 1, 1), plain=True)
