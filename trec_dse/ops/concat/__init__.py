"""Concatenation along the channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from trec_dse.graph import FloatWeights, Int8Array, IntWeights, KernelCall, NodeQuantization, Shape, Work
from trec_dse.ops._fixed_point import pair_of_multipliers


@dataclass(frozen=True)
class Concat:
    """No weights; integer tables: `multipliers` (n_inputs,), `shifts` (n_inputs,)."""

    kind: ClassVar[str] = "concat"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(H, W, sum of the channels)."""
        return (*inputs[0][:2], sum(shape[2] for shape in inputs))

    def macs(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def scratch_bytes(self, *inputs: Shape) -> int:
        """None."""
        return 0

    def overlap(self, *inputs: Shape) -> int | None:
        """None: each input is written all over the output."""
        return None

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Values that are looked up, pixels, and tables."""
        pixels = inputs[0][0] * inputs[0][1]
        return (
            Work("concat_value", pixels * self.output_shape(*inputs)[2]),
            Work("concat_pixel", pixels * len(inputs)),
            Work("concat_table", len(inputs)),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Channels side by side."""
        return torch.cat(list(inputs), dim=3)

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Each input's scale over the output's; equal scales give exactly one."""
        pairs = [pair_of_multipliers((q.scale / quantization.output.scale,)) for q in quantization.inputs]
        return {
            "multipliers": np.array([m[0] for m, _ in pairs], dtype=np.int32),
            "shifts": np.array([s for _, s in pairs], dtype=np.int32),
        }

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """One rounding per value."""
        parts = []
        for i, x in enumerate(inputs):
            shift = int(weights["shifts"][i])
            centred = x.astype(np.int64) - quantization.inputs[i].zero_point
            scaled = (centred * int(weights["multipliers"][i]) + (1 << (shift - 1))) >> shift
            parts.append(np.clip(scaled + quantization.output.zero_point, -128, 127).astype(np.int8))
        return np.concatenate(parts, axis=2)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_concat_s8`, once per input."""
        out_channels = self.output_shape(*shapes)[2]
        calls = []
        for i, shape in enumerate(shapes):
            fields = (
                ("positions", shape[0] * shape[1]),
                ("in_c", shape[2]),
                ("out_c", out_channels),
                ("first", sum(other[2] for other in shapes[:i])),
                ("in_zero", quantization.inputs[i].zero_point),
                ("zero", quantization.output.zero_point),
                ("multiplier", int(weights["multipliers"][i])),
                ("shift", int(weights["shifts"][i])),
            )
            calls.append(KernelCall("trec_concat_s8", "trec_concat", fields, inputs=(i,)))
        return tuple(calls)
