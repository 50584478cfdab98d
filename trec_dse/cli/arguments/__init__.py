"""What can be typed: every verb with its options and an example."""

import argparse

from trec_dse import __version__
from trec_dse.cli.arguments import boards, candidates, reading, searching

_OVERVIEW = """\
Search networks that fit a microcontroller: accuracy, SRAM, Flash and latency together.

a first search, in minutes, without a board:
  trec-dse search digits_tiny --target stm32f469i-disco --trials 30 --out runs/first
  trec-dse report runs/first
  trec-dse pick runs/first --sram 8KiB --max-loss 1pp

exit codes: 0 done, 1 the answer is no (a mismatch, nothing fits), 2 bad input or a missing tool, 130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; `args.verb` names the file that runs."""
    parser = argparse.ArgumentParser(
        prog="trec-dse", description=_OVERVIEW, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"trec-dse {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    adders = (
        searching.search,
        searching.resume,
        searching.worker,
        reading.status,
        reading.report,
        reading.serve,
        reading.pick,
        reading.rescore,
        boards.export,
        boards.validate,
        candidates.estimate,
        candidates.train,
        candidates.import_model,
        boards.targets,
        boards.calibrate,
        boards.doctor,
    )
    for add in adders:
        add(verbs)
    return parser
