"""Options that several verbs have, and what every verb has."""

import argparse
from pathlib import Path
from typing import TypeAlias

from trec_dse import plugins

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # argparse has no public name for it


def add_verb(verbs: Verbs, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    """The parser of a verb, with its example."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON for another program instead of text")
    return parser


def add_target(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """The board, and how its firmware is built."""
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


def add_cycles(parser: argparse.ArgumentParser, default: str = "file") -> None:
    """Whose cycle costs."""
    parser.add_argument(
        "--cycles",
        default=default,
        metavar="C",
        help="whose cycle costs: file, the board file's; learned, from the board that was measured last, or else its "
        "twin; twin; or a board's id (default %(default)s)",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where the data set is."""
    parser.add_argument(
        "--data",
        "--data-dir",
        dest="data",
        type=Path,
        metavar="DIR",
        help="folder of the data set (default: the cache)",
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
