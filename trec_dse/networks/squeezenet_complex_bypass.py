"""SqueezeNet with a bypass around every fire: the input itself, or a 1x1 convolution of it where channels change."""

from torch import nn

from trec_dse.networks._squeezenet import build_squeezenet


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0) -> nn.Module:
    """1,070,282 parameters in convolutions and 83.0 million MACs at width 1 for 32x32x3 and 10 classes.

    The convolutions of the bypass have no batch norm and no activation.
    """
    return build_squeezenet(input_shape, n_classes, width=width, bypass="complex")
