"""The board that a verb is for, with the cycle costs that were asked for and what its firmware is compiled for."""

import argparse
from dataclasses import replace

from trec_dse import plugins
from trec_dse.errors import TargetError
from trec_dse.results import Cost
from trec_dse.target import Calibration, Target, load_target

FILE, LEARNED = "file", "learned"


def board_of(args: argparse.Namespace) -> Target:
    """The board of --target; with --cycles other than "file" its costs are those learned from measurements."""
    target = plain_board_of(args)
    if args.cycles == FILE:
        return target
    # PyTorch, for those only who ask for it
    from trec_dse.calibrate import AUTO, calibrated  # noqa: PLC0415
    from trec_dse.calibration import Store  # noqa: PLC0415

    return calibrated(target, Store.default(), AUTO if args.cycles == LEARNED else args.cycles)


def plain_board_of(args: argparse.Namespace) -> Target:
    """The board of --target as its file has it, its firmware as --optimize and --place say."""
    return optimized(load_target(plugins.data_file("targets", args.target, ".toml", TargetError)), args)


def optimized(target: Target, args: argparse.Namespace) -> Target:
    """`target` as --optimize and --place want it, or as it is without these options."""
    target = target if args.optimize is None else replace(target, optimize=args.optimize)
    return target if args.place is None else replace(target, place=args.place)


def other_choice(target: Target) -> Target:
    """The same board with its firmware compiled for the other aim."""
    return replace(target, optimize="speed" if target.optimize == "size" else "size")


def against(cost: Cost, other: Cost, target: Target) -> str:
    """What one choice saves and costs beside the other, both estimated."""
    flash, cycles = other.flash_bytes - cost.flash_bytes, 100 * (cost.cycles / other.cycles - 1)
    aim = other_choice(target).optimize
    return f"for {target.optimize}: {flash:+,} B of Flash saved, {cycles:+.1f} % cycles against a build for {aim}"


def costs_text(calibration: Calibration | None) -> str:
    """Whose cycle costs an estimate rests on, in words."""
    return "the board's file" if calibration is None else calibration.summary
