"""`trec-dse targets`: the boards there are, and one more from a file of PlatformIO."""

import argparse
from pathlib import Path

from trec_dse import codec, plugins
from trec_dse.cli.output import KIB, print_json, print_table
from trec_dse.durable import write_text
from trec_dse.errors import InputError, TargetError
from trec_dse.platformio import import_board, read_board, to_toml
from trec_dse.target import Target, load_target


def run(args: argparse.Namespace) -> int:
    """List the shipped boards, or write a board file from PlatformIO's."""
    names = plugins.data_names("targets", ".toml")
    targets = [load_target(plugins.data_file("targets", name, ".toml", TargetError)) for name in names]
    if args.action == "import":
        return _import(args, targets)
    if args.json:
        print_json([codec.unstructure(target) for target in targets])
        return 0
    rows = [
        [t.name, t.mcu, t.core, f"{t.clock_hz / 1e6:.0f}", f"{t.sram_bytes // KIB}", f"{t.flash_bytes // KIB}", _mw(t)]
        for t in targets
    ]
    print_table("", ["target", "mcu", "core", "MHz", "SRAM KiB", "Flash KiB", "mW"], rows)
    return 0


def _mw(target: Target) -> str:
    return "unknown" if target.power is None else f"{target.power.run_mw:.0f}"


def _import(args: argparse.Namespace, targets: list[Target]) -> int:
    """Write the TOML, unless there is one, and say what to compare with the board's manual."""
    if args.board is None:
        raise InputError("targets import needs a board file: trec-dse targets import board.json")
    out: Path = args.out or Path(f"{args.board.stem}.toml")
    if out.exists():
        raise InputError(f"{out} is there already; name another with --out")
    imported = import_board(read_board(args.board), targets)
    write_text(out, to_toml(imported.target, imported.notes))
    target = load_target(out)
    if args.json:
        print_json({"file": str(out), "nearest": imported.nearest, "notes": imported.notes})
        return 0
    for note in imported.notes:
        print(note)
    print(f"wrote {out}; next: trec-dse search digits_tiny --target {out} --out runs/{target.name}")
    return 0
