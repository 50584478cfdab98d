"""The activations that operators apply to their output before it is rounded."""

from typing import Literal

import torch

Activation = Literal["none", "relu", "relu6"]
CEILING = 6.0


def activate(values: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Real `values` after the activation; "relu6" also cuts at 6."""
    if activation == "relu6":
        return values.clamp(0, CEILING)
    return torch.relu(values) if activation == "relu" else values
