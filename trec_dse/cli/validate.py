"""`trec-dse validate`: does the device compute what the host computes, to the byte?"""

import argparse
import sys

from trec_dse import codec
from trec_dse.cli.output import print_json
from trec_dse.durable import write_text
from trec_dse.errors import InputError
from trec_dse.executors import serial, twin
from trec_dse.executors.serial import SerialExecutor
from trec_dse.firmware import build_firmware
from trec_dse.flash import flash
from trec_dse.measure import measurement, read_manifest, run_on_device

MEASUREMENT = "measurement.json"


def run(args: argparse.Namespace) -> int:
    """Run the images, write FOLDER/measurement.json; exit code 1 on any mismatch."""
    if args.flash is not None and args.port is None:
        raise InputError("--flash writes to a board: name its port too, or leave it to --port auto")
    manifest = read_manifest(args.folder)
    target = manifest.target
    firmware = build_firmware(args.folder, target)
    if args.port is None:
        executor: SerialExecutor = twin.open(firmware.elf, target, build_id=manifest.build_id)
    else:
        port = serial.find_port(args.port, target)
        if args.flash is not None:
            flash(firmware.elf, target, None if args.flash == "auto" else args.flash)
        executor = serial.open(port, baud=target.serial.baud, build_id=manifest.build_id)

    def on_image(n: int) -> None:
        if sys.stderr.isatty():
            print(f"\rimage {n}/{args.images}", end="" if n < args.images else "\n", file=sys.stderr, flush=True)

    with executor:
        done, n_wrong = run_on_device(
            executor, args.folder, data_dir=args.data, n_images=args.images, on_image=on_image
        )
    measured = measurement(done, n_wrong, firmware, target.clock_hz)
    write_text(args.folder / MEASUREMENT, codec.to_json(measured))
    if args.json:
        print_json(codec.unstructure(measured))
        return 1 if measured.n_mismatches else 0
    print(
        f"{measured.executor}: {measured.n_images} images, {measured.n_mismatches} mismatches, "
        f"accuracy {100 * measured.accuracy:.2f} %"
    )
    print(
        f"{measured.cycles:,} cycles per image ({measured.latency_ms:.2f} ms), slowest {measured.cycles_max:,}; "
        f"stack {measured.stack_bytes} B"
    )
    for mismatch in done.mismatches:
        print(f"image {mismatch.index}: expected {list(mismatch.expected)}, found {list(mismatch.found)}")
    if n_wrong:
        print(f"{n_wrong} images on which the host build and the integer oracle disagree")
    return 1 if measured.n_mismatches else 0
