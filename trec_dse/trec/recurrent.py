"""Recurrent layers whose input products are one convolution over all steps, so that TREC treats them as any other.

A sequence is an image of T rows and one column: (B, F, T, 1) in torch, (T, 1, F) on the device. The products of all
steps with all gates are then one 1x1 convolution with T rows to cluster; what is left is the recurrence. A second
column would be a second sequence: the recurrences go down the rows, each column for itself.

    SRU  c_t = f_t c_(t-1) + (1 - f_t) w_t,  h_t = r_t tanh(c_t) + (1 - r_t) x_t   (Lei et al., EMNLP 2018, first form)
    GRU  n_t = tanh(a_t + r_t (V_n h_(t-1) + v_n)),  h_t = z_t h_(t-1) + (1 - z_t) n_t   (Cho et al., 2014, as in torch)
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

SRU_GATES = ("candidate", "forget", "reset")  # and "highway", where inputs and hidden units differ in number
GRU_GATES = ("reset", "update", "candidate")
Products = Tensor | tuple[Tensor, ...]  # (B, gates * d, T, W), or (B, d, T, W) of each gate


class LinearScan(torch.autograd.Function):
    """c_t = f_t c_(t-1) + b_t along one dimension, from c_(-1) = 0: forward and backward one operation per step."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, b: Tensor, dim: int) -> Tensor:
        """The states, shaped as `f` and `b`."""
        factors = f.movedim(dim, 0).contiguous()
        states = b.movedim(dim, 0).contiguous().clone()
        for t in range(1, len(states)):
            states[t].addcmul_(factors[t], states[t - 1])
        ctx.save_for_backward(factors, states)
        ctx.dim = dim
        return states.movedim(0, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """What reaches b_t is the gradient of c_t, directly and by c_(t+1); f_t gets c_(t-1) times that."""
        factors, states = ctx.saved_tensors
        grad_b = gradients[0].movedim(ctx.dim, 0).contiguous().clone()
        for t in range(len(grad_b) - 2, -1, -1):
            grad_b[t].addcmul_(factors[t + 1], grad_b[t + 1])
        grad_f = torch.zeros_like(grad_b)
        grad_f[1:] = grad_b[1:] * states[:-1]
        return grad_f.movedim(0, ctx.dim), grad_b.movedim(0, ctx.dim), None


class GruScan(torch.autograd.Function):
    """The GRU's recurrence along dimension 2 of (B, d, T, W) tensors; back through time in one product per step."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, *gates: Tensor) -> Tensor:
        """Hidden states (B, d, T, W). `gates`: the products of `GRU_GATES` with the input; `weight`: (3d, d)."""
        batch, _, steps, columns = gates[0].shape
        inputs = torch.cat(gates, dim=1).permute(2, 0, 3, 1).reshape(steps, batch * columns, -1)
        states, kept = gru_states(inputs, weight, bias)
        ctx.save_for_backward(weight, states, *kept)
        ctx.columns = columns
        return states[1:].reshape(steps, batch, columns, -1).permute(1, 3, 0, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the hidden weights, of their bias and of the three gates' products."""
        weight, states, resets, updates, candidates, products = ctx.saved_tensors
        grad_h = gradients[0].permute(2, 0, 3, 1).flatten(1, 2)
        outer = states.new_empty(*grad_h.shape[:2], len(weight))  # of the gates' products with the input
        inner = torch.empty_like(outer)  # and with the hidden state
        carried = torch.zeros_like(states[0])
        for t in range(len(grad_h) - 1, -1, -1):
            r, z, n = resets[t], updates[t], candidates[t]
            grad = grad_h[t] + carried
            at_n = grad * (1 - z) * (1 - n * n)
            at_z = grad * (states[t] - n) * z * (1 - z)
            at_r = at_n * products[t] * r * (1 - r)
            outer[t] = torch.cat([at_r, at_z, at_n], dim=1)
            inner[t] = torch.cat([at_r, at_z, at_n * r], dim=1)
            carried = grad * z + inner[t] @ weight
        grad_weight = inner.flatten(0, 1).T @ states[:-1].flatten(0, 1)
        gates = outer.reshape(len(outer), -1, ctx.columns, outer.shape[2]).permute(1, 3, 0, 2).chunk(3, dim=1)
        return grad_weight, inner.sum(dim=(0, 1)), *gates


def gru_states(inputs: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Hidden states (T + 1, R, d), zeros first, of `inputs` (T, R, 3d); and r, z, n and V_n h + v_n of every step."""
    d = weight.shape[1]
    states = [inputs.new_zeros(inputs.shape[1], d)]
    kept: list[list[Tensor]] = [[], [], [], []]
    for x in inputs:
        hidden = torch.addmm(bias, states[-1], weight.T)
        r, z = torch.sigmoid(x[:, : 2 * d] + hidden[:, : 2 * d]).chunk(2, dim=1)
        product = hidden[:, 2 * d :]
        n = torch.tanh(x[:, 2 * d :] + r * product)
        states.append(n + z * (states[-1] - n))
        for values, value in zip(kept, (r, z, n, product), strict=True):
            values.append(value)
    return torch.stack(states), [torch.stack(values) for values in kept]


def sru_outputs(parts: Sequence[Tensor], x: Tensor, dim: int) -> Tensor:
    """Outputs h of the SRU. `parts`: candidate, forget and reset products; all of one shape, steps along `dim`."""
    candidate, forget, reset = parts[0], torch.sigmoid(parts[1]), torch.sigmoid(parts[2])
    states = cast(Tensor, LinearScan.apply(forget, (1 - forget) * candidate, dim))  # type: ignore[no-untyped-call]
    return x + reset * (torch.tanh(states) - x)


class ImageToSequence(nn.Module):
    """An image (B, C, H, W) as `steps` equal parts (B, F, T, 1) of its bytes as they lie on the device: (H, W, C)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """The same numbers in another shape."""
        return x.permute(0, 2, 3, 1).reshape(len(x), self.steps, -1).transpose(1, 2).unsqueeze(3)


class Gates(nn.Module):
    """The products of every gate with the same input, one 1x1 convolution each; folding makes one of them all.

    Until then a hidden unit is one output channel of each, so that it can be pruned from all of them.
    """

    def __init__(self, names: Sequence[str], in_channels: int, units: int) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Conv2d(in_channels, units, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Of each gate (B, d, T, W), of `x` (B, F, T, W)."""
        return tuple([conv(x) for conv in self.children()])

    def convolution(self, name: str) -> nn.Conv2d:
        """The products of one gate."""
        return cast(nn.Conv2d, self.get_submodule(name))

    def merged(self) -> nn.Conv2d:
        """One convolution that computes the same."""
        convs = [cast(nn.Conv2d, conv) for conv in self.children()]
        one = nn.Conv2d(convs[0].in_channels, sum(conv.out_channels for conv in convs), 1)
        one.weight = nn.Parameter(torch.cat([conv.weight.detach() for conv in convs]))
        one.bias = nn.Parameter(torch.cat([cast(Tensor, conv.bias).detach() for conv in convs]))
        return one.train(self.training)


def _parts(products: Products, n: int) -> Sequence[Tensor]:
    return products.chunk(n, dim=1) if isinstance(products, Tensor) else products


class SruRecurrence(nn.Module):
    """What is elementwise in an SRU. `projects`: the highway takes a fourth part of the products, not the input."""

    def __init__(self, *, projects: bool) -> None:
        super().__init__()
        self.projects = projects

    def forward(self, products: Products, x: Tensor) -> Tensor:
        """(B, d, T, W) of the products of all gates with `x`, the layer's input."""
        parts = _parts(products, 4 if self.projects else 3)
        return sru_outputs(parts, parts[3] if self.projects else x, dim=2)


class GruRecurrence(nn.Module):
    """The hidden products and the recurrence of a GRU. `weight`: (3d, d) in the order of `GRU_GATES`; `bias`: (3d,)."""

    def __init__(self, units: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(units)
        self.weight = nn.Parameter(torch.empty(3 * units, units).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(3 * units).uniform_(-bound, bound))

    def forward(self, products: Products) -> Tensor:
        """(B, d, T, W) of the products of all gates with the layer's input."""
        gates = _parts(products, 3)
        return cast(Tensor, GruScan.apply(self.weight, self.bias, *gates))  # type: ignore[no-untyped-call]


class LastStep(nn.Module):
    """Of a sequence (B, d, T, W) its last step (B, d, 1, W); directly behind a recurrence."""

    def forward(self, h: Tensor) -> Tensor:
        """The last row."""
        return h[:, :, -1:]


def remember_for(convolution: nn.Conv2d, most_steps: int) -> None:
    """Start the gate that keeps the state, so that its units remember for 1 ... `most_steps` steps.

    A gate with bias b keeps for about exp(b) steps: biases are logarithms of uniform times (Tallec and Ollivier, 2018).
    """
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.bias.uniform_(1, max(2, most_steps - 1)).log_()
