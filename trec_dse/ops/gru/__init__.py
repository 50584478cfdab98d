"""The recurrence of a gated recurrent unit (GRU): products with the hidden state, gates, state, step by step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from trec_dse.graph import FloatWeights, Int8Array, IntArray, IntWeights, KernelCall, NodeQuantization, Shape, Work
from trec_dse.ops._fixed_point import (
    WHOLE_RANGE,
    channel_multipliers,
    integer_bias,
    quantize_channels,
    saturate,
    scale_by,
    single_rescale,
)
from trec_dse.ops._sequences import (
    GATE_UNIT,
    HIDDEN_SCALE,
    ONE,
    blend,
    interpolate,
    levels_to_gate_units,
    sequence_shape,
    sigmoid_table,
    table_place,
)
from trec_dse.trec.recurrent import gru_states

MOST_INNER = 2**16 - 1  # of the hidden product that the reset gate weighs: the two together are an int32


@dataclass(frozen=True)
class Gru:
    """r, z = s(a + V h + v), n = tanh(a_n + r (V_n h + v_n)), h = z h + (1 - z) n over the rows of (T, sequences, 3 d).

    Reads the products a of all steps with the gates r, z, n side by side. Weights: `hidden` (3 d, d), V; `hidden_bias`
    (3 d,), v. Integer tables besides: `levels` (256,) and `sigmoids` (257,) int16, see `_sequences.py`.

    Attributes:
        last: only the last step's outputs are written.
    """

    last: bool = False
    kind: ClassVar[str] = "gru"
    keeps_quantization: ClassVar[bool] = False

    def output_shape(self, *inputs: Shape) -> Shape:
        """(T, sequences, d) or (1, sequences, d)."""
        steps, sequences, units = sequence_shape("gru", inputs[0], 3)
        return (1 if self.last else steps, sequences, units)

    def macs(self, *inputs: Shape) -> int:
        """The hidden products, and four per unit and step for gates and state."""
        units = inputs[0][2] // 3
        return math.prod(inputs[0]) * units + 4 * math.prod(inputs[0]) // 3

    def scratch_bytes(self, *inputs: Shape) -> int:
        """The states, int16, and what the products read of them, int8."""
        return 3 * inputs[0][1] * inputs[0][2] // 3

    def overlap(self, *inputs: Shape) -> int | None:
        """A unit is written where it was read, or before."""
        return 0

    def work(self, *inputs: Shape, worst: bool) -> Sequence[Work]:
        """Words of four products for four units at a time or one; products left over; units."""
        steps, sequences, units = sequence_shape("gru", inputs[0], 3)
        rows = 3 * steps * sequences
        return (
            Work("gru_words", rows * (units // 4) * (units // 4)),
            Work("gru_rest", rows * units * (units % 4) + rows * (units % 4) * (units // 4) * 4),
            Work("gru_value", steps * sequences * units),
            Work("gru_output", math.prod(self.output_shape(*inputs))),
        )

    def forward(self, inputs: Sequence[torch.Tensor], weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """As the layers are trained."""
        batch, steps, sequences, gates = inputs[0].shape
        rows = inputs[0].transpose(0, 1).reshape(steps, batch * sequences, gates)
        states, _ = gru_states(rows, weights["hidden"], weights["hidden_bias"])
        h = states[1:].reshape(steps, batch, sequences, -1).transpose(0, 1)
        return h[:, -1:] if self.last else h

    def quantize(self, weights: FloatWeights, quantization: NodeQuantization) -> IntWeights:
        """Hidden weights per gate and unit; all gates' inputs in one fixed-point unit."""
        hidden, scales = quantize_channels(weights["hidden"])
        bias = integer_bias(weights["hidden_bias"], scales * HIDDEN_SCALE)
        return {
            "hidden": hidden,
            "hidden_bias": bias.astype(np.int32),
            "levels": levels_to_gate_units(quantization.inputs[0]).astype(np.int16),
            "sigmoids": sigmoid_table().astype(np.int16),
            **channel_multipliers(scales * HIDDEN_SCALE / GATE_UNIT),
            **single_rescale(1 / ONE / quantization.output.scale),
        }

    def run(self, inputs: Sequence[Int8Array], weights: IntWeights, quantization: NodeQuantization) -> Int8Array:
        """Step by step; states are int16, and rounded to int8 where they are multiplied."""
        gates, table = weights["levels"].astype(np.int64)[inputs[0].astype(np.int64) + 128], weights["sigmoids"]
        units = gates.shape[2] // 3
        state = np.zeros((gates.shape[1], units), dtype=np.int64)
        outputs: list[IntArray] = []
        for a in gates:
            seen = np.clip((state + 128) >> 8, -128, 127)
            acc = seen @ weights["hidden"].astype(np.int64).T + weights["hidden_bias"]
            products = scale_by(acc, weights["multipliers"], weights["shifts"])
            r, z = np.split(interpolate(table, table_place(a[:, : 2 * units] + products[:, : 2 * units])), 2, axis=1)
            inner = np.clip(products[:, 2 * units :], -MOST_INNER, MOST_INNER)
            at_n = a[:, 2 * units :] + ((r * inner + ONE // 2) >> 15)
            n = 2 * interpolate(table, table_place(2 * at_n)) - ONE
            state = (blend(z, state, n) + ONE // 2) >> 15
            outputs.append(state)
        h = np.stack(outputs[-1:] if self.last else outputs)
        scaled = scale_by(h, weights["multiplier"], weights["shift"])
        return saturate(scaled, quantization.output.zero_point, WHOLE_RANGE)

    def calls(
        self, shapes: Sequence[Shape], weights: IntWeights, quantization: NodeQuantization
    ) -> tuple[KernelCall, ...]:
        """`trec_gru_s8`."""
        steps, sequences, units = sequence_shape("gru", shapes[0], 3)
        fields = (
            ("steps", steps),
            ("sequences", sequences),
            ("units", units),
            ("last", int(self.last)),
            ("levels", weights["levels"]),
            ("sigmoids", weights["sigmoids"]),
            ("hidden", weights["hidden"]),
            ("bias", weights["hidden_bias"]),
            ("multipliers", weights["multipliers"]),
            ("shifts", weights["shifts"]),
            ("multiplier", int(weights["multiplier"])),
            ("shift", int(weights["shift"])),
            ("out_zero", quantization.output.zero_point),
        )
        return (KernelCall("trec_gru_s8", "trec_gru", fields, scratch=True),)
