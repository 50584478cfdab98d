"""From a candidate to all that can be said of it without a device: the only module that knows the order of the stages.

    build -> train -> prune -> fine-tune -> fold -> TREC -> fine-tune -> lower -> calibrate -> train the int8 network
        -> quantize -> plan -> estimate

With 4 bits the lowered graph is rewritten for their kernels and trained in two phases, the scales fixed in the second.

What a candidate needs in memory follows from its shapes alone, so an untrained copy goes through the same stages
first: a candidate that cannot fit is rejected before any training.
"""

import contextlib
import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from trec_dse import codec, datasets
from trec_dse.candidate import Candidate, Recipe, TrecConfig, content_key
from trec_dse.codegen import generate, kernel_sources, network_calls
from trec_dse.cost import estimate, relative_time, violations, with_notes
from trec_dse.datasets import Dataset, Split
from trec_dse.durable import write_text
from trec_dse.errors import StudyError, ToolchainError
from trec_dse.executors.host import HostNetwork
from trec_dse.footprint import footprint_for
from trec_dse.four_bits import FourBitNetwork, in_four_bits, pixel_levels
from trec_dse.graph import INPUT, Graph, Int8Array, QuantizedGraph
from trec_dse.importance import Ranking
from trec_dse.lower import lower
from trec_dse.memory import plan_memory
from trec_dse.networks import build_model, pixel_scaling
from trec_dse.prune import GradualPruning, agp_progress, fold_batch_norms, prune
from trec_dse.qat import QatNetwork
from trec_dse.quantize import calibrate, quantize, quantize_own_scales, quantize_with, with_clusters
from trec_dse.results import Cost, EvaluateRequest, Evaluation
from trec_dse.store import GRAPH, load_graph, save_float_weights, save_graph
from trec_dse.target import Target
from trec_dse.toolchain import find_target_compiler
from trec_dse.train import Aids, train
from trec_dse.trec.apply import apply_trec, conv_shapes, draw_hashes
from trec_dse.trec.policy import ConvShape, Decision, decide, relative_operations

PRUNED_RATE, TREC_RATE, QAT_RATE = 0.4, 0.1, 0.1  # learning rates of the fine-tuning phases, as shares of the recipe's
FOUR_BITS_RATE, FROZEN_RATE = 0.4, 0.1
WHOLE = ("qat", "four_bits", "frozen")  # phases in which the network computes with whole numbers
N_RANKING = 256  # training images by which channels are ranked
N_UNTRAINED = 8  # images on which an untrained network's clusters are counted
UNUSED_BUILD_ID = "0" * 16
EVALUATION, LOCK, TRAINING = "evaluation.json", "lock", "training"
_LIBRARIES = ("torch", "torch-pruning", "numpy", "optuna", "trec_dse")

Say = Callable[[str], None]


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


@dataclass(frozen=True)
class _Trained:
    """The int8 network, the float network that it was made from, and that one's accuracy before int8."""

    graph: QuantizedGraph
    source: Graph
    float_accuracy: float


def evaluate_json(text: str, progress: Say) -> str:
    """`evaluate` for a worker process: JSON of an `EvaluateRequest` in, JSON of an `Evaluation` out."""
    request = codec.from_json(text, EvaluateRequest, "evaluation request", StudyError)
    return codec.to_json(evaluate(request, progress))


def evaluate(request: EvaluateRequest, progress: Say) -> Evaluation:
    """Price the candidate, and train it if it fits. `progress` is told the phase, the epoch and the accuracy.

    Everything lasting goes to ``networks/KEY`` beside the candidate's folder, where KEY is the effective network's
    hash: another candidate that comes down to the same network is answered from there.
    """
    start, candidate = time.monotonic(), request.candidate
    dataset = load_dataset(candidate, None if request.data_dir is None else Path(request.data_dir))
    priced = price(candidate, request.target, dataset)
    evaluation = Evaluation(
        candidate=candidate,
        key=priced.key,
        target=request.target.name,
        estimated=priced.cost,
        violations=priced.violations,
        versions=versions(dataset, candidate),
    )
    if not evaluation.is_feasible:
        return replace(evaluation, seconds=time.monotonic() - start)
    with _locked(network_folder(Path(request.folder), priced.key)) as folder:
        known = _known(folder)
        if known is not None:
            return _again(known, load_graph(folder), request, priced)
        course = _Course(candidate, dataset, progress, folder / TRAINING)
        trained = _train(course, priced.trec.configs)
        run = run_on_host(trained.graph, dataset, candidate.recipe.n_calibration)
        cost = with_notes(cost_of(run.graph, request.target), priced.trec.reasons)
        save_float_weights(trained.source, folder)
        save_graph(run.graph, folder)
        evaluation = replace(
            evaluation,
            estimated=cost,
            violations=violations(cost, request.target),
            float_accuracy=trained.float_accuracy,
            int8_accuracy=run.accuracy,
            n_clusters=run.n_clusters,
            seconds=time.monotonic() - start,
        )
        write_text(folder / EVALUATION, codec.to_json(evaluation))
        shutil.rmtree(folder / TRAINING, ignore_errors=True)
    return evaluation


def price(candidate: Candidate, target: Target, dataset: Dataset) -> Price:
    """Bytes, MACs and cycles of the untrained candidate; memory is exact, N_c is that of random weights."""
    model, trec = _untrained(candidate, dataset, target)
    effective = {
        "candidate": asdict(replace(candidate, trec=None, pruning={})),
        "shapes": [list(parameter.shape) for parameter in model.parameters()],
        "trec": {name: asdict(config) for name, config in trec.configs.items()},
        "data": dataset.sha256,
    }
    graph = _untrained_int8(model, trec, candidate, dataset)
    cost = with_notes(cost_of(graph, target), trec.reasons)
    return Price(content_key(effective), trec, cost, violations(cost, target))


def untrained_graph(candidate: Candidate, dataset: Dataset, target: Target | None = None) -> QuantizedGraph:
    """The int8 network with random weights: every shape, buffer and table is that of the trained one.

    Without a `target`, where TREC pays is decided by counting operations.
    """
    model, trec = _untrained(candidate, dataset, target)
    return _untrained_int8(model, trec, candidate, dataset)


def _untrained(candidate: Candidate, dataset: Dataset, target: Target | None) -> tuple[nn.Module, Decision]:
    model = build_model(candidate, dataset.input_shape, dataset.n_classes).eval()
    model = fold_batch_norms(_pruned(model, candidate, dataset))
    return model, _decision(model, candidate, dataset, target)


def _untrained_int8(model: nn.Module, trec: Decision, candidate: Candidate, dataset: Dataset) -> QuantizedGraph:
    images = calibration_images(dataset, N_UNTRAINED)
    if candidate.recipe.quantization.bits == 4:
        return quantize_own_scales(_in_four_bits(lower(model, dataset.input_shape), dataset, images))
    return quantize(lower(_with_trec(model, candidate, trec.configs, images), dataset.input_shape), _nhwc(images))


def cost_of(graph: QuantizedGraph, target: Target) -> Cost:
    """The estimate of an int8 network, with the code sizes of the compiler that would be used."""
    try:
        compiler = find_target_compiler().name
    except ToolchainError:
        compiler = "zig"
    return estimate(graph, plan_memory(graph), target, footprint_for(target, compiler))


def load_dataset(candidate: Candidate, data_dir: Path | None) -> Dataset:
    """The candidate's data as its network reads them, the validation split cut to what the recipe asks for."""
    dataset, n = as_read(datasets.load(candidate.dataset, data_dir), candidate), candidate.recipe.n_validation
    return replace(dataset, validation=dataset.validation.stratified(n)) if n else dataset


def as_read(dataset: Dataset, candidate: Candidate) -> Dataset:
    """`dataset` normalised as the candidate's network asks for, where that is not by its own mean and deviation."""
    scaling = pixel_scaling(candidate, dataset.input_shape[2])
    return dataset if scaling is None else replace(dataset, mean=scaling.mean, std=scaling.std)


def calibration_images(dataset: Dataset, n: int) -> Tensor:
    """`n` normalised training images (n, C, H, W)."""
    return dataset.normalise(dataset.train.stratified(n).images)


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
    return graph.quantize_images(_nhwc(dataset.normalise(split.images)).numpy())


def _known(folder: Path) -> Evaluation | None:
    path = folder / EVALUATION
    if not path.is_file() or not (folder / GRAPH).is_file():
        return None
    return codec.from_json(path.read_text(encoding="utf-8"), Evaluation, str(path), StudyError)


def _again(known: Evaluation, graph: QuantizedGraph, request: EvaluateRequest, priced: Price) -> Evaluation:
    """A trained network's evaluation for another candidate that comes down to it, or another board."""
    cost, target = with_notes(cost_of(graph, request.target), priced.trec.reasons), request.target
    limits = violations(cost, target)
    return replace(known, candidate=request.candidate, target=target.name, estimated=cost, violations=limits)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Only one process at a time trains a network; the lock goes with its process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@dataclass(frozen=True)
class _Course:
    """What the phases of one candidate's training share; checkpoints of every epoch lie in `folder`."""

    candidate: Candidate
    dataset: Dataset
    progress: Say
    folder: Path

    def run(
        self,
        name: str,
        model: nn.Module,
        *,
        teacher: nn.Module | None = None,
        after_epoch: Callable[[int], None] | None = None,
    ) -> float:
        """Train `model` through the phase `name`; `after_epoch` changes it in ways that no checkpoint holds."""
        recipe = self.candidate.recipe
        epochs, share = {
            "dense": (recipe.epochs, 1.0),
            "pruned": (recipe.fine_tune_epochs, PRUNED_RATE),
            "trec": (recipe.trec_epochs, TREC_RATE),
            "folded": (recipe.trec_epochs, TREC_RATE),
            "qat": (recipe.quantization.qat_epochs, QAT_RATE),
            "four_bits": (recipe.quantization.qat_epochs, FOUR_BITS_RATE),
            "frozen": (recipe.quantization.frozen_epochs, FROZEN_RATE),
        }[name]

        def on_epoch(epoch: int, n_epochs: int, loss: float, accuracy: float) -> None:
            self.progress(f"{name} epoch {epoch}/{n_epochs}, loss {loss:.3f}, {100 * accuracy:.1f} %")
            if after_epoch is not None:
                after_epoch(epoch)

        checkpoint = self.folder / f"{name}.safetensors" if after_epoch is None else None
        accuracy = train(
            model,
            self.dataset,
            _in_whole_numbers(recipe) if name in WHOLE else recipe,
            epochs=epochs,
            learning_rate=share * recipe.learning_rate,
            device="cuda" if torch.cuda.is_available() else "cpu",
            on_epoch=on_epoch,
            aids=Aids(teacher, checkpoint),
        )
        model.cpu()  # pruning, lowering and quantising are quick and the same everywhere
        return accuracy


def _in_whole_numbers(recipe: Recipe) -> Recipe:
    """The recipe without bfloat16, which cannot count beyond 256."""
    return replace(recipe, training=replace(recipe.training, mixed_precision=False))


def _train(course: _Course, configs: dict[str, TrecConfig]) -> _Trained:
    candidate, dataset = course.candidate, course.dataset
    model = _trained_and_pruned(build_model(candidate, dataset.input_shape, dataset.n_classes), course)
    course.run("pruned", model)
    dense = fold_batch_norms(model)
    images = calibration_images(dataset, candidate.recipe.n_calibration)
    model = _with_trec(dense, candidate, configs, images)
    accuracy = course.run("trec" if configs else "folded", model, teacher=dense)
    source, recipe = lower(model.eval(), dataset.input_shape), candidate.recipe.quantization
    if recipe.bits == 4:
        return _trained_in_four_bits(course, source, accuracy)
    if not recipe.qat_epochs:
        return _Trained(quantize(source, _nhwc(images), recipe), source, accuracy)
    learn_hashes = candidate.recipe.hash_gradient != "none"
    network = QatNetwork(source, calibrate(source, _nhwc(images), recipe), learn_hashes=learn_hashes)
    course.run("qat", network, teacher=dense)
    return _Trained(quantize_with(network.graph, network.ranges, _nhwc(images)), network.graph, accuracy)


def _trained_in_four_bits(course: _Course, source: Graph, accuracy: float) -> _Trained:
    """The 4-bit network: its exponents learn with its weights at first, and are left alone in the end."""
    images = calibration_images(course.dataset, course.candidate.recipe.n_calibration)
    network = FourBitNetwork(_in_four_bits(source, course.dataset, images))
    course.run("four_bits", network)
    network.freeze()
    course.run("frozen", network)
    return _Trained(quantize_own_scales(network.graph), network.graph, accuracy)


def _in_four_bits(source: Graph, dataset: Dataset, images: Tensor) -> Graph:
    return in_four_bits(source, _nhwc(images), pixel_levels(dataset.mean, dataset.std))


def _trained_and_pruned(model: nn.Module, course: _Course) -> nn.Module:
    """The network after its dense training, without the channels that the candidate prunes."""
    candidate, dataset = course.candidate, course.dataset
    recipe, method = candidate.recipe, candidate.recipe.pruning
    if not candidate.pruning:
        course.run("dense", model)
        return model
    chosen = dataset.train.stratified(N_RANKING, recipe.seed)
    labels = torch.from_numpy(chosen.labels.copy())
    ranking = Ranking(method.heuristic, dataset.normalise(chosen.images), labels, recipe.seed)
    gradual = GradualPruning(model, dataset.input_shape, candidate.pruning, ranking=ranking)

    def after_epoch(epoch: int) -> None:
        due = agp_progress(epoch, recipe.epochs, method)
        if due:
            gradual.mask(due)

    course.run("dense", model, after_epoch=after_epoch if method.schedule == "agp" else None)
    gradual.release()
    return prune(model, dataset.input_shape, candidate.pruning, ranking=ranking, masked=gradual.masked)


def _pruned(model: nn.Module, candidate: Candidate, dataset: Dataset) -> nn.Module:
    return prune(model, dataset.input_shape, candidate.pruning) if candidate.pruning else model


def _decision(model: nn.Module, candidate: Candidate, dataset: Dataset, target: Target | None) -> Decision:
    """Which convolutions TREC treats, and how. Where it shall pay, it must in operations, and in cycles of `target`."""
    if candidate.trec is None:
        return Decision({}, {})
    shapes = conv_shapes(model, dataset.input_shape)
    if target is None:
        return decide(candidate.trec, shapes, relative_operations)

    def on_target(shape: ConvShape, config: TrecConfig) -> float:
        # one column of N positions is as much work as any other form of N positions
        kernel = (shape.kernel_h, shape.kernel_w)
        column = (shape.kernel_h + shape.n_positions - 1, shape.kernel_w, shape.in_channels)
        cycles = relative_time(kernel, column, shape.out_channels, config, target)
        return max(cycles, relative_operations(shape, config))

    return decide(candidate.trec, shapes, on_target)


def _with_trec(model: nn.Module, candidate: Candidate, configs: dict[str, TrecConfig], images: Tensor) -> nn.Module:
    recipe = candidate.recipe
    changed = apply_trec(
        model, configs, images, hash_gradient=recipe.hash_gradient, kernel_surrogate=recipe.kernel_surrogate
    )
    if recipe.hash_start == "gaussian":
        draw_hashes(changed, recipe.hash_seed)
    return changed


def _nhwc(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1).contiguous()
