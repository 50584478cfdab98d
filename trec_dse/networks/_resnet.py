"""Residual networks of basic blocks (He et al., 2016) with a stem of one 3x3 convolution, for small images."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from trec_dse.networks._shapes import scaled


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (B, C, H, W) to (B, out_channels, H / stride, W / stride).

    The shortcut is the input itself, or a 1x1 convolution of it where channels or size change. In the `plain` form
    convolutions have a bias and the shortcut's has no batch norm.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, plain: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=plain)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=plain)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        self.bn3: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=plain)
            if not plain:
                self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        result: Tensor = self.relu2(y + self.bn3(self.shortcut(x)))
        return result


def build_resnet(
    input_shape: tuple[int, int, int],
    n_classes: int,
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    plain: bool = False,
) -> nn.Sequential:
    """Stages of `blocks` basic blocks with so many `channels`; the map is halved at the start of all but the first."""
    current = channels[0]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(input_shape[2], current, 3, 1, 1, bias=plain),
        bn1=nn.BatchNorm2d(current),
        relu1=nn.ReLU(),
    )
    for stage, (wanted, n_blocks) in enumerate(zip(channels, blocks, strict=True), start=1):
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(1, n_blocks + 1):
            parts[f"block{i}"] = BasicBlock(current, wanted, 2 if stage > 1 and i == 1 else 1, plain=plain)
            current = wanted
        layers[f"stage{stage}"] = nn.Sequential(parts)
    layers["pool1"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(current, n_classes)
    return nn.Sequential(layers)


def stage_channels(width: float) -> list[int]:
    """64, 128, 256 and 512 times `width`."""
    return [scaled(channels, width) for channels in (64, 128, 256, 512)]
