"""Run the command line as ``python -m trec_dse``."""

import sys

from trec_dse.cli import main

if __name__ == "__main__":
    sys.exit(main())
