"""`trec-dse report`: one self-contained page."""

import argparse
from pathlib import Path

from rich.console import Console

from trec_dse import objectives, storage
from trec_dse.cli.output import print_json
from trec_dse.errors import InputError
from trec_dse.report import write_html
from trec_dse.report.grids import read_grids, write_grid
from trec_dse.results import StudyRecord, WhatIfSetting


def run(args: argparse.Namespace) -> int:
    """Write the page and say where."""
    settings = storage.read_settings(args.folder)
    study = storage.load_study(args.folder)
    for number in args.what_if:
        _compute_grid(study, number, args)
    path = args.out or args.folder / "report.html"
    write_html(study, path, objectives.select(settings.objectives), read_grids(args.folder))
    if args.json:
        print_json({"report": str(path)})
    else:
        print(path)
    return 0


def _compute_grid(study: StudyRecord, number: int, args: argparse.Namespace) -> None:
    from trec_dse.what_if import grid, open_network, settings_of  # noqa: PLC0415 - it needs torch; the page does not

    record = next((record for record in study.trials if record.number == number), None)
    if record is None or record.evaluation is None or not record.evaluation.is_trained:
        raise InputError(f"trial {number} has no trained network; what-if needs the number of a trained trial")
    console = Console(stderr=True)
    folder: Path = args.folder
    candidate = record.evaluation.candidate.key
    network = open_network(
        folder, candidate, record.evaluation, study.target, data_dir=args.data, n_images=args.what_if_images
    )
    with console.status("") as status:

        def say(setting: WhatIfSetting, i: int, n: int) -> None:
            text = f"H {setting.hash_bits}, L {setting.slice_policy}, {setting.n_kernel_reuse} layers reuse kernels"
            status.update(f"trial {number}, what if {i + 1}/{n}: {text}")

        write_grid(folder, grid(network, number, settings_of(network), say))
