"""The GPU's kernels, run by Triton's interpreter on the CPU, give what the compiled and the plain convolution give."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from trec_dse.candidate import HashGradient, HashScope, TrecConfig
from trec_dse.trec import conv as conv_module
from trec_dse.trec import on_gpu
from trec_dse.trec.conv import TrecConv2d, trec_conv2d
from trec_dse.trec.gpu.tables import tables_of
from trec_dse.trec.layout import ConvGeometry

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are imported, with the first step
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed (286 MB to load, 1 GB on disk): pip install 'trec_dse[gpu]'",
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(n_threads)


@dataclass(frozen=True)
class _Case:
    channels: int
    size: tuple[int, int]
    out_channels: int
    kernel: tuple[int, int]
    config: TrecConfig
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    bias: bool = True

    def layer(self, hash_gradient: HashGradient) -> TrecConv2d:
        conv = nn.Conv2d(self.channels, self.out_channels, self.kernel, self.stride, self.padding, bias=self.bias)
        surrogate = self.config.scope == "kernel_reuse"
        layer = TrecConv2d.from_conv(conv, self.config, hash_gradient=hash_gradient, kernel_surrogate=surrogate)
        layer.initialise_hash(self.images())
        return layer.train()

    def images(self, n: int = 2) -> Tensor:
        return torch.randn(n, self.channels, *self.size).relu() + 0.1 * torch.randn(n, self.channels, *self.size)


def _config(scope: HashScope, bits: int, length: int, cap: int | None = None, groups: int = 1) -> TrecConfig:
    return TrecConfig(bits, length, scope, cap, groups)


CASES = [
    _Case(3, (5, 6), 5, (3, 3), _config("per_slice", 3, 9), padding=(1, 1)),
    # slices that begin and end in the middle of a pixel and of a kernel row
    _Case(4, (6, 5), 8, (3, 3), _config("shared", 2, 18), (2, 1), (1, 0)),
    _Case(3, (5, 5), 6, (2, 3), _config("kernel_reuse", 3, 9)),
    _Case(2, (6, 6), 20, (3, 3), _config("per_slice", 4, 18, cap=3), padding=(1, 1), bias=False),
    # strips of one pixel, in channel groups, strided, capped, and reaching into the padding
    _Case(4, (5, 4), 6, (2, 2), _config("strip_shared", 3, 4), padding=(1, 1)),
    _Case(4, (5, 4), 3, (1, 4), _config("strip_shared", 3, 4, groups=2), padding=(0, 2)),
    _Case(4, (5, 5), 4, (2, 2), _config("strip_shared", 4, 2, cap=4, groups=2), (2, 1), (1, 0)),
    # more bits than a signature can be a slot for
    _Case(2, (6, 5), 3, (2, 2), _config("per_slice", 7, 8)),
]


def _step(layer: TrecConv2d, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """Output, clusters and gradients of one training step."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    layer.zero_grad()
    y = layer(x)
    torch.autograd.backward(y, gradient)
    assert x.grad is not None
    assert layer.clusters_per_image is not None
    found = {"y": y.detach(), "clusters": layer.clusters_per_image, "x": x.grad}
    return found | {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}


def _by_triton(monkeypatch: pytest.MonkeyPatch, layer: TrecConv2d, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(on_gpu, "refusal", lambda x, config: None)
        return _step(layer, x, dy)


def _assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-5) -> None:
    assert found.keys() == expected.keys()
    assert torch.equal(found["clusters"], expected["clusters"])
    for name, tensor in expected.items():
        size = float(tensor.abs().max()) or 1.0
        error = (found[name] - tensor).abs().max() / size
        assert error < tolerance, f"{name}: {error:.1e}"


@needs_triton
@pytest.mark.parametrize("hash_gradient", ["none", "soft", "neighbours"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_step_on_the_gpu_is_that_of_the_cpu(
    case: _Case, hash_gradient: HashGradient, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = case.layer(hash_gradient), case.images()
    gradient = torch.randn_like(layer(x))
    expected = _step(layer, x, gradient)
    if hash_gradient != "none":
        learned = expected["weight" if layer.hash is None else "hash"]
        assert learned.abs().max() > 1e-4
    _assert_equal(_by_triton(monkeypatch, layer, x, gradient), expected)


@needs_triton
def test_vectors_slots_and_channels_may_need_several_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    # 80 vectors of 80 elements, 80 channels, up to 80 clusters: one more than a tile of 64 each
    case = _Case(80, (8, 10), 80, (1, 1), _config("per_slice", 8, 80))
    layer, x = case.layer("neighbours"), case.images(1)
    gradient = torch.randn_like(layer(x))
    expected = _step(layer, x, gradient)
    assert int(expected["clusters"]) > 64
    _assert_equal(_by_triton(monkeypatch, layer, x, gradient), expected)


@needs_triton
def test_all_signatures_may_learn_from_long_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _Case(72, (9, 8), 66, (1, 1), _config("per_slice", 5, 72))
    layer, x = case.layer("soft"), case.images(1)
    gradient = torch.randn_like(layer(x))
    _assert_equal(_by_triton(monkeypatch, layer, x, gradient), _step(layer, x, gradient))


@needs_triton
def test_under_autocast_it_computes_in_bfloat16_and_signs_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = CASES[0].layer("soft"), CASES[0].images().bfloat16().float()
    layer.weight.data = layer.weight.data.bfloat16().float()
    gradient = torch.randn_like(layer(x)).bfloat16().float()
    expected = _step(layer, x, gradient)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = _by_triton(monkeypatch, layer, x, gradient.bfloat16())
    assert found["y"].dtype == torch.bfloat16
    assert found["hash"].dtype == torch.float32
    _assert_equal(found, expected, 0.03)  # 8 bits of mantissa: 2**-9 for each of some values that are added up


@needs_triton
def test_the_output_lies_channels_last_and_images_may(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = CASES[0].layer("none"), CASES[0].images()
    gradient = torch.randn_like(layer(x))
    expected = _step(layer, x, gradient)
    found = _by_triton(monkeypatch, layer, x.contiguous(memory_format=torch.channels_last), gradient)
    assert found["y"].is_contiguous(memory_format=torch.channels_last)
    _assert_equal(found, expected)


@needs_triton
def test_without_a_gradient_for_the_images_none_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "refusal", lambda x, config: None)
    layer, x = CASES[0].layer("none"), CASES[0].images()
    torch.autograd.backward(layer(x).square().sum())
    assert x.grad is None
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().max() > 0.1


@needs_triton
def test_evaluation_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # Values 0 2 6 8, threshold 4: means 1 and 7. Kernel (10, 1) on strips of one pixel: 10 * left + right
    monkeypatch.setattr(on_gpu, "refusal", lambda x, config: None)
    x = torch.tensor([[[[0.0, 2, 6, 8]]]])
    one, threshold = torch.ones(1, 1, 1), torch.tensor([[4.0]])
    y, clusters = trec_conv2d(
        x, torch.tensor([[[[10.0, 1]]]]), None, one, threshold, TrecConfig(1, 1, "strip_shared"), (1, 1), (0, 0)
    )
    assert clusters.tolist() == [[2]]
    assert y.tolist() == [[[[11, 17, 77]]]]


@needs_triton
def test_without_hash_bits_every_position_gives_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "refusal", lambda x, config: None)
    x = torch.arange(4.0).view(1, 1, 2, 2)  # mean 1.5
    nothing = (torch.zeros(1, 1, 0), torch.zeros(1, 0))
    y, clusters = trec_conv2d(x, torch.full((1, 1, 1, 1), 2.0), None, *nothing, TrecConfig(0, 1))
    assert y.tolist() == [[[[3, 3], [3, 3]]]]
    assert clusters.tolist() == [[1]]


def test_the_taps_of_slices_are_those_of_the_kernel() -> None:
    # One channel, 1x2 kernel, slices of one element, a row of three pixels: two outputs, each the vector of its place.
    tables = tables_of(ConvGeometry((1, 3), 1, (1, 2), (1, 1), (0, 0)), TrecConfig(1, 1), CPU)
    assert tables.sources.tolist() == [[0, 1, -1], [-1, 0, 1]]  # as left pixel and as right one
    assert tables.tap_groups.tolist() == [[0], [1]]
    assert tables.tap_elements.tolist() == [[0], [0]]
    assert tables.users.tolist() == tables.uses.tolist() == [[0, 1]]


def test_the_tap_of_one_pixel_strips_is_the_pixel_itself() -> None:
    # Two channels in two groups, 1x3 kernel, padding 1: strips are pixels, and padding alone is none.
    config = TrecConfig(1, 1, "strip_shared", channel_groups=2)
    tables = tables_of(ConvGeometry((1, 3), 2, (1, 3), (1, 1), (0, 1)), config, CPU)
    assert tables.sources.tolist() == [[0, 1, 2]]
    assert tables.tap_groups.tolist() == [[0, 1]]
    assert tables.uses.tolist() == [[-1, 0, 1], [0, 1, 2], [1, 2, -1]]
    assert tables.users.tolist() == [[1, 2, -1], [0, 1, 2], [-1, 0, 1]]
    assert tables.depth == 1


def test_slices_that_cut_pixels_keep_their_common_divisor_of_channels_together() -> None:
    # K = 2 * 6, L = 4: channels 0-3 | 4-5 0-1 | 2-5: pairs stay together.
    tables = tables_of(ConvGeometry((1, 2), 6, (1, 2), (1, 1), (0, 0)), TrecConfig(1, 4), CPU)
    assert tables.depth == 2
    assert tables.tap_groups.tolist() == [[0, 0, 1], [1, 2, 2]]
    assert tables.tap_elements.tolist() == [[0, 2, 0], [2, 0, 2]]


def test_runs_say_how_loads_are_aligned() -> None:
    tables = [
        tables_of(ConvGeometry((6, 6), channels, (3, 3), (1, 1), (1, 1)), TrecConfig(1, length), CPU)
        for channels, length in ((32, 32), (8, 24), (3, 9))
    ]
    assert [each.alignment for each in tables] == [16, 8, 1]


class _OnGpu:
    """As much of a tensor as the choice of a path looks at."""

    is_cuda, device = True, torch.device("cuda", 0)

    def __init__(self, dtype: torch.dtype = torch.float32, size: int = 1) -> None:
        self.dtype, self.size = dtype, size

    def numel(self) -> int:
        return self.size


def _on_gpu(dtype: torch.dtype = torch.float32, size: int = 1) -> Tensor:
    return cast(Tensor, _OnGpu(dtype, size))


@pytest.mark.parametrize(
    ("x", "config", "reason"),
    [
        (torch.zeros(1), TrecConfig(1, 1), "the images are on cpu"),
        (_on_gpu(), TrecConfig(1, 1, clustering="batch"), "clusters of a whole batch"),
        (_on_gpu(torch.float64), TrecConfig(1, 1), "not torch.float64"),
        (_on_gpu(size=0), TrecConfig(1, 1), "no images"),
    ],
)
def test_what_the_gpu_path_cannot_do_is_said(x: Tensor, config: TrecConfig, reason: str) -> None:
    assert reason in str(on_gpu.refusal(x, config))


@pytest.mark.parametrize(
    ("is_installed", "capability", "reason"),
    [
        (False, (9, 0), r"triton is not installed: pip install 'trec_dse\[gpu\]'"),
        (True, (7, 5), r"compute capability \(7, 5\); the kernels need \(8, 0\)"),
        (True, (9, 0), None),
    ],
)
def test_a_gpu_without_triton_or_too_old_trains_in_plain_pytorch_with_a_warning(
    is_installed: bool, capability: tuple[int, int], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if is_installed else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    on_gpu._missing.cache_clear()
    try:
        if reason is None:
            assert conv_module._kernels_for(_on_gpu(), TrecConfig(1, 1)) is on_gpu.convolve
            return
        with pytest.warns(UserWarning, match=reason):
            assert conv_module._kernels_for(_on_gpu(), TrecConfig(1, 1)) is None
    finally:
        on_gpu._missing.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_says_that_it_needs_a_gpu() -> None:
    script = Path(__file__).resolve().parent.parent / "benchmarks" / "trec_gpu.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no GPU" in done.stderr
