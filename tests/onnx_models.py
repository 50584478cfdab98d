"""Models from elsewhere for the tests: torch modules, and the ONNX files that torch's own exporter makes of them."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from trec_dse.networks import mobilenet_v1, resnet8


def resnet8_like() -> nn.Module:
    """The residual network of MLPerf Tiny at a quarter of its width, for 16x16x3."""
    return resnet8.build((16, 16, 3), 10, width=0.25)


def mobilenet_like() -> nn.Module:
    """Depthwise and 1x1 convolutions in turn, for 32x32x3."""
    return mobilenet_v1.build((32, 32, 3), 10, width=0.125)


def ds_cnn(channels: int = 16, n_blocks: int = 2) -> nn.Module:
    """Keyword spotting on 49x10 audio features: padded on one side more, as TensorFlow does, and with ReLU6."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        pad=nn.ZeroPad2d((1, 1, 4, 5)),
        conv1=nn.Conv2d(1, channels, (10, 4), 2, bias=False),
        bn1=nn.BatchNorm2d(channels),
        relu1=nn.ReLU6(),
        dropout=nn.Dropout(0.2),
    )
    for i in range(1, n_blocks + 1):
        layers[f"depthwise{i}"] = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        layers[f"bn{i}a"] = nn.BatchNorm2d(channels)
        layers[f"relu{i}a"] = nn.ReLU6()
        layers[f"pointwise{i}"] = nn.Conv2d(channels, channels, 1)
        layers[f"bn{i}b"] = nn.BatchNorm2d(channels)
        layers[f"relu{i}b"] = nn.ReLU6()
    layers["pool"] = nn.AvgPool2d((25, 5))
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, 12)
    layers["softmax"] = nn.Softmax(dim=1)
    return nn.Sequential(layers)


def trained_looking(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """`model` in evaluation mode with norms that know their inputs and are no identity."""
    height, width, channels = shape
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(32, channels, height, width))
    return model.eval()


def export(model: nn.Module, shape: tuple[int, int, int], path: Path, **options: Any) -> Path:
    """The ONNX file that torch writes for images (H, W, C)."""
    height, width, channels = shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is the older one; the newer one needs another package
        torch.onnx.export(model, (torch.zeros(1, channels, height, width),), path, dynamo=False, **options)
    return path


def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    """A node named after its output."""
    return helper.make_node(operator, list(inputs), [output], name=f"the_{output}", **attributes)


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any],
    dims: Sequence[int | str | None] = (1, 2, 4, 4),
    output: str = "y",
) -> Path:
    """A model of those nodes from the input "x" to `output`, written to `path`."""
    graph = helper.make_graph(
        list(nodes),
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(dims))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    return path
