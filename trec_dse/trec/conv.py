"""A convolution that multiplies cluster means instead of all its input rows, in floating point.

    rows X (B, N, K) -> n = K / L slices -> signatures -> clusters of one image and one slice -> means X-hat
    output = X-hat @ W + bias

With kernel reuse the first H kernels are the hash, and the projections are already the exact outputs of the
first H channels: only the other channels are computed from means.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

from trec_dse.candidate import HashGradient, HashStart, TrecConfig
from trec_dse.errors import CandidateError, UnsupportedError
from trec_dse.trec import native, on_gpu
from trec_dse.trec.call import ConvCall
from trec_dse.trec.clustering import assign_clusters, centroid_rows, codes_of_clusters
from trec_dse.trec.hashing import (
    codes_from_projections,
    kernel_hash,
    principal_hash,
    project,
    signatures,
    slice_rows,
    unfold_rows,
    weight_matrix,
)
from trec_dse.trec.layout import ConvGeometry, Layout, layout_of
from trec_dse.trec.levels import level_hash
from trec_dse.trec.neighbours import neighbour_centroid_rows, neighbour_clusters, neighbour_memberships
from trec_dse.trec.published import published_centroid_rows
from trec_dse.trec.strips import multiply_strips, require_strips, strip_rows
from trec_dse.trec.surrogate import MAX_SOFT_BITS, soft_centroid_rows, soft_memberships

SLOPE_FIRST, SLOPE_LAST = 2.0, 8.0
HASH_PACE = 4.0  # hashes learn this much faster than weights; on the digits better than 1, as good as 8


def trec_conv2d(  # noqa: PLR0913, PLR0917 - the parameters of a convolution and of its hash
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    hash: Tensor | None,
    thresholds: Tensor | None,
    config: TrecConfig,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> tuple[Tensor, Tensor]:
    """Output (B, M, H_out, W_out) of `x` (B, C, H, W) and numbers of clusters (B, n), int64.

    `weight` is (M, C, kh, kw), `hash` (n, L, H) or (1, L, H), `thresholds` (n, H) or (1, H), with n the groups that are
    clustered each for itself: K / L slices, or the channel groups of strips. Kernel reuse needs no `hash` (None takes
    the first kernels); without thresholds they are 0. Gradients are exact for the clusters as they are; none
    reaches `hash` or `thresholds`. If a batch is clustered together the numbers are (1, n).
    """
    if hash is None:
        if config.scope != "kernel_reuse":
            raise CandidateError(f"hash scope {config.scope!r} needs hash vectors; only 'kernel_reuse' does without")
        hash = kernel_hash(weight, config.hash_bits, config.vector_length)
    if thresholds is None:
        thresholds = hash.new_zeros(len(hash), config.hash_bits)
    geometry = _geometry(x, weight, stride, padding)
    convolve = _kernels_for(x, config)
    if convolve is not None:
        return convolve(x, weight, bias, hash, thresholds, ConvCall(geometry, config))
    rows = _rows(x, geometry, config)
    with torch.no_grad():
        codes = signatures(rows, hash, thresholds)
        indices, counts = assign_clusters(codes, config.hash_bits, config.max_clusters)
    means = centroid_rows(rows, indices, counts)
    return _output(x, rows, means, (weight, bias), geometry, config), counts


GradientForm = Literal["all", "neighbours", "published"]


@dataclass(frozen=True)
class Learning:
    """How a hash gets its gradient. `form`: over all signatures, one-bit neighbours, or as published, without slope."""

    form: GradientForm
    slope: float


def learning_conv2d(  # noqa: PLR0913, PLR0917 - as above
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    hash: Tensor,
    thresholds: Tensor,
    config: TrecConfig,
    learning: Learning,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> tuple[Tensor, Tensor]:
    """As `trec_conv2d` in value, but gradients reach `hash` and, unless in the published form, `thresholds`."""
    geometry = _geometry(x, weight, stride, padding)
    convolve = None if learning.form == "published" else _kernels_for(x, config)
    if convolve is not None:
        call = ConvCall(geometry, config, learning.slope, learning.form == "neighbours")
        return convolve(x, weight, bias, hash, thresholds, call)
    rows = _rows(x, geometry, config)
    is_published = learning.form == "published"
    projections = project(rows.detach() if is_published else rows, hash)
    codes = codes_from_projections(projections, thresholds)
    indices, counts = assign_clusters(codes, config.hash_bits, config.max_clusters)
    if config.max_clusters is not None:
        codes = codes_of_clusters(codes, indices)
    if is_published:
        means = published_centroid_rows(rows, projections - thresholds.detach().unsqueeze(1), codes)
    elif learning.form == "neighbours":
        neighbours = neighbour_clusters(codes, indices, config.hash_bits)
        memberships = neighbour_memberships(projections, thresholds, codes, learning.slope)
        means = neighbour_centroid_rows(rows, indices, neighbours, memberships)
    else:
        means = soft_centroid_rows(rows, codes, soft_memberships(projections, thresholds, learning.slope))
    return _output(x, rows, means, (weight, bias), geometry, config), counts


_Convolve = Callable[[Tensor, Tensor, Tensor | None, Tensor, Tensor, ConvCall], tuple[Tensor, Tensor]]


def _kernels_for(x: Tensor, config: TrecConfig) -> _Convolve | None:
    """The kernels that can compute this, compiled or Triton's; None leaves it to plain PyTorch."""
    if on_gpu.refusal(x, config) is None:
        return on_gpu.convolve
    if native.is_usable(x, config):
        return native.convolve
    if x.is_cuda:
        warnings.warn(f"TREC trains in plain PyTorch, many times slower: {on_gpu.refusal(x, config)}", stacklevel=4)
    return None


def _geometry(x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> ConvGeometry:
    size, kernel = (x.shape[2], x.shape[3]), (weight.shape[2], weight.shape[3])
    if x.shape[1] != weight.shape[1]:
        raise CandidateError(f"the images have {x.shape[1]} channels; the kernels are for {weight.shape[1]}")
    geometry = ConvGeometry(size, x.shape[1], kernel, stride, padding)
    if min(geometry.outputs) < 1:
        raise CandidateError(f"kernels of {kernel} do not fit into images of {size} with padding {padding}")
    return geometry


def _rows(x: Tensor, geometry: ConvGeometry, config: TrecConfig) -> Tensor:
    """What is clustered, (B, vectors, n * L): unfolded rows or strips; one image of all if the batch is clustered."""
    if config.scope == "strip_shared":
        rows = strip_rows(x, geometry, layout_of(geometry, config))
    else:
        rows = unfold_rows(x, geometry.kernel, geometry.stride, geometry.padding)
    return rows.reshape(1, -1, rows.shape[-1]) if config.clustering == "batch" else rows


def _output(
    x: Tensor,
    rows: Tensor,
    means: Tensor,
    parameters: tuple[Tensor, Tensor | None],
    geometry: ConvGeometry,
    config: TrecConfig,
) -> Tensor:
    """Output (B, M, H_out, W_out) from the rows of `_rows` and their cluster means."""
    weight, bias = parameters
    rows, means = (each.reshape(len(x), -1, each.shape[-1]) for each in (rows, means))
    matrix = weight_matrix(weight)
    if config.scope == "strip_shared":
        output = multiply_strips(means, weight, layout_of(geometry, config))
    elif config.scope == "kernel_reuse":
        exact = config.hash_bits
        output = torch.cat([rows @ matrix[:, :exact], means @ matrix[:, exact:]], dim=-1)
    else:
        output = means @ matrix
    output = output if bias is None else output + bias
    return output.transpose(1, 2).reshape(len(x), len(weight), *geometry.outputs)


class TrecConv2d(nn.Module):
    """A `nn.Conv2d` (groups 1, dilation 1, zero padding) with TREC; made by `from_conv`.

    Attributes:
        weight, bias: as in the convolution it was made from.
        n_slices: n, what is clustered each for itself: slices of the unfolded row, or channel groups of strips.
        hash: hash vectors (n, L, H), or (1, L, H) if shared; None with kernel reuse, see `hash_vectors`.
        thresholds: (n, H), or (1, H) if shared; zeros with kernel reuse.
        slope: steepness of the soft bits in training; `follow` anneals it.
        clusters_per_image: (B, n) of the last forward pass, (1, n) if the batch is clustered together; None before
            the first.
    """

    hash: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self, conv: nn.Conv2d, config: TrecConfig, hash_gradient: HashGradient = "soft", kernel_surrogate: bool = False
    ) -> None:
        super().__init__()
        stride, padding = _require_supported(conv)
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.kernel_size = (conv.kernel_size[0], conv.kernel_size[1])
        self.stride, self.padding = stride, padding
        self.config, self.hash_gradient, self.kernel_surrogate = config, hash_gradient, kernel_surrogate
        self.slope = SLOPE_FIRST
        self.clusters_per_image: Tensor | None = None
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.bias = None if conv.bias is None else nn.Parameter(conv.bias.detach().clone())
        self.n_slices = self._require_slices()
        n_hashes = 1 if config.scope == "shared" else self.n_slices
        zeros = self.weight.new_zeros(n_hashes, config.hash_bits)
        if config.scope == "kernel_reuse":
            self.register_parameter("hash", None)
            self.thresholds = nn.Parameter(zeros, requires_grad=False)
        else:
            vectors = self.weight.new_zeros(n_hashes, config.vector_length, config.hash_bits)
            self.hash = nn.Parameter(vectors, requires_grad=hash_gradient != "none")
            self.thresholds = nn.Parameter(zeros, requires_grad=hash_gradient in ("soft", "neighbours"))

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        config: TrecConfig,
        *,
        hash_gradient: HashGradient = "soft",
        kernel_surrogate: bool = False,
    ) -> Self:
        """A TREC layer with the weights of `conv`; its hash is zero until `initialise_hash`.

        The last two are those of `Recipe`. Raises UnsupportedError for groups, dilation or other padding than a number
        of zeros, CandidateError where `config` does not fit the convolution.
        """
        return cls(conv, config, hash_gradient, kernel_surrogate).train(conv.training)

    @torch.no_grad()
    def initialise_hash(self, x: Tensor, start: HashStart = "principal") -> None:
        """Set hash vectors and thresholds from calibration activations `x` (B, C, H, W): along principal directions
        split at the mean, or at several levels. Kernel reuse needs none: nothing happens then."""
        if self.hash is None:
            return
        self.initialise_from_rows(self.rows(x), x, start)

    def rows(self, x: Tensor) -> Tensor:
        """What is clustered of `x` (B, C, H, W): unfolded rows or strips (B, vectors, n * L)."""
        return _rows(x, _geometry(x, self.weight, self.stride, self.padding), self.config)

    @torch.no_grad()
    def initialise_from_rows(self, rows: Tensor, x: Tensor, start: HashStart) -> None:
        """`initialise_hash` from what is left of the rows of `x` by something that is computed beside the clusters."""
        assert self.hash is not None
        config, is_shared = self.config, self.config.scope == "shared"
        if start == "levels":
            layout = layout_of(_geometry(x, self.weight, self.stride, self.padding), config)
            hash, thresholds = self._levels(rows, layout, is_shared=is_shared)
        else:
            hash, thresholds = principal_hash(rows, config.hash_bits, config.vector_length, shared=is_shared)
        self.hash.copy_(hash)
        self.thresholds.copy_(thresholds)

    def _levels(self, rows: Tensor, layout: Layout, *, is_shared: bool) -> tuple[Tensor, Tensor]:
        """Hash and thresholds of the shape of the layer's from rows (B, N, n * L)."""
        vectors = slice_rows(rows, layout.length).transpose(0, 1)  # (n, B, N, L)
        kernels = weight_matrix(self.weight)[layout.order].transpose(1, 2).flatten(2)  # (n, L, parts * M)
        if is_shared:
            vectors = vectors.permute(1, 0, 2, 3).reshape(1, rows.shape[0], -1, layout.length)
            kernels = kernels.transpose(0, 1).reshape(1, layout.length, -1)
        pairs = [level_hash(*each, self.config.hash_bits) for each in zip(vectors, kernels, strict=True)]
        return torch.stack([hash for hash, _ in pairs]), torch.stack([thresholds for _, thresholds in pairs])

    @property
    def hash_vectors(self) -> Tensor:
        """The hash that is applied, (n, L, H) or (1, L, H), detached from the weights with kernel reuse."""
        if self.hash is not None:
            return self.hash
        return kernel_hash(self.weight.detach(), self.config.hash_bits, self.config.vector_length)

    def follow(self, progress: float) -> None:
        """Anneal `slope` geometrically with the share of the training that is done, 0 to 1."""
        self.slope = SLOPE_FIRST * (SLOPE_LAST / SLOPE_FIRST) ** progress

    def forward(self, x: Tensor) -> Tensor:
        """Output (B, M, H_out, W_out) of `x` (B, C, H, W)."""
        tensors = (x, self.weight, self.bias)
        where = (self.stride, self.padding)
        learning = self._learning() if self.training and torch.is_grad_enabled() else None
        if learning is not None:
            thresholds = _quickened(self.thresholds)
            y, counts = learning_conv2d(*tensors, self._learned_hash(), thresholds, self.config, learning, *where)
        else:
            y, counts = trec_conv2d(*tensors, self.hash_vectors, self.thresholds, self.config, *where)
        self.clusters_per_image = counts
        return y

    def _learning(self) -> Learning | None:
        """How the hash learns; None if it does not."""
        is_surrogate = self.hash_gradient in ("soft", "neighbours")
        is_learned = self.kernel_surrogate and is_surrogate if self.hash is None else self.hash.requires_grad
        if not is_learned or self.config.hash_bits == 0:
            return None
        if not is_surrogate:
            return Learning("published", self.slope)
        takes_all = self.hash_gradient == "soft" and self.config.hash_bits <= MAX_SOFT_BITS
        return Learning("all" if takes_all else "neighbours", self.slope)

    def _learned_hash(self) -> Tensor:
        if self.hash is None:
            return kernel_hash(self.weight, self.config.hash_bits, self.config.vector_length)
        return self.hash if self.hash_gradient == "paper" else _quickened(self.hash)

    def _require_slices(self) -> int:
        length, config = self.in_channels * self.kernel_size[0] * self.kernel_size[1], self.config
        if config.scope == "strip_shared":
            require_strips(self.kernel_size[1], self.in_channels, config)
            return config.channel_groups
        if length % config.vector_length:
            raise CandidateError(
                f"vector_length {config.vector_length} does not divide K = {length}; take a divisor of K"
            )
        if config.scope == "kernel_reuse" and config.hash_bits > self.out_channels:
            raise CandidateError(
                f"kernel reuse with {config.hash_bits} hash bits needs as many kernels, found {self.out_channels}"
            )
        return length // config.vector_length


def _quickened(parameter: Tensor) -> Tensor:
    """`parameter` itself in value, with `HASH_PACE` times its gradient."""
    return parameter + (HASH_PACE - 1) * (parameter - parameter.detach())


def _require_supported(conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Stride and padding of `conv`; raises UnsupportedError for what TREC cannot do."""
    padding = conv.padding
    if conv.groups != 1 or tuple(conv.dilation) != (1, 1):
        raise UnsupportedError(
            f"TREC needs groups 1 and dilation 1; this convolution has {conv.groups} and {tuple(conv.dilation)}"
        )
    if isinstance(padding, str) or (conv.padding_mode != "zeros" and tuple(padding) != (0, 0)):
        raise UnsupportedError(
            f"TREC needs a number of padding zeros; this convolution has padding {padding!r}, {conv.padding_mode!r}"
        )
    return (conv.stride[0], conv.stride[1]), (padding[0], padding[1])
