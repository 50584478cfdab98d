"""Element-wise sum of two tensors with a fused activation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Work
from trec_dse.ops._activation import Activation, activate
from trec_dse.ops._fixed_point import bounds, sum_multipliers


@dataclass(frozen=True)
class Add:
    """No weights; integer tables: `multipliers` (2,), `shift` ()."""

    activation: Activation = "none"
    kind: ClassVar[str] = "add"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """That of both inputs."""
        return inputs[0]

    def macs(self, *inputs: Shape) -> int:
        """None: additions are not counted."""
        return 0

    def scratch_bytes(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def overlap(self, *inputs: Shape) -> int | None:
        """Values are written where they were read, or before."""
        return 0

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Sums."""
        return (Work("add_value", math.prod(inputs[0])),)

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Sum."""
        y = inputs[0] + inputs[1]
        return activate(y, self.activation)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Both scales over the output's, in one fixed-point format."""
        multipliers, shift = sum_multipliers(tuple(q.scale / quantization.output.scale for q in quantization.inputs))
        return {"multipliers": np.array(multipliers, dtype=np.int32), "shift": np.array(shift, dtype=np.int32)}

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """One rounding per output."""
        limits, shift = bounds(self.activation, quantization), int(weights["shift"])
        terms = [
            (x.astype(np.int64) - q.zero_point) * int(m)
            for x, q, m in zip(inputs, quantization.inputs, weights["multipliers"], strict=True)
        ]
        scaled = (terms[0] + terms[1] + (1 << (shift - 1))) >> shift
        result: Int8Array = np.clip(scaled + quantization.output.zero_point, limits.low, limits.high).astype(np.int8)
        return result

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_add_s8`."""
        limits, shift = bounds(self.activation, quantization), int(weights["shift"])
        zeros = np.array([q.zero_point for q in quantization.inputs], dtype=np.int64)
        half = (2 * quantization.output.zero_point + 1) << (shift - 1)
        fields = (
            ("n", math.prod(shapes[0])),
            ("a_multiplier", int(weights["multipliers"][0])),
            ("b_multiplier", int(weights["multipliers"][1])),
            ("shift", shift),
            ("offset", half - int(zeros @ weights["multipliers"])),
            ("min", limits.low),
            ("max", limits.high),
        )
        return (KernelCall("trec_add_s8", "trec_add", fields, inputs=(0, 1)),)
