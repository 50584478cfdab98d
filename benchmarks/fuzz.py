"""A million frames into the firmware's half of the serial protocol, under the sanitizers of memory and of arithmetic.

    python benchmarks/fuzz.py --frames 1000000

Every frame comes after noise, once whole, to be understood or refused as too long, and once with a bit wrong or a byte
missing, never to be taken for a request; as many streams are noise alone. The program is that of the tests
(tests/c/frame_fuzz.c). It stops at the first wrong answer, and the sanitizers stop it at the first byte out of bounds.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

from common import Figure, show

from trec_dse.resources import package_folder
from trec_dse.toolchain import build_host_program, find_host_compiler

PROGRAM = Path(__file__).parents[1] / "tests" / "c" / "frame_fuzz.c"
N_FRAMES, SEED = 1_000_000, 7


def main() -> None:
    """Build it, run it, say what was clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=N_FRAMES, help="whole frames, and streams of noise (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the generator, at least 1 (%(default)s)")
    args = parser.parse_args()
    protocol = package_folder("runtime") / "protocol"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fuzz"
        sources = [protocol / "trec_frame.c", PROGRAM]
        build_host_program(sources, [protocol], program, find_host_compiler(), sanitize=True)
        begin = time.monotonic()
        n = str(args.frames)
        done = subprocess.run([program, n, n, str(args.seed)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"seed {args.seed}: {done.stderr.strip()}")
    noise, frames, mistaken = map(int, done.stdout.split())
    show(
        [
            Figure(
                "frames understood or refused rightly, then damaged and refused", frames, "frames", args.frames, True
            ),
            Figure("streams of noise", noise, "streams"),
            Figure("noise taken for a request", mistaken, "requests", 0, mistaken == 0),
            Figure("time", time.monotonic() - begin, "s"),
        ]
    )


if __name__ == "__main__":
    main()
