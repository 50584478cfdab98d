"""Convolutions by lookup (LCNN): every kernel's vector of a tap is a sum of few vectors of a dictionary.

    W[m, ky, kx] = sum over t < s of coefficient[m, ky, kx, t] * dictionary[index[m, ky, kx, t]]

so the convolution is a 1x1 convolution with the k vectors of the dictionary, S, and then sums that only look up: of s
channels of S at every tap. After Bagherinejad, Rastegari and Farhadi, LCNN (CVPR 2017). They train a dense code under
an L1 penalty and cut it; here the dictionary is fitted to trained kernels, the terms are picked by the size of their
projections, and dictionary and coefficients are trained on with the picks as they are.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trec_dse.candidate import KernelConfig

FIT_ROUNDS = 12


class LookupConv2d(nn.Module):
    """The second half of a convolution by lookup: reads S (B, k, H, W).

    Attributes:
        weight: coefficients (M, kernel_h, kernel_w, s).
        indices: (M, kernel_h, kernel_w, s), int64: the channels of S that they multiply.
        bias: (M,), or None.
    """

    indices: Tensor
    bias: nn.Parameter | None

    def __init__(self, weight: Tensor, indices: Tensor, conv: nn.Conv2d, dictionary: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = dictionary, conv.out_channels
        self.kernel_size, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding
        self.weight = nn.Parameter(weight)
        self.register_buffer("indices", indices)
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, M, H_out, W_out)."""
        kernels = spread(self.weight, self.indices, self.in_channels).permute(0, 3, 1, 2)
        return F.conv2d(x, kernels, self.bias, self.stride, self.padding)


class LookupLayer(nn.Sequential):
    """A convolution by lookup: `dictionary`, a 1x1 `nn.Conv2d` without bias, and `lookup`. Made by `from_conv`.

    TREC on the dictionary is TREC on that 1x1 convolution: rows are pixels, K is the channels and M is k.
    """

    dictionary: nn.Conv2d
    lookup: LookupConv2d

    @classmethod
    def from_conv(cls, conv: nn.Conv2d, config: KernelConfig, rounds: int = FIT_ROUNDS) -> Self:
        """The layer nearest to `conv`, a convolution without groups or dilation, that `config` allows."""
        out_channels, in_channels, height, width = conv.weight.shape
        vectors = conv.weight.detach().permute(0, 2, 3, 1).reshape(-1, in_channels)
        dictionary, indices, coefficients = fit_dictionary(vectors, config.dictionary, config.terms, rounds)
        first = nn.Conv2d(in_channels, len(dictionary), 1, bias=False)
        with torch.no_grad():
            first.weight.copy_(dictionary[:, :, None, None])
        shape = (out_channels, height, width, indices.shape[1])
        layer = cls()
        layer.add_module("dictionary", first)
        layer.add_module(
            "lookup", LookupConv2d(coefficients.reshape(shape), indices.reshape(shape), conv, len(dictionary))
        )
        return layer.train(conv.training)


def spread(weights: Tensor, indices: Tensor, size: int) -> Tensor:
    """Coefficients (..., s) at their places in `size` channels, zeros elsewhere: (..., size)."""
    places = weights.new_zeros(*weights.shape[:-1], size)
    return places.scatter_add(-1, indices.expand_as(weights), weights)


def fit_dictionary(vectors: Tensor, size: int, n_terms: int, rounds: int = FIT_ROUNDS) -> tuple[Tensor, Tensor, Tensor]:
    """A dictionary (k, C) of unit vectors, and for each of `vectors` (n, C) its indices (n, s) and coefficients (n, s).

    k is `size` or n if that is less. Codes by orthogonal matching pursuit, the dictionary by least squares (MOD, Engan
    and others 1999), in turn; an entry that nothing uses becomes the vector that is represented worst. The same vectors
    always give the same result.
    """
    exact = vectors.double()
    dictionary = _spread_out(exact, min(size, len(exact)))
    n_terms = min(n_terms, len(dictionary))
    for _ in range(rounds):
        indices, coefficients = pursue(exact, dictionary, n_terms)
        dictionary = _refit(exact, dictionary, indices, coefficients)
    indices, coefficients = pursue(exact, dictionary, n_terms)
    return dictionary.to(vectors.dtype), indices, coefficients.to(vectors.dtype)


def pursue(vectors: Tensor, dictionary: Tensor, n_terms: int) -> tuple[Tensor, Tensor]:
    """Indices (n, s), all different, and coefficients (n, s) of vectors (n, C) in a dictionary (k, C) of unit vectors.

    Each step picks the entry on which what is left projects largest, then solves for all coefficients anew.
    """
    indices = torch.empty(len(vectors), 0, dtype=torch.int64)
    coefficients = vectors.new_zeros(len(vectors), 0)
    left = vectors
    for _ in range(n_terms):
        projections = (left @ dictionary.T).abs().scatter(1, indices, -1.0)
        indices = torch.cat([indices, projections.argmax(dim=1, keepdim=True)], dim=1)
        chosen = dictionary[indices]  # (n, s, C)
        gram = chosen @ chosen.transpose(1, 2)
        # entries may lie in one line with each other: a trace of ridge then shares the coefficient between them
        gram = gram + 1e-9 * torch.eye(gram.shape[1], dtype=gram.dtype)
        coefficients = torch.linalg.solve(gram, (chosen @ vectors.unsqueeze(2)).squeeze(2))
        left = vectors - (coefficients.unsqueeze(1) @ chosen).squeeze(1)
    return indices, coefficients


def _refit(vectors: Tensor, dictionary: Tensor, indices: Tensor, coefficients: Tensor) -> Tensor:
    """The unit vectors that suit these codes best."""
    codes = spread(coefficients, indices, len(dictionary))
    gram = codes.T @ codes
    ridge = 1e-9 * gram.diagonal().max().clamp(min=1e-30)
    fitted = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), codes.T @ vectors)
    errors = (vectors - codes @ dictionary).norm(dim=1).argsort(descending=True)
    norms = fitted.norm(dim=1, keepdim=True)
    unused = (norms.squeeze(1) < 1e-12).nonzero().squeeze(1)
    fitted[unused] = vectors[errors[: len(unused)]]
    return _unit(fitted, dictionary)


def _spread_out(vectors: Tensor, size: int) -> Tensor:
    """`size` unit vectors: the longest vector, then always the one farthest from the lines through those before it."""
    taken = [int(vectors.norm(dim=1).argmax())]
    fallback = torch.eye(vectors.shape[1], dtype=vectors.dtype)[torch.arange(size) % vectors.shape[1]]
    left = vectors.square().sum(dim=1)
    for _ in range(size - 1):
        newest = F.normalize(vectors[taken[-1]], dim=0)
        left = torch.minimum(left, vectors.square().sum(dim=1) - (vectors @ newest).square())
        taken.append(int(left.argmax()))
    return _unit(vectors[taken], fallback)


def _unit(vectors: Tensor, fallback: Tensor) -> Tensor:
    """Vectors (k, C) of length 1; those without length are taken from `fallback`."""
    norms = vectors.norm(dim=1, keepdim=True)
    return torch.where(norms > 1e-12, vectors / norms.clamp(min=1e-12), fallback)
