"""The verbs about boards and their firmware: `export`, `validate`, `targets`, `calibrate`, `doctor`."""

from pathlib import Path

from trec_dse.cli.arguments._shared import Verbs, add_cycles, add_data, add_target, add_verb, positive
from trec_dse.flash import DRIVE, TOOLS


def export(verbs: Verbs) -> None:
    """The firmware project of a trial."""
    parser = add_verb(
        verbs,
        "export",
        "write the firmware project of a trial, or of a network that is trained already",
        "trec-dse export runs/first 12 --out firmware && make -C firmware",
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="the study's folder; or a trained network's: of a study, or mnist2k"
    )
    parser.add_argument("trial", type=int, nargs="?", metavar="TRIAL", help="number of a complete trial of the study")
    add_target(parser, required=False)
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
    add_data(parser)


def validate(verbs: Verbs) -> None:
    """Test images on a board or its twin."""
    parser = add_verb(
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
    parser.add_argument("--images", type=positive, default=100, metavar="N", help="test images (default 100)")
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
    add_data(parser)


def targets(verbs: Verbs) -> None:
    """The boards there are."""
    summary = "the boards there are; `import` makes one more of a board file of PlatformIO"
    parser = add_verb(verbs, "targets", summary, "trec-dse targets import disco_f407vg.json")
    parser.add_argument("action", nargs="?", choices=("list", "import"), default="list", help="default: list")
    parser.add_argument("board", type=Path, nargs="?", metavar="BOARD", help="the .json to import")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the .toml to write (default: the board's name, here)")


def calibrate(verbs: Verbs) -> None:
    """Learn what the work of a layer costs."""
    parser = add_verb(
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
    add_target(parser)
    add_cycles(parser, "learned")
    parser.add_argument("--no-measure", action="store_true", help="learn only from what was measured already")


def doctor(verbs: Verbs) -> None:
    """What is missing or wrong."""
    parser = add_verb(
        verbs,
        "doctor",
        "what is missing on this machine, or wrong with a board, and how to mend it",
        "trec-dse doctor firmware --port auto",
    )
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="an export folder, to check as well")
    parser.add_argument("--port", metavar="PORT", help="the board that runs it: auto, /dev/ttyACM0, socket://host:port")
