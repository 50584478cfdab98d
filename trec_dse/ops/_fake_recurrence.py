"""The integers of the recurrent kernels as torch sees them; see `_fake_quantization.py`.

Values are those of the tables and of every rounding, gradients those of the smooth functions behind them.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trec_dse.graph import IntArray, Quantization
from trec_dse.ops._levels import Levels, round_half_up, whole_channels
from trec_dse.ops._sequences import (
    GATE_UNIT,
    HIDDEN_SCALE,
    ONE,
    STATE_BITS,
    highway_shift,
    levels_to_tanhs,
    sigmoid_table,
)
from trec_dse.ops.gru import MOST_INNER, Gru
from trec_dse.ops.sru import Sru

_STEP = 2**STATE_BITS


def fake_sru(op: Sru, inputs: Sequence[Levels]) -> Tensor:
    """Outputs (B, T, sequences, d), real numbers; an output of the kernel is this in levels, rounded."""
    products, highway = inputs[0], inputs[0 if op.projects else 1]
    parts = products.values.chunk(op.parts, dim=-1)
    scale = products.scale
    shift = highway_shift(float(highway.scale.detach()))
    unit = highway.scale / 2**shift
    quantization = Quantization(float(scale.detach()), products.zero_point)
    tanhs = _tensor(levels_to_tanhs(quantization, float(unit.detach())), parts[0])
    forget, reset = (round_half_up(torch.sigmoid(part * scale) * ONE) for part in parts[1:3])
    fresh = parts[0] * _STEP
    state, states = torch.zeros_like(fresh[:, 0]), []
    for t in range(fresh.shape[1]):
        state = fresh[:, t] + round_half_up(forget[:, t] * (state - fresh[:, t]) / ONE)
        states.append(state)
    cells = torch.stack(states, dim=1)
    place = cells.detach() + (128 + products.zero_point) * _STEP
    cell = _valued(torch.tanh(cells * scale / _STEP) / unit, _between(tanhs, place))
    x = (parts[3] if op.projects else highway.values) * 2**shift
    h: Tensor = (x + reset * (cell - x) / ONE) * unit
    return h[:, -1:] if op.last else h


def fake_gru(op: Gru, products: Levels, weights: Mapping[str, Tensor]) -> Tensor:
    """Outputs (B, T, sequences, d), real numbers; an output of the kernel is this in levels, rounded."""
    hidden, scales = whole_channels(weights["hidden"], 0)
    factor = scales * HIDDEN_SCALE
    bias = round_half_up(weights["hidden_bias"] / factor).clamp(-(2**30), 2**30)
    table = _tensor(sigmoid_table(), hidden)
    a = round_half_up(products.real / GATE_UNIT).clamp(-ONE, ONE - 1)
    d = hidden.shape[1]
    state, states = a.new_zeros(*a[:, 0, :, :d].shape), []
    for t in range(a.shape[1]):
        seen = round_half_up(state / 256).clamp(-128, 127)
        inner = round_half_up((seen @ hidden.T + bias) * factor / GATE_UNIT)
        r, z = _open(a[:, t, :, : 2 * d] + inner[..., : 2 * d], table).chunk(2, dim=-1)
        weighed = inner[..., 2 * d :].clamp(-MOST_INNER, MOST_INNER)
        n = 2 * _open(2 * (a[:, t, :, 2 * d :] + round_half_up(r * weighed / ONE)), table) - ONE
        state = n + round_half_up(z * (state - n) / ONE)
        states.append(state)
    h = torch.stack(states[-1:] if op.last else states, dim=1)
    return h / ONE


def _open(x: Tensor, table: Tensor) -> Tensor:
    """A gate in 1 / 2**15, for `x` in units of `GATE_UNIT`."""
    place = (x.detach() + ONE // 2).clamp(0, ONE - 1)
    return _valued(torch.sigmoid(x * GATE_UNIT) * ONE, _between(table, place))


def _between(table: Tensor, at: Tensor) -> Tensor:
    """`_sequences.interpolate` on whole numbers in floating point."""
    index = torch.div(at, _STEP, rounding_mode="floor")
    entry = index.long()
    low = table[entry]
    high = table[(entry + 1).clamp(max=len(table) - 1)]
    return low + torch.floor((high - low) * (at - index * _STEP) / _STEP + 0.5)


def _valued(smooth: Tensor, exact: Tensor) -> Tensor:
    """`exact` in value, with the gradient of `smooth`."""
    return smooth + (exact - smooth).detach()


def _tensor(table: IntArray, like: Tensor) -> Tensor:
    return torch.from_numpy(table).to(like)
