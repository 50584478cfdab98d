"""The design variables of one network, as plain data with a content hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from trec_dse.errors import CandidateError

HashScope = Literal["per_slice", "shared", "kernel_reuse", "strip_shared"]
PolicyScope = Literal["per_slice", "shared", "strip_shared"]
ClusteringScope = Literal["image", "batch"]
SlicePolicy = Literal["kernel_row", "channels", "whole", "custom"]
HashGradient = Literal["soft", "neighbours", "paper", "none"]
HashStart = Literal["principal", "levels", "gaussian"]
Calibration = Literal["minmax", "percentile", "mse", "own"]
ReusedKernels = Literal["first", "telling"]
PruningHeuristic = Literal["l1", "l2", "taylor", "apoz", "bn_scale", "conductance", "random"]
PruningSchedule = Literal["one_shot", "agp"]
PruningUnit = Literal["channels", "weights"]
KernelForm = Literal["dense", "lookup", "pattern", "sparse", "in_place", "pruned"]
Optimizer = Literal["sgd", "adamw"]
LearningSchedule = Literal["one_cycle", "cosine"]
Bits = Literal[4, 8]
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
    """

    hash_bits: int
    vector_length: int
    scope: HashScope = "per_slice"
    max_clusters: int | None = None
    channel_groups: int = 1
    clustering: ClusteringScope = "image"

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


@dataclass(frozen=True)
class KernelConfig:
    """A convolution whose kernels are not stored whole, or not always applied.

    Attributes:
        form: "lookup" makes the kernel's vector of every tap a sum of few vectors of a dictionary (LCNN): a 1x1
            convolution with the dictionary, then sums that are looked up. "pattern" keeps few taps of every part of a
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
    """

    form: KernelForm
    dictionary: int = 32
    terms: int = 2
    patterns: int = 8
    taps: int = 4
    group: int = 8
    share: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise CandidateError(f"share is {self.share}; it must lie between 0 and 1")
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
class PruningRecipe:
    """Which channels or weights go, and when. How many is the candidate's; channels leave it after `Recipe.epochs`.

    Attributes:
        heuristic: a channel's importance: L1 or L2 norm of its weights; |weight * gradient| ("taylor"); how seldom it
            is zero after its ReLU ("apoz"); its batch norm's scale, or L2 where there is none; the integrated gradients
            that reach the right class through it ("conductance", which needs captum); nothing ("random").
        schedule: all at once, or masked step by step while the dense network trains, most of them early:
            share * (1 - (1 - (epoch - start) / (end - start))**3).
        start, end: epochs of "agp": up to `start` nothing is masked, from `end` on all of it. An `end` of 0 is the
            last epoch. interval: epochs between two steps.
        unit: what schedule and `Recipe.fine_tune_epochs` are of: the channels that `Candidate.pruning` removes, or the
            single weights that a kernel of the form "pruned" makes zero. With "channels" such weights go all at once,
            after that, and are trained on for `Recipe.trec_epochs`; with "weights" channels go all at once.
    """

    heuristic: PruningHeuristic = "l2"
    schedule: PruningSchedule = "one_shot"
    start: int = 0
    end: int = 0
    interval: int = 1
    unit: PruningUnit = "channels"

    def __post_init__(self) -> None:
        if self.interval < 1 or self.start < 0 or (self.end and self.end <= self.start):
            raise CandidateError(
                f"pruning from epoch {self.start} to {self.end} every {self.interval}; needed 0 <= start < end "
                "(or end 0, the last epoch) and an interval of at least 1"
            )


@dataclass(frozen=True)
class QuantizationRecipe:
    """How float becomes int8, or 4 bits. What is calibrated are the ranges of the activations.

    Attributes:
        bits: of weights and activations. With 4 all scales are powers of two that are fitted and learned; the network
            is convolutions with ReLU and poolings, perhaps an averaging before them, and one dense layer.
        calibration: the range that was seen; the one that leaves out `tail_percent` of the values on either side; the
            one with the least mean squared rounding error; or its "own", for a network that was imported in int8.
        bias_correction: shift each bias by the mean error that rounding makes at its layer; post-training only.
        qat_epochs: training with the rounding in place, at the end; 0 leaves it at post-training quantisation.
        frozen_epochs: with 4 bits, after them, training of the weights alone.
    """

    calibration: Calibration = "minmax"
    tail_percent: float = 0.01
    bias_correction: bool = False
    qat_epochs: int = 0
    bits: Bits = 8
    frozen_epochs: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.tail_percent < 50:
            raise CandidateError(f"tail_percent is {self.tail_percent}; it must lie in [0, 50)")
        if self.qat_epochs < 0 or self.frozen_epochs < 0:
            raise CandidateError(
                f"qat_epochs is {self.qat_epochs} and frozen_epochs {self.frozen_epochs}; both must be at least 0"
            )
        if self.bits == 8 and self.frozen_epochs:
            raise CandidateError(f"frozen_epochs is {self.frozen_epochs} with 8 bits; it is a phase of 4 bits alone")


@dataclass(frozen=True)
class TrainingRecipe:
    """How each phase of the training learns. The defaults are plain SGD on the images as they are.

    Attributes:
        optimizer: SGD with Nesterov momentum, or AdamW (take a learning rate of about 0.002).
        schedule: the learning rate rises over the first fifth of the steps and falls as half a cosine, or only falls.
        flip: mirror half of the images; shift: move each by up to so many pixels; cutout: blank a square of that side.
        rotation: turn each by up to so many degrees; zoom: stretch rows and columns each by up to that share; elastic:
            displace pixels by a smooth random field of so many pixels on average.
        label_smoothing: share of the target that is spread over all classes.
        ema: decay per step of a running average of the weights, which is what is kept in the end; 0 keeps the last.
        distillation: share of the loss that is the distance to a teacher's logits, at `temperature`. In the phases that
            follow clustering the teacher is the same network before its convolutions clustered.
        teacher: network arguments in which a teacher of all other phases differs, such as {"width": 4}; it is trained
            first, by the same recipe. Empty: they have none.
        layer_distillation: weight of the relative squared distance to what each layer reads in that network, while the
            clustered one trains in floating point.
        mixed_precision: matrix products in bfloat16.
    """

    optimizer: Optimizer = "sgd"
    schedule: LearningSchedule = "one_cycle"
    flip: bool = False
    shift: int = 0
    cutout: int = 0
    rotation: float = 0.0
    zoom: float = 0.0
    elastic: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    teacher: Mapping[str, int | float | str | bool] = field(default_factory=dict)
    layer_distillation: float = 0.0
    mixed_precision: bool = False

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "ema", "distillation"):
            share = getattr(self, name)
            if not 0 <= share <= 1 or (share == 1 and name != "distillation"):
                raise CandidateError(f"{name} is {share}; it must lie in [0, 1), and may be 1 for distillation alone")
        for name in ("shift", "cutout", "layer_distillation", "rotation", "elastic"):
            if getattr(self, name) < 0:
                raise CandidateError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.teacher and not self.distillation:
            raise CandidateError(f"a teacher that differs in {dict(self.teacher)} needs a distillation above 0")
        if self.temperature <= 0:
            raise CandidateError(f"temperature is {self.temperature}; it must be above 0")
        if not 0 <= self.zoom < 1:
            raise CandidateError(f"zoom is {self.zoom}; it must be a share in [0, 1)")


@dataclass(frozen=True)
class Recipe:
    """How a candidate is trained. Zero epochs skip a phase; `n_train` and `n_validation` 0 mean the whole split.

    Attributes:
        epochs: dense training.
        fine_tune_epochs: after structured pruning.
        trec_epochs: after TREC has been inserted.
        hash_gradient: "soft" learns hashes by soft memberships: over all signatures up to 6 hash bits, over one-bit
            neighbours beyond; "neighbours" takes these always, "paper" is the published gradient, which is almost
            zero, and "none" keeps the initial value.
        kernel_surrogate: whether reused kernels also learn from what they do as a hash.
        reused_kernels: which ones are reused: the first of a layer, or the most "telling" on the calibration images,
            which are moved to the front.
        hash_start: hashes split calibration data at their mean along their principal directions; at several "levels" of
            few directions, given out by what they save in the layer's outputs; or are drawn by `hash_seed` and go
            through the origin, as those of deep reuse do.
    """

    epochs: int = 10
    fine_tune_epochs: int = 2
    trec_epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    hash_gradient: HashGradient = "soft"
    kernel_surrogate: bool = False
    reused_kernels: ReusedKernels = "first"
    hash_start: HashStart = "principal"
    hash_seed: int = 0
    n_train: int = 0
    n_validation: int = 0
    n_calibration: int = 64
    seed: int = 0
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    pruning: PruningRecipe = field(default_factory=PruningRecipe)
    quantization: QuantizationRecipe = field(default_factory=QuantizationRecipe)

    def shortened(self, epochs: int) -> "Recipe":
        """The recipe whose later phases suit `epochs` of dense training: of each that there is, one epoch at least.

        The dense phase keeps its epochs, and with them its learning rate; it is only to be left earlier.
        """

        def share(n: int) -> int:
            return min(n, max(1, int(n * epochs / self.epochs + 0.5))) if self.epochs else n

        return replace(
            self,
            fine_tune_epochs=share(self.fine_tune_epochs),
            trec_epochs=share(self.trec_epochs),
            quantization=replace(
                self.quantization,
                qat_epochs=share(self.quantization.qat_epochs),
                frozen_epochs=share(self.quantization.frozen_epochs),
            ),
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
    data["kernels"] = {name: plain_kernel(config) for name, config in candidate.kernels.items()}
    if not candidate.kernels:
        del data["kernels"]
    return data


def plain_kernel(config: KernelConfig) -> dict[str, object]:
    """`config` as plain containers, for keys."""
    data = asdict(config)
    if config.form != "pruned":
        del data["share"]
    return data


def content_key(data: object) -> str:
    """16 hex digits of the SHA-256 of `data` as canonical JSON."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
