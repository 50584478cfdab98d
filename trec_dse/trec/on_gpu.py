"""The TREC convolution on the GPU: the Triton kernels of gpu/ behind a torch function.

As `native.py` on the CPU. Nothing imports Triton before a tensor on a GPU asks for it.
"""

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

from trec_dse.candidate import TrecConfig
from trec_dse.trec.call import ConvCall

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LEAST_CAPABILITY = (8, 0)  # tensor cores for float32 and bfloat16


def refusal(x: Tensor, config: TrecConfig) -> str | None:
    """Why `convolve` cannot do it; None if it can."""
    if not x.is_cuda:
        return f"the images are on {x.device.type}"
    if config.clustering != "image":
        return "clusters of a whole batch are computed by plain PyTorch"
    if x.dtype not in DTYPES:
        return f"the kernels take float32, bfloat16 and float16, not {x.dtype}"
    if x.numel() == 0:
        return "there are no images"
    return _missing(x.device)


@functools.cache
def _missing(device: torch.device) -> str | None:
    """What this machine lacks."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install 'trec_dse[gpu]'"
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < LEAST_CAPABILITY:
        return f"the GPU has compute capability {capability}; the kernels need {LEAST_CAPABILITY}"
    return None


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, hash: Tensor, thresholds: Tensor, call: ConvCall
) -> tuple[Tensor, Tensor]:
    """Output (B, M, H_out, W_out), channels last, and clusters (B, groups), int64, as `trec_conv2d` gives them.

    `hash` is (groups or 1, L, H) and `thresholds` (groups or 1, H). With a slope in `call` gradients reach both; with
    kernel reuse the hash is taken from `weight`, which then also gets the gradient of its first H kernels. The type
    that is computed with is that of autocast or of `x`; signatures are those of float32 projections.
    """
    device = x.device.type
    is_mixed = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_mixed else x.dtype
    bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
    with torch.autocast(device, enabled=False):
        y, counts = _Convolve.apply(  # type: ignore[no-untyped-call]
            x.to(dtype), weight.to(dtype), bias, hash.float(), thresholds.float(), call
        )
    return y, counts


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0913, PLR0917
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, hash: Tensor, thresholds: Tensor, call: ConvCall
    ) -> tuple[Tensor, Tensor]:
        from trec_dse.trec.gpu.step import Step  # noqa: PLC0415 - takes Triton along

        step = Step.of(call, x, weight, hash, thresholds)
        out_h, out_w = call.geometry.outputs
        y = x.new_empty(len(x), out_h * out_w, weight.shape[0])
        clusters = step.forward(bias.detach(), y)
        ctx.step, ctx.clusters, ctx.bias_type = step, clusters, bias.dtype
        ctx.mark_non_differentiable(clusters.counts)
        return y.view(len(x), out_h, out_w, -1).permute(0, 3, 1, 2), clusters.counts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        step, needs = ctx.step, ctx.needs_input_grad
        call: ConvCall = step.call
        dy = gradients[0].permute(0, 2, 3, 1).contiguous().flatten(1, 2)
        dx = dy.new_empty(len(dy), *call.geometry.size, call.geometry.channels) if needs[0] else None
        found = step.backward(dy, ctx.clusters, dx)
        d_weight = (
            step.tables.matrix_of(found.weights)
            .view(*call.geometry.kernel, call.geometry.channels, -1)
            .permute(3, 2, 0, 1)
        )
        d_bias = dy.sum(dim=(0, 1), dtype=torch.float32).to(ctx.bias_type) if needs[2] else None
        d_hash = found.hash if call.slope is not None and call.config.scope != "kernel_reuse" else None
        return None if dx is None else dx.permute(0, 3, 1, 2), d_weight, d_bias, d_hash, found.thresholds, None
