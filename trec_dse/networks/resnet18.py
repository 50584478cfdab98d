"""ResNet-18 for 32x32 and 64x64 images: the stem keeps the map's size and has no pooling."""

from torch import nn

from trec_dse.errors import CandidateError
from trec_dse.networks._resnet import build_resnet, stage_channels


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 1.0, stages: int = 4) -> nn.Module:
    """11,173,962 parameters and 555 million MACs at width 1 for 32x32x3 and 10 classes.

    That is 11 MB of int8 weights; a width of 0.25 has 0.7 million parameters, the first 3 `stages` at 0.75 1.6 million.
    """
    if not 1 <= stages <= 4:
        raise CandidateError(f"stages is {stages}; it must lie in 1..4")
    channels = stage_channels(width)[:stages]
    return build_resnet(input_shape, n_classes, channels=channels, blocks=(2,) * stages)
