"""One training step of a TREC convolution on the GPU: which kernel gets which tensors, in which order.

Products of centroids and weights are batched matrix products of the vendor's library; everything that depends on
clusters is Triton. Nothing waits for the GPU, so that steps can be captured in a graph, but where `max_clusters` may
have to merge clusters.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from trec_dse.trec.call import ConvCall
from trec_dse.trec.clustering import assign_clusters, codes_of_clusters
from trec_dse.trec.gpu import backward, forward
from trec_dse.trec.gpu.tables import Tables, tables_of
from trec_dse.trec.hashing import weight_matrix

MOST_SLOTS_BY_CODE = 64  # up to here a signature is its own slot; beyond, clusters are numbered
LONGEST_AT_ONCE = 128  # elements of a vector that one tile holds
_BITS = forward.BITS.value
_PROGRAMS = 528  # four for each multiprocessor of the largest GPUs


@dataclass(frozen=True, eq=False)
class Clusters:
    """Who belongs where, and what the backward pass needs of it.

    Attributes:
        codes: (B, groups, vectors) int32: the signature of each vector's cluster.
        slots: (B, groups, vectors) int32; counts: (B, groups) int64, the numbers of clusters.
        means: (groups, B, slots, L padded); sizes: (groups, B, slots), 0 where nobody is.
        products: (groups, B * slots, parts * M), means times weights.
        projections: (B, groups, vectors, H), or empty where nothing needs them; steepness: (groups, 16), likewise.
    """

    codes: Tensor
    slots: Tensor
    counts: Tensor
    means: Tensor
    sizes: Tensor
    products: Tensor
    projections: Tensor
    steepness: Tensor


@dataclass(frozen=True, eq=False)
class Gradients:
    """Of the weights (groups, parts, L, M), the hash (hashes, L, H) and the thresholds (hashes, H)."""

    weights: Tensor
    hash: Tensor | None
    thresholds: Tensor | None


@dataclass(frozen=True, eq=False)
class Step:
    """A call with its tensors prepared.

    Attributes:
        x: (B, H + 2 ph, W + 2 pw, C), zero-padded, in the type that is computed with.
        weights: (groups, L padded, parts * M) of the same type; with kernel reuse the first H outputs are 0.
        hash, thresholds: float32, (groups or 1, L, H) and (groups or 1, H).
    """

    call: ConvCall
    tables: Tables
    x: Tensor
    weights: Tensor
    hash: Tensor
    thresholds: Tensor
    out_channels: int

    @classmethod
    def of(cls, call: ConvCall, x: Tensor, weight: Tensor, hash: Tensor, thresholds: Tensor) -> "Step":
        """`x` and `weight` must be of one type."""
        tables = tables_of(call.geometry, call.config, x.device)
        slices = tables.slices_of(weight_matrix(weight.detach()))  # (groups, parts, L, M)
        hash = hash.detach()
        if call.config.scope == "kernel_reuse":
            hash, slices = slices[:, 0, :, : call.config.hash_bits], slices.clone()
            slices[..., : call.config.hash_bits] = 0
        flat = slices.transpose(1, 2).flatten(2)
        weights = F.pad(
            flat, (0, 0, 0, -flat.shape[1] % 8)
        ).contiguous()  # whole rows of 16 bytes for the matrix products
        pad_h, pad_w = call.geometry.padding
        image = x.detach().permute(0, 2, 3, 1)
        image = F.pad(image, (0, 0, pad_w, pad_w, pad_h, pad_h)) if pad_h or pad_w else image
        small = (hash.float().contiguous(), thresholds.detach().float().contiguous())
        return cls(call, tables, image.contiguous(), weights, *small, weight.shape[0])

    @property
    def learns_from_all(self) -> bool:
        """Whether the hash learns through the memberships in all signatures."""
        return self.call.slope is not None and not self.call.takes_neighbours

    @property
    def is_exact(self) -> bool:
        """Whether the projections are the first outputs."""
        return self.call.config.scope == "kernel_reuse" and self.call.config.hash_bits > 0

    @property
    def slots_are_codes(self) -> bool:
        """Whether a signature is its own slot."""
        return 2**self.call.config.hash_bits <= MOST_SLOTS_BY_CODE or self.learns_from_all

    @property
    def n_slots(self) -> int:
        """Rows of a table of means."""
        return int(2**self.call.config.hash_bits) if self.slots_are_codes else self.call.most_clusters

    def forward(self, bias: Tensor, y: Tensor) -> Clusters:
        """Fills `y` (B, outputs, M)."""
        clusters = self._cluster_at_once() if self._fits_at_once else self._cluster()
        n_outputs, n_parts = y.shape[1], self.tables.uses.shape[0]
        tile, piece = 32, _tile(self.out_channels, 64)
        grid = (triton.cdiv(n_outputs, tile) * triton.cdiv(self.out_channels, piece), len(y))
        forward.recover[grid](
            *(clusters.products, bias, clusters.slots, self.tables.uses, clusters.projections, y),
            *(self._n_vectors, n_outputs, self.n_slots, self.out_channels, self._n_groups, n_parts),
            HASH_BITS=self.call.config.hash_bits, BN=tile, BM=piece, IS_EXACT=self.is_exact,
        )  # fmt: skip
        return clusters

    def backward(self, dy: Tensor, clusters: Clusters, dx: Tensor | None) -> Gradients:
        """Fills `dx` (B, H, W, C) from `dy` (B, outputs, M); all of the type that is computed with."""
        summed = self._sum_outputs(dy, clusters)
        with _precision(self._uses_tf32):
            weights = torch.bmm(clusters.means.flatten(1, 2).transpose(1, 2), summed)
            gradients = torch.bmm(summed, self.weights.transpose(1, 2))
        slopes, thresholds, hash = self._learn(dy, clusters, gradients)
        if self.is_exact:
            exact = dy[..., : self.call.config.hash_bits].float().unsqueeze(1)
            slopes = exact.expand(-1, self._n_groups, -1, -1).contiguous() if slopes is None else slopes + exact
        if slopes is not None:
            hash = self._of_hashes(self._sum_hash(slopes) if hash is None else hash)
        if dx is not None:
            self._pass_to_images(dx, clusters, gradients, slopes)
        shape = (self._n_groups, self._length, -1, self.out_channels)
        slices = weights[:, : self._length].reshape(shape).transpose(1, 2)
        if self.is_exact and hash is not None:
            slices[:, 0, :, : self.call.config.hash_bits] = hash.to(slices.dtype)
        return Gradients(slices, hash, thresholds)

    @property
    def _fits_at_once(self) -> bool:
        """Whether one pass over the vectors signs and averages them."""
        is_plain = self.call.slope is None and self.call.config.max_clusters is None
        return is_plain and self.slots_are_codes and self.weights.shape[1] <= LONGEST_AT_ONCE

    def _cluster_at_once(self) -> Clusters:
        shape, bits = (len(self.x), self._n_groups, self._n_vectors), self.call.config.hash_bits
        codes = self.x.new_empty(shape, dtype=torch.int32)
        projections = self.hash.new_empty((*shape, bits) if self.is_exact else 0)
        means, sizes, counts = self._tables_of_slots()
        forward.sign_and_average[(self._n_groups, len(self.x))](
            *self._vectors, *(self.hash, self.thresholds, codes, projections, means, sizes, counts),
            *(self._image_size, self._n_vectors, self._length, means.shape[3], self.n_slots, self._has_own_hash),
            HASH_BITS=bits, BS=_tile(self.n_slots, 64), BN=_tile(self._n_vectors, 64),
            BL=_tile(means.shape[3], LONGEST_AT_ONCE), ALIGN=self.tables.alignment, KEEPS=self.is_exact,
            OPERAND=self._operand, PRECISION=self._precision, HASH_PRECISION=self._hash_precision, num_warps=8,
        )  # fmt: skip
        steepness = self.hash.new_empty(0)
        return Clusters(codes, codes, counts, means, sizes, self._products(means), projections, steepness)

    def _cluster(self) -> Clusters:
        codes, projections, steepness = self._sign()
        codes, slots, assigned = self._assign(codes)
        means, sizes, counts = self._average(slots, projections, steepness)
        counts = counts if assigned is None else assigned
        return Clusters(codes, slots, counts, means, sizes, self._products(means), projections, steepness)

    def _products(self, means: Tensor) -> Tensor:
        """(groups, B * slots, parts * M): means times weights."""
        with _precision(self._uses_tf32):
            return torch.bmm(means.flatten(1, 2), self.weights)

    def _tables_of_slots(self) -> tuple[Tensor, Tensor, Tensor]:
        """Room for means, sizes and counts."""
        means = self.x.new_empty(self._n_groups, len(self.x), self.n_slots, self.weights.shape[1])
        counts = torch.empty(len(self.x), self._n_groups, dtype=torch.int64, device=self.x.device)
        return means, self.hash.new_empty(means.shape[:3]), counts

    def _sign(self) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, projections and steepness; the last two empty where nothing needs them."""
        bits, learns = self.call.config.hash_bits, self.call.slope is not None
        shape, tile = (len(self.x), self._n_groups, self._n_vectors), _tile(self._n_vectors, 64)
        n_tiles, keeps = triton.cdiv(self._n_vectors, tile), learns or self.is_exact
        codes = self.x.new_empty(shape, dtype=torch.int32)
        projections = self.hash.new_empty((*shape, bits) if keeps else 0)
        n_rows = len(self.x) * n_tiles if learns else 0
        moments = self.hash.new_empty(self._n_groups, n_rows, 2, _BITS)
        forward.sign[(n_tiles, self._n_groups, len(self.x))](
            *self._vectors, *(self.hash, self.thresholds, codes, projections, moments),
            *(self._image_size, self._n_vectors, self._length, self._has_own_hash),
            HASH_BITS=bits, BN=tile, BL=_tile(self._length, 64), ALIGN=self.tables.alignment,
            KEEPS=keeps, LEARNS=learns, PRECISION=self._hash_precision,
        )  # fmt: skip
        steepness = self.hash.new_empty(self._n_groups if learns else 0, _BITS)
        if self.call.slope is not None:
            n_values = len(self.x) * self._n_vectors
            forward.find_steepness[(self._n_groups,)](
                moments, steepness, self.call.slope, n_rows, n_values, BR=_tile(n_rows, 64)
            )
        return codes, projections, steepness

    def _assign(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Codes of the clusters, slots, and numbers of clusters unless the slots will tell."""
        config = self.call.config
        if self.slots_are_codes and config.max_clusters is None:
            return codes, codes, None
        indices, counts = assign_clusters(codes.long(), config.hash_bits, config.max_clusters)
        if config.max_clusters is not None:
            codes = codes_of_clusters(codes, indices)
        return codes, codes if self.slots_are_codes else indices.int(), counts

    def _average(self, slots: Tensor, projections: Tensor, steepness: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        soft, padded = self.learns_from_all, self.weights.shape[1]
        means, sizes, counts = self._tables_of_slots()
        rows, piece = _tile(self.n_slots, 64), _tile(padded, 64 if soft else 128)
        grid = (triton.cdiv(self.n_slots, rows) * triton.cdiv(padded, piece), self._n_groups, len(self.x))
        forward.average[grid](
            *self._vectors, *(slots, projections, self.thresholds, steepness, means, sizes, counts),
            *(self._image_size, self._n_vectors, self._length, padded, self.n_slots, self._has_own_hash),
            HASH_BITS=self.call.config.hash_bits, BS=rows, BN=_tile(self._n_vectors, 64), BL=piece,
            ALIGN=self.tables.alignment, SOFT=soft, OPERAND=self._operand, PRECISION=self._precision,
        )  # fmt: skip
        return means, sizes, counts

    def _sum_outputs(self, dy: Tensor, clusters: Clusters) -> Tensor:
        """(groups, B * slots, parts * M): output gradients summed over the users of every slot."""
        n_outputs, n_parts = dy.shape[1], self.tables.uses.shape[0]
        summed = dy.new_empty(self._n_groups, len(dy) * self.n_slots, n_parts * self.out_channels)
        rows, piece = _tile(self.n_slots, 64), _tile(self.out_channels, 128)
        pieces = triton.cdiv(self.n_slots, rows) * n_parts * triton.cdiv(self.out_channels, piece)
        backward.sum_outputs[(pieces, self._n_groups, len(dy))](
            *(dy, clusters.slots, self.tables.uses, summed),
            *(self._n_vectors, n_outputs, self.n_slots, self.out_channels, n_parts),
            BS=rows, BN=_tile(n_outputs, 64), BM=piece, OPERAND=self._operand, PRECISION=self._precision,
        )  # fmt: skip
        return summed

    def _learn(
        self, dy: Tensor, clusters: Clusters, gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of projections (B, groups, vectors, H), thresholds and hash (by group), as far as they are known:
        kernel reuse adds to those of the projections, and long vectors are read once more for the hash."""
        if self.call.slope is None:
            return None, None, None
        slopes = torch.empty_like(clusters.projections)
        if self.learns_from_all:
            thresholds, hash = self._learn_from_all(dy, clusters, gradients, slopes)
            return slopes, self._of_hashes(thresholds), hash
        tile = _tile(self._n_vectors, 64)
        grid = (triton.cdiv(self._n_vectors, tile), self._n_groups, len(dy))
        thresholds = self.hash.new_empty(self._n_groups, grid[0] * len(dy), self.call.config.hash_bits)
        backward.learn_from_neighbours[grid](
            *(clusters.codes, clusters.projections, self.thresholds, clusters.steepness),
            *(self._weigh_neighbours(dy, clusters, gradients), slopes, thresholds),
            *(self._n_vectors, self._has_own_hash), HASH_BITS=self.call.config.hash_bits, BN=tile,
        )  # fmt: skip
        return slopes, self._of_hashes(thresholds.sum(dim=1)), None

    def _learn_from_all(
        self, dy: Tensor, clusters: Clusters, gradients: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Fills `slopes`; returns gradients of thresholds and, for vectors that fit a tile, of the hash, by group."""
        bits, sums = self.call.config.hash_bits, self._length <= LONGEST_AT_ONCE and not self.is_exact
        thresholds = self.hash.new_empty(self._n_groups, len(dy), bits)
        hash = self.hash.new_empty(len(dy) if sums else 0, self._n_groups, self._length, bits)
        backward.learn_from_all[(self._n_groups, len(dy))](
            self.x, dy, *self._vectors[1:], self.tables.users, clusters.projections, self.thresholds,
            *(clusters.steepness, clusters.means, clusters.sizes, clusters.products, gradients),
            *(slopes, thresholds, hash, self._image_size, self._n_vectors, dy.shape[1], self._length),
            *(self.weights.shape[1], self.out_channels, self.tables.uses.shape[0], self._has_own_hash),
            HASH_BITS=bits, BS=_tile(self.n_slots, 64), BN=_tile(self._n_vectors, 64),
            BL=_tile(self._length, LONGEST_AT_ONCE if sums else 64), BM=_tile(self.out_channels, 64),
            ALIGN=self.tables.alignment, SUMS=sums, OPERAND=self._operand, PRECISION=self._precision, num_warps=8,
        )  # fmt: skip
        return thresholds.sum(dim=1), hash.sum(dim=0) if sums else None

    def _weigh_neighbours(self, dy: Tensor, clusters: Clusters, gradients: Tensor) -> Tensor:
        """(B, groups, vectors, 16): what moving to each neighbour gives."""
        bits, tile = self.call.config.hash_bits, _tile(self._n_vectors, 32)
        reverse = torch.full((*clusters.codes.shape[:2], 2**bits), -1, dtype=torch.int32, device=dy.device)
        reverse.scatter_(2, clusters.codes.long(), clusters.slots)
        moves = self.hash.new_empty(*clusters.codes.shape, _BITS)
        backward.weigh_neighbours[(triton.cdiv(self._n_vectors, tile), self._n_groups, len(dy))](
            self.x, dy, *self._vectors[1:], self.tables.users, clusters.codes, reverse,
            *(clusters.means, clusters.sizes, clusters.products, self.weights, gradients, moves),
            *(self._image_size, self._n_vectors, dy.shape[1], self._length, self.weights.shape[1]),
            *(self.out_channels, self.n_slots, self.tables.uses.shape[0], 2**bits),
            HASH_BITS=bits, BN=tile, BL=_tile(self._length, 64), BM=_tile(self.out_channels, 64),
            ALIGN=self.tables.alignment, OPERAND=self._operand, PRECISION=self._precision,
        )  # fmt: skip
        return moves

    def _sum_hash(self, slopes: Tensor) -> Tensor:
        """The gradient of the hash, by group, from that of the projections."""
        piece = _tile(self._length, 64)
        pieces = triton.cdiv(self._length, piece)
        shares = max(1, min(len(self.x), _PROGRAMS // (pieces * self._n_groups)))
        sums = self.hash.new_empty(shares, self._n_groups, self._length, self.call.config.hash_bits)
        backward.sum_hash[(pieces, self._n_groups, shares)](
            *self._vectors, *(slopes, sums, len(self.x), self._image_size, self._n_vectors, self._length),
            HASH_BITS=self.call.config.hash_bits, BN=_tile(self._n_vectors, 64), BL=piece,
            ALIGN=self.tables.alignment, PRECISION=self._precision,
        )  # fmt: skip
        return sums.sum(dim=0)

    def _pass_to_images(self, dx: Tensor, clusters: Clusters, gradients: Tensor, slopes: Tensor | None) -> None:
        tables, n_pixels = self.tables, dx.shape[1] * dx.shape[2]
        tile, piece = _tile(n_pixels, 64), _tile(tables.depth, 64)
        n_blocks = triton.cdiv(n_pixels, tile) * (dx.shape[3] // tables.depth) * triton.cdiv(tables.depth, piece)
        backward.pass_to_images[(n_blocks, len(dx))](
            *(dx, clusters.slots, tables.sources, tables.tap_groups, tables.tap_elements, clusters.sizes, gradients),
            *(self.hash if slopes is None else slopes, self.hash),
            *(len(tables.sources), self._n_groups, n_pixels, self._n_vectors, self.n_slots, self._length),
            *(self.weights.shape[1], dx.shape[3], tables.depth, self._has_own_hash),
            HASH_BITS=self.call.config.hash_bits, BN=tile, BC=piece, LEARNS=slopes is not None,
            PRECISION=self._precision,
        )  # fmt: skip

    def _of_hashes(self, gradient: Tensor) -> Tensor:
        """By group -> by hash."""
        return gradient if self._has_own_hash else gradient.sum(dim=0, keepdim=True)

    @property
    def _vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.tables.bases, self.tables.elements

    @property
    def _image_size(self) -> int:
        return self.x[0].numel()

    @property
    def _n_groups(self) -> int:
        return len(self.tables.elements)

    @property
    def _n_vectors(self) -> int:
        return len(self.tables.bases)

    @property
    def _length(self) -> int:
        return self.tables.elements.shape[1]

    @property
    def _has_own_hash(self) -> int:
        return 0 if self.call.config.scope == "shared" else 1

    @property
    def _uses_tf32(self) -> bool:
        """As the dense convolution would."""
        return self.x.is_cuda and self.x.dtype == torch.float32 and torch.backends.cudnn.allow_tf32

    @property
    def _precision(self) -> str:
        return "tf32" if self._uses_tf32 or self.x.dtype != torch.float32 else "ieee"

    @property
    def _hash_precision(self) -> str:
        """A signature must not depend on the precision of products: three passes give that of float32."""
        return "tf32x3" if self.x.is_cuda else "ieee"

    @property
    def _operand(self) -> Any:
        """The type of what tensor cores multiply; the interpreter knows products of float32 alone."""
        return _OPERANDS[self.x.dtype] if self.x.is_cuda else tl.float32


_OPERANDS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@contextlib.contextmanager
def _precision(uses_tf32: bool) -> Iterator[None]:
    """Matrix products as convolutions are computed: torch has another default for each."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    matmul.allow_tf32 = uses_tf32
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def _tile(n: int, most: int) -> int:
    """The power of two, from 16 to `most`, that holds `n` with the least waste."""
    return max(16, min(most, int(triton.next_power_of_2(n))))
