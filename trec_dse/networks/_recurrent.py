"""Recurrent layers over images read as sequences: what the SRU and GRU networks share."""

import math
from typing import Protocol

from torch import Tensor, nn

from trec_dse.errors import CandidateError
from trec_dse.trec.recurrent import ImageToSequence, LastStep


class Layer(Protocol):
    """Makes a recurrent layer, (B, features, T, 1) to (B, units, T, 1)."""

    def __call__(self, features: int, units: int, steps: int, *, is_first: bool) -> nn.Module:
        """A layer with fresh weights; `is_first`: it reads the image itself."""
        ...


class RecurrentNetwork(nn.Module):
    """An image as a sequence, `layers` recurrent layers (`layer1` ...), and a dense layer on their last step."""

    def __init__(
        self, input_shape: tuple[int, int, int], n_classes: int, layer: Layer, size: tuple[int, int, int]
    ) -> None:
        """`size`: units, layers, steps."""
        super().__init__()
        units, layers, steps = size
        if min(size) < 1 or math.prod(input_shape) % steps:
            raise CandidateError(
                f"width {units}, layers {layers} and steps {steps} must be at least 1, and the steps must divide an "
                f"image of {math.prod(input_shape)} numbers"
            )
        self.sequence = ImageToSequence(steps)
        features = math.prod(input_shape) // steps
        self.names = [f"layer{i}" for i in range(1, layers + 1)]
        for name in self.names:
            self.add_module(name, layer(features, units, steps, is_first=name == self.names[0]))
            features = units
        self.last = LastStep()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(units, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (B, C, H, W)."""
        x = self.sequence(x)
        for name in self.names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.fc1(self.flatten(self.last(x)))
        return logits
