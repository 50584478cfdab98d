"""The design variables of one network, as plain data with a content hash. A search space finds all of them here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from trec_dse.errors import CandidateError
from trec_dse.recipe import (
    Bits,
    Calibration,
    HashGradient,
    HashStart,
    LearningSchedule,
    Optimizer,
    PruningHeuristic,
    PruningRecipe,
    PruningSchedule,
    PruningUnit,
    QuantizationRecipe,
    Recipe,
    ReusedKernels,
    TrainingRecipe,
)

__all__ = [
    "MAX_DICTIONARY",
    "MAX_HASH_BITS",
    "MAX_PATTERNS",
    "Bits",
    "Calibration",
    "Candidate",
    "ClusteringScope",
    "HashGradient",
    "HashScope",
    "HashStart",
    "KernelConfig",
    "KernelForm",
    "LearningSchedule",
    "Optimizer",
    "PolicyScope",
    "PruningHeuristic",
    "PruningRecipe",
    "PruningSchedule",
    "PruningUnit",
    "QuantizationRecipe",
    "Recipe",
    "ReusedKernels",
    "SlicePolicy",
    "TrainingRecipe",
    "TrecConfig",
    "TrecPolicy",
    "content_key",
    "plain_data",
    "plain_kernel",
    "plain_trec",
]

HashScope = Literal["per_slice", "shared", "kernel_reuse", "strip_shared"]
PolicyScope = Literal["per_slice", "shared", "strip_shared"]
ClusteringScope = Literal["image", "batch"]
SlicePolicy = Literal["kernel_row", "channels", "whole", "custom"]
KernelForm = Literal["dense", "lookup", "low_rank", "pattern", "sparse", "in_place", "pruned"]
MAX_HASH_BITS = 12
MAX_DICTIONARY = 256
MAX_PATTERNS = 256


@dataclass(frozen=True)
class TrecConfig:
    """How one convolution clusters the rows of its unfolded input.

    Attributes:
        hash_bits: H, the number of hash functions; at most 2**H clusters per slice.
        vector_length: L, the length of a neuron vector; must divide K = kernel_h * kernel_w * in_channels.
        scope: one hash per slice, one for all slices, or the first H kernels themselves. "strip_shared": slices
            over the same pixels of the input are one vector, hashed and clustered once for the layer.
        max_clusters: cap on the clusters of a slice; a row beyond it joins the existing cluster whose
            signature is nearest in Hamming distance (the oldest on ties). None: min(2**H, N).
        channel_groups: g, with "strip_shared" only: a strip's channels are cut into g vectors with a hash and clusters
            of their own. L * g / C is then the strip's length in pixels and must divide kernel_w.
        clustering: "batch" clusters the images of a training batch together, as the published PyTorch code does; on
            a device, and so in int8, every image is clustered for itself.
        exact_directions: n, with "strip_shared" only: so many principal directions of every vector are not clustered
            but multiplied exactly, by small dense convolutions beside the clusters. Strips must be of one pixel or
            of a whole kernel row then.
    """

    hash_bits: int
    vector_length: int
    scope: HashScope = "per_slice"
    max_clusters: int | None = None
    channel_groups: int = 1
    clustering: ClusteringScope = "image"
    exact_directions: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hash_bits <= MAX_HASH_BITS:
            raise CandidateError(f"hash_bits is {self.hash_bits}; it must lie in 0..{MAX_HASH_BITS}")
        if self.vector_length < 1:
            raise CandidateError(f"vector_length is {self.vector_length}; it must be at least 1")
        if self.max_clusters is not None and self.max_clusters < 1:
            raise CandidateError(f"max_clusters is {self.max_clusters}; it must be at least 1, or absent")
        if self.channel_groups < 1 or (self.channel_groups > 1 and self.scope != "strip_shared"):
            raise CandidateError(
                f"channel_groups is {self.channel_groups} with scope {self.scope!r}; it must be at least 1, and more "
                "only with 'strip_shared'"
            )
        if self.exact_directions < 0 or (self.exact_directions and self.scope != "strip_shared"):
            raise CandidateError(
                f"exact_directions is {self.exact_directions} with scope {self.scope!r}; it must be 0, or more only "
                "with 'strip_shared'"
            )


@dataclass(frozen=True)
class TrecPolicy:
    """How all convolutions of a network get their `TrecConfig` once their final shapes are known.

    Attributes:
        hash_bits_early, hash_bits_late: H of the first and of the second half of the TREC layers.
        slice_policy: L as one kernel row (kernel_w * C), the channels of one pixel (C), all of K, or
            `vector_length` itself. The nearest divisor of K is taken.
        vector_length: the L asked for by the policy "custom"; ignored by the others.
        scope: hash scope of the layers that do not reuse their kernel. With "strip_shared" the slice policy says how
            many pixels a strip has: a kernel row (also for "whole"), one, or what comes nearest to `vector_length`.
        n_kernel_reuse: this many layers, those whose hash would take most bytes, reuse their kernel.
        max_clusters: as in `TrecConfig`.
        layers: names of the convolutions to treat; None means all of them.
        layer_configs: layers whose config is given outright, besides those of `layers`. Only L follows the final
            shape, to the nearest divisor of K, and with kernel reuse H to the number of kernels. Of strips the groups
            follow too, to the nearest divisor of C, and L is the nearest strip of a kernel row.
        only_where_it_pays: leave dense what TREC would not make cheaper if every cluster there can be were found.
        channel_groups: as in `TrecConfig`, with "strip_shared" only; the nearest divisor of C is taken.
        exact_directions: as in `TrecConfig`, with "strip_shared" only; fewer where vectors have no more elements,
            and none where strips are of several pixels but no whole kernel row.
    """

    hash_bits_early: int
    hash_bits_late: int
    slice_policy: SlicePolicy = "kernel_row"
    vector_length: int = 0
    scope: PolicyScope = "per_slice"
    n_kernel_reuse: int = 0
    max_clusters: int | None = None
    layers: tuple[str, ...] | None = None
    layer_configs: Mapping[str, TrecConfig] = field(default_factory=dict)
    only_where_it_pays: bool = False
    channel_groups: int = 1
    exact_directions: int = 0


@dataclass(frozen=True)
class KernelConfig:
    """A convolution whose kernels are not stored whole, or not always applied.

    Attributes:
        form: "lookup" makes the kernel's vector of every tap a sum of few vectors of a dictionary (LCNN): a 1x1
            convolution with the dictionary, then sums that are looked up. "low_rank" is a 1x1 convolution with few
            kernels, then one of the old size over those few channels. "pattern" keeps few taps of every part of a
            kernel (PatDNN). "sparse" changes nothing but the int8 kernel, which leaves out windows that hold nothing:
            for inputs that are blank in most places. "in_place" changes nothing but the order of the int8 kernel, which
            goes by rows and columns inside its own input where that makes the arena smaller. "pruned" makes the
            smallest weights zero, one by one, and stores the others alone where that takes less Flash; for dense layers
            too. "dense" leaves the layer as it is.
        dictionary: k, the vectors of the dictionary, at most 256; no more than the kernels have taps in all.
        terms: s, the vectors that make up a tap of a kernel.
        patterns: different sets of taps that there can be in a layer.
        taps: how many of a 3x3 kernel stay; of another size the same share, rounded, 11 of 25 for 4.
        group: neighbouring input channels of a kernel that lack the same taps; the nearest divisor of C is taken. 1 is
            as published, but only from about 8 on it is fast.
        share: of the weights of a pruned layer, those that become zero; below a half nothing is won.
        rank: the channels between the two convolutions of "low_rank". Where that would save no weights, the layer stays
            as it is.
    """

    form: KernelForm
    dictionary: int = 32
    terms: int = 2
    patterns: int = 8
    taps: int = 4
    group: int = 8
    share: float = 0.9
    rank: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise CandidateError(f"share is {self.share}; it must lie between 0 and 1")
        if self.rank < 1:
            raise CandidateError(f"rank is {self.rank}; it must be at least 1")
        if not 1 <= self.dictionary <= MAX_DICTIONARY:
            raise CandidateError(f"dictionary is {self.dictionary}; it must lie in 1..{MAX_DICTIONARY}")
        if not 1 <= self.terms <= self.dictionary:
            raise CandidateError(f"terms is {self.terms}; it must lie in 1..{self.dictionary}, the dictionary")
        if not 1 <= self.patterns <= MAX_PATTERNS or self.taps < 1 or self.group < 1:
            raise CandidateError(
                f"{self.patterns} patterns of {self.taps} taps for groups of {self.group}; needed 1..{MAX_PATTERNS} "
                "patterns, and taps and groups of at least 1"
            )


@dataclass(frozen=True)
class Candidate:
    """One point of a search space.

    Attributes:
        dataset: file name in `datasets/`.
        network: file name in `networks/`.
        network_args: keyword arguments of that network's `build`.
        trec: None leaves every convolution dense.
        pruning: layer name -> share of its output channels removed; "*" stands for every layer not named.
        kernels: convolution -> how its kernels are stored; "*" stands for every one not named that is larger than 1x1.
    """

    dataset: str
    network: str
    network_args: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    trec: TrecPolicy | None = None
    pruning: Mapping[str, float] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    kernels: Mapping[str, KernelConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for layer, share in self.pruning.items():
            if not 0 <= share < 1:
                raise CandidateError(f"pruning share of {layer!r} is {share}; it must lie in [0, 1)")
        quantization = self.recipe.quantization
        if self._has_zeros and quantization.bits == 4 and quantization.qat_epochs:
            raise CandidateError("training in 4 bits would bring pruned weights back; take 8 bits, or whole channels")
        if self.trec is not None and self.recipe.quantization.bits == 4:
            raise CandidateError("clustering in 4 bits has no kernel; leave `trec` out, or take 8 bits")

    @property
    def prunes_weights(self) -> bool:
        """Whether single weights go by `Recipe.pruning`."""
        return self.recipe.pruning.unit == "weights" and self._has_zeros

    @property
    def _has_zeros(self) -> bool:
        return any(config.form == "pruned" for config in self.kernels.values())

    @property
    def key(self) -> str:
        """Content hash: 16 hex digits that name the candidate in folders, caches and firmware."""
        return content_key(plain_data(self))


def plain_data(candidate: Candidate) -> dict[str, object]:
    """`candidate` as plain containers, from which keys are made: without newer fields that hold their default."""
    data = asdict(candidate)
    if candidate.recipe.reused_kernels == "first":
        del data["recipe"]["reused_kernels"]
    if not candidate.recipe.training.teacher:
        del data["recipe"]["training"]["teacher"]
    if candidate.trec is not None:
        data["trec"] = _plain_policy(candidate.trec)
    data["kernels"] = {name: plain_kernel(config) for name, config in candidate.kernels.items()}
    if not candidate.kernels:
        del data["kernels"]
    return data


def plain_trec(config: TrecConfig) -> dict[str, object]:
    """`config` as plain containers, for keys."""
    data = asdict(config)
    if not config.exact_directions:
        del data["exact_directions"]
    return data


def _plain_policy(policy: TrecPolicy) -> dict[str, object]:
    data = asdict(policy)
    data["layer_configs"] = {name: plain_trec(config) for name, config in policy.layer_configs.items()}
    if not policy.exact_directions:
        del data["exact_directions"]
    return data


def plain_kernel(config: KernelConfig) -> dict[str, object]:
    """`config` as plain containers, for keys."""
    data = asdict(config)
    if config.form != "pruned":
        del data["share"]
    if config.form != "low_rank":
        del data["rank"]
    return data


def content_key(data: object) -> str:
    """16 hex digits of the SHA-256 of `data` as canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
