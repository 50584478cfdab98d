"""The command line: parse, run one verb's file, print, and turn errors into exit codes.

Each verb is a file here with ``run(args) -> int``; it is imported only when it is asked for, so that
``trec-dse --help`` needs neither PyTorch nor Optuna.
"""

import importlib
import sys
from collections.abc import Sequence

from trec_dse.cli.arguments import build_parser
from trec_dse.errors import TrecDseError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 done, 1 the answer is no, 2 bad input, 130 interrupted."""
    args = build_parser().parse_args(arguments)
    try:
        verb = importlib.import_module(f"trec_dse.cli.{args.verb}")
        code: int = verb.run(args)
    except TrecDseError as problem:
        print(f"trec-dse {args.verb}: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print(f"\ntrec-dse {args.verb}: interrupted; what is finished is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    return code
