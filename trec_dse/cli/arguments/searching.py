"""The verbs that train: `search`, `resume`, and `worker` for either."""

import argparse
from pathlib import Path

from trec_dse import plugins
from trec_dse.cli.arguments._shared import Verbs, add_cycles, add_data, add_target, add_verb, positive
from trec_dse.cli.connection import add_tls
from trec_dse.settings import EXECUTORS, IDLE_S, LEASE_S, LISTEN, N_TPE, REDUCTION, SAMPLERS


def search(verbs: Verbs) -> None:
    """A study from its first trial to its report."""
    spaces = ", ".join(plugins.data_names("search_spaces", ".py"))
    parser = add_verb(
        verbs,
        "search",
        "run a study: train candidates, price them, validate the front on the board's twin, write the report",
        "trec-dse search digits_tiny --target stm32f469i-disco --trials 30 --workers 2 --out runs/first",
    )
    parser.add_argument("space", help=f"a search space ({spaces}) or the path of a .py, which is run")
    add_target(parser)
    add_cycles(parser)
    parser.add_argument("--trials", type=positive, default=50, metavar="N", help="candidates in the end (default 50)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the study's folder (default runs/SPACE-TARGET)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sampler (default 0)")
    parser.add_argument("--objectives", metavar="A,B", default="error,sram,flash,latency", help="default: %(default)s")
    parser.add_argument("--n-train", type=positive, metavar="N", help="training images instead of the space's number")
    parser.add_argument("--storage", metavar="URL", help="an Optuna database instead of the journal file in DIR")
    _how_to_search(parser)
    _running(parser)


def resume(verbs: Verbs) -> None:
    """Go on where a study stopped."""
    parser = add_verb(
        verbs,
        "resume",
        "continue a study: interrupted trials again, finished ones kept, nothing trained twice",
        "trec-dse resume runs/first --trials 60",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    parser.add_argument("--trials", type=positive, metavar="N", help="trials in the end (default: as first asked for)")
    parser.add_argument("--max-epochs", type=positive, metavar="N", help="start nothing once N epochs were trained")
    parser.add_argument("--storage", metavar="URL", help="the database, if it needs a password")
    parser.add_argument("--force", action="store_true", help="go on although the search-space file has changed")
    _running(parser)


def worker(verbs: Verbs) -> None:
    """Evaluate what a search has to offer."""
    parser = add_verb(
        verbs,
        "worker",
        "evaluate for searches that run with --executor nodes, in DIR, or with --executor grpc, anywhere",
        "trec-dse worker --storage grpc://head:13000 --token-file grpc.token --workers 4",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="the study's folder, at the same path on all machines; not with --storage",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="grpc://HOST:PORT of a search with --executor grpc --listen HOST:PORT, grpcs:// if it encrypts; no folder "
        "is shared: what is trained is sent after every epoch",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the search's token, a copy of DIR/grpc.token there (default: $TREC_DSE_TOKEN)",
    )
    parser.add_argument(
        "--scratch", type=Path, metavar="DIR", help="where copies go, with --storage (default: a temporary folder)"
    )
    add_data(parser)
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="candidates at a time (default 1)")
    parser.add_argument(
        "--idle", type=float, default=IDLE_S, metavar="S", help="leave after S seconds without work (%(default)s)"
    )
    add_tls(parser, when="--storage grpcs://HOST:PORT", ca="the authority that signed the certificate of the search")


def _running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=positive, default=1, metavar="N", help="candidates at a time (default 1)")
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="local",
        help="local: processes of this machine; nodes: whoever runs `trec-dse worker DIR` on a shared file system; "
        "dask, ray: the workers of such a cluster, which must see DIR and the data at the same paths; "
        "grpc: whoever runs `trec-dse worker --storage grpc://HOST:PORT`, no folder shared",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of dask: tcp://HOST:8786 or its file (default $DASK_SCHEDULER_ADDRESS); of ray: HOST:6379",
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, metavar="F", help="share of a GPU per candidate, with ray (default 0)"
    )
    parser.add_argument(
        "--listen",
        default=LISTEN,
        metavar="HOST:PORT",
        help="with grpc: where workers find the search; other machines only reach 0.0.0.0:PORT (default %(default)s)",
    )
    parser.add_argument(
        "--lease",
        type=float,
        default=LEASE_S,
        metavar="S",
        help="a node or worker silent for S seconds is lost (%(default)s)",
    )
    parser.add_argument("--images", type=positive, default=100, metavar="N", help="test images per front point (100)")
    parser.add_argument("--no-validate", action="store_true", help="do not build and run the front on the board's twin")
    parser.add_argument("--timeout", type=float, metavar="S", help="start no further trial after so many seconds")
    add_data(parser)
    add_tls(
        parser,
        when="--executor grpc",
        ca="take only workers with a certificate that this authority has signed (default: all who know the token)",
    )


def _how_to_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "how it searches",
        "Candidates are judged untrained first, then after a 27th, a ninth, a third and all of their epochs; at each "
        "of these rungs one in three goes on, those that add most to the front. Training goes on where it paused. What "
        "two networks have in common is trained once. Fronts and `pick` hold only what was trained to the end.",
    )
    group.add_argument(
        "--reduction", type=positive, default=REDUCTION, metavar="N", help="one in N goes on (default 3); 1 trains all"
    )
    group.add_argument(
        "--max-epochs", type=positive, metavar="N", help="start nothing once N epochs were trained, of all candidates"
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="auto",
        help="auto: a Latin hypercube, TPE, and evolution from the front after --tpe-trials; nsga2: Optuna's",
    )
    group.add_argument(
        "--tpe-trials", type=positive, default=N_TPE, metavar="N", help="when auto leaves TPE (default %(default)s)"
    )
    group.add_argument(
        "--warm-start",
        metavar="DIR|presets",
        help="try first: the front of another study, whose trained networks are taken along, or the shipped candidates",
    )
