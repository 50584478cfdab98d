"""What `--optimize size` saves in Flash and costs in cycles: linked firmwares of four networks, run on the twins.

    python benchmarks/size_or_speed.py --compiler zig

The digits' small network and CifarNet, dense and in slices. The last row of each board says what plain C in place of
the assembly of cores with SMLAD would save on top (-DTREC_PORTABLE), which is not offered: it is four times slower.
"""

import argparse
from dataclasses import replace
from unittest.mock import patch

from common import counted, linked, smooth_image

from trec_dse import firmware
from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.datasets import placeholder
from trec_dse.errors import DoesNotFitError
from trec_dse.evaluate import untrained_graph
from trec_dse.graph import QuantizedGraph
from trec_dse.resources import data_folder
from trec_dse.target import Core, Optimize, Target, load_target
from trec_dse.toolchain import Compiler, find_target_compiler, target_flags

BOARDS = ("nucleo-g0b1re", "stm32f469i-disco", "nucleo-f746zg")
STACK_BYTES = 4096
_SMALL = {"width": 8, "depth": 2}
CANDIDATES = {
    "digits, dense": Candidate("digits", "tiny", _SMALL),
    "digits, slices": Candidate("digits", "tiny", _SMALL, TrecPolicy(3, 4)),
    "CifarNet, dense": Candidate("cifar10", "cifarnet"),
    "CifarNet, slices": Candidate("cifar10", "cifarnet", trec=TrecPolicy(5, 5)),
}


def run(graph: QuantizedGraph, target: Target, compiler: Compiler) -> tuple[int, int]:
    """Bytes of Flash, and cycles of one inference."""
    with linked(graph, target, compiler, stack_bytes=STACK_BYTES) as built:
        return built.flash_bytes, counted(built, target, smooth_image(graph.input_shape)).answer.cycles


def plain_c(compiler: Compiler, core: Core, optimize: Optimize = "speed") -> tuple[str, ...]:
    """The flags of a build without assembly."""
    return (*target_flags(compiler, core, optimize), "-DTREC_PORTABLE")


def row(title: str, graph: QuantizedGraph, target: Target, compiler: Compiler) -> str:
    """One line of the table."""
    speed = run(graph, target, compiler)
    small = run(graph, replace(target, optimize="size"), compiler)
    cells = [target.core, title, f"{speed[0]:,}", f"{small[0]:,}", f"{speed[0] - small[0]:,}"]
    return " | ".join([*cells, f"{speed[1]:,}", f"{small[1]:,}", f"{100 * (small[1] / speed[1] - 1):+.1f} %"])


def main() -> None:
    """Link and run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", help="gcc, zig or a program; the default is what a firmware is built with")
    compiler = find_target_compiler(parser.parse_args().compiler)
    print(f"{compiler.version}\n")
    print("| core | network | Flash, speed | size | saved | cycles, speed | size | more |")
    print("|---" * 8 + "|")
    graphs = {title: untrained_graph(each, placeholder(each.dataset)) for title, each in CANDIDATES.items()}
    for name in BOARDS:
        target = load_target(data_folder("targets") / f"{name}.toml")
        for title, graph in graphs.items():
            try:
                print(f"| {row(title, graph, target, compiler)} |", flush=True)
            except DoesNotFitError:
                continue
        if target.core in ("cortex-m4", "cortex-m7"):
            with patch.object(firmware, "target_flags", plain_c):
                print(f"| {row('digits, dense, plain C', graphs['digits, dense'], target, compiler)} |", flush=True)


if __name__ == "__main__":
    main()
