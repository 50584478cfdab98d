"""The verbs that read a study: `status`, `report`, `serve`, `pick`, `rescore`."""

import argparse
from pathlib import Path

from trec_dse.cli.arguments._shared import Verbs, add_cycles, add_data, add_target, add_verb, positive


def status(verbs: Verbs) -> None:
    """What a study holds."""
    parser = add_verb(verbs, "status", "what a study holds, its front as a table", "trec-dse status runs/first --json")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")


def report(verbs: Verbs) -> None:
    """One page about a study."""
    parser = add_verb(
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
    add_data(parser)


def serve(verbs: Verbs) -> None:
    """The page, live."""
    parser = add_verb(
        verbs,
        "serve",
        "show the report of a study in the browser, live while a search runs; on this machine only, read only",
        "trec-dse serve runs/first --port 8765",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    parser.add_argument("--port", type=int, default=8765, metavar="P", help="default %(default)s; 0 takes a free one")
    _what_if_images(parser)
    add_data(parser)


def pick(verbs: Verbs) -> None:
    """One trial by budgets."""
    parser = add_verb(
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


def rescore(verbs: Verbs) -> None:
    """The same networks on another board."""
    parser = add_verb(
        verbs,
        "rescore",
        "the same trained networks priced for another board, nothing trained",
        "trec-dse rescore runs/first --target nucleo-f746zg --out runs/first-f746",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the study's folder")
    add_target(parser)
    add_cycles(parser)
    parser.add_argument("--out", type=Path, metavar="DIR2", help="the new study's folder (default DIR-TARGET)")


def _what_if_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--what-if-images", type=positive, default=1000, metavar="N", help="validation images per accuracy (1000)"
    )


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of trial numbers, such as 12 or 3,12")
    return tuple(int(part) for part in parts)
