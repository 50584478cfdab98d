"""`trec-dse doctor`: what is missing on this machine."""

import argparse
from dataclasses import asdict

from trec_dse.cli.output import print_json
from trec_dse.doctor import checks


def run(args: argparse.Namespace) -> int:
    """Print every check with its fix; 1 if something that is needed is missing."""
    results = checks()
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
