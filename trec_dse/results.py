"""What is known about a candidate: estimates, measurements, and both side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from trec_dse.candidate import Candidate, SlicePolicy, TrecConfig
from trec_dse.target import Target

BufferKind = Literal["input", "activation", "output", "scratch"]


def percentile(values: Sequence[int], percent: float) -> int:
    """The smallest of the values that at least so many per cent of them do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@dataclass(frozen=True)
class TrecCost:
    """What clustering does in one layer.

    Attributes:
        n_positions: N, output positions per image; n_slices: K / L.
        mean_clusters: N_c summed over the slices, mean over the calibration images.
        worst_clusters: n_slices * min(2**H, N, max_clusters).
        redundancy_ratio: r_t = 1 - mean_clusters / (n_slices * N).
    """

    config: TrecConfig
    n_positions: int
    n_slices: int
    mean_clusters: float
    worst_clusters: int
    redundancy_ratio: float


@dataclass(frozen=True)
class LayerCost:
    """One node of the graph on one target. `flash_bytes` holds its weights, tables and parameter struct.

    Attributes:
        note: why TREC leaves this convolution dense although it was asked for; otherwise empty.
    """

    name: str
    op: str
    output_shape: tuple[int, ...]
    macs: int
    cycles: int
    flash_bytes: int
    scratch_bytes: int
    trec: TrecCost | None = None
    note: str = ""


@dataclass(frozen=True)
class Buffer:
    """One planned piece of the arena: `size` bytes at `offset`, alive from step `first` to `last`, both included."""

    name: str
    kind: BufferKind
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class PlacedCost:
    """Tables in another memory than Flash.

    Attributes:
        region: its name; room: bytes of it that were free; n_bytes: of all the tables, as the linker counts them.
        layers: whose they are; saved_cycles: what an inference no longer waits for, already taken off its cycles.
    """

    region: str
    room: int
    n_bytes: int
    layers: tuple[str, ...]
    saved_cycles: int


@dataclass(frozen=True)
class Cost:
    """What a candidate needs on a target, from the model alone; never overwritten by a measurement.

    Attributes:
        macs: multiply-accumulates per image, with N_c as seen on the calibration images; 1 MAC = 2 FLOPs.
        dense_macs: the same network without TREC.
        cycles: core cycles per image at that N_c; worst_cycles: at the most clusters there can be.
        p50_cycles, p99_cycles: what half, and 99 in 100, of the calibration images take at most, each with its own N_c;
            None where N_c is known only as a mean, as before training.
        weight_bytes: weights, biases, hashes, thresholds, tables and parameter structs in Flash.
        code_bytes: everything else in Flash: vector table, kernels, runtime.
        arena_bytes: planned activations and workspace; static_bytes: the other variables; stack_bytes: reserved.
        run_mw: what the target draws while it computes; None where its file has no figure.
        placed: tables that start-up copies out of Flash; None where all stay there. `weight_bytes` has them too, for
            that is where they come from, and `static_bytes` if they go into the board's own SRAM.
    """

    macs: int
    dense_macs: int
    cycles: int
    worst_cycles: int
    clock_hz: int
    weight_bytes: int
    code_bytes: int
    arena_bytes: int
    static_bytes: int
    stack_bytes: int
    layers: tuple[LayerCost, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    run_mw: float | None = None
    p50_cycles: int | None = None
    p99_cycles: int | None = None
    placed: PlacedCost | None = None

    @property
    def flash_bytes(self) -> int:
        """All of Flash: weights and code."""
        return self.weight_bytes + self.code_bytes

    @property
    def sram_bytes(self) -> int:
        """All of SRAM: arena, other variables and the reserved stack."""
        return self.arena_bytes + self.static_bytes + self.stack_bytes

    @property
    def latency_ms(self) -> float:
        """Milliseconds per image at the target's clock."""
        return 1000 * self.cycles / self.clock_hz

    @property
    def energy_mj(self) -> float | None:
        """Millijoules per image: milliwatts of the running target times the seconds that it runs."""
        return None if self.run_mw is None else self.run_mw * self.cycles / self.clock_hz


@dataclass(frozen=True)
class MeasuredEnergy:
    """What an instrument showed while the marker said that the network ran.

    Attributes:
        instrument: its name. n_inferences: inferences that it saw.
        mj: millijoules of one, mean; mj_least, mj_most: of the cheapest and the dearest.
        run_ma: mean current meanwhile; idle_ma: while the firmware waits for a request, which it does awake.
        volts: mean voltage meanwhile, or what it was said to be.
    """

    instrument: str
    n_inferences: int
    mj: float
    mj_least: float
    mj_most: float
    run_ma: float
    idle_ma: float
    volts: float


@dataclass(frozen=True)
class Measurement:
    """What a built and executed firmware showed.

    Attributes:
        executor: where it ran: "twin", or the serial port of a board.
        flash_bytes, sram_bytes, arena_bytes: from the sections and symbols of the linked ELF.
        stack_bytes: high-water mark of the stack; cycles: mean per image, cycles_max: the slowest image.
        cycles_p50, cycles_p99: what half, and 99 in 100, of the images take at most; None in files of older releases.
        n_mismatches: images whose answer differs in any byte from the host build or the integer oracle.
        accuracy: share of the images whose class was right.
        n_clusters: per TREC layer, mean over the images of N_c summed over the slices.
        energy: None where no instrument was there.
    """

    executor: str
    flash_bytes: int
    sram_bytes: int
    arena_bytes: int
    stack_bytes: int
    cycles: int
    cycles_max: int
    clock_hz: int
    n_images: int
    n_mismatches: int
    accuracy: float
    n_clusters: tuple[float, ...] = ()
    cycles_p50: int | None = None
    cycles_p99: int | None = None
    energy: MeasuredEnergy | None = None

    @property
    def latency_ms(self) -> float:
        """Milliseconds per image at the target's clock."""
        return 1000 * self.cycles / self.clock_hz


@dataclass(frozen=True)
class RungResult:
    """How a candidate stood after part of its training.

    Attributes:
        epochs: of dense training; the phases behind it were shortened in proportion.
        error: share of the validation images that the int8 network classified wrongly; after 0 epochs what clustering
            changes in the logits, as a share of their variance.
        trained: epochs of all phases that were run for this, 0 where others had already run them.
    """

    epochs: int
    error: float
    trained: int


@dataclass(frozen=True)
class Limits:
    """What a study allows at most, besides what its board has; None: no limit of its own."""

    flash_bytes: int | None = None
    sram_bytes: int | None = None
    macs: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class Evaluation:
    """All that is known about one candidate on one target.

    Attributes:
        key: content hash of the effective network: what is trained, after policies have become numbers.
        float_accuracy, int8_accuracy: on the validation split; int8 is computed by the C code itself.
            None where the candidate cannot fit and was therefore not trained.
        test_accuracy: int8, on the test split; only ever computed for front points.
        n_clusters: per TREC layer, N_c of each calibration image, summed over the slices, as the C code counts them.
        violations: per limit, used / limit - 1; feasible when none is above 0.
        versions: package and library versions, data hash and seed: what one needs to repeat it.
        rungs: what it showed on the way, least training first; the last is what the accuracies are of.
        fidelity: share of the recipe's dense epochs that the accuracies rest on; 1 is the whole recipe.
        limits: of the study, from which `violations` come, as from the board's.
    """

    candidate: Candidate
    key: str
    target: str
    estimated: Cost
    violations: Mapping[str, float]
    float_accuracy: float | None = None
    int8_accuracy: float | None = None
    test_accuracy: float | None = None
    measured: Measurement | None = None
    n_clusters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    rungs: tuple[RungResult, ...] = ()
    fidelity: float = 1.0
    limits: Limits = NO_LIMITS

    @property
    def trained_epochs(self) -> int:
        """Epochs of all phases that were run for this candidate."""
        return sum(rung.trained for rung in self.rungs)

    @property
    def is_trained(self) -> bool:
        """Whether there is a network that its whole recipe gave."""
        return self.int8_accuracy is not None and self.fidelity == 1

    @property
    def is_feasible(self) -> bool:
        """Whether every limit of the target is kept."""
        return all(value <= 0 for value in self.violations.values())


@dataclass(frozen=True)
class WhatIfSetting:
    """How a trained network shall cluster instead: H of every layer, the policy for L, layers that reuse kernels."""

    hash_bits: int
    slice_policy: SlicePolicy
    n_kernel_reuse: int


@dataclass(frozen=True)
class WhatIfPoint:
    """A trained network under another clustering, nothing retrained.

    Attributes:
        accuracy: int8, by the C code on the grid's validation images; redundancy: r_t per clustering layer, mean over
            the calibration images; configs: H, L and scope of these layers.
        refusal: why there is no such network; the figures are then zero.
    """

    accuracy: float = 0.0
    sram_bytes: int = 0
    flash_bytes: int = 0
    macs: int = 0
    cycles: int = 0
    worst_cycles: int = 0
    clock_hz: int = 1
    redundancy: Mapping[str, float] = field(default_factory=dict)
    configs: Mapping[str, TrecConfig] = field(default_factory=dict)
    refusal: str = ""


@dataclass(frozen=True)
class WhatIfGrid:
    """A trial's network under many settings.

    Attributes:
        n_images: validation images behind every accuracy; trained: the network as it was trained, on these images.
        settings, points: same length.
    """

    trial: int
    n_images: int
    trained: WhatIfPoint
    settings: tuple[WhatIfSetting, ...]
    points: tuple[WhatIfPoint, ...]


@dataclass(frozen=True)
class EvaluateRequest:
    """What a worker is asked, as JSON.

    Attributes:
        data_dir: None for the cache; folder: where the candidate's files go.
        epochs: of the dense training after which to judge the candidate, 0 for no training; None: after all of them.
        limits: what the study allows besides what the board has.
    """

    candidate: Candidate
    target: Target
    data_dir: str | None
    folder: str
    epochs: int | None = None
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class MeasureRequest:
    """What a worker is asked, as JSON. `folder`: the study's; `key`: of the candidate; `trial`: its number."""

    folder: str
    key: str
    trial: int
    target: Target
    data_dir: str | None
    n_images: int


TrialState = Literal["complete", "stopped", "infeasible", "failed", "interrupted", "running"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a study. `evaluation` is None while it runs and where it failed; `message` says why it failed.

    A stopped trial was judged after part of its training; it is on no front, but may be trained on when others turn
    out worse. An interrupted trial was cut off with the search, and has been tried again under another number.
    """

    number: int
    state: TrialState
    params: Mapping[str, int | float | str | bool | None]
    evaluation: Evaluation | None = None
    message: str = ""


@dataclass(frozen=True)
class StudyRecord:
    """A study as the report, `status` and `pick` read it. `space` is the search-space file as it was given.

    Attributes:
        objectives: names of what the search trades off, in the order of the sampler's values.
    """

    name: str
    space: str
    target: Target
    seed: int
    versions: Mapping[str, str]
    trials: tuple[TrialRecord, ...]
    objectives: tuple[str, ...] = ("error", "sram", "flash", "latency")
