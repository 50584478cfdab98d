"""Fully connected layer with a fused activation; reads an image as its values in (H, W, C) order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Work
from trec_dse.ops._activation import Activation, activate
from trec_dse.ops._fixed_point import affine_weights, bounds, requantize, rescale_field


@dataclass(frozen=True)
class Dense:
    """Weights: `weights` (out_features, in_features), `bias` (out_features,)."""

    out_features: int
    activation: Activation = "none"
    kind: ClassVar[str] = "dense"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(out_features,)."""
        return (self.out_features,)

    def macs(self, *inputs: Shape) -> int:
        """One per weight."""
        return math.prod(inputs[0]) * self.out_features

    def scratch_bytes(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def overlap(self, *inputs: Shape) -> int | None:
        """None: every output reads the whole input."""
        return None

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Words of four products, by four outputs at a time or alone; products left over; outputs."""
        n, fours, alone = math.prod(inputs[0]), self.out_features // 4, self.out_features % 4
        return (
            Work("dense_words", fours * (n // 4)),
            Work("dense_word", alone * (n // 4)),
            Work("dense_rest", self.out_features * (n % 4)),
            Work("dense_output", self.out_features),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Matrix product."""
        y = F.linear(inputs[0].flatten(1), weights["weights"], weights["bias"])
        return activate(y, self.activation)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Symmetric per output."""
        return affine_weights(weights, quantization)

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """One matrix-vector product."""
        acc = weights["weights"].astype(np.int64) @ inputs[0].reshape(-1).astype(np.int64) + weights["bias"]
        return requantize(acc, weights, quantization.output.zero_point, bounds(self.activation, quantization))

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_dense_s8`."""
        fields = (
            ("in_n", math.prod(shapes[0])),
            ("out_n", self.out_features),
            ("weights", weights["weights"]),
            ("bias", weights["bias"]),
            ("rescale", rescale_field(weights, quantization, bounds(self.activation, quantization))),
        )
        return (KernelCall("trec_dense_s8", "trec_dense", fields),)
