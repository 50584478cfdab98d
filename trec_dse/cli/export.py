"""`trec-dse export`: the firmware project of one trial."""

import argparse

from trec_dse import datasets, storage
from trec_dse.cli.output import print_json
from trec_dse.errors import InputError
from trec_dse.evaluate import network_folder
from trec_dse.firmware import build_firmware
from trec_dse.measure import export
from trec_dse.store import load_graph


def run(args: argparse.Namespace) -> int:
    """Write the folder, link the ELF, say its sizes."""
    study = storage.load_study(args.folder)
    record = next((trial for trial in study.trials if trial.number == args.trial), None)
    if record is None or record.state != "complete" or record.evaluation is None:
        complete = ", ".join(str(trial.number) for trial in study.trials if trial.state == "complete")
        state = "there is no such trial" if record is None else f"that trial is {record.state}"
        raise InputError(f"trial {args.trial}: {state}; complete are {complete or 'none yet'}")
    evaluation = record.evaluation
    place = storage.evaluation_path(args.folder, evaluation.candidate.key).parent
    graph = load_graph(network_folder(place, evaluation.key))
    dataset = datasets.load(evaluation.candidate.dataset, args.data)
    manifest = export(evaluation, graph, study.target, dataset, args.out, record.number)
    result: dict[str, object] = {"folder": str(args.out), "build_id": manifest.build_id}
    if not args.no_build:
        firmware = build_firmware(args.out, study.target)
        sizes = {"sram_bytes": firmware.sram_bytes, "flash_bytes": firmware.flash_bytes}
        result |= {"elf": str(firmware.elf), **sizes}
    if args.json:
        print_json(result)
        return 0
    for name, value in result.items():
        print(f"{name:<12} {value:,}" if isinstance(value, int) else f"{name:<12} {value}")
    print(f"next: trec-dse validate {args.out} --twin")
    return 0
