"""From a candidate to all that can be said of it without a device: the only module that knows the order of the stages.

    build -> train -> prune -> fine-tune -> fold -> TREC -> fine-tune -> lower -> calibrate -> train the int8 network
        -> quantize -> plan -> estimate

With 4 bits the lowered graph is rewritten for their kernels and trained in two phases, the scales fixed in the second.

What a candidate needs in memory follows from its shapes alone, so an untrained copy goes through the same stages
first: a candidate that cannot fit is rejected before any training.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from trec_dse import codec, datasets
from trec_dse.candidate import (
    Candidate,
    KernelConfig,
    TrecConfig,
    TrecPolicy,
    content_key,
    plain_data,
    plain_kernel,
    plain_trec,
)
from trec_dse.codegen import generate, kernel_sources, network_calls
from trec_dse.cost import estimate, relative_time, violations, with_notes
from trec_dse.course import Course, Say, calibration_images, four_bit_graph, nhwc, with_trec
from trec_dse.datasets import Dataset, Split
from trec_dse.durable import Turn, locked, write_text
from trec_dse.errors import StudyError, ToolchainError
from trec_dse.executors.host import HostNetwork
from trec_dse.footprint import footprint_for
from trec_dse.graph import INPUT, Int8Array, QuantizedGraph
from trec_dse.lower import lower
from trec_dse.memory import MemoryPlan, plan_memory, settled
from trec_dse.networks import build_model, pixel_scaling
from trec_dse.placement import ALL_IN_FLASH, Placement, place
from trec_dse.prune import fold_batch_norms, prune
from trec_dse.quantize import quantize, quantize_own_scales, with_clusters
from trec_dse.results import NO_LIMITS, Cost, EvaluateRequest, Evaluation, Limits, RungResult
from trec_dse.sparse.apply import apply_kernels, dense_layers, resolve_kernels
from trec_dse.store import GRAPH, load_graph, save_float_weights, save_graph
from trec_dse.target import Target
from trec_dse.toolchain import find_target_compiler
from trec_dse.trec.apply import conv_shapes
from trec_dse.trec.policy import ConvShape, Decision, decide, relative_operations
from trec_dse.zeros import without_zeros

N_FORESEEN = 32  # images on which an untrained network's clustering is compared with none
N_UNTRAINED = 8  # images on which an untrained network's clusters are counted
UNUSED_BUILD_ID = "0" * 16
EVALUATION, TRAINING, PARENTS = "evaluation.json", "training", "parents"
_LIBRARIES = ("torch", "torch-pruning", "numpy", "optuna", "trec_dse")


@dataclass(frozen=True)
class Price:
    """What is known before training. `trec`: by layer name; `key`: hash of the effective network and recipe."""

    key: str
    trec: Decision
    cost: Cost
    violations: dict[str, float]


@dataclass(frozen=True)
class HostRun:
    """What the C code says of a network on this machine.

    Attributes:
        graph: with N_c as the calibration images give it; accuracy: on the validation split.
        n_clusters: per TREC layer, N_c of each calibration image, summed over the slices.
    """

    graph: QuantizedGraph
    accuracy: float
    n_clusters: dict[str, tuple[int, ...]]


def evaluate_json(text: str, progress: Say) -> str:
    """`evaluate` for a worker process: JSON of an `EvaluateRequest` in, JSON of an `Evaluation` out."""
    request = codec.from_json(text, EvaluateRequest, "evaluation request", StudyError)
    return codec.to_json(evaluate(request, progress))


def evaluate(request: EvaluateRequest, progress: Say, turn: Turn = locked) -> Evaluation:
    """Price the candidate, and train it if it fits, as far as is asked for. `progress` is told phase, epoch, accuracy.

    Everything lasting goes to ``networks/KEY`` beside the candidate's folder, where KEY is the effective network's
    hash: another candidate that comes down to the same network is answered from there. What networks have in common
    is under ``parents`` (course.py). `turn` gives such a folder to one process at a time, so nothing is trained twice.
    """
    start, candidate = time.monotonic(), request.candidate
    dataset = load_dataset(candidate, None if request.data_dir is None else Path(request.data_dir))
    priced = price(candidate, request.target, dataset, request.limits)
    evaluation = Evaluation(
        candidate=candidate,
        key=priced.key,
        target=request.target.name,
        estimated=priced.cost,
        violations=priced.violations,
        versions=versions(dataset, candidate),
        limits=request.limits,
    )
    if not evaluation.is_feasible:
        return replace(evaluation, seconds=time.monotonic() - start)
    if request.epochs == 0:
        return _foreseen(evaluation, priced, dataset)
    with turn(network_folder(Path(request.folder), priced.key)) as folder:
        known = _known(folder, request.epochs)
        if known is None:
            parents = folder.parent.parent / PARENTS
            epochs = _epochs(request)
            course = Course(candidate, dataset, epochs, progress, parents, folder / TRAINING, turn)
            evaluation = _trained(evaluation, request, course, priced)
        else:
            evaluation = _again(known, request, folder, priced)
    evaluation = _with_earlier(evaluation, Path(request.folder))
    if request.epochs is not None and evaluation.rungs[0].epochs:
        evaluation = replace(evaluation, rungs=(_untrained_rung(evaluation, priced, dataset), *evaluation.rungs))
    return evaluation


def price(candidate: Candidate, target: Target, dataset: Dataset, limits: Limits = NO_LIMITS) -> Price:
    """Bytes, MACs and cycles of the untrained candidate; memory is exact, N_c is that of random weights."""
    model, kernels, trec = _untrained(candidate, dataset, target)
    effective: dict[str, object] = {
        "candidate": plain_data(replace(candidate, trec=None, pruning={}, kernels={})),
        "shapes": [list(parameter.shape) for parameter in model.parameters()],
        "trec": {name: plain_trec(config) for name, config in trec.configs.items()},
        "data": dataset.sha256,
    }
    if kernels:
        effective["kernels"] = {name: plain_kernel(config) for name, config in kernels.items()}
    graph = _untrained_int8(model, trec, candidate, dataset)
    cost = with_notes(cost_of(graph, target), trec.reasons)
    return Price(content_key(effective), trec, cost, violations(cost, target, limits))


def untrained_graph(candidate: Candidate, dataset: Dataset, target: Target | None = None) -> QuantizedGraph:
    """The int8 network with random weights: every shape, buffer and table is that of the trained one.

    Without a `target`, where TREC pays is decided by counting operations.
    """
    model, _, trec = _untrained(candidate, dataset, target)
    return _untrained_int8(model, trec, candidate, dataset)


def _untrained(
    candidate: Candidate, dataset: Dataset, target: Target | None
) -> tuple[nn.Module, dict[str, KernelConfig], Decision]:
    model = build_model(candidate, dataset.input_shape, dataset.n_classes).eval()
    model = fold_batch_norms(_pruned(model, candidate, dataset))
    kernels = resolve_kernels(candidate.kernels, conv_shapes(model, dataset.input_shape), dense_layers(model))
    model = apply_kernels(model, kernels, rounds=0)
    return model, kernels, _decision(model, candidate, dataset, target)


def _untrained_int8(model: nn.Module, trec: Decision, candidate: Candidate, dataset: Dataset) -> QuantizedGraph:
    images = calibration_images(dataset, N_UNTRAINED)
    if candidate.recipe.quantization.bits == 4:
        return quantize_own_scales(four_bit_graph(lower(model, dataset.input_shape), dataset, images))
    source = lower(with_trec(model, candidate, trec.configs, images), dataset.input_shape)
    return settled(without_zeros(quantize(source, nhwc(images))))


def cost_of(graph: QuantizedGraph, target: Target, clusters: Mapping[str, Sequence[int]] | None = None) -> Cost:
    """The estimate of an int8 network, with the code sizes of the compiler that would be used.

    `clusters`: N_c of each calibration image by TREC layer, where they are known.
    """
    try:
        compiler = find_target_compiler().name
    except ToolchainError:
        compiler = "zig"
    plan = plan_memory(graph)
    placement = placement_of(graph, target, plan)
    return estimate(graph, plan, target, footprint_for(target, compiler), clusters, placement)


def placement_of(graph: QuantizedGraph, target: Target, plan: MemoryPlan | None = None) -> Placement:
    """The tables that the firmware of an int8 network copies out of Flash, whichever compiler builds it."""
    if target.placed_region is None:
        return ALL_IN_FLASH
    n_counters = max(1, sum(call.kernel.counts_clusters for call in network_calls(graph)))
    static = footprint_for(target, "zig").static_bytes + 4 * n_counters
    # the linker begins the arena at a multiple of eight
    in_use = (plan or plan_memory(graph)).size + -(-static // 8) * 8 + stack_of(graph, target)
    return place(graph, target, in_use)


def stack_of(graph: QuantizedGraph, target: Target) -> int:
    """Bytes that the firmware of an int8 network reserves for its stack, whichever compiler builds it."""
    return footprint_for(target, "zig").stack_bytes({call.kernel.function for call in network_calls(graph)})


def load_dataset(candidate: Candidate, data_dir: Path | None) -> Dataset:
    """The candidate's data as its network reads them, the validation split cut to what the recipe asks for."""
    dataset, n = as_read(datasets.load(candidate.dataset, data_dir), candidate), candidate.recipe.n_validation
    return replace(dataset, validation=dataset.validation.stratified(n)) if n else dataset


def as_read(dataset: Dataset, candidate: Candidate) -> Dataset:
    """`dataset` normalised as the candidate's network asks for, where that is not by its own mean and deviation."""
    scaling = pixel_scaling(candidate, dataset.input_shape[2])
    return dataset if scaling is None else replace(dataset, mean=scaling.mean, std=scaling.std)


def network_folder(candidate_folder: Path, key: str) -> Path:
    """Where the network of that effective key is kept, beside the candidates' folders."""
    return candidate_folder.parent.parent / "networks" / key


def versions(dataset: Dataset, candidate: Candidate) -> dict[str, str]:
    """What one needs to repeat an evaluation: library versions, data hash, seed."""
    found = {name: metadata.version(name) for name in _LIBRARIES}
    return {**found, "data_sha256": dataset.sha256, "seed": str(candidate.recipe.seed)}


def host_network(graph: QuantizedGraph) -> HostNetwork:
    """The network's own C, compiled for this machine."""
    n_layers = sum(call.kernel.counts_clusters for call in network_calls(graph))
    sizes = (graph.bytes_of(INPUT), graph.bytes_of(graph.output), n_layers)
    return HostNetwork.build(generate(graph, plan_memory(graph), UNUSED_BUILD_ID), kernel_sources(graph), sizes)


def run_on_host(graph: QuantizedGraph, dataset: Dataset, n_calibration: int) -> HostRun:
    """Run the C code on the whole validation split and on `n_calibration` training images."""
    with host_network(graph) as network:
        seen = network.run(int8_images(graph, dataset, dataset.train.stratified(n_calibration)))
        run = network.run(int8_images(graph, dataset, dataset.validation))
    layers = [call.node for call in network_calls(graph) if call.kernel.counts_clusters]
    counts = {name: tuple(seen.n_clusters[:, i].tolist()) for i, name in enumerate(layers)}
    means = {name: sum(each) / len(each) for name, each in counts.items()}
    right = run.outputs.argmax(axis=1) == dataset.validation.labels
    return HostRun(with_clusters(graph, means), float(right.mean()), counts)


def int8_images(graph: QuantizedGraph, dataset: Dataset, split: Split) -> Int8Array:
    """The images of a split as the network reads them: int8 (n, H, W, C)."""
    return graph.quantize_images(nhwc(dataset.normalise(split.images)).numpy())


def _epochs(request: EvaluateRequest) -> int:
    """So many dense epochs are asked for."""
    total = request.candidate.recipe.epochs
    return total if request.epochs is None else min(request.epochs, total)


def _trained(evaluation: Evaluation, request: EvaluateRequest, course: Course, priced: Price) -> Evaluation:
    """The evaluation with what training shows; written beside the training, with the network if it is finished."""
    start, candidate, dataset, folder = time.monotonic(), request.candidate, course.dataset, course.folder.parent
    epochs, total = course.epochs, candidate.recipe.epochs
    is_whole = epochs == total
    trained = course.run(priced.trec.configs)
    run = run_on_host(trained.graph, dataset, candidate.recipe.n_calibration)
    cost = with_notes(cost_of(run.graph, request.target, run.n_clusters), priced.trec.reasons)
    evaluation = replace(
        evaluation,
        estimated=cost,
        violations=violations(cost, request.target, request.limits),
        float_accuracy=trained.float_accuracy,
        int8_accuracy=run.accuracy,
        n_clusters=run.n_clusters,
        seconds=time.monotonic() - start,
        rungs=(RungResult(epochs, 1 - run.accuracy, course.n_trained),),
        fidelity=1.0 if is_whole else epochs / total,
    )
    if is_whole:
        save_float_weights(trained.source, folder)
        save_graph(run.graph, folder)
    write_text(folder / (EVALUATION if is_whole else _rung_file(epochs)), codec.to_json(evaluation))
    course.clear()
    return evaluation


def _foreseen(evaluation: Evaluation, priced: Price, dataset: Dataset) -> Evaluation:
    """The evaluation of an untrained network: it guesses, and its clustering has an error that foretells more."""
    chance, rung = 1 / dataset.n_classes, _untrained_rung(evaluation, priced, dataset)
    return replace(evaluation, float_accuracy=chance, int8_accuracy=chance, rungs=(rung,), fidelity=0.0)


def _untrained_rung(evaluation: Evaluation, priced: Price, dataset: Dataset) -> RungResult:
    return RungResult(0, clustering_error(evaluation.candidate, priced.trec.configs, dataset), 0)


def clustering_error(candidate: Candidate, configs: dict[str, TrecConfig], dataset: Dataset) -> float:
    """What TREC changes in the logits of the untrained network: mean square of it, as a share of their variance."""
    if not configs:
        return 0.0
    images = calibration_images(dataset, N_FORESEEN)
    model = build_model(candidate, dataset.input_shape, dataset.n_classes).eval()
    dense = fold_batch_norms(_pruned(model, candidate, dataset))
    shapes = conv_shapes(dense, dataset.input_shape)
    dense = apply_kernels(dense, resolve_kernels(candidate.kernels, shapes, dense_layers(dense)))
    clustered = with_trec(dense, candidate, configs, images).eval()
    with torch.no_grad():
        logits = dense(images)
        difference = clustered(images) - logits
    variance = float(((logits - logits.mean(dim=0)) ** 2).mean())
    return float((difference**2).mean()) / max(variance, 1e-12)


def _rung_file(epochs: int) -> str:
    return f"rung_{epochs}.json"


def _known(folder: Path, epochs: int | None) -> Evaluation | None:
    """What is known of a network after all its training, or else after `epochs` of it."""
    names = [EVALUATION] if epochs is None else [EVALUATION, _rung_file(epochs)]
    for path in (folder / name for name in names):
        if path.is_file() and (path.name != EVALUATION or (folder / GRAPH).is_file()):
            return codec.from_json(path.read_text(encoding="utf-8"), Evaluation, str(path), StudyError)
    return None


def _again(known: Evaluation, request: EvaluateRequest, folder: Path, priced: Price) -> Evaluation:
    """A trained network's evaluation for another candidate that comes down to it, or another board."""
    target = request.target
    cost = cost_of(load_graph(folder), target, known.n_clusters) if known.fidelity == 1 else priced.cost
    over = violations(cost, target, request.limits)
    rungs = tuple(replace(rung, trained=0) for rung in known.rungs[-1:])
    known = replace(known, candidate=request.candidate, target=target.name, violations=over, rungs=rungs)
    return replace(known, limits=request.limits, estimated=with_notes(cost, priced.trec.reasons))


def _with_earlier(evaluation: Evaluation, folder: Path) -> Evaluation:
    """The evaluation with the rungs that the same candidate has behind it, and the time that they took."""
    path = folder / EVALUATION
    if not path.is_file():
        return evaluation
    try:
        earlier = codec.from_json(path.read_text(encoding="utf-8"), Evaluation, str(path), StudyError)
    except StudyError:  # of an older release, or damaged: it is about to be replaced
        return evaluation
    last = evaluation.rungs[-1].epochs if evaluation.rungs else math.inf
    rungs = tuple(rung for rung in earlier.rungs if rung.epochs < last)
    seconds = earlier.seconds if rungs else 0.0
    return replace(evaluation, rungs=(*rungs, *evaluation.rungs), seconds=evaluation.seconds + seconds)


def _pruned(model: nn.Module, candidate: Candidate, dataset: Dataset) -> nn.Module:
    return prune(model, dataset.input_shape, candidate.pruning) if candidate.pruning else model


def _decision(model: nn.Module, candidate: Candidate, dataset: Dataset, target: Target | None) -> Decision:
    """Which convolutions TREC treats, and how. Where it shall pay, it must in operations, and in cycles of `target`."""
    if candidate.trec is None:
        return Decision({}, {})
    return decide_for(candidate.trec, conv_shapes(model, dataset.input_shape), target)


def decide_for(policy: TrecPolicy, shapes: Mapping[str, ConvShape], target: Target | None) -> Decision:
    """`decide` with what a layer costs on `target`; without one, operations are counted."""
    if target is None:
        return decide(policy, shapes, relative_operations)

    def on_target(shape: ConvShape, config: TrecConfig) -> float:
        # one column of N positions is as much work as any other form of N positions
        kernel = (shape.kernel_h, shape.kernel_w)
        column = (shape.kernel_h + shape.n_positions - 1, shape.kernel_w, shape.in_channels)
        cycles = relative_time(kernel, column, shape.out_channels, config, target)
        return max(cycles, relative_operations(shape, config))

    return decide(policy, shapes, on_target)
