"""The board that a verb is for, with the cycle costs that were asked for."""

import argparse

from trec_dse import plugins
from trec_dse.errors import TargetError
from trec_dse.target import Calibration, Target, load_target

FILE, LEARNED = "file", "learned"


def board_of(args: argparse.Namespace) -> Target:
    """The board of --target; with --cycles other than "file" its costs are those learned from measurements."""
    target = load_target(plugins.data_file("targets", args.target, ".toml", TargetError))
    if args.cycles == FILE:
        return target
    # PyTorch, for those only who ask for it
    from trec_dse.calibrate import AUTO, calibrated  # noqa: PLC0415
    from trec_dse.calibration import Store  # noqa: PLC0415

    return calibrated(target, Store.default(), AUTO if args.cycles == LEARNED else args.cycles)


def costs_text(calibration: Calibration | None) -> str:
    """Whose cycle costs an estimate rests on, in words."""
    return "the board's file" if calibration is None else calibration.summary
