"""`trec-dse worker`: evaluate what a search on another machine, or this one, has queued in the study's folder."""

import argparse

from trec_dse.cli.output import print_json
from trec_dse.cluster import serve


def run(args: argparse.Namespace) -> int:
    """Work until nothing has come for a while; says each task, or in the end how many there were."""

    def say(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    n = serve(args.folder.resolve(), args.workers, args.idle, say)
    if args.json:
        print_json({"tasks": n})
    return 0
