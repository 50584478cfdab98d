"""What can be typed: every verb with its options and an example."""

import argparse
from pathlib import Path
from typing import TypeAlias

from trec_dse import __version__, plugins
from trec_dse.cli.connection import add_tls
from trec_dse.flash import DRIVE, TOOLS
from trec_dse.settings import EXECUTORS, IDLE_S, LEASE_S, LISTEN, N_TPE, REDUCTION, SAMPLERS

_OVERVIEW = """\
Search networks that fit a microcontroller: accuracy, SRAM, Flash and latency together.

a first search, in minutes, without a board:
  trec-dse search digits_tiny --target stm32f469i-disco --trials 30 --out runs/first
  trec-dse report runs/first
  trec-dse pick runs/first --sram 8KiB --max-loss 1pp

exit codes: 0 done, 1 the answer is no (a mismatch, nothing fits), 2 bad input or a missing tool, 130 interrupted
"""

_PRESETS = ", ".join(plugins.data_names("presets", ".json"))
_CANDIDATE_HELP = f"the path of a .json, as a study's folder holds them, or a preset ({_PRESETS})"


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `args.verb` names the file that runs."""
    parser = argparse.ArgumentParser(
        prog="trec-dse", description=_OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"trec-dse {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    adders = (
        _search,
        _resume,
        _worker,
        _status,
        _report,
        _serve,
        _pick,
        _rescore,
        _export,
        _validate,
        _estimate,
        _train,
        _import,
        _targets,
        _calibrate,
        _doctor,
    )
    for add in adders:
        add(verbs)
    return parser


_Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it


def _verb(verbs: _Verbs, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON for another program instead of text")
    return parser


def _target(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    names = ", ".join(plugins.data_names("targets", ".toml"))
    parser.add_argument("--target", required=required, metavar="T", help=f"a board ({names}) or the path of a .toml")
    parser.add_argument(
        "--optimize",
        choices=("speed", "size"),
        help="compile for few cycles (the default), or for a tenth less code at a few per cent more cycles",
    )
    parser.add_argument(
        "--place",
        metavar="R",
        help="the RAM that start-up copies weights and tables into: none (the default), auto for the largest beside "
        "the board's SRAM, or a region of its file, such as CCM; layers that have no room stay in Flash",
    )


def _cycles(parser: argparse.ArgumentParser, default: str = "file") -> None:
    parser.add_argument(
        "--cycles",
        default=default,
        metavar="C",
        help="whose cycle costs: file, the board file's; learned, from the board that was measured last, or else its "
        "twin; twin; or a board's id (default %(default)s)",
    )


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        "--data-dir",
        dest="data",
        type=Path,
        metavar="DIR",
        help="folder of the data set (default: the cache)",
    )


def _running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_positive, default=1, metavar="N", help="candidates at a time (default 1)")
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
    parser.add_argument("--images", type=_positive, default=100, metavar="N", help="test images per front point (100)")
    parser.add_argument("--no-validate", action="store_true", help="do not build and run the front on the board's twin")
    parser.add_argument("--timeout", type=float, metavar="S", help="start no further trial after so many seconds")
    _data(parser)
    add_tls(
        parser,
        when="--executor grpc",
        ca="take only workers with a certificate that this authority has signed (default: all who know the token)",
    )


def _search(verbs: _Verbs) -> None:
    spaces = ", ".join(plugins.data_names("search_spaces", ".py"))
    parser = _verb(
        verbs,
        "search",
        "run a study: train candidates, price them, validate the front on the board's twin, write the report",
        "trec-dse search digits_tiny --target stm32f469i-disco --trials 30 --workers 2 --out runs/first",
    )
    parser.add_argument("space", help=f"a search space ({spaces}) or the path of a .py, which is run")
    _target(parser)
    _cycles(parser)
    parser.add_argument("--trials", type=_positive, default=50, metavar="N", help="candidates in the end (default 50)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the study's folder (default runs/SPACE-TARGET)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the sampler (default 0)")
    parser.add_argument("--objectives", metavar="A,B", default="error,sram,flash,latency", help="default: %(default)s")
    parser.add_argument("--n-train", type=_positive, metavar="N", help="training images instead of the space's number")
    parser.add_argument("--storage", metavar="URL", help="an Optuna database instead of the journal file in DIR")
    _how_to_search(parser)
    _running(parser)


def _how_to_search(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "how it searches",
        "Candidates are judged untrained first, then after a 27th, a ninth, a third and all of their epochs; at each "
        "of these rungs one in three goes on, those that add most to the front. Training goes on where it paused. What "
        "two networks have in common is trained once. Fronts and `pick` hold only what was trained to the end.",
    )
    group.add_argument(
        "--reduction", type=_positive, default=REDUCTION, metavar="N", help="one in N goes on (default 3); 1 trains all"
    )
    group.add_argument(
        "--max-epochs", type=_positive, metavar="N", help="start nothing once N epochs were trained, of all candidates"
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="auto",
        help="auto: a Latin hypercube, TPE, and evolution from the front after --tpe-trials; nsga2: Optuna's",
    )
    group.add_argument(
        "--tpe-trials", type=_positive, default=N_TPE, metavar="N", help="when auto leaves TPE (default %(default)s)"
    )
    group.add_argument(
        "--warm-start",
        metavar="DIR|presets",
        help="try first: the front of another study, whose trained networks are taken along, or the shipped candidates",
    )


def _resume(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "resume",
        "continue a study: interrupted trials again, finished ones kept, nothing trained twice",
        "trec-dse resume runs/first --trials 60",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    parser.add_argument("--trials", type=_positive, metavar="N", help="trials in the end (default: as first asked for)")
    parser.add_argument("--max-epochs", type=_positive, metavar="N", help="start nothing once N epochs were trained")
    parser.add_argument("--storage", metavar="URL", help="the database, if it needs a password")
    parser.add_argument("--force", action="store_true", help="go on although the search-space file has changed")
    _running(parser)


def _worker(verbs: _Verbs) -> None:
    parser = _verb(
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
    _data(parser)
    parser.add_argument("--workers", type=_positive, default=1, metavar="N", help="candidates at a time (default 1)")
    parser.add_argument(
        "--idle", type=float, default=IDLE_S, metavar="S", help="leave after S seconds without work (%(default)s)"
    )
    add_tls(parser, when="--storage grpcs://HOST:PORT", ca="the authority that signed the certificate of the search")


def _status(verbs: _Verbs) -> None:
    parser = _verb(verbs, "status", "what a study holds, its front as a table", "trec-dse status runs/first --json")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")


def _report(verbs: _Verbs) -> None:
    parser = _verb(
        verbs, "report", "write one self-contained page about a study", "trec-dse report runs/first --out front.html"
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: DIR/report.html")
    parser.add_argument(
        "--what-if",
        type=_numbers,
        default=(),
        metavar="TRIAL[,TRIAL]",
        help="compute how these trials' networks do under another H, L and kernel reuse, untrained, for the page",
    )
    _what_if_images(parser)
    _data(parser)


def _serve(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "serve",
        "show the report of a study in the browser, live while a search runs; on this machine only, read only",
        "trec-dse serve runs/first --port 8765",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    parser.add_argument("--port", type=int, default=8765, metavar="P", help="default %(default)s; 0 takes a free one")
    _what_if_images(parser)
    _data(parser)


def _pick(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "pick",
        "the trial that fits some budgets, or the knee of the front, and why",
        "trec-dse pick runs/first --sram 64KiB --flash 256KiB --latency 100ms --max-loss 1pp",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    parser.add_argument("--sram", metavar="BYTES", help="most SRAM, such as 64KiB")
    parser.add_argument("--flash", metavar="BYTES", help="most Flash, such as 256KiB")
    parser.add_argument("--latency", metavar="MS", help="slowest inference, such as 100ms")
    parser.add_argument("--energy", metavar="MJ", help="most energy of an inference, such as 5mJ or 500uJ")
    parser.add_argument(
        "--max-loss", metavar="PP", help="accuracy that may be lost against the best trial, such as 1pp"
    )


def _rescore(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "rescore",
        "the same trained networks priced for another board, nothing trained",
        "trec-dse rescore runs/first --target nucleo-f746zg --out runs/first-f746",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    _target(parser)
    _cycles(parser)
    parser.add_argument("--out", type=Path, metavar="DIR2", help="the new study's folder (default DIR-TARGET)")


def _export(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "export",
        "write the firmware project of a trial, or of a network that is trained already",
        "trec-dse export runs/first 12 --out firmware && make -C firmware",
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="the study's folder; or a trained network's: of a study, or mnist2k"
    )
    parser.add_argument("trial", type=int, nargs="?", metavar="TRIAL", help="number of a complete trial of the study")
    _target(parser, required=False)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write")
    parser.add_argument("--no-build", action="store_true", help="write the sources only")
    parser.add_argument(
        "--text",
        metavar="MODEL",
        help="answer the text commands of MLPerf Tiny's runner, as its benchmark MODEL (ic01, kws01, vww01)",
    )
    parser.add_argument(
        "--energy",
        action="store_true",
        help="with --text: for the runner's energy mode, in which the board's marker pin tells moments, at 9600 baud",
    )
    parser.add_argument(
        "--marker",
        action="store_true",
        help="hold the board's marker pin high while the network runs, for `validate --instrument`",
    )
    _data(parser)


def _validate(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "validate",
        "run test images on a board, or its twin, and compare every byte of the answers",
        "trec-dse validate firmware --port auto --flash auto --images 1000",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an export folder")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", metavar="PORT", help="auto, /dev/ttyACM0 or socket://host:port: a flashed board")
    where.add_argument("--twin", action="store_true", help="the board's emulated twin (the default)")
    tools = ("auto", *TOOLS, DRIVE)
    parser.add_argument("--flash", choices=tools, help="write the firmware to the board first; needs --port")
    parser.add_argument("--images", type=_positive, default=100, metavar="N", help="test images (default 100)")
    parser.add_argument(
        "--instrument",
        metavar="I",
        help="measure the energy of each inference too, of firmware exported with --marker: ppk2, joulescope, or the "
        "FILE.csv or FILE.npz that one recorded meanwhile",
    )
    parser.add_argument(
        "--volts", type=float, metavar="V", help="the board's supply, for instruments that do not measure it (ppk2)"
    )
    parser.add_argument(
        "--profile", action="store_true", help="the twin's cycles, instructions and stalls by layer and by function"
    )
    _data(parser)


def _estimate(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "estimate",
        "SRAM, Flash, MACs, cycles and a buffer table, without training or toolchain",
        "trec-dse estimate candidate.json --target nucleo-f746zg",
    )
    parser.add_argument(
        "what",
        metavar="SPACE|CANDIDATE",
        help=f"a search space, sampled at random, or one candidate: {_CANDIDATE_HELP}",
    )
    _target(parser)
    _cycles(parser)
    parser.add_argument("--samples", type=_positive, default=10, metavar="N", help="candidates of a space (default 10)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the samples (default 0)")
    _data(parser)


def _train(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "train",
        "train and price one candidate, no search",
        "trec-dse train candidate.json --target stm32f469i-disco --out runs/one",
    )
    parser.add_argument("candidate", metavar="CANDIDATE", help=_CANDIDATE_HELP)
    _target(parser)
    _cycles(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/one"), metavar="DIR", help="default %(default)s")
    _data(parser)


def _import(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "import",
        "turn an ONNX file or a torch module into a network to estimate, train, search and export",
        "trec-dse import model.onnx --dataset cifar10 --pixels 0..1",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="an .onnx file, or FILE.py:FUNCTION, which is run and returns a torch module"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write (default imported/NAME)")
    parser.add_argument("--input", metavar="HxWxC", help="size of the images; only a torch module needs to be told")
    names = ", ".join(name for name in plugins.names("datasets"))
    parser.add_argument(
        "--dataset", metavar="D", help=f"{names} (default: the one of the network's shape, else npz, your own images)"
    )
    parser.add_argument(
        "--pixels",
        default="",
        metavar="P",
        help="how the network reads images: 0..1, -1..1, 0..255, imagenet, or MEAN,.../STD,... of image / 255 "
        "(default: by mean and deviation of the data set)",
    )


def _targets(verbs: _Verbs) -> None:
    summary = "the boards there are; `import` makes one more of a board file of PlatformIO"
    parser = _verb(verbs, "targets", summary, "trec-dse targets import disco_f407vg.json")
    parser.add_argument("action", nargs="?", choices=("list", "import"), default="list", help="default: list")
    parser.add_argument("board", type=Path, nargs="?", metavar="BOARD", help="the .json to import")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the .toml to write (default: the board's name, here)")


def _calibrate(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "calibrate",
        "measure a designed set of layers on a board's twin, and learn from it what the work of a layer costs",
        "trec-dse calibrate --target nucleo-f446re && "
        "trec-dse search digits_tiny --target nucleo-f446re --cycles learned",
    )
    parser.description = f"""{parser.description}

Minutes; what was measured stays measured, so an interrupted run goes on where it stopped. The measurements are kept in
~/.local/share/trec_dse/boards, or the folder that TREC_DSE_CALIBRATION names, together with those that `validate`
makes on boards; never mixed: another compiler, clock, board file or release of the kernels is another context.
Estimates take them where --cycles asks for it, and a study keeps the costs that it was started with."""
    _target(parser)
    _cycles(parser, "learned")
    parser.add_argument("--no-measure", action="store_true", help="learn only from what was measured already")


def _doctor(verbs: _Verbs) -> None:
    parser = _verb(
        verbs,
        "doctor",
        "what is missing on this machine, or wrong with a board, and how to mend it",
        "trec-dse doctor firmware --port auto",
    )
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="an export folder, to check as well")
    parser.add_argument("--port", metavar="PORT", help="the board that runs it: auto, /dev/ttyACM0, socket://host:port")


def _what_if_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--what-if-images", type=_positive, default=1000, metavar="N", help="validation images per accuracy (1000)"
    )


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of trial numbers, such as 12 or 3,12")
    return tuple(int(part) for part in parts)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
