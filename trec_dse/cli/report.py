"""`trec-dse report`: one self-contained page."""

import argparse

from trec_dse import objectives, storage
from trec_dse.cli.output import print_json
from trec_dse.report import write_html


def run(args: argparse.Namespace) -> int:
    """Write the page and say where."""
    settings = storage.read_settings(args.folder)
    path = args.out or args.folder / "report.html"
    write_html(storage.load_study(args.folder), path, objectives.select(settings.objectives))
    if args.json:
        print_json({"report": str(path)})
    else:
        print(path)
    return 0
