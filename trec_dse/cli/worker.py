"""`trec-dse worker`: evaluate what a search on another machine, or this one, has to offer."""

import argparse
import os
import tempfile
from pathlib import Path

from trec_dse.cli.connection import tls_of
from trec_dse.cli.output import print_json
from trec_dse.cluster import serve
from trec_dse.errors import InputError
from trec_dse.pools.away import Post, Worker
from trec_dse.pools.wire import TOKEN, door_of
from trec_dse.settings import TLS_CA, TLS_CERT, TLS_KEY


def run(args: argparse.Namespace) -> int:
    """Work until nothing has come for a while; says each task, or in the end how many there were."""

    def say(line: str) -> None:
        if not args.json:
            print(line, flush=True)

    if (args.folder is None) == (args.storage is None):
        raise InputError("whom to work for? Needed is DIR, a study's folder, or --storage grpc://HOST:PORT, not both")
    tls = tls_of(args)
    if args.storage is None:
        if tls is not None:
            raise InputError(
                f"{TLS_CERT}, {TLS_KEY} and {TLS_CA} go with --storage grpcs://HOST:PORT; in DIR nothing travels"
            )
        n = serve(args.folder.resolve(), args.workers, args.idle, say)
    else:
        door = door_of(args.storage, _token(args.token_file), tls)
        data_dir = None if args.data is None else args.data.resolve()
        with tempfile.TemporaryDirectory() as temporary:
            scratch = Path(temporary) if args.scratch is None else args.scratch.resolve()
            n = Worker(Post(door, scratch, data_dir, args.workers, args.idle), say).run()
    if args.json:
        print_json({"tasks": n})
    return 0


def _token(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text(encoding="utf-8").strip()
        except OSError as problem:
            raise InputError(f"--token-file {path}: {problem.strerror}") from problem
    given = os.environ.get(TOKEN)
    if not given:
        raise InputError(
            f"the search lets in who knows its token: name a copy of its grpc.token by --token-file, or set {TOKEN}"
        )
    return given
