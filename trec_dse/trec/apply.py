"""Put TREC into a trained network: swap its convolutions and take their hashes from its own activations."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from trec_dse.candidate import HashGradient, HashStart, TrecConfig
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.trec.conv import TrecConv2d
from trec_dse.trec.exact import PartlyExactConv2d
from trec_dse.trec.policy import ConvShape


def conv_shapes(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, ConvShape]:
    """The convolutions that TREC can treat, by name, in the order in which the network runs them.

    `input_shape` is (H, W, C). Convolutions with groups or dilation are left out.
    """
    shapes: dict[str, ConvShape] = {}
    height, width, channels = input_shape

    def watch(name: str, conv: nn.Conv2d) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            kernel_h, kernel_w = conv.kernel_size
            n_positions = output.shape[2] * output.shape[3]
            shapes[name] = ConvShape(kernel_h, kernel_w, conv.in_channels, conv.out_channels, n_positions)

        return hook

    probe = copy.deepcopy(model).eval()
    for name, module in probe.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and tuple(module.dilation) == (1, 1):
            module.register_forward_hook(watch(name, module))
    weight = next(probe.parameters(), torch.empty(0))
    _run(probe, torch.zeros(1, channels, height, width, dtype=weight.dtype, device=weight.device))
    return shapes


def apply_trec(
    model: nn.Module,
    configs: Mapping[str, TrecConfig],
    calibration: Tensor,
    *,
    hash_gradient: HashGradient = "soft",
    kernel_surrogate: bool = False,
    hash_start: HashStart = "principal",
) -> nn.Module:
    """A copy of `model` in which the convolutions named in `configs` have become `TrecConv2d`, or with exact directions
    `PartlyExactConv2d`, whose TREC layer is called `clustered`.

    `calibration` is a batch of normalised images (B, C, H, W). One pass over it initialises the hashes as the layers
    run, so that each layer sees what the TREC layers before it really give; "gaussian" ones are left to `draw_hashes`.
    """
    changed = copy.deepcopy(model)
    layers: dict[str, TrecConv2d | PartlyExactConv2d] = {}
    for name, config in configs.items():
        conv = dict(changed.named_modules()).get(name)
        if not isinstance(conv, nn.Conv2d):
            found = "no such layer" if conv is None else type(conv).__name__
            raise CandidateError(f"TREC is asked for {name!r}: found {found}, needed a convolution")
        kind = PartlyExactConv2d if config.exact_directions else TrecConv2d
        layers[name] = kind.from_conv(conv, config, hash_gradient=hash_gradient, kernel_surrogate=kernel_surrogate)
        parent, _, attribute = name.rpartition(".")
        setattr(changed.get_submodule(parent), attribute, layers[name])
    if layers:
        _initialise(changed, layers, calibration, hash_start)
    return changed


def trec_layers(model: nn.Module) -> dict[str, TrecConv2d]:
    """The TREC layers of `model` by name, in the order in which they were defined."""
    return {name: module for name, module in model.named_modules() if isinstance(module, TrecConv2d)}


@torch.no_grad()
def draw_hashes(model: nn.Module, seed: int) -> None:
    """Replace every hash of `model` by Gaussian vectors through the origin: deep reuse (Ning and Shen, 2019).

    Raises CandidateError for a layer that reuses its kernel, whose hash is not drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, layer in trec_layers(model).items():
        if layer.hash is None:
            raise CandidateError(f"{name} reuses its kernel as hash; random hashes need n_kernel_reuse 0")
        layer.hash.copy_(torch.randn(layer.hash.shape, generator=generator))
        layer.thresholds.zero_()


def _initialise(
    model: nn.Module, layers: Mapping[str, TrecConv2d | PartlyExactConv2d], images: Tensor, start: HashStart
) -> None:
    """Set the hash of each of `layers` from what it gets when `model` sees `images`."""
    n_runs = dict.fromkeys(layers, 0)

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            n_runs[name] += 1
            layers[name].initialise_hash(inputs[0], start)

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    was_training = model.training
    try:
        _run(model.eval(), images)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    for name, runs in n_runs.items():
        if runs != 1:
            raise UnsupportedError(f"a TREC layer must run once per image; {name!r} runs {runs} times")


@torch.no_grad()
def _run(model: nn.Module, images: Tensor) -> None:
    model(images)
