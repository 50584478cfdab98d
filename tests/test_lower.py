"""From torch to the float graph: same numbers, fused activations, and a name for everything that has no kernel."""

import pytest
import torch
from torch import Tensor, nn

from trec_dse.candidate import TrecConfig
from trec_dse.errors import UnsupportedError
from trec_dse.graph import Window
from trec_dse.lower import lower
from trec_dse.ops.conv2d import Conv2d
from trec_dse.ops.dense import Dense
from trec_dse.trec.apply import apply_trec


class Residual(nn.Module):
    """Everything a graph can hold: depthwise, sums, concatenation, both poolings, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.left = nn.Conv2d(4, 2, 1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 5)."""
        x = torch.relu(self.stem(x))
        x = self.relu(self.depthwise(x) + x)
        x = torch.cat([self.left(x), x], dim=1)
        return self.fc(torch.flatten(self.mean(self.pool(x)), 1))  # type: ignore[no-any-return]


def run(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    graph = lower(model, (x.shape[2], x.shape[3], x.shape[1]))
    with torch.no_grad():
        return model(x), graph.forward(x.permute(0, 2, 3, 1))[graph.nodes[-1].name]


def test_a_graph_computes_what_the_network_computes() -> None:
    torch.manual_seed(0)
    expected, found = run(Residual().eval(), torch.randn(3, 3, 8, 6))
    assert torch.allclose(expected, found, atol=1e-6)


def test_a_dense_layer_after_flatten_reads_pixels_in_our_order() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(3 * 3 * 2, 4)).eval()
    expected, found = run(model, torch.randn(2, 2, 4, 3))
    assert torch.allclose(expected, found, atol=1e-6)


def test_a_relu_becomes_part_of_the_layer_before_it() -> None:
    graph = lower(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2), nn.ReLU()), (4, 4, 1))
    assert [node.op for node in graph.nodes] == [Conv2d(2, Window((3, 3)), "relu"), Dense(2, "relu")]


def test_trec_layers_keep_their_config_and_hash() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU()).eval()
    images = torch.randn(4, 2, 6, 6)
    clustered = apply_trec(model, {"0": TrecConfig(2, 6)}, images).eval()
    graph = lower(clustered, (6, 6, 2))
    assert graph.weights["0"]["hash"].shape == (3, 6, 2)
    assert graph.weights["0"]["thresholds"].shape == (3, 2)
    expected, found = run(clustered, images)
    assert torch.allclose(expected, found.permute(0, 3, 1, 2), atol=1e-5)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))  # type: ignore[no-any-return]


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


UNSUPPORTED: list[tuple[nn.Module, str]] = [
    (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()), "layer '1' is a Sigmoid"),
    (nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), "fold batch norms"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.MaxPool2d(2), nn.ReLU()), "must directly follow"),
    (nn.Sequential(nn.Conv2d(1, 1, 1, dilation=2)), "dilation 1"),
    (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "2 groups"),
    (nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")), "padding 'same'"),
    (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode"),
    (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(4, 2)), "flatten it first"),
    (nn.Sequential(nn.Conv2d(1, 1, 9)), "nothing left"),
    (nn.Sequential(nn.AdaptiveAvgPool2d(3)), "does not divide"),
    (Twice(), "more than once"),
    (Branches(), "cannot be traced"),
    (nn.Sequential(), "no layer at all"),
]


@pytest.mark.parametrize(("model", "message"), UNSUPPORTED, ids=[message for _, message in UNSUPPORTED])
def test_what_has_no_kernel_is_refused_by_name(model: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        lower(model, (4, 4, 4 if "groups" in message else 1))
