"""What is elementwise in a simple recurrent unit (SRU): cell states along the steps, gates, highway."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from trec_dse.errors import UnsupportedError
from trec_dse.graph import FloatWeights, Int8Array, IntArray, IntWeights, KernelCall, NodeQuantization, Shape, Work
from trec_dse.ops._fixed_point import WHOLE_RANGE, saturate, scale_by, single_rescale
from trec_dse.ops._sequences import (
    ONE,
    STATE_BITS,
    blend,
    highway_shift,
    interpolate,
    levels_to_sigmoids,
    levels_to_tanhs,
    sequence_shape,
)
from trec_dse.trec.recurrent import sru_outputs


@dataclass(frozen=True)
class Sru:
    """c_t = f_t c_(t-1) + (1 - f_t) w_t, h_t = r_t tanh(c_t) + (1 - r_t) x_t over the rows of (T, sequences, ...).

    Reads the products of all steps with the gates, w, f and r side by side, (T, sequences, 3 d); and x, (T, sequences,
    d), which with `projects` stands as a fourth part beside them instead. No weights; integer tables: `sigmoids` (256,)
    uint16 by level, `tanhs` (257,) int16 by level of c, `highway_shift` (), and how the output is rescaled.

    Attributes:
        last: only the last step's outputs are written.
    """

    projects: bool = False
    last: bool = False
    kind: ClassVar[str] = "sru"
    keeps_quantization: ClassVar[bool] = False

    @property
    def parts(self) -> int:
        """Products per hidden unit."""
        return 4 if self.projects else 3

    def output_shape(self, *inputs: Shape) -> Shape:
        """(T, sequences, d) or (1, sequences, d)."""
        steps, sequences, units = sequence_shape("sru", inputs[0], self.parts)
        if not self.projects and inputs[1:] != ((steps, sequences, units),):
            raise UnsupportedError(f"sru of {units} units needs an input of as many features; found {inputs[1:]}")
        return (1 if self.last else steps, sequences, units)

    def macs(self, *inputs: Shape) -> int:
        """Three per unit and step: cell, highway and interpolation."""
        return 3 * math.prod(inputs[0]) // self.parts

    def scratch_bytes(self, *inputs: Shape) -> int:
        """The cell states, int16."""
        return 2 * inputs[0][1] * inputs[0][2] // self.parts

    def overlap(self, *inputs: Shape) -> int | None:
        """A unit is written where it was read, or before."""
        return 0

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Units of all steps, and how many of them are written."""
        values = math.prod(inputs[0]) // self.parts
        return (Work("sru_value", values), Work("sru_output", math.prod(self.output_shape(*inputs))))

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """As the layers are trained."""
        parts = inputs[0].chunk(self.parts, dim=-1)
        h = sru_outputs(parts, parts[3] if self.projects else inputs[1], dim=1)
        return h[:, -1:] if self.last else h

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Tables over the levels of the products; tanh in the unit of the highway.

        That unit is the scale of x over 2**k, with k at most 7 and such that 1 is an int16: then x needs no rounding.
        """
        products, highway = quantization.inputs[0], quantization.inputs[0 if self.projects else 1]
        shift = highway_shift(highway.scale)
        unit = highway.scale / 2**shift
        return {
            "sigmoids": levels_to_sigmoids(products).astype(np.uint16),
            "tanhs": levels_to_tanhs(products, unit).astype(np.int16),
            "highway_shift": np.array(shift, dtype=np.int32),
            **single_rescale(unit / ONE / quantization.output.scale),
        }

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Step by step; cell states keep 7 fraction bits below the products' levels."""
        zero = quantization.inputs[0].zero_point
        parts = np.split(inputs[0].astype(np.int64), self.parts, axis=2)
        highway = parts[3] if self.projects else inputs[1].astype(np.int64)
        x = (highway - quantization.inputs[0 if self.projects else 1].zero_point) << int(weights["highway_shift"])
        gates = weights["sigmoids"].astype(np.int64)
        state = np.zeros(parts[0].shape[1:], dtype=np.int64)
        outputs: list[IntArray] = []
        for candidate, forget, reset, carried in zip(parts[0], parts[1], parts[2], x, strict=True):
            fresh = (candidate - zero) << STATE_BITS
            state = (blend(gates[forget + 128], state, fresh) + ONE // 2) >> 15
            cell = interpolate(weights["tanhs"], state + ((128 + zero) << STATE_BITS))
            outputs.append(blend(gates[reset + 128], cell, carried))
        h = np.stack(outputs[-1:] if self.last else outputs)
        scaled = scale_by(h, weights["multiplier"], weights["shift"])
        return saturate(scaled, quantization.output.zero_point, WHOLE_RANGE)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_sru_s8`; where the products hold it, the highway is their fourth part."""
        steps, sequences, units = sequence_shape("sru", shapes[0], self.parts)
        fields = (
            ("steps", steps),
            ("sequences", sequences),
            ("units", units),
            ("parts", self.parts),
            ("last", int(self.last)),
            ("zero", quantization.inputs[0].zero_point),
            ("highway_zero", quantization.inputs[0 if self.projects else 1].zero_point),
            ("highway_shift", int(weights["highway_shift"])),
            ("sigmoids", weights["sigmoids"]),
            ("tanhs", weights["tanhs"]),
            ("multiplier", int(weights["multiplier"])),
            ("shift", int(weights["shift"])),
            ("out_zero", quantization.output.zero_point),
        )
        highway = 0 if self.projects else 1
        return (KernelCall("trec_sru_s8", "trec_sru", fields, inputs=(0, highway), scratch=True),)
