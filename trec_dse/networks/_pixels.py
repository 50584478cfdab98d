"""How a network from elsewhere reads images: a name for what is usual, or mean and deviation per channel."""

import math
from dataclasses import dataclass

from trec_dse.errors import CandidateError

DATA_SET = ""  # by the data set's own mean and deviation


@dataclass(frozen=True)
class PixelScaling:
    """(image / 255 - mean) / std, one of each per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


_IMAGENET = PixelScaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_NAMED = {"0..1": (0.0, 1.0), "-1..1": (0.5, 0.5), "0..255": (0.0, 1 / 255)}
NAMES = (*_NAMED, "imagenet")


def parse_pixels(text: str, n_channels: int) -> PixelScaling | None:
    """The scaling that `text` names, or tells as "mean,.../std,..."; None if it is empty.

    Raises CandidateError for anything else, and for numbers that are not one per channel.
    """
    if text == DATA_SET:
        return None
    if text in _NAMED:
        mean, std = _NAMED[text]
        return PixelScaling((mean,) * n_channels, (std,) * n_channels)
    scaling = _IMAGENET if text == "imagenet" else _numbers(text)
    if len(scaling.mean) != n_channels or len(scaling.std) != n_channels:
        raise CandidateError(f"pixels {text!r} are for {len(scaling.mean)} channels; images here have {n_channels}")
    return scaling


def _numbers(text: str) -> PixelScaling:
    mean, _, std = text.partition("/")
    try:
        scaling = PixelScaling(tuple(map(float, mean.split(","))), tuple(map(float, std.split(","))))
    except ValueError as problem:
        raise CandidateError(f"pixels {text!r}: choose from {', '.join(NAMES)}, or MEAN,.../STD,...") from problem
    if not all(math.isfinite(x) for x in scaling.mean) or not all(x > 0 and math.isfinite(x) for x in scaling.std):
        raise CandidateError(f"pixels {text!r}: means must be numbers, deviations numbers above 0")
    return scaling
