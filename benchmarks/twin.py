"""How fast the twin runs firmware with its memory model, and whether it counts the same twice, and what QEMU counts.

CifarNet, dense and in slices, at a width that takes a second or so, on a board of each core. Speed is instructions of
the network's run per second of this process's CPU time, the memory model's stalls counted; the aim is 25 million.
Where QEMU is installed, the same object files run there, and instructions and answers have to be the twin's. How its
cycles compare with those that others measured on silicon is told by silicon.py.

    python benchmarks/twin.py --runs 3
"""

import argparse
import shutil
import time
from statistics import median

import numpy as np
import torch
from common import Counted, Figure, counted, linked, show, smooth_image

from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.datasets import placeholder
from trec_dse.evaluate import untrained_graph
from trec_dse.executors import qemu
from trec_dse.graph import QuantizedGraph
from trec_dse.resources import data_folder
from trec_dse.target import Target, load_target

WIDTHS = {"nucleo-g0b1re": 0.25, "nucleo-f207zg": 0.25, "stm32f469i-disco": 1.0, "stm32f746g-disco": 1.0}
GOAL = 25.0  # million instructions a second
POLICIES = {"dense": None, "in slices": TrecPolicy(5, 5)}


def figures_of(board: str, name: str, n_runs: int) -> list[Figure]:
    """Speed and repeatability of one firmware on one board's twin."""
    target = load_target(data_folder("targets") / f"{board}.toml")
    graph = untrained_graph(
        Candidate("cifar10", "cifarnet", {"width": WIDTHS[board]}, POLICIES[name]), placeholder("cifar10")
    )
    image, speeds, found = smooth_image(graph.input_shape), list[float](), list[Counted]()
    with linked(graph, target) as firmware:
        for _ in range(n_runs):
            start = time.process_time()
            found.append(counted(firmware, target, image))
            speeds.append(found[-1].n_instructions / (time.process_time() - start) / 1e6)
    different = {(each.n_instructions, each.answer.cycles) for each in found}
    title, speed = f"{target.core} ({board}), {name}", median(speeds)
    first = found[0]
    return [
        Figure(f"{title}: instructions", first.n_instructions / 1e6, "million"),
        Figure(f"{title}: cycles an instruction", first.answer.cycles / first.n_instructions, ""),
        Figure(f"{title}: speed", speed, "M/s", GOAL, speed >= GOAL),
        Figure(f"{title}: different counts in {n_runs} runs", len(different), "", 1, len(different) == 1),
        *other_opinion(graph, target, first, title),
    ]


def other_opinion(graph: QuantizedGraph, target: Target, twin: Counted, title: str) -> list[Figure]:
    """What QEMU says of the same kernels and image; nothing where it is not installed."""
    if shutil.which(qemu.PROGRAM) is None:
        return []
    with linked(graph, qemu.emulated(target)) as firmware, qemu.open(firmware.elf, target) as executor:
        answer = executor.infer(smooth_image(graph.input_shape))
        n_more = executor.n_instructions - twin.n_instructions
    n_wrong = int(np.count_nonzero(answer.output != twin.answer.output))
    return [
        Figure(f"{title}: instructions that QEMU counts more", n_more, "", 0, n_more == 0),
        Figure(f"{title}: bytes that QEMU answers otherwise", n_wrong, "", 0, n_wrong == 0),
    ]


def main() -> None:
    """All boards, both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each firmware; the median counts")
    n_runs = parser.parse_args().runs
    torch.set_num_threads(1)
    show([figure for board in WIDTHS for name in POLICIES for figure in figures_of(board, name, n_runs)])


if __name__ == "__main__":
    main()
