"""A network from elsewhere, as `trec-dse import` wrote it, with its weights."""

import math
from pathlib import Path

from torch import nn

from trec_dse.errors import CandidateError
from trec_dse.graph import INPUT
from trec_dse.networks._blueprint import Blueprint, Linear, assemble, load_blueprint

NEEDS_FILE = True


def build(
    input_shape: tuple[int, int, int],
    n_classes: int,
    path: str,
    sha256: str = "",
    pixels: str = "",
    new_classifier: bool = False,
) -> nn.Module:
    """The network in the folder `path`, whose content must hash to `sha256` if that is given.

    `pixels` says how it reads images, see `networks.pixel_scaling`. With `new_classifier` its last layer is replaced
    by an untrained one of `n_classes` outputs; without, it must have as many.
    """
    blueprint, weights = load_blueprint(Path(path), sha256)
    if blueprint.input_shape != input_shape:
        found, wanted = ("x".join(map(str, shape)) for shape in (blueprint.input_shape, input_shape))
        raise CandidateError(f"{path}: the network reads images of {found}; those of the data set are {wanted}")
    model = assemble(blueprint, weights, path)
    last = blueprint.layers[-1]
    if new_classifier:
        if not isinstance(last.kind, Linear):
            raise CandidateError(f"{path}: the last layer, {last.name!r}, is not dense; it cannot be made anew")
        setattr(model, last.name, nn.Linear(last.kind.in_features, n_classes))
    elif n_outputs(blueprint) != n_classes:
        raise CandidateError(
            f"{path}: the network tells {n_outputs(blueprint)} classes apart, the data set has {n_classes}; "
            "with new_classifier=True its last layer is trained anew"
        )
    return model


def shape_of(path: str, sha256: str = "", **_: object) -> tuple[tuple[int, int, int], int]:
    """(H, W, C) of its images and its number of classes; arguments as those of `build`."""
    blueprint, _weights = load_blueprint(Path(path), sha256)
    return blueprint.input_shape, n_outputs(blueprint)


def n_outputs(blueprint: Blueprint) -> int:
    """Class scores that the network gives."""
    height, width, channels = blueprint.input_shape
    shapes: dict[str, tuple[int, ...]] = {INPUT: (channels, height, width)}
    for layer in blueprint.layers:
        shapes[layer.name] = layer.kind.output_shape(*(shapes[name] for name in layer.inputs))
    return math.prod(shapes[blueprint.layers[-1].name])
