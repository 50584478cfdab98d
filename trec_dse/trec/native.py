"""The TREC convolution on the CPU in one pass per image: kernels/*.c behind a torch function, threads over images.

Only speed and memory differ from the plain PyTorch of `conv.py` and `strips.py`: no unfolded input, no row of means and
no membership outlives its image. Clusters are kept as 2 bytes per vector; the backward pass finds the rest again.
Where no C compiler is at hand, and for anything but float32 on the CPU, `is_usable` says no and those take over.
"""

import ctypes
import functools
import hashlib
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trec_dse import toolchain
from trec_dse.candidate import TrecConfig
from trec_dse.errors import ToolchainError
from trec_dse.resources import cache_folder, package_folder
from trec_dse.trec.call import ConvCall
from trec_dse.trec.hashing import weight_matrix
from trec_dse.trec.layout import Layout

_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast")
_PARALLEL = ("-fopenmp",)  # gcc's runtime is the one that torch has loaded, whose threads then serve both
_CPU_INFO = Path("/proc/cpuinfo")


class _Images(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_void_p),
        ("image", ctypes.c_int64),
        ("channel", ctypes.c_int64),
        ("pixel", ctypes.c_int64),
    )


_SIZES = (
    *("in_c", "in_h", "in_w", "pad_h", "pad_w"),
    *("n_groups", "n_parts", "n_vectors", "n_outputs"),
    *("length", "hash_bits", "out_c", "max_clusters", "exact_c", "has_own_hash", "n_runs"),
    *("uses_in_order", "takes_neighbours"),
)
_TABLES = (
    *("runs", "bases", "uses", "weights", "weights_t", "bias", "hash", "hash_t", "thresholds", "steepness"),
    *("clusters", "codes", "counts"),
)


class _Job(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in _TABLES),
        ("x", _Images),
        ("y", _Images),
        ("x_gradient", _Images),
    )


class _Totals(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("moments", "weights", "hash_t", "thresholds"))


class _Share(ctypes.Structure):
    _fields_ = (
        ("first", ctypes.c_int32),
        ("behind", ctypes.c_int32),
        ("scratch", ctypes.c_void_p),
        ("sums", _Totals),
    )


def is_usable(x: Tensor, config: TrecConfig) -> bool:
    """Whether `convolve` can do it: float32 on the CPU, clusters per image, and a compiled library."""
    fits = x.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0 and config.clustering == "image"
    return fits and library() is not None


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, hash: Tensor, thresholds: Tensor, call: ConvCall
) -> tuple[Tensor, Tensor]:
    """Output (B, M, H_out, W_out) and clusters (B, groups), int64, as `trec_conv2d` gives them.

    `hash` is (groups or 1, L, H) and `thresholds` (groups or 1, H). With a slope in `call` gradients reach both; with
    kernel reuse the hash is taken from `weight`, which then also gets the gradient of its first H kernels.
    """
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    n_hashes = 1 if call.config.scope == "shared" else call.layout.n_groups
    hash, thresholds = hash.expand(n_hashes, -1, -1), thresholds.expand(n_hashes, -1)
    y, counts = _Convolve.apply(x, weight, bias, hash, thresholds, call)  # type: ignore[no-untyped-call]
    return y, counts


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, compiled once per version of their text and per kind of CPU; None without a compiler."""
    folder = package_folder("trec") / "kernels"
    cpu = hashlib.sha256(_cpu_features().encode()).hexdigest()[:16]
    digest = hashlib.sha256("\0".join([*_FLAGS, cpu]).encode())
    for path in sorted(folder.iterdir()):
        digest.update(path.read_bytes())
    path = cache_folder() / "trec" / f"{digest.hexdigest()[:16]}.so"
    try:
        if not path.is_file():
            # The object cache knows nothing of the machine that "native" means: the macro tells it.
            _compile(folder, path, (*_FLAGS, f"-DTREC_CPU=0x{cpu}"))
    except ToolchainError:
        return None
    loaded = ctypes.CDLL(str(path))
    for name in ("trec_forward_scratch", "trec_backward_scratch"):
        getattr(loaded, name).restype = ctypes.c_int64
    return loaded


def _compile(folder: Path, path: Path, flags: tuple[str, ...]) -> None:
    """With OpenMP by gcc only: others link without a word and then lack its runtime."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler = toolchain.find_host_compiler()
    flags = (*flags, *_PARALLEL) if compiler.name == "gcc" else flags
    toolchain.build_host_library(sorted(folder.glob("*.c")), [folder], path, compiler, flags=flags)


def _cpu_features() -> str:
    """What tells CPUs apart for which "native" means different instructions."""
    if _CPU_INFO.is_file():
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return f"{platform.machine()} {platform.processor()}"


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, hash: Tensor, thresholds: Tensor, call: ConvCall
    ) -> tuple[Tensor, Tensor]:
        x = _dense(x)
        task = _Task.of(call, x, weight, bias, hash, thresholds)
        out_h, out_w = call.geometry.outputs
        y = torch.empty(len(x), weight.shape[0], out_h, out_w, memory_format=_format_of(x))
        moments = task.forward(x, y)
        ctx.save_for_backward(x, weight, hash, thresholds)
        ctx.task, ctx.moments = task, moments
        counts = task.counts.long()
        ctx.mark_non_differentiable(counts)
        return y, counts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, _, _ = ctx.saved_tensors
        task: _Task = ctx.task
        dy = _dense(gradients[0])
        steepness = task.steepness_of(ctx.moments, len(x))
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        d_weights, d_hash_t, d_thresholds = task.backward(x, dy, dx, steepness)
        d_bias = dy.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[2] else None
        d_weight = task.weight_gradient(d_weights, d_hash_t, weight)
        is_learned = task.call.slope is not None and task.call.config.scope != "kernel_reuse"
        d_hash = d_hash_t[..., : task.layout.length].transpose(1, 2) if is_learned else None
        d_thresholds = d_thresholds[..., : task.call.config.hash_bits]
        return dx, d_weight, d_bias, d_hash, d_thresholds if task.call.slope is not None else None, None


@dataclass(frozen=True, eq=False)
class _Task:
    """A call with its tensors packed for the kernels: every last axis padded to whole vectors of floats."""

    call: ConvCall
    layout: Layout
    tables: dict[str, Tensor]
    out_channels: int

    @classmethod
    def of(cls, call: ConvCall, x: Tensor, weight: Tensor, bias: Tensor, hash: Tensor, thresholds: Tensor) -> "_Task":
        layout, config = call.layout, call.config
        slices = weight_matrix(weight.detach())[layout.order]  # (groups, parts, L, M)
        if config.scope == "kernel_reuse":
            hash = slices[:, 0, :, : config.hash_bits]
            slices = slices.clone()
            slices[..., : config.hash_bits] = 0
        most = call.most_clusters
        groups = layout.n_groups
        tables = {
            "runs": layout.runs,
            "bases": layout.bases,
            "uses": layout.uses,
            "weights": _padded(slices),
            "weights_t": _padded(slices.transpose(2, 3)),
            "bias": _padded(bias.detach()),
            "hash": _padded(hash.detach()),
            "hash_t": _padded(hash.detach().transpose(1, 2)),
            "thresholds": _padded(thresholds.detach()),
            "clusters": torch.empty(len(x), groups, layout.n_vectors, dtype=torch.int16),
            "codes": torch.empty(len(x), groups, most, dtype=torch.int16),
            "counts": torch.empty(len(x), groups, dtype=torch.int32),
        }
        return cls(call, layout, tables, weight.shape[0])

    @property
    def counts(self) -> Tensor:
        """Clusters (B, groups)."""
        return self.tables["counts"]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Fills `y`, clusters, codes and counts; returns moments (groups, 2, H) of the projections."""
        job = self._job(x, y)
        shape = (self.layout.n_groups, 2, self.call.config.hash_bits)
        moments = [torch.zeros(shape, dtype=torch.float64) for _ in range(_n_threads(x))]
        sums = [_Totals(m.data_ptr() if self.call.slope is not None else None) for m in moments]
        _run(job, len(x), sums, is_backward=False)
        return torch.stack(moments).sum(dim=0)

    def steepness_of(self, moments: Tensor, n_images: int) -> Tensor | None:
        """Slope over the deviation of the projections, (groups, H padded); None without a slope."""
        if self.call.slope is None:
            return None
        mean, square = (moments / (n_images * self.layout.n_vectors)).unbind(dim=1)
        deviation = (square - mean.square()).clamp(min=0).sqrt().clamp(min=1e-6)
        return _padded((self.call.slope / deviation).float())

    def backward(
        self, x: Tensor, dy: Tensor, dx: Tensor | None, steepness: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Fills `dx`; returns the gradients of weights, transposed hash and thresholds, still padded."""
        job = self._job(x, dy)
        if dx is not None:
            job.x_gradient = _images(dx)
        if steepness is not None:
            job.steepness = steepness.data_ptr()
        names = ("weights", "hash_t", "thresholds")
        gradients = [tuple(torch.zeros_like(self.tables[name]) for name in names) for _ in range(_n_threads(x))]
        sums = [_Totals(None, *(tensor.data_ptr() for tensor in mine)) for mine in gradients]
        _run(job, len(x), sums, is_backward=True)
        weights, hash_t, thresholds = (functools.reduce(torch.add, each) for each in zip(*gradients, strict=True))
        return weights, hash_t, thresholds

    def weight_gradient(self, d_weights: Tensor, d_hash_t: Tensor, weight: Tensor) -> Tensor:
        """The gradient of `weight` from that of its padded slices, and of the hash where it is the first kernels."""
        slices = d_weights[..., : self.out_channels]
        if self.call.config.scope == "kernel_reuse":
            bits = self.call.config.hash_bits
            slices[:, 0, :, :bits] = d_hash_t[..., : self.layout.length].transpose(1, 2)
        matrix = torch.empty(weight[0].numel(), self.out_channels)
        matrix[self.layout.order] = slices
        kernel = self.call.geometry.kernel
        return matrix.view(*kernel, weight.shape[1], -1).permute(3, 2, 0, 1)

    def _job(self, x: Tensor, y: Tensor) -> _Job:
        config, geometry, layout = self.call.config, self.call.geometry, self.layout
        sizes = (
            *(geometry.channels, *geometry.size, *geometry.padding),
            *(layout.n_groups, layout.n_parts, layout.n_vectors, layout.uses.shape[1]),
            *(layout.length, config.hash_bits, self.out_channels, self.call.most_clusters),
            config.hash_bits if config.scope == "kernel_reuse" else 0,
            0 if config.scope == "shared" else 1,
            layout.runs.shape[1],
            int(layout.is_in_order),
            int(self.call.takes_neighbours),
        )
        pointers = {name: tensor.data_ptr() for name, tensor in self.tables.items()}
        return _Job(*sizes, **pointers, x=_images(x), y=_images(y))


def _loaded() -> ctypes.CDLL:
    found = library()
    assert found is not None  # `is_usable` was asked before
    return found


def _lanes() -> int:
    return int(_loaded().trec_lanes())


def _padded(tensor: Tensor) -> Tensor:
    """A contiguous copy whose last axis is filled with zeros up to a multiple of the vector length."""
    return F.pad(tensor, (0, -tensor.shape[-1] % _lanes())).contiguous()


def _format_of(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last


def _dense(x: Tensor) -> Tensor:
    """`x` itself where its pixels are equally far apart, else a contiguous copy."""
    return x if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def _images(x: Tensor) -> _Images:
    _, channels, height, width = x.shape
    pixels = height * width
    if x.is_contiguous():
        return _Images(x.data_ptr(), channels * pixels, pixels, 1)
    return _Images(x.data_ptr(), channels * pixels, 1, channels)


def _n_threads(x: Tensor) -> int:
    return min(torch.get_num_threads(), len(x))


def _run(job: _Job, n_images: int, sums: list[_Totals], *, is_backward: bool) -> None:
    """Work on an equal share of the images for each of the `sums`, all at once."""
    kernels, here = _loaded(), ctypes.byref(job)
    n_floats = (kernels.trec_backward_scratch if is_backward else kernels.trec_forward_scratch)(here)
    scratches = [torch.empty(n_floats) for _ in sums]
    bounds = [n_images * i // len(sums) for i in range(len(sums) + 1)]
    parts = zip(bounds, bounds[1:], (scratch.data_ptr() for scratch in scratches), sums, strict=False)
    shares = (_Share * len(sums))(*(_Share(*part) for part in parts))
    if len(sums) == 1 or kernels.trec_is_parallel():
        kernels.trec_run(here, shares, len(sums), int(is_backward))
        return
    with ThreadPoolExecutor(len(sums)) as pool:  # ctypes lets go of Python's lock during the call
        list(pool.map(lambda share: kernels.trec_run(here, ctypes.byref(share), 1, int(is_backward)), shares))
