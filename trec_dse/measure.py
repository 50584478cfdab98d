"""From a trained int8 network to its firmware, and from a device's answers to measured figures.

graph -> C text -> export folder -> ELF -> device -> every byte compared with the host build and the oracle
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trec_dse import codec
from trec_dse.calibration import TWIN, Context, Record, Store, context_of, layer_records, now
from trec_dse.codegen import generate, generate_answers, kernel_sources, network_calls
from trec_dse.datasets import Dataset
from trec_dse.device import Executor, Firmware, Int8Array
from trec_dse.errors import InputError, StudyError
from trec_dse.evaluate import (
    UNUSED_BUILD_ID,
    host_network,
    int8_images,
    load_dataset,
    network_folder,
    placement_of,
    stack_of,
)
from trec_dse.executors import twin
from trec_dse.firmware import build_firmware, write_export
from trec_dse.graph import QuantizedGraph
from trec_dse.memory import plan_memory
from trec_dse.quantize import with_clusters
from trec_dse.results import Evaluation, MeasuredEnergy, Measurement, MeasureRequest
from trec_dse.storage import evaluation_path, firmware_folder, read_evaluation
from trec_dse.store import load_graph, save_graph
from trec_dse.target import Target
from trec_dse.toolchain import find_target_compiler
from trec_dse.validate import ValidationRun, validate

MANIFEST, MODEL = "manifest.json", "model"
N_KNOWN_ANSWERS = 8


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: what the firmware in a folder is, and what one needs to make it again.

    Attributes:
        build_id: hash of the generated C and the board; the running firmware's banner repeats it.
        trial: number in its study, -1 where it comes from none.
    """

    format: int
    build_id: str
    trial: int
    target: Target
    evaluation: Evaluation


def export(
    evaluation: Evaluation, graph: QuantizedGraph, target: Target, dataset: Dataset, folder: Path, trial: int
) -> Manifest:
    """Write the firmware project of a trained network: C, runtime, board files, known answers, the model itself."""
    plan = plan_memory(graph)
    placed = placement_of(graph, target, plan).tables
    text = "".join(generate(graph, plan, UNUSED_BUILD_ID, placed).values()) + codec.to_json(target)
    build_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    images = int8_images(graph, dataset, dataset.test.take(np.arange(min(N_KNOWN_ANSWERS, len(dataset.test)))))
    with host_network(graph) as network:
        answers = network.run(images).outputs
    manifest = Manifest(1, build_id, trial, target, evaluation)
    files = {
        **generate(graph, plan, build_id, placed),
        **generate_answers(images, answers),
        MANIFEST: codec.to_json(manifest),
    }
    write_export(folder, target, files, kernel_sources(graph), stack_bytes=stack_of(graph, target))
    save_graph(graph, folder / MODEL)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export folder; InputError if it is none."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no {MANIFEST}; an export folder is what `trec-dse export` writes")
    return codec.from_json(path.read_text(encoding="utf-8"), Manifest, str(path), InputError)


@dataclass(frozen=True)
class Question:
    """Images for a device and what it must answer. images: int8 (n, H, W, C), expected: int8 (n, outputs)."""

    images: Int8Array
    labels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"
    expected: Int8Array
    n_oracle_mismatches: int


def ask(graph: QuantizedGraph, dataset: Dataset, n_images: int) -> Question:
    """The first `n_images` test images with the host build's answers, those compared with the integer oracle's."""
    split = dataset.test.stratified(n_images)
    images = int8_images(graph, dataset, split)
    with host_network(graph) as network:
        expected = network.run(images).outputs
    n_wrong = sum(
        not np.array_equal(graph.run(image)[graph.output].reshape(-1), answer)
        for image, answer in zip(images, expected, strict=True)
    )
    return Question(images, split.labels, expected, n_wrong)


def run_on_device(
    executor: Executor,
    folder: Path,
    *,
    data_dir: Path | None,
    n_images: int,
    on_image: Callable[[int], None] | None = None,
) -> tuple[ValidationRun, int]:
    """What a device that runs the export in `folder` answers to test images, and where host and oracle disagree."""
    manifest = read_manifest(folder)
    dataset = load_dataset(manifest.evaluation.candidate, data_dir)
    question = ask(load_graph(folder / MODEL), dataset, n_images)
    run = validate(executor, question.images, question.labels, question.expected, on_image=on_image)
    return run, question.n_oracle_mismatches


def measurement(
    run: ValidationRun,
    n_oracle_mismatches: int,
    firmware: Firmware,
    clock_hz: int,
    energy: MeasuredEnergy | None = None,
) -> Measurement:
    """What the ELF, the device and perhaps an instrument showed, in one record."""
    return Measurement(
        executor=run.executor,
        flash_bytes=firmware.flash_bytes,
        sram_bytes=firmware.sram_bytes,
        arena_bytes=firmware.arena_bytes,
        stack_bytes=run.stack_bytes,
        cycles=run.cycles,
        cycles_max=run.cycles_max,
        cycles_p50=run.cycles_p50,
        cycles_p99=run.cycles_p99,
        clock_hz=clock_hz,
        n_images=run.n_images,
        n_mismatches=max(run.n_mismatches, n_oracle_mismatches),
        accuracy=run.accuracy,
        n_clusters=run.n_clusters,
        energy=energy,
    )


def whole_record(graph: QuantizedGraph, run: Measurement, context: Context, network: str) -> Record:
    """A measurement of a whole network as one that the board's costs can be learned from."""
    names = [call.node for call in network_calls(graph) if call.kernel.counts_clusters]
    counted = with_clusters(graph, dict(zip(names, run.n_clusters, strict=True)))
    return Record(context, network, now(), run.n_images, float(run.cycles), layer_records(counted, {}))


def keep(record: Record, measured: Measurement, store: Store | None = None) -> str:
    """Add what was measured to the user's store; returns why not, "" if it was.

    What answers wrongly is no measurement of this network. A store that cannot be written spoils no validation.
    """
    store = store or Store.default()
    if store is None or measured.n_mismatches:
        return ""
    try:
        store.append(record)
    except StudyError as problem:
        return str(problem)
    return ""


def accuracy_on_test(graph: QuantizedGraph, dataset: Dataset) -> float:
    """Accuracy of the C code on the whole test split."""
    with host_network(graph) as network:
        outputs = network.run(int8_images(graph, dataset, dataset.test)).outputs
    return float((outputs.argmax(axis=1) == dataset.test.labels).mean())


def measure_json(text: str, progress: Callable[[str], None]) -> str:
    """`measure` for a worker process: JSON of a `MeasureRequest` in, JSON of an `Evaluation` out."""
    request = codec.from_json(text, MeasureRequest, "measure request", StudyError)
    return codec.to_json(measure(request, progress))


def measure(request: MeasureRequest, progress: Callable[[str], None]) -> Evaluation:
    """Build a trained candidate's firmware, run it on the board's twin, and add what it showed to its evaluation."""
    root = Path(request.folder)
    evaluation = read_evaluation(root, request.key)
    if evaluation is None:
        raise StudyError(f"{root}: candidate {request.key} was never evaluated")
    data_dir = None if request.data_dir is None else Path(request.data_dir)
    dataset = load_dataset(evaluation.candidate, data_dir)
    graph = load_graph(network_folder(evaluation_path(root, request.key).parent, evaluation.key))
    folder = firmware_folder(root, request.trial)
    progress("building the firmware")
    manifest = export(evaluation, graph, request.target, dataset, folder, request.trial)
    firmware = build_firmware(folder, request.target)
    with twin.open(firmware.elf, request.target, build_id=manifest.build_id) as executor:
        run, n_wrong = run_on_device(
            executor,
            folder,
            data_dir=data_dir,
            n_images=request.n_images,
            on_image=lambda n: progress(f"image {n}/{request.n_images} on the twin"),
        )
    measured = measurement(run, n_wrong, firmware, request.target.clock_hz)
    context = context_of(request.target, find_target_compiler(), TWIN)
    warning = keep(whole_record(graph, measured, context, evaluation.key), measured)
    if warning:
        progress(warning)
    return with_test_accuracy(replace(evaluation, measured=measured), graph, dataset)


def with_test_accuracy(evaluation: Evaluation, graph: QuantizedGraph, dataset: Dataset) -> Evaluation:
    """`evaluation` with its test accuracy; computed once, for points of the front."""
    if evaluation.test_accuracy is not None:
        return evaluation
    return replace(evaluation, test_accuracy=accuracy_on_test(graph, dataset))
