"""The TREC convolution: when it is exact, what its gradients are, and what kernel reuse gives for free."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import HashScope, TrecConfig
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.trec.conv import Learning, TrecConv2d, trec_conv2d
from trec_dse.trec.hashing import unfold_rows

SCOPES: tuple[HashScope, ...] = ("per_slice", "shared", "kernel_reuse")


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> None:
    torch.set_num_threads(1)  # these are small; threads would only wait for each other
    torch.manual_seed(0)


def _layer(config: TrecConfig, *, calibration: Tensor | None = None, **conv: int) -> TrecConv2d:
    """A layer of 3 -> 8 channels with 3x3 kernels in double precision."""
    layer = TrecConv2d.from_conv(nn.Conv2d(3, 8, 3, **conv).double(), config)  # type: ignore[arg-type]
    layer.initialise_hash(torch.randn(4, 3, 8, 8).double() if calibration is None else calibration)
    return layer


def _dense(layer: TrecConv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)


@pytest.mark.parametrize("scope", SCOPES)
def test_identical_rows_give_the_dense_convolution(scope: HashScope) -> None:
    layer = _layer(TrecConfig(4, 9, scope))
    x = torch.ones(2, 3, 8, 8).double() * torch.tensor([0.3, -2.0]).double().view(2, 1, 1, 1)
    torch.testing.assert_close(layer.eval()(x), _dense(layer, x))
    assert layer.clusters_per_image is not None
    assert layer.clusters_per_image.tolist() == [[1, 1, 1]] * 2


def test_a_signature_per_row_gives_the_dense_convolution() -> None:
    # 4 positions with values 0, 1, 2, 3 and a 1x1 kernel: bits "above 1.5", "above 0.5", "above 2.5" tell all apart
    x = torch.arange(4.0).view(1, 1, 2, 2)
    weight, bias = torch.tensor([2.0, -3.0]).view(2, 1, 1, 1), torch.tensor([0.5, 0.0])
    hash_vectors, thresholds = torch.ones(1, 1, 3), torch.tensor([[1.5, 0.5, 2.5]])
    y, clusters = trec_conv2d(x, weight, bias, hash_vectors, thresholds, TrecConfig(3, 1))
    assert clusters.tolist() == [[4]]
    assert y.tolist() == [[[[0.5, 2.5], [4.5, 6.5]], [[0, -3], [-6, -9]]]]


def test_without_hash_bits_every_position_gives_the_mean() -> None:
    x = torch.arange(4.0).view(1, 1, 2, 2)  # mean 1.5
    y, clusters = trec_conv2d(
        x, torch.full((1, 1, 1, 1), 2.0), None, torch.zeros(1, 1, 0), torch.zeros(1, 0), TrecConfig(0, 1)
    )
    assert y.tolist() == [[[[3, 3], [3, 3]]]]
    assert clusters.tolist() == [[1]]
    assert _layer(TrecConfig(0, 9)).train()(torch.randn(1, 3, 5, 5).double()).shape == (1, 8, 3, 3)


def test_each_slice_is_clustered_for_itself_and_the_bias_is_added_once() -> None:
    # 2 channels, 1x1 kernel, L = 1. Channel 0: 1 1 3 3, threshold 2. Channel 1: 0 4 8 9, threshold 5 -> means 2, 8.5
    x = torch.tensor([[[[1.0, 1], [3, 3]], [[0, 4], [8, 9]]]])
    y, clusters = trec_conv2d(
        x,
        torch.ones(1, 2, 1, 1),
        torch.tensor([100.0]),
        torch.ones(2, 1, 1),
        torch.tensor([[2.0], [5]]),
        TrecConfig(1, 1),
    )
    assert y.tolist() == [[[[103, 103], [111.5, 111.5]]]]
    assert clusters.tolist() == [[2, 2]]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("stride", "padding"), [((1, 1), (0, 0)), ((1, 1), (1, 1)), ((2, 2), (1, 1)), ((2, 1), (0, 1))]
)
def test_gradients_agree_with_finite_differences(
    scope: HashScope, stride: tuple[int, int], padding: tuple[int, int]
) -> None:
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)
    config = TrecConfig(2, 6, scope)
    hash_vectors = {
        "per_slice": torch.randn(3, 6, 2).double(),
        "shared": torch.randn(1, 6, 2).double(),
        "kernel_reuse": None,
    }[scope]

    def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return trec_conv2d(x, weight, bias, hash_vectors, None, config, stride, padding)[0]

    clusters = trec_conv2d(x, weight, bias, hash_vectors, None, config, stride, padding)[1]
    assert clusters.max() > 1  # the check is about means of several rows
    assert torch.autograd.gradcheck(convolve, (x, weight, bias))


def test_every_member_of_a_cluster_gets_the_mean_gradient() -> None:
    # One cluster of 4 rows, y_i = 2 * mean: the gradient of y_0 reaches every row as 2 / 4.
    x = torch.randn(1, 1, 2, 2, requires_grad=True)
    y, _ = trec_conv2d(
        x, torch.full((1, 1, 1, 1), 2.0), None, torch.zeros(1, 1, 0), torch.zeros(1, 0), TrecConfig(0, 1)
    )
    torch.autograd.backward(y[0, 0, 0, 0])
    assert x.grad is not None
    assert x.grad.tolist() == [[[[0.5, 0.5], [0.5, 0.5]]]]


@pytest.mark.parametrize("scope", ["per_slice", "shared"])
@pytest.mark.parametrize("max_clusters", [None, 3])
def test_training_computes_the_same_output_as_evaluation(scope: HashScope, max_clusters: int | None) -> None:
    layer = _layer(TrecConfig(4, 9, scope, max_clusters), padding=1)
    x = torch.randn(3, 3, 8, 8).double()
    soft = layer.train()(x)
    soft_clusters = layer.clusters_per_image
    hard = layer.eval()(x)
    torch.testing.assert_close(soft, hard)
    assert soft_clusters is not None
    assert layer.clusters_per_image is not None
    assert torch.equal(soft_clusters, layer.clusters_per_image)


def test_the_soft_gradient_reaches_hash_and_thresholds_of_every_slice() -> None:
    layer = _layer(TrecConfig(3, 9))
    x = torch.randn(2, 3, 8, 8).double()
    torch.autograd.backward(F.mse_loss(layer.train()(x), _dense(layer, x).detach()))
    assert layer.hash is not None
    for parameter in (layer.hash, layer.thresholds):
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert (parameter.grad.abs().flatten(1).amax(dim=1) > 1e-5).all()


def test_learning_the_hash_alone_lowers_the_error() -> None:
    x = torch.relu(torch.randn(4, 3, 8, 8)).double()
    layer = _layer(TrecConfig(3, 9), calibration=x).train()
    target = _dense(layer, x).detach()
    assert layer.hash is not None
    optimizer = torch.optim.Adam([layer.hash, layer.thresholds], lr=0.02)
    errors = []
    for step in range(60):
        layer.follow(step / 59)
        loss = F.mse_loss(layer(x), target)
        errors.append(loss.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert errors[-1] < 0.95 * errors[0]


def test_without_a_hash_gradient_only_weights_learn() -> None:
    layer = TrecConv2d.from_conv(nn.Conv2d(3, 8, 3), TrecConfig(3, 9), hash_gradient="none")
    learning = [name for name, parameter in layer.named_parameters() if parameter.requires_grad]
    assert learning == ["weight", "bias"]


@pytest.mark.parametrize(("bits", "gradient", "form"), [(6, "soft", "all"), (7, "soft", "neighbours")])
def test_hashes_of_more_than_six_bits_learn_from_their_neighbours(bits: int, gradient: str, form: str) -> None:
    layer = TrecConv2d.from_conv(nn.Conv2d(3, 8, 3), TrecConfig(bits, 9), hash_gradient=gradient)  # type: ignore[arg-type]
    assert layer._learning() == Learning(form, 2.0)  # type: ignore[arg-type]


def test_the_slope_rises_from_two_to_eight() -> None:
    layer = _layer(TrecConfig(3, 9))
    slopes = []
    for progress in (0.0, 0.5, 1.0):
        layer.follow(progress)
        slopes.append(layer.slope)
    assert slopes == pytest.approx([2, 4, 8])


def test_kernel_reuse_computes_its_first_channels_exactly() -> None:
    layer = _layer(TrecConfig(3, 9, "kernel_reuse"), padding=1)
    x = torch.randn(2, 3, 8, 8).double()
    y, dense = layer.eval()(x), _dense(layer, x)
    torch.testing.assert_close(y[:, :3], dense[:, :3])
    assert (y[:, 3:] - dense[:, 3:]).abs().max() > 0.1


def test_kernel_reuse_hashes_with_the_first_kernels_as_they_are_now() -> None:
    layer = _layer(TrecConfig(2, 9, "kernel_reuse"))
    assert layer.hash is None
    assert "hash" not in layer.state_dict()
    with torch.no_grad():
        layer.weight[:2] = 5.0
    assert set(layer.hash_vectors.flatten().tolist()) == {5.0}
    assert not layer.hash_vectors.requires_grad


def test_kernel_reuse_clusters_by_the_sign_of_the_projections() -> None:
    # 1x1 kernel of weight 2: rows -1, -3, 0, 4 have bits 0, 0, 0, 1. Channel 0 is exact, channel 1 uses means.
    x = torch.tensor([[[[-1.0, -3], [0, 4]]]])
    weight = torch.tensor([2.0, 3]).view(2, 1, 1, 1)
    y, clusters = trec_conv2d(x, weight, None, None, None, TrecConfig(1, 1, "kernel_reuse"))
    assert clusters.tolist() == [[2]]
    assert y.tolist() == [[[[-2, -6], [0, 8]], [[-4, -4], [-4, 12]]]]  # mean of -1, -3, 0 is -4 / 3


@pytest.mark.parametrize("scope", SCOPES)
def test_an_image_gives_the_same_output_alone_and_in_a_batch(scope: HashScope) -> None:
    layer = _layer(TrecConfig(4, 3, scope), stride=2).eval()
    x = torch.randn(5, 3, 9, 9).double()
    together = layer(x)
    counts = layer.clusters_per_image
    alone = [layer(x[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert counts is not None
    assert counts.shape == (5, 9)


def test_the_cap_on_clusters_holds_in_every_slice() -> None:
    layer = _layer(TrecConfig(4, 9, "per_slice", max_clusters=5)).eval()
    layer(torch.randn(2, 3, 8, 8).double())
    assert layer.clusters_per_image is not None
    assert layer.clusters_per_image.max() == 5


def test_the_calibrated_hash_beats_a_random_one_and_more_bits_beat_fewer() -> None:
    smooth = F.avg_pool2d(torch.randn(8, 3, 24, 24).double(), 5, stride=1)
    errors = {}
    for bits in (2, 4, 6):
        layer = _layer(TrecConfig(bits, 9), calibration=smooth).eval()
        errors[bits] = F.mse_loss(layer(smooth), _dense(layer, smooth)).item()
        assert layer.hash is not None
        with torch.no_grad():
            layer.hash.normal_()
            layer.thresholds.zero_()
        assert errors[bits] < F.mse_loss(layer(smooth), _dense(layer, smooth)).item()
    assert errors[6] < errors[4] < errors[2]


def test_a_layer_survives_copying_and_a_round_trip_through_its_state() -> None:
    layer = _layer(TrecConfig(3, 9)).eval()
    x = torch.randn(1, 3, 8, 8).double()
    expected = layer(x)
    torch.testing.assert_close(copy.deepcopy(layer)(x), expected)
    fresh = TrecConv2d.from_conv(nn.Conv2d(3, 8, 3).double(), layer.config).eval()
    fresh.load_state_dict(layer.state_dict())
    torch.testing.assert_close(fresh(x), expected)


def test_initialising_uses_the_rows_of_this_layer() -> None:
    layer = _layer(TrecConfig(1, 27, "per_slice"))
    x = torch.randn(2, 3, 8, 8).double()
    layer.initialise_hash(x)
    rows = unfold_rows(x, (3, 3), (1, 1), (0, 0)).reshape(-1, 27)
    assert layer.hash is not None
    torch.testing.assert_close(layer.thresholds[0], (rows.mean(dim=0) @ layer.hash[0]).detach())


@pytest.mark.parametrize("options", [{"groups": 3}, {"dilation": 2}, {"padding": "same"}, {"padding_mode": "circular"}])
def test_what_the_kernel_cannot_do_is_refused(options: dict[str, int | str]) -> None:
    conv = nn.Conv2d(3, 6, 3, **({"padding": 1} | options))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="TREC needs"):
        TrecConv2d.from_conv(conv, TrecConfig(2, 3))


@pytest.mark.parametrize("scope", [*SCOPES, "strip_shared"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 2, 8, 8), "2 channels; the kernels are for 3"), ((1, 3, 2, 8), r"\(3, 3\) do not fit into .* \(2, 8\)")],
)
def test_images_that_do_not_fit_are_refused(scope: HashScope, shape: tuple[int, ...], message: str) -> None:
    layer = TrecConv2d.from_conv(nn.Conv2d(3, 8, 3), TrecConfig(2, 9, scope))
    with pytest.raises(CandidateError, match=message):
        layer(torch.zeros(shape))


def test_a_vector_length_that_does_not_divide_is_refused_with_k() -> None:
    with pytest.raises(CandidateError, match="vector_length 10 does not divide K = 27"):
        TrecConv2d.from_conv(nn.Conv2d(3, 6, 3), TrecConfig(2, 10))


def test_kernel_reuse_needs_as_many_kernels_as_bits() -> None:
    with pytest.raises(CandidateError, match="needs as many kernels, found 2"):
        TrecConv2d.from_conv(nn.Conv2d(3, 2, 3), TrecConfig(3, 9, "kernel_reuse"))


def test_only_kernel_reuse_does_without_hash_vectors() -> None:
    with pytest.raises(CandidateError, match="needs hash vectors"):
        trec_conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 1, 1), None, None, None, TrecConfig(1, 1))
