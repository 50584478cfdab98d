"""The compiled convolution gives what plain PyTorch gives: outputs, clusters and every gradient."""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from trec_dse import toolchain
from trec_dse.candidate import HashScope, TrecConfig
from trec_dse.errors import ToolchainError
from trec_dse.resources import package_folder
from trec_dse.trec import native
from trec_dse.trec.conv import TrecConv2d

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C compiler for this machine")


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

    def layer(self, hash_gradient: str) -> TrecConv2d:
        conv = nn.Conv2d(self.channels, self.out_channels, self.kernel, self.stride, self.padding, bias=self.bias)
        layer = TrecConv2d.from_conv(conv, self.config, hash_gradient=hash_gradient)  # type: ignore[arg-type]
        layer.initialise_hash(self.images())
        return layer.train()

    def images(self, n: int = 5) -> Tensor:
        return torch.randn(n, self.channels, *self.size).relu() + 0.1 * torch.randn(n, self.channels, *self.size)


def _config(scope: HashScope, bits: int, length: int, cap: int | None = None, groups: int = 1) -> TrecConfig:
    return TrecConfig(bits, length, scope, cap, groups)


CASES = [
    # one run of 15 elements per kernel row; 12 outputs: not a multiple of any vector length
    *(_Case(3, (12, 9), 12, (5, 5), _config(scope, 5, 15)) for scope in ("per_slice", "shared", "kernel_reuse")),
    # slices that begin and end in the middle of a pixel and of a kernel row
    *(_Case(4, (9, 8), 8, (3, 3), _config(s, 3, 6), (2, 1), (1, 1)) for s in ("per_slice", "shared", "kernel_reuse")),
    _Case(4, (9, 9), 20, (3, 3), _config("per_slice", 4, 36, cap=5), padding=(1, 1), bias=False),
    _Case(4, (12, 12), 8, (3, 3), _config("shared", 12, 18)),
    _Case(2, (6, 6), 1, (1, 1), _config("per_slice", 1, 1)),
    _Case(32, (7, 7), 33, (3, 2), _config("per_slice", 6, 32)),
    # strips: of one pixel, of a kernel row, in channel groups, strided, and reaching into the padding
    _Case(4, (8, 7), 10, (3, 3), _config("strip_shared", 4, 4), padding=(1, 1)),
    _Case(4, (8, 7), 10, (3, 3), _config("strip_shared", 3, 12), padding=(1, 1)),
    _Case(6, (8, 7), 10, (3, 4), _config("strip_shared", 3, 4, groups=3), padding=(2, 2)),
    _Case(4, (9, 9), 5, (1, 1), _config("strip_shared", 2, 4), (2, 2)),
    _Case(4, (9, 9), 16, (3, 3), _config("strip_shared", 5, 2, cap=6, groups=2), (2, 1), (1, 0)),
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


def _in_plain_pytorch(monkeypatch: pytest.MonkeyPatch, layer: TrecConv2d, x: Tensor, dy: Tensor) -> dict[str, Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(native, "is_usable", lambda x, config: False)
        return _step(layer, x, dy)


def _assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert torch.equal(found["clusters"], expected["clusters"])
    for name, tensor in expected.items():
        size = float(tensor.abs().max()) or 1.0
        error = (found[name] - tensor).abs().max() / size
        assert error < 2e-5, f"{name}: {error:.1e}"


@pytest.mark.parametrize("hash_gradient", ["none", "soft", "neighbours"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_and_plain_steps_agree(case: _Case, hash_gradient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = case.layer(hash_gradient), case.images()
    gradient = torch.randn_like(layer(x))
    found = _step(layer, x, gradient)
    if hash_gradient != "none" and case.config.scope != "kernel_reuse":
        assert found["hash"].abs().max() > 1e-4
    _assert_equal(found, _in_plain_pytorch(monkeypatch, layer, x, gradient))


@pytest.mark.parametrize("case", CASES[:1] + CASES[-3:-2], ids=str)
def test_images_may_lie_in_memory_channels_last(case: _Case, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = case.layer("soft"), case.images().contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(layer(x))
    assert layer(x).is_contiguous(memory_format=torch.channels_last)
    _assert_equal(_step(layer, x, gradient), _in_plain_pytorch(monkeypatch, layer, x, gradient))


def test_a_gradient_that_was_expanded_from_one_number_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = CASES[0].layer("soft"), CASES[0].images()
    ones = torch.ones(()).expand_as(layer(x))
    _assert_equal(_step(layer, x, ones), _in_plain_pytorch(monkeypatch, layer, x, ones))


@pytest.mark.parametrize("is_parallel", [True, False])
def test_threads_share_the_images_and_change_nothing(is_parallel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = CASES[0].layer("soft"), CASES[0].images(n=5)
    gradient = torch.randn_like(layer(x))
    alone = _step(layer, x, gradient)
    torch.set_num_threads(2)  # 2 and 3 images
    if not is_parallel:
        monkeypatch.setattr(native.library(), "trec_is_parallel", lambda: 0)
    _assert_equal(_step(layer, x, gradient), alone)


def test_without_a_gradient_for_the_images_none_is_computed() -> None:
    layer, x = CASES[0].layer("none"), CASES[0].images()
    torch.autograd.backward(layer(x).square().sum())
    assert x.grad is None
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().max() > 0.1


def test_double_precision_and_batch_clusters_go_the_plain_way() -> None:
    x = torch.zeros(1, 1, 2, 2)
    assert native.is_usable(x, TrecConfig(1, 1))
    assert not native.is_usable(x.double(), TrecConfig(1, 1))
    assert not native.is_usable(x, TrecConfig(1, 1, clustering="batch"))


def test_every_compiler_for_this_machine_makes_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a compiler that refused them would silently leave training slow
    compilers = []
    for name in ("gcc", "zig"):
        with contextlib.suppress(ToolchainError):
            compilers.append(toolchain.find_host_compiler(name))
    for compiler in compilers:
        monkeypatch.setattr(toolchain, "find_host_compiler", functools.partial(_given, compiler))
        path = tmp_path / f"{compiler.name}.so"
        native._compile(package_folder("trec") / "kernels", path, native._FLAGS)
        assert ctypes.CDLL(str(path)).trec_is_parallel() == (compiler.name == "gcc")


def _given(compiler: toolchain.Compiler) -> toolchain.Compiler:
    return compiler


def test_a_machine_without_a_compiler_trains_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(preferred: str | None = None) -> toolchain.Compiler:
        raise ToolchainError("none here")

    monkeypatch.setattr(toolchain, "find_host_compiler", refuse)
    monkeypatch.setattr(native, "_FLAGS", ("-O0",))  # no library of this kind has been kept
    native.library.cache_clear()
    try:
        assert native.library() is None
        layer = CASES[0].layer("soft")
        assert layer(CASES[0].images()).shape == (5, 12, 8, 5)
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
