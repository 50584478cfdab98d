"""A firmware exported for it drives a pin high while its network runs, and at no other time, as the twin sees it."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_network import N_INPUTS
from twin_programs import M4, build, tiny_files

from trec_dse import protocol
from trec_dse.device import Firmware
from trec_dse.errors import TargetError
from trec_dse.export_files import marker_header
from trec_dse.firmware import build_firmware, mark_inferences, marks_inferences, write_export
from trec_dse.plugins import data_file, data_names
from trec_dse.protocol import Command, Frame
from trec_dse.target import Marker, Target, load_target, pin_place
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine
from trec_dse.twin.registers import Edge, Outputs, Wires

HELLO = protocol.encode_frame(Frame(Command.HELLO, 1))


def marked(target: Target, folder: Path) -> Firmware:
    write_export(folder, target, tiny_files(), [])
    mark_inferences(folder, target)
    return build_firmware(folder, target)


def edges_of(machine: Machine, target: Target) -> list[Edge]:
    """Edges of the target's marker pin, in order."""
    assert target.marker is not None
    place = pin_place(target.marker.pin)
    found = [d for d in machine.devices if isinstance(d, Outputs)]
    return sorted((e for d in found for e in d.edges if e.place == place), key=lambda edge: edge.cycles)


def infer(sequence: int) -> bytes:
    return protocol.encode_frame(Frame(Command.INFER, sequence, bytes(range(N_INPUTS))))


def answers(line: MemoryLine) -> list[protocol.Frame]:
    return [protocol.decode_frame(piece) for piece in protocol.Splitter().feed(bytes(line.sent))]


@pytest.mark.parametrize("name", data_names("targets", ".toml"))
def test_the_pin_is_high_exactly_while_the_network_runs(name: str, tmp_path: Path) -> None:
    target = load_target(data_file("targets", name, ".toml", TargetError))
    line = MemoryLine(HELLO + infer(2) + infer(3))
    machine = Machine(load_image(marked(target, tmp_path / "export").elf), target, line)
    machine.run()
    hello, *runs = answers(line)
    cycles = [protocol.parse_infer(run.payload, protocol.parse_hello(hello.payload)).cycles for run in runs]
    edges = edges_of(machine, target)
    assert [edge.level for edge in edges] == [1, 0, 1, 0]
    for (rise, fall), counted in zip((edges[:2], edges[2:]), cycles, strict=True):
        # two reads of the counter and two writes to the pin lie between; out of a serial Flash every line of them waits
        microseconds = 10 if target.flash.accelerator == "serial" else 1
        assert 0 <= fall.cycles - rise.cycles - counted < microseconds * target.clock_hz / 1e6


def test_a_firmware_marks_nothing_unless_it_was_asked_to(tmp_path: Path) -> None:
    plain = build(M4, tmp_path / "plain")
    line = MemoryLine(HELLO + infer(2))
    machine = Machine(load_image(plain.elf), M4, line)
    machine.run()
    assert len(answers(line)) == 2 and edges_of(machine, M4) == []
    assert not marks_inferences(plain)
    with_pin = marked(M4, tmp_path / "marked")
    assert marks_inferences(with_pin)
    assert 0 < with_pin.flash_bytes - plain.flash_bytes < 200


def test_the_shipped_boards_name_a_pin_that_is_not_the_ports() -> None:
    for name in data_names("targets", ".toml"):
        target = load_target(data_file("targets", name, ".toml", TargetError))
        assert target.marker is not None and target.marker.pin not in (target.serial.tx, target.serial.rx)


def test_the_header_names_port_and_number_of_the_pin() -> None:
    text = marker_header(replace(M4, marker=Marker("PC7")), at_rest=0)
    assert "#define TREC_MARKER_PORT 2u /* PC7 */\n#define TREC_MARKER_PIN 7u\n#define TREC_MARKER_AT_REST 0u\n" in text


def test_a_board_without_a_pin_cannot_mark(tmp_path: Path) -> None:
    write_export(tmp_path / "export", M4, tiny_files(), [])
    with pytest.raises(TargetError, match=r"its file has no \[marker\]; add one with a free pin"):
        mark_inferences(tmp_path / "export", replace(M4, marker=None))


@pytest.mark.parametrize(
    ("pin", "message"),
    [("PB10", "marker: PB10 is also serial: tx; a pin can serve once"), ("PZ1", "marker: 'PZ1' is no pin")],
)
def test_a_pin_that_is_none_or_is_taken_is_refused(pin: str, message: str, tmp_path: Path) -> None:
    text = data_file("targets", M4.name, ".toml", TargetError).read_text(encoding="utf-8")
    assert 'pin = "PG11"' in text
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace('pin = "PG11"', f'pin = "{pin}"'), encoding="utf-8")
    with pytest.raises(TargetError, match=message):
        load_target(wrong)


def outputs(clock: list[int]) -> Outputs:
    return Outputs("PINS", 0, Wires(MemoryLine(), _nothing, _nothing, lambda: clock[0], _nothing))


def test_only_driven_pins_that_change_make_edges() -> None:
    clock = [5]
    pins = outputs(clock)
    pins.note(1, 0b001, 0b011)  # pin 0 becomes an output, high; pin 1 is no output
    assert not pins.edges
    clock[0] = 9
    pins.note(1, 0b011, 0b010)  # pin 0 falls; pin 1 becomes an output
    clock[0] = 12
    pins.note(1, 0b011, 0b001)
    assert list(pins.edges) == [Edge(9, (1, 0), 0), Edge(12, (1, 0), 1), Edge(12, (1, 1), 0)]
    pins.reset()
    pins.note(1, 0b011, 0b010)
    assert len(pins.edges) == 3, "after a reset they are outputs anew"


def _nothing() -> None:
    """No port is switched on here."""
