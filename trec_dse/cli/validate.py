"""`trec-dse validate`: does the device compute what the host computes, to the byte?"""

import argparse
import contextlib
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from trec_dse import codec
from trec_dse.calibrate import profile_record
from trec_dse.calibration import TWIN, context_of
from trec_dse.cli.output import print_json, print_table
from trec_dse.device import Executor, Firmware
from trec_dse.durable import write_text
from trec_dse.errors import DeviceError, InputError
from trec_dse.evaluate import load_dataset
from trec_dse.executors import serial, twin
from trec_dse.executors.metering import MeteringExecutor
from trec_dse.executors.resuming import Asked, ResumingExecutor
from trec_dse.executors.serial import SerialExecutor
from trec_dse.firmware import build_firmware, marks_inferences
from trec_dse.flash import flash
from trec_dse.instruments import open_instrument
from trec_dse.measure import MODEL, Manifest, ask, keep, measurement, read_manifest, run_on_device, whole_record
from trec_dse.metering import Instrument
from trec_dse.profiling import NetworkProfile, profile_network
from trec_dse.results import MeasuredEnergy, Measurement
from trec_dse.storage import MEASUREMENT
from trec_dse.store import load_graph
from trec_dse.toolchain import find_target_compiler
from trec_dse.twin.places import Tally
from trec_dse.validate import ValidationRun

N_PROFILED = 10  # images, at most: cycles differ little between them


def run(args: argparse.Namespace) -> int:
    """Run the images, write FOLDER/measurement.json; exit code 1 on any mismatch."""
    if args.flash is not None and args.port is None:
        raise InputError("--flash writes to a board: name its port too, or leave it to --port auto")
    if args.profile and args.port is not None:
        raise InputError("--profile looks into the twin; a board tells only the cycles of whole inferences")
    manifest = read_manifest(args.folder)
    firmware = build_firmware(args.folder, manifest.target)
    # First the instrument, for it may be what gives the board its supply.
    with _instrument(args, manifest, firmware) as instrument:
        device, board = _open(args, manifest, firmware)
        if instrument is None:
            done, n_wrong = _run_resuming(args, device, board, firmware)
            energy = None
        else:
            done, n_wrong, energy = _run_metering(args, device, instrument, manifest)
    measured = measurement(done, n_wrong, firmware, manifest.target.clock_hz, energy)
    write_text(args.folder / MEASUREMENT, codec.to_json(measured))
    _answers(args, board).unlink(missing_ok=True)
    profile = _profile(args, manifest, firmware) if args.profile else None
    _keep(args, manifest, measured, board, profile)
    if args.json:
        layers = {} if profile is None else {"profile": codec.unstructure(profile.layers)}
        print_json({**codec.unstructure(measured), **layers})
    else:
        _print(measured, done, n_wrong)
        _print_energy(measured, manifest.evaluation.estimated.energy_mj)
        if profile is not None:
            _print_profile(profile)
    return 1 if measured.n_mismatches else 0


def _run_resuming(
    args: argparse.Namespace, device: SerialExecutor, board: str, firmware: Firmware
) -> tuple[ValidationRun, int]:
    """All images, going on after those that were answered before the cable was pulled."""
    executor = ResumingExecutor(device, _answers(args, board), Asked.of(firmware.elf, board))
    if executor.n_kept:
        print(f"going on after {executor.n_kept} images that were answered before", file=sys.stderr)
    with executor, _telling_what_is_kept(executor):
        return _run(args, executor)


def _run_metering(
    args: argparse.Namespace, device: SerialExecutor, instrument: Instrument, manifest: Manifest
) -> tuple[ValidationRun, int, MeasuredEnergy]:
    """All images anew, for what was answered before was not measured."""
    with MeteringExecutor(device, instrument, manifest.target.clock_hz) as executor:
        done, n_wrong = _run(args, executor)
        return done, n_wrong, executor.energy()


def _run(args: argparse.Namespace, executor: Executor) -> tuple[ValidationRun, int]:
    def on_image(n: int) -> None:
        if sys.stderr.isatty():
            print(f"\rimage {n}/{args.images}", end="" if n < args.images else "\n", file=sys.stderr, flush=True)

    return run_on_device(executor, args.folder, data_dir=args.data, n_images=args.images, on_image=on_image)


def _answers(args: argparse.Namespace, board: str) -> Path:
    """Where a board's answers are kept while not all are there."""
    folder: Path = args.folder
    return folder / f"answers_{hashlib.sha256(board.encode()).hexdigest()[:8]}.jsonl"


@contextlib.contextmanager
def _instrument(args: argparse.Namespace, manifest: Manifest, firmware: Firmware) -> Iterator[Instrument | None]:
    """The instrument of --instrument, if any; closed at the end."""
    if args.instrument is None:
        if args.volts is not None:
            raise InputError("--volts is what an instrument measures at: name one with --instrument")
        yield None
        return
    if not marks_inferences(firmware):
        raise InputError(f"{args.folder}: this firmware marks no inference; export it anew with --marker")
    power = manifest.target.power
    volts = args.volts
    if volts is None and power is not None and args.instrument.startswith("ppk2"):
        volts = power.volts
    instrument = open_instrument(args.instrument, volts)
    try:
        if instrument.is_live and args.port is None:
            raise InputError(f"{instrument.name} measures a board: give its --port, or --port auto")
        yield instrument
    finally:
        instrument.close()


@contextlib.contextmanager
def _telling_what_is_kept(executor: ResumingExecutor) -> Iterator[None]:
    """A device that was lost is named with what to do."""
    try:
        yield
    except DeviceError as problem:
        if not executor.n_answered:
            raise
        kept = f"{executor.n_answered} images are answered and kept: run the same command again to go on"
        raise DeviceError(f"{problem}; {kept}") from problem


def _open(args: argparse.Namespace, manifest: Manifest, firmware: Firmware) -> tuple[SerialExecutor, str]:
    """The device, flashed where that is asked for, and what tells it from others of its kind."""
    target = manifest.target
    if args.port is None:
        return twin.open(firmware.elf, target, build_id=manifest.build_id), TWIN
    port = serial.find_port(args.port, target)
    board = serial.board_id(port)
    if args.flash is not None:
        flash(firmware.elf, target, None if args.flash == "auto" else args.flash)
    return serial.open(port, baud=target.serial.baud, build_id=manifest.build_id), board


def _profile(args: argparse.Namespace, manifest: Manifest, firmware: Firmware) -> NetworkProfile:
    """Where the twin spends its cycles, on the first of the images."""
    graph = load_graph(args.folder / MODEL)
    dataset = load_dataset(manifest.evaluation.candidate, args.data)
    images = ask(graph, dataset, min(args.images, N_PROFILED)).images
    return profile_network(graph, firmware.elf, manifest.target, list(images))


def _keep(
    args: argparse.Namespace, manifest: Manifest, measured: Measurement, board: str, profile: NetworkProfile | None
) -> None:
    """Add the measurement to those that the board's costs are learned from."""
    context = context_of(manifest.target, find_target_compiler(), board)
    key = manifest.evaluation.key
    if profile is None:
        record = whole_record(load_graph(args.folder / MODEL), measured, context, key)
    else:
        record = profile_record(profile, context, key)
    warning = keep(record, measured)
    if warning:
        print(warning, file=sys.stderr)


def _print(measured: Measurement, done: ValidationRun, n_wrong: int) -> None:
    print(
        f"{measured.executor}: {measured.n_images} images, {measured.n_mismatches} mismatches, "
        f"accuracy {100 * measured.accuracy:.2f} %"
    )
    print(
        f"{measured.cycles:,} cycles per image ({measured.latency_ms:.2f} ms), slowest {measured.cycles_max:,}; "
        f"stack {measured.stack_bytes} B"
    )
    for mismatch in done.mismatches:
        print(f"image {mismatch.index}: expected {list(mismatch.expected)}, found {list(mismatch.found)}")
    if n_wrong:
        print(f"{n_wrong} images on which the host build and the integer oracle disagree")


def _print_energy(measured: Measurement, estimated_mj: float | None) -> None:
    energy = measured.energy
    if energy is None:
        return
    print(
        f"{energy.mj:.4g} mJ per image ({energy.mj_least:.4g} to {energy.mj_most:.4g}), {energy.run_ma:.3f} mA at "
        f"{energy.volts:.3f} V, and {energy.idle_ma:.3f} mA while it waits; {energy.n_inferences} seen by "
        f"{energy.instrument}"
    )
    if estimated_mj is not None:
        print(f"estimated {estimated_mj:.4g} mJ, {100 * (estimated_mj / energy.mj - 1):+.1f} %")


def _print_profile(profile: NetworkProfile, n_functions: int = 12) -> None:
    """Cycles, instructions and stalls by layer, and by the functions that take most."""
    headings = ["cycles", "share", "instructions", "stalls: code", "data"]
    total = profile.total

    def figures(spent: Tally) -> list[str]:
        share = f"{100 * spent.cycles / total.cycles:.1f} %"
        rest = (spent.n_instructions, spent.code_stalls, spent.data_stalls)
        return [f"{spent.cycles:,}", share, *(f"{number:,}" for number in rest)]

    rows = []
    for layer in profile.layers:
        per_mac = "-" if layer.cycles_per_mac is None else f"{layer.cycles_per_mac:.2f}"
        rows.append([layer.name, layer.op, *figures(layer.spent), f"{layer.macs:,}", per_mac])
    rows.append(["all", "", *figures(total), f"{sum(layer.macs for layer in profile.layers):,}", ""])
    print()
    print_table(f"Layers, mean of {profile.n_images} images", ["layer", "op", *headings, "MACs", "cycles/MAC"], rows)
    print()
    functions = list(profile.functions.items())
    rest = sum((spent for _, spent in functions[n_functions:]), Tally())
    shown = functions[:n_functions] + ([("others", rest)] if rest.n_instructions else [])
    print_table("Functions", ["function", *headings], [[name, *figures(spent)] for name, spent in shown])
