"""Fully connected layer with 4-bit inputs and weights, and int8 outputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from trec_dse.graph import (
    FloatWeights,
    Int8Array,
    IntWeights,
    KernelCall,
    NodeQuantization,
    Quantization,
    Shape,
    Work,
    pack,
    unpack,
)
from trec_dse.ops._four_bits import Exponents, WholeLayer, as_byte, fitting_exponents, shift_right, whole_layer
from trec_dse.ops.dense import Dense


@dataclass(frozen=True)
class DenseU4(Dense):
    """Weights: `weights` (out_features, in_features), `bias` (out_features,), `exponents` (3,), `input` (2,).

    `exponents` as in `_four_bits`; `input`: scale and zero point of the input where the layer is the network's first.
    """

    kind: ClassVar[str] = "dense_u4"

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Products and outputs."""
        return (Work("dense_u4_mac", self.macs(*inputs)), Work("dense_u4_output", self.out_features))

    def input_quantization(self, weights: FloatWeights) -> Quantization:
        """Levels 0..15."""
        return Quantization(float(weights["input"][0]), int(weights["input"][1]), bits=4)

    def output_quantization(self, weights: FloatWeights) -> Quantization:
        """int8 in steps of a power of two."""
        return Quantization(2.0 ** Exponents.of(weights["exponents"]).output, 0)

    def fitted(self, weights: FloatWeights, inputs: torch.Tensor, source: Quantization) -> FloatWeights:
        """`weights` with exponents that suit what float `inputs` (B, ...), quantised as `source`, give."""
        y = self.forward([inputs.double()], {name: torch.from_numpy(value) for name, value in weights.items()})
        values = (weights["weights"], weights["bias"])
        return {**weights, "exponents": fitting_exponents(*values, source, y.numpy(), (self._least(), 127))}

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Packed weights, bias, and the two shifts."""
        layer = whole_layer(weights["weights"], weights["bias"], weights["exponents"], quantization.inputs[0])
        shifts = [layer.exponents.bias_shift, layer.exponents.shift]
        return {
            "weights": pack(layer.weights).view(np.uint8),
            "bias": layer.bias.astype(np.int8),
            "shifts": np.array(shifts, dtype=np.uint8),
        }

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """One matrix-vector product."""
        levels = inputs[0].reshape(1, -1)
        whole = (unpack(weights["weights"], (self.out_features, levels.size)).astype(np.int64) ^ 8) - 8
        bias_shift, shift = (int(value) for value in weights["shifts"])
        sums = WholeLayer(whole, weights["bias"], Exponents(0, bias_shift, shift)).accumulate(levels)
        return shift_right(sums, shift, self._least(), 127).astype(np.int8).reshape(-1)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_dense_u4_s8`."""
        fields = (
            ("weights", weights["weights"]),
            ("bias", weights["bias"]),
            ("in_n", math.prod(shapes[0])),
            ("out_n", np.uint8(as_byte(self.out_features, "the number of outputs"))),
            ("bias_shift", weights["shifts"][0]),
            ("shift", weights["shifts"][1]),
            ("min", np.int8(self._least())),
        )
        return (KernelCall("trec_dense_u4_s8", "trec_dense_u4", fields),)

    def _least(self) -> int:
        return 0 if self.activation == "relu" else -128
