"""The energy mode of MLPerf Tiny's runner: moments are falling edges of a pin, as the twin sees it."""

from pathlib import Path

import pytest
from test_marker import edges_of
from test_text_commands import IMAGE, opened
from twin_programs import M4, tiny_files

from trec_dse import datasets
from trec_dse.cli import main
from trec_dse.errors import InputError, TargetError
from trec_dse.firmware import build_firmware, for_energy, speak_text, write_export
from trec_dse.plugins import data_file, data_names
from trec_dse.target import Target, load_target
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine
from trec_dse.twin.registers import Edge

PLACEHOLDER = datasets.placeholder("mnist")
BANNER = "m-timestamp-mode-energy\r\nm-init-done\r\nm-ready\r\n"
LOAD = f"db load 12%db {IMAGE}%"
# those whose ports reach 9600 baud each in its own way
PORTS = ("stm32f469i-disco", "nucleo-l4r5zi", "arduino-nano33-ble", "raspberry-pi-pico")


def board(name: str) -> Target:
    return for_energy(load_target(data_file("targets", name, ".toml", TargetError)))


def said_and_seen(target: Target, commands: str, folder: Path) -> tuple[str, list[Edge]]:
    """What the firmware says to the commands of a client, and what the pin does."""
    write_export(folder, target, tiny_files(), [])
    speak_text(folder, "ic01", target)
    line = MemoryLine(commands.encode("ascii"))
    machine = Machine(load_image(build_firmware(folder, target).elf), target, line)
    machine.run()
    return bytes(line.sent).decode("ascii"), edges_of(machine, target)


def check_session(target: Target, folder: Path) -> None:
    """One inference: two moments, no line about time, and the network's own answer."""
    said, edges = said_and_seen(target, f"name%{LOAD}infer 1 0%", folder)
    assert said.startswith(BANNER + "m-name-dut-[trec_dse]\r\nm-ready\r\n")
    assert "m-lap-us" not in said
    assert said.endswith("m-infer-start-1\r\nm-infer-done\r\nm-results-[6,44,114]\r\nm-ready\r\n")
    assert [edge.level for edge in edges] == [0, 1, 0, 1], "at rest it is high, so that reset makes no falling edge"
    for fall, rise in zip(edges[::2], edges[1::2], strict=True):
        assert 1 < (rise.cycles - fall.cycles) / (target.clock_hz / 1e6) < 50, "microseconds that the runner waits out"


@pytest.mark.parametrize("name", PORTS)
def test_two_falling_edges_are_around_the_inferences(name: str, tmp_path: Path) -> None:
    check_session(board(name), tmp_path / "export")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(data_names("targets", ".toml")) - set(PORTS)))
def test_every_other_board_does_so_too(name: str, tmp_path: Path) -> None:
    check_session(board(name), tmp_path / "export")


def test_a_thousand_inferences_lie_twice_as_far_apart_as_five_hundred(tmp_path: Path) -> None:
    _, edges = said_and_seen(board(M4.name), f"{LOAD}infer 1000 3%infer 500 0%", tmp_path / "export")
    falls = [edge.cycles for edge in edges if edge.level == 0]
    assert len(falls) == 4
    assert falls[1] - falls[0] == pytest.approx(2 * (falls[3] - falls[2]), rel=0.02)


def test_a_client_at_the_port_gets_answers_without_times(tmp_path: Path) -> None:
    target = board(M4.name)
    for runner in opened(target, tmp_path / "export", target):
        runner.load(IMAGE)
        assert runner.ask("infer 2 1")[2:] == ["m-infer-start-2", "m-infer-done", "m-results-[6,44,114]"]
        assert runner.ask("timestamp") == []
        assert runner.ask("infer 1 0")[-1] == "m-results-[6,44,114]"


def test_each_timestamp_that_is_asked_for_is_one_falling_edge(tmp_path: Path) -> None:
    said, edges = said_and_seen(board(M4.name), "timestamp%timestamp%timestamp%", tmp_path / "export")
    assert said == BANNER + 3 * "m-ready\r\n"
    assert [edge.level for edge in edges] == [0, 1] * 3


class ClockedLine(MemoryLine):
    """Notes at which core cycle each byte is sent."""

    machine: Machine

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.moments: list[int] = []

    def send(self, byte: int) -> None:
        super().send(byte)
        self.moments.append(self.machine.clock.cycles())


def test_nothing_is_said_between_the_two_moments(tmp_path: Path) -> None:
    """For what the port sends costs current."""
    write_export(tmp_path / "export", M4, tiny_files(), [])
    speak_text(tmp_path / "export", "ic01", M4)
    line = ClockedLine(f"{LOAD}infer 5 1%".encode("ascii"))
    line.machine = Machine(load_image(build_firmware(tmp_path / "export", M4).elf), M4, line)
    line.machine.run()
    done = bytes(line.sent).index(b"m-infer-done")
    first, _, last, _ = edges_of(line.machine, M4)
    assert line.moments[done - 1] < first.cycles < last.cycles < line.moments[done]


def test_the_port_has_the_rate_of_the_board_between(tmp_path: Path) -> None:
    write_export(tmp_path / "export", board(M4.name), tiny_files(), [])
    assert "#define TREC_BAUD 9600u\n" in (tmp_path / "export" / "board" / "board.h").read_text(encoding="utf-8")
    assert "at 9600 baud" in (tmp_path / "export" / "README.md").read_text(encoding="utf-8")


def test_the_stack_of_this_firmware_is_bounded_too(tmp_path: Path) -> None:
    write_export(tmp_path / "export", M4, tiny_files(), [])
    speak_text(tmp_path / "export", "ic01", M4)
    firmware = build_firmware(tmp_path / "export", M4)
    assert firmware.stack_bound_bytes is not None and firmware.stack_bound_bytes < firmware.stack_bytes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--energy"], "--energy is a mode of MLPerf Tiny's runner: give --text MODEL too"),
        (["--text", "ic01", "--marker"], "--marker is for `validate`, which does not speak text"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "runs/none", "1", "--out", str(tmp_path / "out"), *options]) == InputError.exit_code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "baud", "said"),
    [
        (["--text", "ic01", "--energy"], 9600, "flash"),
        (["--marker"], 921_600, "--port auto --flash auto --instrument ppk2"),
    ],
)
def test_the_command_line_exports_both_kinds(
    options: list[str],
    baud: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trec_dse.datasets.load", lambda name, root: PLACEHOLDER)
    out = tmp_path / "out"
    assert main(["export", "mnist2k", "--target", M4.name, "--out", str(out), "--no-build", *options]) == 0
    assert said in capsys.readouterr().out
    assert f"#define TREC_BAUD {baud}u" in (out / "board" / "board.h").read_text(encoding="utf-8")
    assert "TREC_MARKER_PIN 11u" in (out / "runtime" / "include" / "trec_marker.h").read_text(encoding="utf-8")
