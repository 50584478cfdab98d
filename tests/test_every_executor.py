"""Whatever runs a network gives the same answers; a new file in `executors/` must at least say what it is."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from twin_programs import BUILD_ID, M4, build, tiny_files

from trec_dse.device import Executor, Firmware, Int8Array
from trec_dse.executors import qemu, replay, serial, twin
from trec_dse.executors.host import HostNetwork
from trec_dse.executors.metering import MeteringExecutor
from trec_dse.executors.resuming import Asked, ResumingExecutor
from trec_dse.metering import Trace
from trec_dse.plugins import load, names
from trec_dse.validate import validate

IMAGES: Int8Array = np.random.default_rng(7).integers(-128, 128, (12, 2, 2, 3), np.int8)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    return build(M4, tmp_path_factory.mktemp("every") / "export")


@contextmanager
def open_serial(firmware: Firmware) -> Iterator[Executor]:
    command = [sys.executable, "-m", "trec_dse.twin", str(firmware.elf), "--target", M4.name, "--tcp", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with serial.open(process.stdout.readline().strip(), build_id=BUILD_ID) as executor:
            yield executor
        process.terminate()


@contextmanager
def open_twin(firmware: Firmware) -> Iterator[Executor]:
    with twin.open(firmware.elf, M4, build_id=BUILD_ID) as executor:
        yield executor


@contextmanager
def open_qemu(firmware: Firmware) -> Iterator[Executor]:
    if shutil.which(qemu.PROGRAM) is None:
        pytest.skip(f"{qemu.PROGRAM} is not installed")
    elf = build(qemu.emulated(M4), firmware.folder.parent / "emulated").elf
    with qemu.open(elf, M4, build_id=BUILD_ID) as executor:
        yield executor


@contextmanager
def open_replay(firmware: Firmware) -> Iterator[Executor]:
    with open_twin(firmware) as executor:
        recorder = replay.Recorder(executor)
        for image in IMAGES:
            recorder.infer(image)
    path = firmware.folder / "recording.json"
    replay.write_recording(recorder.recording, path)
    with replay.open(path) as executor:
        yield executor


@contextmanager
def open_resuming(firmware: Firmware) -> Iterator[Executor]:
    """Half of the images were answered before."""
    path, asked = firmware.folder / "answers.jsonl", Asked.of(firmware.elf, "twin")
    with open_twin(firmware) as executor, ResumingExecutor(executor, path, asked) as first:
        for image in IMAGES[:6]:
            first.infer(image)
    with open_twin(firmware) as executor, ResumingExecutor(executor, path, asked) as second:
        assert second.n_kept == 6
        yield second


class Meter:
    """Sees 40 mA at 2 V for as long as the inference under way takes, which it is told before."""

    name, is_live = "fake meter", True

    def __init__(self, cycles: list[int]) -> None:
        self._cycles = cycles

    def start(self) -> None: ...

    def stop(self) -> Trace:
        marker = np.repeat([False, True, False], [10, 100, 10])
        step_s = self._cycles.pop(0) / M4.clock_hz / 100
        return Trace(step_s, np.full(120, 0.04), np.full(120, 2.0), marker)

    def finish(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def open_metering(firmware: Firmware) -> Iterator[Executor]:
    with open_twin(firmware) as first:
        cycles = [first.infer(image).cycles for image in IMAGES]
    with open_twin(firmware) as device, MeteringExecutor(device, Meter(list(cycles)), M4.clock_hz) as executor:
        yield executor
        # 80 mW for as long as all of them took
        assert executor.energy().mj == pytest.approx(80 * sum(cycles) / len(cycles) / M4.clock_hz)


OPENERS = {
    "serial": open_serial,
    "twin": open_twin,
    "replay": open_replay,
    "resuming": open_resuming,
    "qemu": open_qemu,
    "metering": open_metering,
}


def by_hand(image: Int8Array) -> list[int]:
    """The tiny network: clamped sums of four inputs, times 1, 2 and 3."""
    groups = image.reshape(3, 4).astype(int).sum(axis=1)
    return [int(np.clip(total * factor, -128, 127)) for total, factor in zip(groups, (1, 2, 3), strict=True)]


@pytest.mark.parametrize("name", names("executors"))
def test_every_executor_says_what_it_is(name: str) -> None:
    assert load("executors", name).__doc__


@pytest.mark.parametrize("name", sorted(set(names("executors")) - {"host"}))
def test_every_executor_gives_the_answers_computed_by_hand(name: str, firmware: Firmware) -> None:
    expected = np.array([by_hand(image) for image in IMAGES], np.int8)
    labels = expected.argmax(axis=1)
    with OPENERS[name](firmware) as executor:
        run = validate(executor, IMAGES, labels, expected)
    assert run.is_bit_exact
    assert run.accuracy == 1.0
    assert (run.cycles > 0) == (name != "qemu")  # which executes, but does not know how long that takes
    assert run.n_clusters == (float(np.count_nonzero(IMAGES)) / len(IMAGES), 7.0)


def test_the_host_build_agrees_with_the_executors() -> None:
    files = {name: text for name, text in tiny_files().items() if "network." in name}
    with HostNetwork.build(files, [], (12, 3, 2)) as network:
        run = network.run(IMAGES)
    assert run.outputs.tolist() == [by_hand(image) for image in IMAGES]
