"""The twin as a process behind a port: one code path with a board, and it leaves nothing behind."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from twin_programs import BUILD_ID, M4, assemble, build

from trec_dse.device import Firmware
from trec_dse.errors import DeviceError, NoAnswerError, WrongFirmwareError
from trec_dse.executors import serial, twin
from trec_dse.plugins import data_names
from trec_dse.resources import data_folder
from trec_dse.target import load_target

IMAGE = np.arange(12, dtype=np.int8)
END_S = 20


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Firmware:
    return build(M4, tmp_path_factory.mktemp("twin") / "export")


@pytest.mark.parametrize("name", data_names("targets", ".toml"))
def test_every_target_answers_all_requests_through_its_port(name: str, tmp_path: Path) -> None:
    target = load_target(data_folder("targets") / f"{name}.toml")
    elf = build(target, tmp_path / "export").elf
    with twin.open(elf, target, build_id=BUILD_ID) as executor:
        assert executor.hello.clock_hz == target.clock_hz
        assert executor.infer(IMAGE).output.tolist() == [6, 44, 114]
        payload = bytes(range(executor.hello.max_payload))
        assert executor.echo(payload) == payload
        executor.reset()
        assert executor.infer(-IMAGE).output.tolist() == [-6, -44, -114]


def test_cycles_are_the_same_in_every_run(firmware: Firmware) -> None:
    counts = []
    for _ in range(2):
        with twin.open(firmware.elf, M4) as executor:
            counts.append([executor.infer(IMAGE + i).cycles for i in range(5)])
    assert counts[0] == counts[1]
    assert min(counts[0]) > 0


def test_a_twin_that_waits_sleeps(firmware: Firmware) -> None:
    with twin.open(firmware.elf, M4) as executor:
        executor.infer(IMAGE)
        process = executor.process_id
        assert _soon(lambda: _states(process) == {"S"})
        before = _cpu_ticks(process)
        assert all(_states(process) == {"S"} for _ in range(300))
        assert _cpu_ticks(process) - before <= 1


def test_the_wrong_network_is_named_and_its_twin_ended(firmware: Firmware) -> None:
    with pytest.raises(WrongFirmwareError, match=f"runs firmware {BUILD_ID}, asked for ffff"):
        twin.open(firmware.elf, M4, build_id="f" * 16)


def test_a_firmware_that_does_not_start_says_why(tmp_path: Path, firmware: Firmware) -> None:
    with pytest.raises(DeviceError, match=r"did not start on the twin of stm32f469i-disco: .*cannot be read"):
        twin.open(tmp_path / "missing.elf", M4)


def test_a_firmware_that_never_asks_for_a_request_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = assemble("forever: b forever", M4, tmp_path)
    monkeypatch.setattr(twin, "START_S", 5.0)  # long enough to have read the file on a busy machine
    with pytest.raises(DeviceError, match=r"did not ask for a request within 5 s"):
        twin.open(image.path, M4)


def test_a_network_that_never_ends_is_given_up(tmp_path: Path) -> None:
    endless = build(M4, tmp_path / "export", "int32_t sum = 0;", 'int32_t sum = 0; while (input) { __asm__("nop"); }')
    with (
        twin.open(endless.elf, M4, timeout_s=0.3) as executor,
        pytest.raises(NoAnswerError, match=r"infer request, sent 1 times, was not answered within 0\.3 s"),
    ):
        executor.infer(IMAGE)


def test_a_network_that_leaves_its_memory_is_named(tmp_path: Path) -> None:
    wild = build(M4, tmp_path / "export", "int32_t sum = 0;", "int32_t sum = *(volatile int32_t *)0x60000000u;")
    with (
        twin.open(wild.elf, M4) as executor,
        pytest.raises(NoAnswerError, match=r"twin: the firmware stopped near .*, in trec_net_run.* read of 0x60000000"),
    ):
        executor.infer(IMAGE)


def test_the_twin_ends_with_its_executor(firmware: Firmware) -> None:
    with twin.open(firmware.elf, M4) as executor:
        handle = os.pidfd_open(executor.process_id)
    assert _has_ended(handle)


def test_no_twin_survives_a_killed_parent(firmware: Firmware) -> None:
    script = (
        "import sys; from pathlib import Path; from trec_dse.executors import twin; from trec_dse.target import"
        " load_target; executor = twin.open(Path(sys.argv[1]), load_target(Path(sys.argv[2])));"
        " print(executor.process_id, flush=True); sys.stdin.read()"
    )
    target = data_folder("targets") / f"{M4.name}.toml"
    command = [sys.executable, "-c", script, str(firmware.elf), str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    assert _has_ended(handle)


@pytest.fixture
def socket_twin(firmware: Firmware) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "trec_dse.twin", str(firmware.elf), "--target", M4.name, "--tcp", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_a_twin_on_a_socket_serves_one_host_after_the_other(socket_twin: subprocess.Popen[str]) -> None:
    assert socket_twin.stdout is not None
    url = socket_twin.stdout.readline().strip()
    assert url.startswith("socket://127.0.0.1:")
    for _ in range(2):
        with serial.open(url, build_id=BUILD_ID) as executor:
            assert executor.infer(IMAGE).output.tolist() == [6, 44, 114]
    socket_twin.send_signal(signal.SIGTERM)
    assert socket_twin.wait(END_S) == -signal.SIGTERM


def test_the_twin_ends_with_its_standard_input(socket_twin: subprocess.Popen[str]) -> None:
    assert socket_twin.stdout is not None and socket_twin.stdin is not None
    socket_twin.stdout.readline()
    socket_twin.stdin.close()
    assert socket_twin.wait(END_S) == 0


def test_an_unknown_board_is_refused_with_the_known_ones(firmware: Firmware) -> None:
    command = [sys.executable, "-m", "trec_dse.twin", str(firmware.elf), "--target", "nonesuch"]
    done = subprocess.run(command, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "choose from" in done.stderr
    assert M4.name in done.stderr


def _has_ended(handle: int) -> bool:
    """Whether the process behind a pidfd ends within the time limit."""
    try:
        return bool(select.select([handle], [], [], END_S)[0])
    finally:
        os.close(handle)


def _states(process: int) -> set[str]:
    """Scheduler states of all its threads; "S" is asleep."""
    return {
        (task / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{process}/task").iterdir()
    }


def _cpu_ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _soon(is_true: Callable[[], bool]) -> bool:
    return any(is_true() for _ in range(100_000))
