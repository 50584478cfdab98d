"""`trec-dse export`: the firmware project of one trial, or of a network that is trained already."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from trec_dse import codec, storage
from trec_dse.cli.boards import against, optimized, other_choice, plain_board_of
from trec_dse.cli.output import print_json
from trec_dse.errors import InputError
from trec_dse.evaluate import EVALUATION, cost_of, load_dataset, network_folder
from trec_dse.firmware import build_firmware, for_energy, mark_inferences, speak_text
from trec_dse.graph import QuantizedGraph
from trec_dse.measure import export
from trec_dse.resources import data_folder
from trec_dse.results import Evaluation
from trec_dse.store import GRAPH, load_graph
from trec_dse.target import Target

NO_TRIAL = -1


@dataclass(frozen=True, eq=False)
class _Network:
    """What is exported. `number`: of its trial, or `NO_TRIAL`."""

    evaluation: Evaluation
    graph: QuantizedGraph
    target: Target
    number: int


def run(args: argparse.Namespace) -> int:
    """Write the folder, link the ELF, say its sizes."""
    _require_one_purpose(args)
    network = _of_folder(args) if args.trial is None else _of_trial(args)
    target = for_energy(network.target) if args.energy else network.target
    dataset = load_dataset(network.evaluation.candidate, args.data)
    manifest = export(network.evaluation, network.graph, target, dataset, args.out, network.number)
    if args.text is not None:
        speak_text(args.out, args.text, target if args.energy else None)
    if args.marker:
        mark_inferences(args.out, target)
    result: dict[str, object] = {"folder": str(args.out), "build_id": manifest.build_id}
    if not args.no_build:
        firmware = build_firmware(args.out, target)
        sizes = {"sram_bytes": firmware.sram_bytes, "flash_bytes": firmware.flash_bytes}
        result |= {"elf": str(firmware.elf), **sizes}
        if firmware.stack_bound_bytes is not None:
            result |= {"stack_bytes": firmware.stack_bytes, "stack_most": firmware.stack_bound_bytes}
            result |= {"run_stack": firmware.run_stack_bytes}
    if args.json:
        print_json(result)
        return 0
    for name, value in result.items():
        print(f"{name:<12} {value:,}" if isinstance(value, int) else f"{name:<12} {value}")
    if args.optimize is not None:
        print(against(cost_of(network.graph, target), cost_of(network.graph, other_choice(target)), target))
    print(f"next: {_next_step(args)}")
    return 0


def _require_one_purpose(args: argparse.Namespace) -> None:
    """A firmware's pin has one meaning: it marks inferences, or moments for the runner."""
    if args.energy and args.text is None:
        raise InputError("--energy is a mode of MLPerf Tiny's runner: give --text MODEL too, or --marker instead")
    if args.marker and args.text is not None:
        raise InputError("--marker is for `validate`, which does not speak text; give --energy with --text instead")


def _next_step(args: argparse.Namespace) -> str:
    if args.text is not None:
        return f"make -C {args.out} flash"
    if args.marker:
        return f"trec-dse validate {args.out} --port auto --flash auto --instrument ppk2"
    return f"trec-dse validate {args.out} --twin"


def _of_trial(args: argparse.Namespace) -> _Network:
    """A trial of the study in `args.folder`, for the study's board."""
    if args.target is not None:
        raise InputError("a trial is exported for its study's board; `trec-dse rescore` makes a study for another one")
    study = storage.load_study(args.folder)
    record = next((trial for trial in study.trials if trial.number == args.trial), None)
    if record is None or record.state != "complete" or record.evaluation is None:
        complete = ", ".join(str(trial.number) for trial in study.trials if trial.state == "complete")
        state = "there is no such trial" if record is None else f"that trial is {record.state}"
        raise InputError(f"trial {args.trial}: {state}; complete are {complete or 'none yet'}")
    place = storage.evaluation_path(args.folder, record.evaluation.candidate.key).parent
    graph = load_graph(network_folder(place, record.evaluation.key))
    target, evaluation = optimized(study.target, args), record.evaluation
    if target != study.target:
        evaluation = replace(evaluation, estimated=cost_of(graph, target))
    return _Network(evaluation, graph, target, record.number)


def _of_folder(args: argparse.Namespace) -> _Network:
    """The trained network of a folder below a study's `networks`, or of a preset, for the board asked for."""
    folder: Path = args.folder if args.folder.is_dir() else data_folder("presets") / args.folder
    if not (folder / GRAPH).is_file() or not (folder / EVALUATION).is_file():
        raise InputError(
            f"{args.folder}: no trained network ({GRAPH} and {EVALUATION}) there; of a study, give a trial too"
        )
    if args.target is None:
        raise InputError(f"{args.folder}: which board is it for? Give --target")
    target = plain_board_of(args)
    path, graph = folder / EVALUATION, load_graph(folder)
    evaluation = codec.from_json(path.read_text(encoding="utf-8"), Evaluation, str(path), InputError)
    return _Network(replace(evaluation, target=target.name, estimated=cost_of(graph, target)), graph, target, NO_TRIAL)
