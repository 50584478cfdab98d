"""A study made by hand: twelve trials whose fronts, knees and volumes can be checked with a pencil.

Error against SRAM, the front is (10 pp, 8 KiB), (4, 12), (2, 24), (1, 48); everything else is dominated,
a duplicate, infeasible, failed or still running.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from trec_dse.candidate import Candidate, TrecConfig, TrecPolicy
from trec_dse.results import (
    Buffer,
    Cost,
    Evaluation,
    LayerCost,
    Measurement,
    StudyRecord,
    TrecCost,
    TrialRecord,
    TrialState,
)
from trec_dse.target import FlashTiming, Oscillator, Power, Region, Serial, Target

KIB = 1024
CLOCK_HZ = 100_000_000

TARGET = Target(
    name="demo-board",
    mcu="DEMO32F4",
    core="cortex-m4",
    clock_hz=CLOCK_HZ,
    platform="demo",
    flash_region="flash",
    ram_region="sram",
    regions=(Region("flash", "flash", 0x0800_0000, 256 * KIB), Region("sram", "ram", 0x2000_0000, 64 * KIB)),
    oscillator=Oscillator("crystal", 8_000_000),
    serial=Serial("USART2", 0x4000_4400, CLOCK_HZ, "PA2", "PA3"),
    flash=FlashTiming(3, "art"),
    power=Power(20.0, 2.5, "made up"),
)

LAYERS = (
    LayerCost("conv1", "conv2d", (24, 24, 6), 86_400, 400_000, 2 * KIB, 512, note="stays dense: too dear"),
    LayerCost("pool1", "max_pool2d", (12, 12, 6), 0, 40_000, 64, 0),
    LayerCost(
        "conv2",
        "trec_conv2d",
        (8, 8, 16),
        60_000,
        350_000,
        12 * KIB,
        3 * KIB,
        TrecCost(
            TrecConfig(4, 30), n_positions=64, n_slices=5, mean_clusters=48.0, worst_clusters=80, redundancy_ratio=0.85
        ),
    ),
    LayerCost("fc", "linear", (1, 1, 10), 10_240, 60_000, 11 * KIB, 0),
)

BUFFERS = (
    Buffer("input", "input", 0, 784, 0, 0),
    Buffer("conv1 scratch", "scratch", 784, 512, 0, 0),
    Buffer("conv1", "activation", 1296, 3456, 0, 1),
    Buffer("pool1", "activation", 0, 864, 1, 2),
    Buffer("conv2", "activation", 864, 1024, 2, 3),
    Buffer("conv2 scratch", "scratch", 1888, 3072, 2, 2),
    Buffer("output", "output", 0, 10, 3, 3),
)  # fmt: skip


def make_cost(sram_kib: float, flash_kib: float, latency_ms: float) -> Cost:
    """A cost of those totals: 2 KiB stack, 1 KiB static variables, 10 KiB code, the rest arena and weights."""
    cycles = round(latency_ms * CLOCK_HZ / 1000)
    return Cost(
        macs=156_640,
        dense_macs=250_000,
        cycles=cycles,
        worst_cycles=2 * cycles,
        clock_hz=CLOCK_HZ,
        weight_bytes=round((flash_kib - 10) * KIB),
        code_bytes=10 * KIB,
        arena_bytes=round((sram_kib - 3) * KIB),
        static_bytes=KIB,
        stack_bytes=2 * KIB,
        layers=LAYERS,
        buffers=BUFFERS,
        run_mw=50.0,
    )


def make_evaluation(
    error_pp: float | None, sram_kib: float, flash_kib: float = 100.0, latency_ms: float = 10.0, key: str = ""
) -> Evaluation:
    """An evaluation on the demo board; an error of None was never trained."""
    accuracy = None if error_pp is None else 1 - error_pp / 100
    return Evaluation(
        candidate=Candidate("digits", "lenet5", trec=TrecPolicy(4, 3), pruning={"*": 0.25}),
        key=key or f"{error_pp}-{sram_kib}-{flash_kib}-{latency_ms}",
        target=TARGET.name,
        estimated=make_cost(sram_kib, flash_kib, latency_ms),
        violations={"sram": sram_kib / 64 - 1, "flash": flash_kib / 256 - 1},
        float_accuracy=None if accuracy is None else min(1.0, accuracy + 0.002),
        int8_accuracy=accuracy,
        n_clusters={} if accuracy is None else {"conv2": (40, 44, 48, 48, 52, 56)},
        seconds=12.5,
        versions={"trec_dse": "0.1.0", "data": "digits:0011223344556677", "seed": "7"},
    )


def measured(evaluation: Evaluation, sram_kib: float, flash_kib: float, latency_ms: float) -> Evaluation:
    """The same evaluation with a measurement on the twin: 100 images, no mismatch, 4 pp error."""
    cycles = round(latency_ms * CLOCK_HZ / 1000)
    reading = Measurement(
        executor="twin",
        flash_bytes=round(flash_kib * KIB),
        sram_bytes=round(sram_kib * KIB),
        arena_bytes=evaluation.estimated.arena_bytes,
        stack_bytes=900,
        cycles=cycles,
        cycles_max=cycles + 50_000,
        clock_hz=CLOCK_HZ,
        n_images=100,
        n_mismatches=0,
        accuracy=0.96,
        n_clusters=(50.0,),
        cycles_p50=cycles - 10_000,
        cycles_p99=cycles + 30_000,
    )
    return replace(evaluation, measured=reading, test_accuracy=0.955)


@dataclass(frozen=True)
class _Row:
    """One trial as a line of the table below."""

    state: TrialState
    evaluation: Evaluation | None = None
    message: str = ""
    params: Mapping[str, int | float | str | bool | None] = field(default_factory=dict)


def _params(hash_bits: int, slices: str, pruning: float) -> dict[str, int | float | str | bool | None]:
    return {"hash_bits": hash_bits, "slice_policy": slices, "pruning": pruning}


def make_trials() -> tuple[TrialRecord, ...]:
    """The twelve trials, numbers 0 to 11."""
    second = make_evaluation(4.0, 12.0, 60.0, 12.0)
    rows: Sequence[_Row] = (
        _Row("complete", make_evaluation(10.0, 8.0, 40.0, 8.0), params=_params(1, "whole", 0.7)),
        _Row("complete", second, params=_params(3, "channels", 0.5)),
        _Row("complete", make_evaluation(2.0, 24.0, 90.0, 20.0), params=_params(4, "kernel_row", 0.25)),
        _Row("complete", measured(make_evaluation(1.0, 48.0, 150.0, 40.0), 48.5, 151.0, 44.0),
             params=_params(6, "kernel_row", 0.0)),
        _Row("complete", make_evaluation(5.0, 16.0, 80.0, 15.0), params=_params(3, "whole", 0.25)),
        _Row("complete", make_evaluation(2.0, 30.0, 95.0, 18.0), params=_params(5, "channels", 0.25)),
        _Row("complete", measured(second, 12.0, 61.0, 12.6), params=_params(3, "channels", 0.5)),
        _Row("infeasible", make_evaluation(None, 96.0, 200.0, 60.0), params=_params(6, "kernel_row", 0.0)),
        _Row("infeasible", make_evaluation(0.5, 60.0, 300.0, 70.0), params=_params(6, "channels", 0.0)),
        _Row("failed", message="ToolchainError: the compiler refused conv2.c", params=_params(2, "whole", 0.1)),
        _Row("running", params=_params(2, "channels", 0.1)),
        _Row("complete", make_evaluation(12.0, 20.0, 70.0, 14.0), params=_params(2, "whole", 0.5)),
    )  # fmt: skip
    return tuple(
        TrialRecord(number, row.state, row.params, row.evaluation, row.message) for number, row in enumerate(rows)
    )


def make_study(trials: tuple[TrialRecord, ...] | None = None) -> StudyRecord:
    """The study that holds them."""
    return StudyRecord(
        name="digits on the demo board",
        space='DATASET = "digits"\n\ndef suggest(trial):\n    ...\n',
        target=TARGET,
        seed=7,
        versions={"trec_dse": "0.1.0", "optuna": "5.0.0", "data": "digits:0011223344556677"},
        trials=make_trials() if trials is None else trials,
    )
