"""How a candidate is trained, pruned and turned into whole numbers, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from trec_dse.errors import CandidateError

HashGradient = Literal["soft", "neighbours", "paper", "none"]
HashStart = Literal["principal", "levels", "gaussian"]
Calibration = Literal["minmax", "percentile", "mse", "own"]
ReusedKernels = Literal["first", "telling"]
PruningHeuristic = Literal["l1", "l2", "taylor", "apoz", "bn_scale", "conductance", "random"]
PruningSchedule = Literal["one_shot", "agp"]
PruningUnit = Literal["channels", "weights"]
Optimizer = Literal["sgd", "adamw"]
LearningSchedule = Literal["one_cycle", "cosine"]
Bits = Literal[4, 8]


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
