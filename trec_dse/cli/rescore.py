"""`trec-dse rescore`: the same trained networks on another board."""

import argparse
from dataclasses import asdict
from pathlib import Path

from trec_dse import storage
from trec_dse.cli import status
from trec_dse.cli.boards import board_of
from trec_dse.cli.output import print_json
from trec_dse.rescore import rescore


def run(args: argparse.Namespace) -> int:
    """Price every trial anew and show the new front."""
    target = board_of(args)
    out = args.out or Path(f"{args.folder}-{target.name}")
    result = rescore(args.folder, target, out)
    if args.json:
        print_json({"folder": str(out), **asdict(result)})
        return 0
    queued = f", {result.n_queued} queued for `resume`" if result.n_queued else ""
    print(f"{result.n_priced} trials priced for {target.name}, {result.n_infeasible} do not fit{queued}: {out}")
    settings = storage.read_settings(out)
    status.show(storage.load_study(out), settings.objectives, as_json=False)
    return 0
