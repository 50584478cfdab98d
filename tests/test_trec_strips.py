"""Strip-shared clustering: which strips there are, when it is exact, and clusters worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import TrecConfig
from trec_dse.errors import CandidateError
from trec_dse.trec.conv import TrecConv2d, trec_conv2d
from trec_dse.trec.layout import ConvGeometry, strip_layout
from trec_dse.trec.strips import multiply_strips, strip_rows


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


GEOMETRIES = [
    # (geometry, pixels, groups, strips): rows that are used times starts that are used and reach into the image
    (ConvGeometry((14, 14), 4, (5, 5), (1, 1), (0, 0)), 1, 2, 14 * 14),
    (ConvGeometry((14, 14), 4, (5, 5), (1, 1), (0, 0)), 5, 1, 14 * 10),
    (ConvGeometry((6, 7), 2, (3, 3), (1, 1), (1, 1)), 3, 1, 6 * 7),  # starts -1..5: the outer two are half padding
    (ConvGeometry((6, 7), 2, (3, 3), (1, 1), (1, 1)), 1, 2, 6 * 7),  # start -1 is padding alone
    (ConvGeometry((9, 9), 3, (1, 1), (2, 2), (0, 0)), 1, 1, 5 * 5),  # rows and columns 0, 2, 4, 6, 8
    (ConvGeometry((8, 8), 2, (2, 4), (3, 3), (0, 0)), 2, 1, 6 * 4),  # rows 0 1 3 4 6 7, starts 0 2 3 5
    (ConvGeometry((4, 4), 2, (3, 3), (1, 1), (2, 2)), 3, 2, 4 * 6),  # starts -2..3
]


@pytest.mark.parametrize(("geometry", "pixels", "groups", "n_strips"), GEOMETRIES)
def test_strips_that_stay_themselves_give_the_dense_convolution(
    geometry: ConvGeometry, pixels: int, groups: int, n_strips: int
) -> None:
    layout = strip_layout(geometry, pixels, groups)
    assert (layout.n_vectors, layout.n_groups) == (n_strips, groups)
    assert layout.length == pixels * geometry.channels // groups
    assert layout.n_parts == geometry.kernel[0] * geometry.kernel[1] // pixels
    x = torch.randn(2, geometry.channels, *geometry.size, dtype=torch.float64)
    weight = torch.randn(3, geometry.channels, *geometry.kernel, dtype=torch.float64)
    output = multiply_strips(strip_rows(x, geometry, layout), weight, layout)
    expected = F.conv2d(x, weight, None, geometry.stride, geometry.padding)
    torch.testing.assert_close(output.transpose(1, 2).reshape(expected.shape), expected)


def _strips(x: Tensor, weight: Tensor, threshold: float, padding: int = 0) -> tuple[Tensor, Tensor]:
    """One channel, strips of one pixel, one bit: above the threshold or not."""
    config = TrecConfig(1, 1, "strip_shared")
    hash_vectors, thresholds = torch.ones(1, 1, 1).to(x), torch.full((1, 1), threshold).to(x)
    return trec_conv2d(x, weight, None, hash_vectors, thresholds, config, (1, 1), (padding, padding))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # the compiled and the plain convolution
def test_every_pixel_is_clustered_once_for_all_taps(dtype: torch.dtype) -> None:
    # 0 2 6 8 with threshold 4: means 1 and 7. Kernel (10, 1): 10 * left + right
    x = torch.tensor([[[[0.0, 2, 6, 8]]]], dtype=dtype)
    y, clusters = _strips(x, torch.tensor([[[[10.0, 1]]]], dtype=dtype), threshold=4)
    assert clusters.tolist() == [[2]]
    assert y.tolist() == [[[[11, 17, 77]]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_alone_is_exactly_zero_and_no_cluster(dtype: torch.dtype) -> None:
    # 3 5 with threshold 0: one cluster, mean 4. If the zeros beside them were clustered there would be two.
    x = torch.tensor([[[[3.0, 5]]]], dtype=dtype)
    kernel = torch.zeros(1, 1, 3, 3, dtype=dtype)
    kernel[0, 0, 1] = torch.tensor([100.0, 10, 1])
    y, clusters = _strips(x, kernel, threshold=0, padding=1)
    assert clusters.tolist() == [[1]]
    assert y.tolist() == [[[[44, 440]]]]  # 0 4 4 and 4 4 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channel_groups_have_clusters_of_their_own(dtype: torch.dtype) -> None:
    # Channel 0: 1 1 3 3, threshold 2 -> 1 1 3 3. Channel 1: 0 4 8 9, threshold 5 -> 2 2 8.5 8.5
    x = torch.tensor([[[[1.0, 1, 3, 3]], [[0, 4, 8, 9]]]], dtype=dtype)
    y, clusters = trec_conv2d(
        x,
        torch.ones(1, 2, 1, 1, dtype=dtype),
        None,
        torch.ones(2, 1, 1, dtype=dtype),
        torch.tensor([[2.0], [5]], dtype=dtype),
        TrecConfig(1, 1, "strip_shared", channel_groups=2),
    )
    assert clusters.tolist() == [[2, 2]]
    assert y.tolist() == [[[[3, 3, 11.5, 11.5]]]]


@pytest.mark.parametrize(("length", "groups"), [(4, 1), (12, 1), (2, 2), (6, 2)])
def test_gradients_agree_with_finite_differences(length: int, groups: int) -> None:
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    hash_vectors, config = torch.randn(groups, length, 2).double(), TrecConfig(2, length, "strip_shared", None, groups)

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return trec_conv2d(x, weight, None, hash_vectors, None, config, (1, 2), (1, 1))[0]

    assert trec_conv2d(x, weight, None, hash_vectors, None, config, (1, 2), (1, 1))[1].max() > 1
    assert torch.autograd.gradcheck(convolve, (x, weight))


def test_learning_the_hash_alone_lowers_the_error() -> None:
    x = torch.relu(torch.randn(4, 4, 8, 8))
    conv = nn.Conv2d(4, 8, 3, padding=1)
    layer = TrecConv2d.from_conv(conv, TrecConfig(3, 4, "strip_shared"))
    layer.initialise_hash(x)
    target = conv(x).detach()
    assert layer.hash is not None
    optimizer = torch.optim.Adam([layer.hash, layer.thresholds], lr=0.02)
    errors = []
    for step in range(60):
        layer.follow(step / 59)
        loss = F.mse_loss(layer.train()(x), target)
        errors.append(loss.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert errors[-1] < 0.95 * errors[0]


@pytest.mark.parametrize(
    ("length", "groups", "message"),
    [
        (12, 3, "channel_groups 3 does not divide the 4 channels"),
        (6, 1, "vector_length 6 is no strip of a kernel row; choose from 4, 12"),
        (8, 1, "vector_length 8 is no strip of a kernel row; choose from 4, 12"),
        (36, 1, "choose from 4, 12"),
        (18, 2, "choose from 2, 6"),
    ],
)
def test_what_is_no_strip_is_refused(length: int, groups: int, message: str) -> None:
    with pytest.raises(CandidateError, match=message):
        TrecConv2d.from_conv(nn.Conv2d(4, 6, 3), TrecConfig(2, length, "strip_shared", None, groups))


def test_only_strips_have_channel_groups() -> None:
    with pytest.raises(CandidateError, match="channel_groups is 2 with scope 'per_slice'"):
        TrecConfig(2, 4, channel_groups=2)


@pytest.mark.parametrize(("scope", "length"), [("per_slice", 9), ("strip_shared", 3)])
def test_a_batch_that_is_clustered_together_is_one_wide_image(scope: str, length: int) -> None:
    config = TrecConfig(3, length, scope, clustering="batch")  # type: ignore[arg-type]
    layer = TrecConv2d.from_conv(nn.Conv2d(3, 4, (1, 3), stride=(1, 3)), config).train()
    x = torch.randn(2, 3, 5, 9)
    layer.initialise_hash(x)
    y = layer(x)
    assert layer.clusters_per_image is not None
    together = layer.clusters_per_image
    # no strip lies across the seam, for the stride is the kernel's width
    wide = TrecConv2d.from_conv(nn.Conv2d(3, 4, (1, 3), stride=(1, 3)), TrecConfig(3, length, scope))  # type: ignore[arg-type]
    wide.load_state_dict(layer.state_dict())
    expected = wide.eval()(torch.cat([x[0], x[1]], dim=1)[None])
    torch.testing.assert_close(torch.cat([y[0], y[1]], dim=1)[None], expected)
    assert wide.clusters_per_image is not None
    assert torch.equal(together, wide.clusters_per_image)
