"""Each thing that can be wrong between the export folder and the board has one message and one fix."""

import dataclasses
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial as pyserial
from fake_device import HELLO, FakeDevice, banner
from serial.tools import list_ports
from twin_programs import M3, M4, build

from trec_dse import diagnose
from trec_dse.cli import main
from trec_dse.doctor import Check
from trec_dse.executors import serial
from trec_dse.firmware import core_needed
from trec_dse.measure import Manifest
from trec_dse.protocol import Frame
from trec_dse.target import Target

MANIFEST = Manifest(1, HELLO.build_id, 0, M4, None)  # type: ignore[arg-type]
FOLDER = Path("export")


@pytest.fixture(autouse=True)
def manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, M4)


def _use(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    monkeypatch.setattr(diagnose, "read_manifest", lambda _: dataclasses.replace(MANIFEST, target=target))
    monkeypatch.setattr(diagnose, "_WAIT_S", 0.05)


def last(port: str) -> Check:
    return diagnose.board_checks(FOLDER, port)[-1]


def _silent(_: Frame) -> bytes:
    return b""


@pytest.fixture
def device() -> Iterator[FakeDevice]:
    with FakeDevice() as found:
        yield found


def test_a_board_that_runs_this_export_is_fine(device: FakeDevice) -> None:
    found = diagnose.board_checks(FOLDER, device.port)
    assert [check.name for check in found] == ["port", "answer", "firmware"]
    assert all(check.ok and not check.fix for check in found)


def test_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    check = last("auto")
    assert (check.name, check.ok) == ("port", False)
    assert check.found.startswith("no port of a stm32f469i-disco (0483:374b")
    assert check.fix.startswith("plug the board in or name the port")


REFUSALS = {
    errno.ENOENT: ("no such port", "plug the board in"),
    errno.EACCES: ("permission denied", "usermod -aG dialout"),
    errno.EBUSY: ("in use by another program", "close it (lsof"),
}


@pytest.mark.parametrize("number", REFUSALS)
def test_a_port_that_cannot_be_opened(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise pyserial.SerialException(number, os.strerror(number))

    monkeypatch.setattr(pyserial, "serial_for_url", refuse)
    found, fix = REFUSALS[number]
    check = last("/dev/ttyACM0")
    assert (check.name, check.ok) == ("port", False)
    assert found in check.found
    assert fix in check.fix


def test_no_banner() -> None:
    with FakeDevice(hello=_silent) as silent:
        check = last(silent.port)
    assert (check.name, check.ok) == ("answer", False)
    assert check.found == f"{silent.port} is silent at 921600 baud and at the other usual ones"
    assert check.fix == "flash it: make -C export flash; then press the board's reset button"


def test_another_baud_rate(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    real = serial.open_line
    with FakeDevice(hello=_silent) as silent:

        def only_at_115200(port: str, baud: int, timeout_s: float) -> pyserial.Serial:
            return real(port if baud == 115_200 else silent.port, baud, timeout_s)

        monkeypatch.setattr(serial, "open_line", only_at_115200)
        check = last(device.port)
    assert check.name == "baud rate"
    assert check.found == f"{device.port} answers at 115200 baud; stm32f469i-disco says 921600"
    assert check.fix == "set baud = 115200 in the board file, or flash export anew"


def test_garbage() -> None:
    with FakeDevice(hello=lambda _: b"\x05hello\x00" * 3) as noisy:
        check = last(noisy.port)
    assert (check.name, check.ok) == ("answer", False)
    assert "only unusable answers" in check.found
    assert check.fix == "check baud rate and cable"


def test_stale_firmware() -> None:
    with FakeDevice(hello=banner(HELLO, build_id="f" * 16)) as stale:
        check = last(stale.port)
    assert check == Check(
        "firmware",
        False,
        f"the board runs firmware {'f' * 16}, this export is {HELLO.build_id}",
        "flash it: make -C export flash",
    )


def test_another_board(device: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, M3)
    check = last(device.port)
    assert check.name == "board"
    assert check.found == "a firmware for 180000000 Hz answers; nucleo-f207zg runs at 120000000 Hz"
    assert "plug in that board" in check.fix


def test_a_firmware_for_a_larger_core(tmp_path: Path) -> None:
    elf = build(M4, tmp_path / "m4").elf
    assert core_needed(elf) == "cortex-m4"
    check = diagnose.core_check(elf, "cortex-m3")
    assert not check.ok
    assert check.found == "firmware.elf is built for cortex-m4, whose instructions a cortex-m3 lacks"
    assert "-mcpu=cortex-m3" in check.fix
    assert diagnose.core_check(elf, "cortex-m7").ok


@pytest.mark.parametrize(("region", "whole"), [("SRAM", "LENGTH = 0x50000"), ("FLASH", "LENGTH = 0x200000")])
def test_a_firmware_that_fits_and_one_that_does_not(
    region: str, whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(M4, tmp_path / "export")
    assert [check.ok for check in diagnose.firmware_checks(tmp_path / "export")] == [True, True]
    small = tuple(dataclasses.replace(r, size=2048) if r.name == region else r for r in M4.regions)
    script = tmp_path / "export" / "board" / "link.ld"
    assert whole in script.read_text()
    script.write_text(script.read_text().replace(whole, "LENGTH = 0x800"))
    _use(monkeypatch, dataclasses.replace(M4, regions=small))
    (check,) = diagnose.firmware_checks(tmp_path / "export")
    assert (check.name, check.ok) == ("memory", False)
    assert f"exceeds stm32f469i-disco: {region} (of 2048 bytes) by" in check.found
    assert "smaller trial" in check.fix


def test_a_firmware_whose_source_was_broken(tmp_path: Path) -> None:
    build(M4, tmp_path / "export")
    (tmp_path / "export" / "network" / "trec_network.c").write_text("int broken\n")
    (check,) = diagnose.firmware_checks(tmp_path / "export")
    assert (check.name, check.ok) == ("build", False)
    assert "error" in check.found


def test_a_port_without_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--port", "auto"]) == 2
    assert "--port needs the export folder" in capsys.readouterr().err


def test_flashing_without_a_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "nowhere", "--flash", "auto"]) == 2
    assert "name its port too" in capsys.readouterr().err
