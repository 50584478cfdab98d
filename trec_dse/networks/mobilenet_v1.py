"""MobileNet v1 (Howard et al., 2017): depthwise and 1x1 convolutions in turn; at width 0.25 that of MLPerf Tiny."""

from collections import OrderedDict

from torch import nn

from trec_dse.networks._shapes import scaled

_STEM = 32
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def build(input_shape: tuple[int, int, int], n_classes: int, width: float = 0.25) -> nn.Module:
    """221,794 parameters, the norms' statistics included, and 7.5 million MACs at width 0.25 for 96x96x3, 2 classes.

    The depthwise convolutions stay dense under TREC, for their rows share nothing. The benchmark pads strided
    convolutions on one side only; here both sides are padded, which gives maps of the same size.
    """
    channels = scaled(_STEM, width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[2], channels, 3, 2, 1), bn1=nn.BatchNorm2d(channels), relu1=nn.ReLU()
    )
    for i, (unscaled, stride) in enumerate(_BLOCKS, start=1):
        wanted = scaled(unscaled, width)
        layers[f"block{i}"] = _separable(channels, wanted, stride)
        channels = wanted
    layers["pool1"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(channels, n_classes)
    return nn.Sequential(layers)


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels),
            bn1=nn.BatchNorm2d(in_channels),
            relu1=nn.ReLU(),
            pointwise=nn.Conv2d(in_channels, out_channels, 1),
            bn2=nn.BatchNorm2d(out_channels),
            relu2=nn.ReLU(),
        )
    )
