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
