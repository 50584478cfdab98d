"""The order in which the C kernels read kernels and hash vectors: two channels side by side (runtime/arch)."""

import numpy as np

from trec_dse.graph import Int8Array, IntArray


def pair_channels(kernels: IntArray) -> Int8Array:
    """(..., M, n, L) int8 to (..., ceil(M / 2), n, L, 2) with M and L filled up to even numbers by zeros.

    An even L keeps every vector of L elements aligned to a word.
    """
    *others, channels, n, length = kernels.shape
    padded = np.zeros((*others, channels + channels % 2, n, length + length % 2), dtype=np.int8)
    padded[..., :channels, :, :length] = kernels
    pairs: Int8Array = np.moveaxis(padded.reshape(*others, -1, 2, n, length + length % 2), -3, -1)
    return np.ascontiguousarray(pairs)
