"""What tables copied out of Flash at start-up (`--place`) save, and how far the estimate of it is off.

    python benchmarks/placement.py --compiler zig
    python benchmarks/placement.py --only raspberry-pi-pico

Every network is linked twice for every board and profiled on its twin, which answers as the oracle does both times; the
bytes that the linker placed are compared with those that were estimated, and must be equal. Untrained networks: neither
tables nor cycles depend on what they say. JSON lines on standard output, a table for docs/kernels.md on standard error.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace

import numpy as np
from common import linked, smooth_image

from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.datasets import placeholder
from trec_dse.device import Firmware
from trec_dse.evaluate import cost_of, untrained_graph
from trec_dse.graph import QuantizedGraph
from trec_dse.profiling import NetworkProfile, profile_network
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import Compiler, find_target_compiler
from trec_dse.twin.profile import profile

PLACES = {
    "nucleo-f303re": "auto",
    "stm32f469i-disco": "auto",
    "nucleo-f746zg": "auto",
    "nucleo-h743zi": "auto",
    "raspberry-pi-pico": "SRAM",
    "arduino-nano33-ble": "SRAM",
}
CANDIDATES = {
    "digits": Candidate("digits", "tiny", {"width": 8, "depth": 2}),
    "LeNet-5": Candidate("mnist", "lenet5"),
    "CifarNet/2": Candidate("cifar10", "cifarnet", {"width": 0.5}),
    "CifarNet/2, slices": Candidate("cifar10", "cifarnet", {"width": 0.5}, TrecPolicy(5, 5)),
    "MobileNet/4": Candidate("cifar10", "mobilenet_v1", {"width": 0.25}),
    "GRU 32": Candidate("mnist", "gru", {"width": 32, "layers": 1, "steps": 28}),
}


@dataclass(frozen=True)
class Row:
    """One network on one board; `stalls` are cycles in which the core waited for data, `errors` those of the estimates
    in per cent, without and with tables placed."""

    board: str
    region: str
    network: str
    placed_bytes: int
    cycles: tuple[int, int]
    stalls: tuple[int, int]
    estimated_saving: int
    errors: tuple[float, float]


def measured(graph: QuantizedGraph, target: Target, compiler: Compiler) -> tuple[NetworkProfile, Firmware]:
    """A profile of one inference that was answered as the oracle answers."""
    image = smooth_image(graph.input_shape)
    with linked(graph, target, compiler) as firmware:
        found = profile_network(graph, firmware.elf, target, [image])
        answer = profile(firmware.elf, target, [image], len(graph.nodes))[0].answer
    if not np.array_equal(answer.output, graph.run(image)[graph.output].reshape(-1)):
        raise SystemExit(f"{target.name}: the twin does not answer as the oracle")
    return found, firmware


def row(name: str, graph: QuantizedGraph, target: Target, compiler: Compiler) -> Row:
    """Both firmwares of one network."""
    placed = replace(target, place=PLACES[target.name])
    (before, _), (after, firmware) = (measured(graph, each, compiler) for each in (target, placed))
    plain, cost = cost_of(before.graph, target), cost_of(after.graph, placed)
    assert cost.placed is not None and cost.placed.n_bytes == firmware.placed_bytes
    pairs = ((plain.cycles, before.cycles), (cost.cycles, after.cycles))
    return Row(
        board=target.name,
        region=cost.placed.region,
        network=name,
        placed_bytes=firmware.placed_bytes,
        cycles=(before.cycles, after.cycles),
        stalls=(before.total.data_stalls, after.total.data_stalls),
        estimated_saving=cost.placed.saved_cycles,
        errors=(100 * (pairs[0][0] / pairs[0][1] - 1), 100 * (pairs[1][0] / pairs[1][1] - 1)),
    )


def line(found: Row) -> str:
    """A row of the table."""
    before, after = found.cycles
    saved = before - after
    cells = [found.board, found.region, found.network, f"{found.placed_bytes:,}", f"{before:,}", f"{after:,}"]
    cells += [f"{100 * saved / before:.1f} %", f"{100 * found.estimated_saving / before:.1f} %"]
    return " | ".join([*cells, f"{found.errors[0]:+.1f}, {found.errors[1]:+.1f} %"])


def main() -> None:
    """Everything, or one board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", help="gcc, zig or a program; the default is what a firmware is built with")
    parser.add_argument("--only", metavar="BOARD", choices=sorted(PLACES))
    args = parser.parse_args()
    compiler = find_target_compiler(args.compiler)
    print("| board | into | network | placed, B | cycles | placed | saved | estimated | error, both |", file=sys.stderr)
    print("|---" * 9 + "|", file=sys.stderr)
    graphs = {name: untrained_graph(each, placeholder(each.dataset)) for name, each in CANDIDATES.items()}
    for board in [args.only] if args.only else PLACES:
        target = load_target(data_folder("targets") / f"{board}.toml")
        for name, graph in graphs.items():
            found = row(name, graph, target, compiler)
            print(json.dumps(asdict(found)), flush=True)
            print(f"| {line(found)} |", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
