"""`trec-dse doctor`: what is missing on this machine, or wrong with an export or the board that it is for."""

import argparse
from dataclasses import asdict

from trec_dse.cli.output import print_json
from trec_dse.diagnose import board_checks, firmware_checks
from trec_dse.doctor import checks
from trec_dse.errors import InputError


def run(args: argparse.Namespace) -> int:
    """Print every check with its fix; 1 if something that is needed is missing."""
    if args.port is not None and args.folder is None:
        raise InputError("--port needs the export folder that the board is to run: trec-dse doctor FOLDER --port PORT")
    results = checks() if args.folder is None else firmware_checks(args.folder)
    if args.port is not None:
        results += board_checks(args.folder, args.port)
    code = 0 if all(check.ok for check in results if check.is_needed) else 1
    if args.json:
        print_json([asdict(check) for check in results])
        return code
    for check in results:
        mark = "ok" if check.ok else "MISSING" if check.is_needed else "-"
        print(f"{mark:<8} {check.name}: {check.found}")
        if check.fix and not check.ok:
            print(f"         fix: {check.fix}")
    return code
