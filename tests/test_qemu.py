"""QEMU, an engine that is none of ours, runs the kernels' own objects: the oracle's bytes, the twin's instructions."""

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_every_op import OPS, oracle, random_images, random_network
from twin_programs import BUILD_ID, M0_PLUS, M3, M4, M7, build

from trec_dse.calibrate import linked
from trec_dse.codegen import network_calls
from trec_dse.errors import DeviceError, NoAnswerError, ToolchainError
from trec_dse.executors import qemu
from trec_dse.export_files import include_folders
from trec_dse.target import Target
from trec_dse.toolchain import compile_objects, find_target_compiler, target_flags
from trec_dse.twin.profile import profile

needs_qemu = pytest.mark.skipif(shutil.which(qemu.PROGRAM) is None, reason=f"{qemu.PROGRAM} is not installed")
IMAGE = np.arange(12, dtype=np.int8)
BOARDS = (M0_PLUS, M3, M4, M7)
QUICK = [("conv2d", M4), ("trec_conv2d", M7), ("dense", M3), ("trec_strip_conv2d", M0_PLUS)]
SLOW = [(kind, target) for kind in OPS for target in BOARDS if (kind, target) not in QUICK]
END_S = 20


@needs_qemu
@pytest.mark.parametrize(
    ("kind", "target"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=lambda value: getattr(value, "core", value),
)
def test_it_gives_the_oracle_s_integers_in_the_twin_s_instructions(kind: str, target: Target) -> None:
    _, graph, _ = random_network(kind, 600)
    images = random_images(graph, 2)
    with linked(graph, target) as firmware:
        runs = profile(firmware.elf, target, list(images), len(network_calls(graph)))
    expected = [sum(tally.n_instructions for step in run.steps for tally in step.values()) for run in runs]
    answers, counts = [], []
    with linked(graph, qemu.emulated(target)) as firmware, qemu.open(firmware.elf, target) as executor:
        for image in images:
            answers.append(executor.infer(image).output.reshape(-1))
            counts.append(executor.n_instructions)
    assert np.array_equal(np.stack(answers), oracle(graph, images))
    assert counts == expected


@pytest.mark.parametrize("target", BOARDS, ids=lambda target: target.core)
def test_its_firmware_is_made_of_the_board_s_own_kernel_objects(target: Target) -> None:
    _, graph, _ = random_network("trec_conv2d", 600)
    compiler, found = find_target_compiler(), []
    for each in (target, qemu.emulated(target)):
        with linked(graph, each) as firmware:
            include = [firmware.folder / name for name in include_folders(each)]
            sources = sorted(path for name in ("network", "kernels") for path in (firmware.folder / name).glob("*.c"))
            found.append(compile_objects(sources, include, target_flags(compiler, each.core), compiler))
    assert len(found[0]) >= 2
    assert found[0] == found[1]


@needs_qemu
def test_instructions_of_a_call_by_hand(tmp_path: Path) -> None:
    """A loop of two instructions, a thousand times more or less often: whatever surrounds it stays the same."""
    loop = '__asm__ volatile("movs r3, #%d\\n1: subs r3, #1\\n bne 1b" ::: "r3", "cc"); int32_t sum = 0;'
    counts = []
    for n in (100, 200):
        firmware = build(qemu.emulated(M4), tmp_path / str(n), "int32_t sum = 0;", loop % n)
        with qemu.open(firmware.elf, M4, build_id=BUILD_ID) as executor:
            executor.infer(IMAGE)
            counts.append(executor.n_instructions)
    n_loops = 3  # the tiny network has three outputs, each with a sum
    assert counts[1] - counts[0] == n_loops * 2 * 100


@needs_qemu
def test_a_core_without_an_instruction_does_not_answer(tmp_path: Path) -> None:
    """SXTB16 here; QEMU's Cortex-M3 takes SMLAD, which the chip does not and the twin refuses."""
    unpack = '__asm__ volatile("sxtb16 r3, r3" ::: "r3"); int32_t sum = 0;'
    elf = build(qemu.emulated(M4), tmp_path / "export", "int32_t sum = 0;", unpack).elf
    with qemu.open(elf, M4) as executor:
        assert executor.infer(IMAGE).output.tolist() == [6, 44, 114]
    with (
        qemu.open(elf, M3, timeout_s=5.0) as executor,
        pytest.raises(NoAnswerError, match=r"infer request, sent 1 times, was not answered within 5 s"),
    ):
        executor.infer(IMAGE)


@needs_qemu
def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    elf = build(qemu.emulated(M4), tmp_path / "export").elf
    script = (
        "import sys; from pathlib import Path; from trec_dse.executors import qemu; from trec_dse.target import"
        " load_target; executor = qemu.open(Path(sys.argv[1]), load_target(Path(sys.argv[2])));"
        " print(executor.process_id, flush=True); sys.stdin.read()"
    )
    board = Path(__file__).parent.parent / "targets" / f"{M4.name}.toml"
    command = [sys.executable, "-c", script, str(elf), str(board)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert select.select([handle], [], [], END_S)[0]
    finally:
        os.close(handle)


@needs_qemu
def test_what_is_no_firmware_for_it_is_refused_with_its_own_words(tmp_path: Path) -> None:
    elf = build(M4, tmp_path / "export").elf  # linked where QEMU's board has no memory
    with pytest.raises(DeviceError, match=r"^qemu: qemu: fatal: Lockup"):
        qemu.open(elf, M4)


def test_a_missing_qemu_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elf = build(qemu.emulated(M4), tmp_path / "export").elf
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolchainError, match="qemu-system-arm: not found; install the package qemu-system-arm"):
        qemu.open(elf, M4)


def test_the_emulated_board_keeps_the_core_and_its_flags() -> None:
    small = qemu.emulated(M7)
    assert (small.name, small.core, small.optimize) == ("qemu-an500", M7.core, M7.optimize)
    assert (small.flash_bytes, small.sram_bytes) == (4 * 2**20, 4 * 2**20)
