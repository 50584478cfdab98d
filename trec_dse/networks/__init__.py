"""Networks to search over, one file each: ``build(input_shape, n_classes, **args)`` gives an ordinary torch module.

`input_shape` is (H, W, C); the module itself takes normalised float images (B, C, H, W) and answers with logits. Its
layers have names (`conv1`, `fc1`) by which candidates refer to them, and it can be traced by torch.fx.
"""

import inspect

import torch
from torch import nn

from trec_dse import plugins
from trec_dse.candidate import Candidate
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.networks._pixels import PixelScaling, parse_pixels

__all__ = ["brought_shape", "build_model", "own_names", "parse_pixels", "pixel_scaling"]


def build_model(candidate: Candidate, input_shape: tuple[int, int, int], n_classes: int) -> nn.Module:
    """The untrained network of `candidate`; its weights depend on `recipe.seed` alone.

    Raises UnsupportedError if there is no network of that name, CandidateError if it does not take those arguments.
    """
    build = plugins.load("networks", candidate.network, UnsupportedError).build
    try:
        inspect.signature(build).bind(input_shape, n_classes, **candidate.network_args)
    except TypeError as problem:
        options = [name for name in inspect.signature(build).parameters if name not in ("input_shape", "n_classes")]
        raise CandidateError(f"network {candidate.network!r}: {problem}; it takes {', '.join(options)}") from problem
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(candidate.recipe.seed)
        model = build(input_shape, n_classes, **candidate.network_args)
    assert isinstance(model, nn.Module)
    return model


def own_names() -> list[str]:
    """The networks that are defined here, which fit any data set; the others come from a file."""
    modules = {name: plugins.load("networks", name) for name in plugins.names("networks")}
    return [name for name, module in modules.items() if not getattr(module, "NEEDS_FILE", False)]


def brought_shape(candidate: Candidate) -> tuple[tuple[int, int, int], int] | None:
    """(H, W, C) and the number of classes of an imported network; None for those that fit any data set."""
    module = plugins.load("networks", candidate.network, UnsupportedError)
    if not getattr(module, "NEEDS_FILE", False):
        return None
    found: tuple[tuple[int, int, int], int] = module.shape_of(**candidate.network_args)
    return found


def pixel_scaling(candidate: Candidate, n_channels: int) -> PixelScaling | None:
    """How the candidate's network reads images; None: as all networks here, by the data set's mean and deviation."""
    return parse_pixels(str(candidate.network_args.get("pixels", "")), n_channels)
