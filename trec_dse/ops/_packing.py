"""The order in which the C kernels read kernels and hash vectors: two channels side by side (runtime/arch)."""

import numpy as np

from trec_dse.graph import Int8Array, IntArray


def pair_channels(kernels: IntArray, vector_length: int) -> Int8Array:
    """(..., M, K) int8 to (..., ceil(M / 2), K, 2), flat; an odd channel stands beside zeros.

    The C reads `vector_length` elements of a kernel at a time, in pairs; so if that is odd, two bytes more come
    behind the last kernel, which only ever meet a zero.
    """
    *others, channels, length = kernels.shape
    padded = np.zeros((*others, channels + channels % 2, length), dtype=np.int8)
    padded[..., :channels, :] = kernels
    pairs = padded.reshape(*others, -1, 2, length)
    flat: Int8Array = np.moveaxis(pairs, -2, -1).reshape(-1)
    tail = 2 if vector_length % 2 and flat.size else 0
    return np.concatenate([flat, np.zeros(tail, dtype=np.int8)])
