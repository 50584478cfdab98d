"""SqueezeNet whose fires 3, 5, 7 and 9 add their input to their output; the TREC code's plain "SqueezeNet"."""

from torch import nn

from trec_dse.networks._squeezenet import build_squeezenet


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0) -> nn.Module:
    """As many parameters and MACs as without bypass, for additions are not counted."""
    return build_squeezenet(input_shape, n_classes, width=width, bypass="identity")
