"""SqueezeNet without any bypass (Iandola et al., 2016), in its form for 32x32 images."""

from torch import nn

from trec_dse.networks._squeezenet import build_squeezenet


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0) -> nn.Module:
    """729,034 parameters in convolutions and 52.5 million MACs at width 1 for 32x32x3 and 10 classes."""
    return build_squeezenet(input_shape, n_classes, width=width, bypass="none")
