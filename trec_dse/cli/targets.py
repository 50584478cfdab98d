"""`trec-dse targets`: the boards there are."""

import argparse

from trec_dse import codec, plugins
from trec_dse.cli.output import KIB, print_json, print_table
from trec_dse.errors import TargetError
from trec_dse.target import load_target


def run(args: argparse.Namespace) -> int:
    """List the shipped boards."""
    names = plugins.data_names("targets", ".toml")
    targets = [load_target(plugins.data_file("targets", name, ".toml", TargetError)) for name in names]
    if args.json:
        print_json([codec.unstructure(target) for target in targets])
        return 0
    rows = [
        [t.name, t.mcu, t.core, f"{t.clock_hz / 1e6:.0f}", f"{t.sram_bytes // KIB}", f"{t.flash_bytes // KIB}"]
        for t in targets
    ]
    print_table("", ["target", "mcu", "core", "MHz", "SRAM KiB", "Flash KiB"], rows)
    return 0
