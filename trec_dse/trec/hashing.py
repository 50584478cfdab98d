"""Unfold a convolution's input into neuron vectors and sign them: the meaning of a TREC signature.

Rows are laid out as on the device: (kernel row, kernel column, channel), the channel running fastest. A slice
of one kernel row is then one contiguous strip of an NHWC image. The first hash vector gives the most
significant bit, and a bit is set where the projection is strictly above its threshold.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_FLAT = 1e-7  # variance, as a share of the mean squared length, that int8 inputs cannot show


def unfold_rows(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """The receptive fields of `x` (B, C, H, W) as rows (B, N, K), N output positions in raster order, padded by 0."""
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0])).permute(0, 2, 3, 1).contiguous()
    windows = x.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])  # (B, Ho, Wo, C, kh, kw), a view
    length = kernel[0] * kernel[1] * x.shape[3]
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(x.shape[0], -1, length)


def weight_matrix(weight: Tensor) -> Tensor:
    """A convolution's weight (M, C, kh, kw) as the (K, M) matrix that multiplies unfolded rows."""
    return weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0])


def slice_rows(rows: Tensor, vector_length: int) -> Tensor:
    """Rows (B, N, K) as neuron vectors (B, n, N, L)."""
    batch, positions, length = rows.shape
    return rows.view(batch, positions, length // vector_length, vector_length).transpose(1, 2)


def project(rows: Tensor, hash_vectors: Tensor) -> Tensor:
    """Projections (B, n, N, H) of rows (B, N, K) on hash vectors (n, L, H), or (1, L, H) shared by all slices."""
    batch, positions, length = rows.shape
    n_hashes, vector_length, hash_bits = hash_vectors.shape
    slices = length // vector_length
    if n_hashes == 1:
        projections = (rows.reshape(-1, vector_length) @ hash_vectors[0]).view(batch, positions, slices, hash_bits)
        return projections.transpose(1, 2)
    # One product per slice for all images at once reads the rows where they are.
    by_slice = rows.reshape(batch * positions, slices, vector_length).transpose(0, 1)
    return torch.bmm(by_slice, hash_vectors).view(slices, batch, positions, hash_bits).transpose(0, 1)


def codes_from_projections(projections: Tensor, thresholds: Tensor) -> Tensor:
    """Signatures (B, n, N), int64, of projections (B, n, N, H) against thresholds (n, H) or (1, H)."""
    hash_bits = projections.shape[-1]
    powers = 2.0 ** torch.arange(hash_bits - 1, -1, -1, device=projections.device)
    bits = (projections > thresholds.unsqueeze(1)).to(powers.dtype)
    return (bits @ powers).to(torch.int64)  # exact: far below the 2**24 that a float32 counts to


def signatures(rows: Tensor, hash: Tensor, thresholds: Tensor) -> Tensor:
    """Signatures (B, n, N), int64, of rows (B, N, K).

    `hash` is (n, L, H) or (1, L, H), `thresholds` (n, H) or (1, H). Bit h is set where x.hash_h > threshold_h;
    h = 0 is the most significant bit. Without hash bits every signature is 0.
    """
    return codes_from_projections(project(rows, hash), thresholds)


def kernel_hash(weight: Tensor, hash_bits: int, vector_length: int) -> Tensor:
    """The first H kernels of `weight` (M, C, kh, kw) as per-slice hash vectors (n, L, H): kernel reuse."""
    return weight_matrix(weight)[:, :hash_bits].reshape(weight[0].numel() // vector_length, vector_length, hash_bits)


def principal_hash(rows: Tensor, hash_bits: int, vector_length: int, *, shared: bool) -> tuple[Tensor, Tensor]:
    """Hash vectors and thresholds that split calibration rows (B, N, K) along their principal directions.

    Returns unit vectors (n, L, H) and, as thresholds (n, H), the projections of the mean vector; with `shared`
    all slices are pooled and n is 1. Each vector's largest component is positive, so the result does not depend on
    the linear algebra library. A direction without spread gets a threshold above all rows: its bit stays 0
    instead of following rounding errors. Bits beyond L are random mixtures of the directions, from a fixed seed.
    """
    vectors = slice_rows(rows.detach(), vector_length).transpose(0, 1)  # (n, B, N, L)
    vectors = vectors.reshape(1 if shared else vectors.shape[0], -1, vector_length).double()
    pairs = [_principal_directions(one_slice, hash_bits) for one_slice in vectors]
    hash_vectors = torch.stack([directions for directions, _ in pairs])
    thresholds = torch.stack([threshold for _, threshold in pairs])
    return hash_vectors.to(rows.dtype), thresholds.to(rows.dtype)


def _spectrum(centred: Tensor, n_wanted: int) -> tuple[Tensor, Tensor]:
    """The `n_wanted` largest variances and their directions (L, n_wanted) of centred vectors (rows, L).

    With fewer rows than components the products between rows have the same spectrum and are far quicker to
    decompose. Directions that no row spans are orthogonal to all others and have variance 0.
    """
    n_rows, length = centred.shape
    if n_rows >= length:
        variances, directions = torch.linalg.eigh(centred.T @ centred / n_rows)
        return variances.flip(0)[:n_wanted], directions.flip(1)[:, :n_wanted]
    variances, combinations = torch.linalg.eigh(centred @ centred.T / n_rows)
    spanned = centred.T @ combinations.flip(1)[:, :n_wanted]
    missing = n_wanted - spanned.shape[1]
    spare = torch.eye(length, max(0, missing), dtype=centred.dtype, device=centred.device)
    directions, _ = torch.linalg.qr(torch.cat([spanned, spare], dim=1))
    padded = torch.cat([variances.flip(0), variances.new_zeros(max(0, missing))])
    return padded[:n_wanted], directions


def _principal_directions(vectors: Tensor, hash_bits: int) -> tuple[Tensor, Tensor]:
    """Directions (L, H) and thresholds (H,) of the vectors (rows, L) of one slice."""
    length = vectors.shape[1]
    mean = vectors.mean(dim=0)
    centred = vectors - mean
    variances, directions = _spectrum(centred, min(hash_bits, length))
    if hash_bits > length:
        generator = torch.Generator().manual_seed(hash_bits)
        mixture = torch.randn(length, hash_bits - length, generator=generator, dtype=torch.float64).to(vectors.device)
        mixed = directions @ (mixture * variances.clamp(min=0).sqrt().unsqueeze(1))
        directions = torch.cat([directions, mixed / mixed.norm(dim=0).clamp(min=1e-12)], dim=1)
    directions = directions[:, :hash_bits]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    directions = torch.where(largest < 0, -directions, directions)
    projections = centred @ directions
    is_flat = projections.square().mean(dim=0) <= _FLAT * vectors.square().sum(dim=1).mean()
    above_all = projections.abs().amax(dim=0) + vectors.norm(dim=1).amax() + 1
    return directions, mean @ directions + torch.where(is_flat, above_all, torch.zeros_like(above_all))
