"""CIFAR-10 test images through one firmware on the twin, over a good line and over bad ones: right, or named.

A relay between pyserial and the twin's port spoils what passes in either direction: one bit in 10,000 bytes, and one
frame in 200 that is cut, doubled, swapped with an older one or lost, or has noise or a foreign frame before it. Every
answer is compared with the host build's.

    python benchmarks/serial_line.py --data DIR --images 10000 --bad 10000
"""

import argparse
import os
import random
import select
import subprocess
import sys
import threading
import time
import tty
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import BUILD_ID, Figure, linked, random_candidates, show

from trec_dse import datasets
from trec_dse.device import Executor, Int8Array
from trec_dse.errors import DeviceError
from trec_dse.evaluate import host_network, int8_images, untrained_graph
from trec_dse.executors import serial
from trec_dse.graph import QuantizedGraph
from trec_dse.protocol import DELIMITER, Command, Frame, encode_frame
from trec_dse.resources import data_folder
from trec_dse.target import load_target

BOARD, SPACE, SEED = "stm32f746g-disco", "cifar10_cifarnet", 1
FLIPS, FRAMES = 10_000, 200  # one bit in so many bytes, one frame in so many
TIMEOUT_S = 2.0  # of one request over a bad line
Spoil = Callable[[random.Random, bytes, bytes], bytes]

FAULTS: dict[str, Spoil] = {
    "cut": lambda r, frame, _: frame[: r.randrange(len(frame))],
    "doubled": lambda _, frame, __: frame + frame,
    "an older one again": lambda _, frame, before: frame + before,
    "an older one first": lambda _, frame, before: before + frame,
    "lost": lambda _, __, ___: b"",
    "noise": lambda r, frame, _: r.randbytes(9) + DELIMITER + frame,
    "foreign": lambda r, frame, _: encode_frame(Frame(Command.ECHO, r.randrange(1000), b"who?")) + frame,
}


class BadLine:
    """Passes bytes on between a port of its own and the twin's, whole frames at a time, and spoils some of them."""

    def __init__(self, far: str, seed: int) -> None:
        self._master, self._near = os.openpty()
        tty.setraw(self._near)
        self._far = os.open(far, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._far)
        self.url, self.n_spoilt = os.ttyname(self._near), Counter[str]()
        self._random, self._is_over = random.Random(seed), False
        ways = ((self._master, self._far), (self._far, self._master))
        self._threads = [threading.Thread(target=self._pass_on, args=way, daemon=True) for way in ways]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop and give the ports back."""
        self._is_over = True
        for thread in self._threads:
            thread.join()
        for handle in (self._master, self._near, self._far):
            os.close(handle)

    def _pass_on(self, source: int, sink: int) -> None:
        pending, before = b"", DELIMITER
        while not self._is_over:
            if not select.select([source], [], [], 0.1)[0]:
                continue
            *whole, pending = (pending + os.read(source, 65_536)).split(DELIMITER)
            for frame in (piece + DELIMITER for piece in whole):
                sent = self._spoilt(frame, before)
                before = frame
                while sent:
                    sent = sent[os.write(sink, sent) :]

    def _spoilt(self, frame: bytes, before: bytes) -> bytes:
        r = self._random
        if r.random() < len(frame) / FLIPS:
            self.n_spoilt["flipped bits"] += 1
            damaged = bytearray(frame)
            damaged[r.randrange(len(frame))] ^= 1 << r.randrange(8)
            frame = bytes(damaged)
        if r.randrange(FRAMES):
            return frame
        name = r.choice(list(FAULTS))
        self.n_spoilt[name] += 1
        return FAULTS[name](r, frame, before)


@contextmanager
def twin_port(elf: Path) -> Iterator[str]:
    """The port of a twin that runs the firmware, in a process of its own."""
    command = [sys.executable, "-m", "trec_dse.twin", str(elf), "--target", BOARD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def over_bad_line(port: str) -> Iterator[tuple[Executor, BadLine]]:
    """The same firmware, asked over a line that spoils."""
    line = BadLine(port, SEED)
    try:
        with serial.open(line.url, timeout_s=TIMEOUT_S, build_id=BUILD_ID) as executor:
            yield executor, line
    finally:
        line.close()


def ask(executor: Executor, images: Int8Array, expected: Int8Array) -> tuple[Counter[str], float]:
    """How many answers were right, wrong, or a named failure; seconds in all."""
    found, start = Counter[str](), time.monotonic()
    for image, right in zip(images, expected, strict=True):
        try:
            is_right = np.array_equal(executor.infer(image).output, right)
        except DeviceError as problem:
            found["named"] += 1
            print(problem, file=sys.stderr)
        else:
            found["right" if is_right else "wrong"] += 1
    return found, time.monotonic() - start


def figures(name: str, found: Counter[str], seconds: float) -> list[Figure]:
    """What became of the images of one line."""
    n = found.total()
    return [
        Figure(f"{name}: images", n, "images"),
        Figure(f"{name}: wrong answers", found["wrong"], "images", 0, found["wrong"] == 0),
        Figure(f"{name}: failures that were named", found["named"], "images"),
        Figure(f"{name}: wall time", seconds, "s"),
        Figure(f"{name}: images per second", n / seconds, ""),
    ]


def network(data: Path | None) -> tuple[QuantizedGraph, Int8Array]:
    """A small candidate with random weights, and the test images as it reads them; made up without `data`."""
    dataset = datasets.placeholder("cifar10") if data is None else datasets.load("cifar10", data)
    candidate = random_candidates(SPACE, 6, seed=101)[-1]
    graph = untrained_graph(replace(candidate, dataset="cifar10"), dataset)
    return graph, int8_images(graph, dataset, dataset.test)


def main() -> None:
    """Both lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of CIFAR-10 (default: made-up images)")
    parser.add_argument("--images", type=int, default=10_000, metavar="N", help="over the good line (10000)")
    parser.add_argument("--bad", type=int, default=10_000, metavar="N", help="over the bad line (10000)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    graph, images = network(args.data)
    most = max(args.images, args.bad)
    images = np.resize(images, (most, *images.shape[1:]))
    with host_network(graph) as host:
        expected = host.run(images).outputs
    found: list[Figure] = []
    target = load_target(data_folder("targets") / f"{BOARD}.toml")
    with linked(graph, target) as firmware, twin_port(firmware.elf) as port:
        with serial.open(port, timeout_s=TIMEOUT_S, build_id=BUILD_ID) as executor:
            found += figures("good line", *ask(executor, images[: args.images], expected[: args.images]))
        with over_bad_line(port) as (executor, line):
            found += figures("bad line", *ask(executor, images[: args.bad], expected[: args.bad]))
        found += [Figure(f"bad line: {what}", n, "frames") for what, n in sorted(line.n_spoilt.items())]
    show(found)


if __name__ == "__main__":
    main()
