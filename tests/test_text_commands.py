"""The text commands of MLPerf Tiny's runner, spoken to the unmodified firmware on the twin over its serial line."""

import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from tiny_network import tiny_files
from twin_programs import M4

from trec_dse.errors import InputError
from trec_dse.executors.twin import _Twin
from trec_dse.firmware import build_firmware, speak_text, write_export
from trec_dse.plugins import data_names
from trec_dse.resources import data_folder, package_folder
from trec_dse.target import Target, load_target
from trec_dse.toolchain import build_host_program, find_host_compiler
from trec_dse.twin.image import load_image
from trec_dse.twin.lines import MemoryLine
from trec_dse.twin.machine import Machine

C_FOLDER = Path(__file__).parent / "c"
RUNTIME = package_folder("runtime")
TEXT = RUNTIME / "text"
PATIENCE_S = 60
IMAGE = "00 01 02 03 04 05 06 07 08 09 0a 0B".replace(" ", "")  # 0 to 11: the tiny network answers 6, 44, 114
NEGATIVE = "".join(f"{-i % 256:02x}" for i in range(12))


class Runner:
    """The host's side: a command, and the lines of its answer up to the one that says ready."""

    def __init__(self, line: serial.Serial) -> None:
        self.line = line

    def answer(self, ending: str = "m-ready") -> list[str]:
        found, end = b"", time.monotonic() + PATIENCE_S
        while not found.endswith(f"{ending}\r\n".encode("ascii")):
            assert time.monotonic() < end, found
            found += self.line.readline()  # on a busy machine half a line at times
        return found.decode("ascii").split("\r\n")[:-2]

    def meet(self) -> None:
        """Passes over what it says after a reset, which may have been said before or after the port was opened."""
        self.line.write(b"name%")
        self.answer("m-name-dut-[trec_dse]\r\nm-ready")

    def ask(self, command: str) -> list[str]:
        self.line.write(command.encode("ascii") + b"%")
        return self.answer()

    def load(self, digits: str) -> list[str]:
        return [*self.ask("db load 12"), *self.ask(f"db {digits[:10]}"), *self.ask(f"db {digits[10:]}")]


def opened(target: Target, folder: Path, energy_of: Target | None = None) -> Iterator[Runner]:
    write_export(folder, target, tiny_files(), [])
    speak_text(folder, "ic01", energy_of)
    process = _Twin(build_firmware(folder, target).elf, target)
    try:
        with serial.serial_for_url(process.port, timeout=1) as line:
            runner = Runner(line)
            runner.meet()
            yield runner
    finally:
        process.end()


def test_after_a_reset_it_says_in_which_mode_it_measures_and_that_it_is_there(tmp_path: Path) -> None:
    write_export(tmp_path / "export", M4, tiny_files(), [])
    speak_text(tmp_path / "export", "ic01")
    image = load_image(build_firmware(tmp_path / "export", M4).elf)
    line = MemoryLine()
    Machine(image, M4, line).run()  # ends when it waits for a command, for none will come
    assert bytes(line.sent) == b"m-timestamp-mode-performance\r\nm-init-done\r\nm-ready\r\n"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    yield from opened(M4, tmp_path_factory.mktemp("text") / "export")


def test_it_says_who_it_is_and_which_benchmark_it_runs(runner: Runner) -> None:
    assert runner.ask("name") == ["m-name-dut-[trec_dse]"]
    assert runner.ask("profile") == ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[ic01]"]


def test_an_input_is_loaded_in_pieces_and_can_be_read_back(runner: Runner) -> None:
    assert runner.load(IMAGE) == ["m-[Expecting 12 bytes]", "m-load-done"]
    assert runner.ask("db print") == ["m-buffer-00-01-02-03-04-05-06-07", "m-buffer-08-09-0a-0b"]


def test_an_inference_answers_with_its_time_and_the_networks_own_output(runner: Runner) -> None:
    runner.load(IMAGE)
    answer = runner.ask("infer 1 0")
    assert answer[:3] == ["m-warmup-start-0", "m-warmup-done", "m-infer-start-1"]
    assert re.fullmatch(r"m-lap-us-\d+", answer[3]) and re.fullmatch(r"m-lap-us-\d+", answer[4])
    assert answer[5:] == ["m-infer-done", "m-results-[6,44,114]"]


def test_each_of_many_inferences_sees_the_input_that_was_loaded(runner: Runner) -> None:
    runner.load(NEGATIVE)
    answer = runner.ask("infer 5 2")
    assert answer[0] == "m-warmup-start-2" and answer[2] == "m-infer-start-5"
    assert answer[-1] == "m-results-[-6,-44,-114]"
    assert runner.ask("results") == ["m-results-[-6,-44,-114]"]


def test_two_thousand_inferences_take_twice_as_long_as_one_thousand(runner: Runner) -> None:
    runner.load(IMAGE)
    spent = []
    for n in (2000, 1000):
        laps = [int(text.rpartition("-")[2]) for text in runner.ask(f"infer {n} 0") if text.startswith("m-lap-us-")]
        spent.append(laps[1] - laps[0])
    assert spent[0] == pytest.approx(2 * spent[1], rel=0.05)


def test_time_goes_on_between_two_timestamps(runner: Runner) -> None:
    first, second = (int(runner.ask("timestamp")[0].removeprefix("m-lap-us-")) for _ in range(2))
    assert second > first


def test_no_half_loaded_input_is_run(runner: Runner) -> None:
    runner.ask("db load 12")
    assert runner.ask(f"db {IMAGE[:10]}") == []
    assert runner.ask("infer 1 0") == ["e-[No input: db load 12 and its bytes come first]"]


def test_what_comes_behind_the_last_byte_is_passed_over(runner: Runner) -> None:
    runner.ask("db load 12")
    assert runner.ask(f"db {IMAGE}FFFF") == ["m-load-done"]
    assert runner.ask("db 00") == ["e-[No db load is under way]"]
    assert runner.ask("infer")[-1] == "m-results-[6,44,114]"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("fly", "e-[Unknown command: fly]"),
        ("names", "e-[Unknown command: names]"),
        ("db", "e-[db needs load N, print, or bytes]"),
        ("db load", "e-[db load N: the input of this network has 12 bytes]"),
        ("db load 13", "e-[db load N: the input of this network has 12 bytes]"),
        ("db load 4294967308", "e-[db load N: the input of this network has 12 bytes]"),
        ("infer 0 0", "e-[infer N W: N is 1 or more, W is 0 or more]"),
        ("infer -1", "e-[infer N W: N is 1 or more, W is 0 or more]"),
        ("infer 1 x", "e-[infer N W: N is 1 or more, W is 0 or more]"),
        ("x" * 81, "e-[Longer than 80 characters]"),
        ("x" * 500, "e-[Longer than 80 characters]"),
    ],
)
def test_a_wrong_command_is_named_and_the_next_one_is_heard(runner: Runner, command: str, answer: str) -> None:
    assert runner.ask(command) == [answer]
    assert runner.ask("\r\n name ") == ["m-name-dut-[trec_dse]"]


@pytest.mark.parametrize("digits", ["0", "012", "0g", "g0", "00-1"])
def test_bytes_that_are_none_end_the_load(runner: Runner, digits: str) -> None:
    runner.ask("db load 12")
    assert runner.ask(f"db {digits}")[0].startswith("e-[Not pairs of hexadecimal digits: ")
    assert runner.ask("infer 1 0") == ["e-[No input: db load 12 and its bytes come first]"]


def test_the_stack_of_this_firmware_is_bounded_too(tmp_path: Path) -> None:
    write_export(tmp_path / "export", M4, tiny_files(), [])
    speak_text(tmp_path / "export", "ic01")
    firmware = build_firmware(tmp_path / "export", M4)
    assert firmware.stack_bound_bytes is not None
    assert firmware.stack_bound_bytes < firmware.stack_bytes


@pytest.mark.parametrize("model", ["", "ic 01", 'ic"01', "ic]01"])
def test_a_benchmark_whose_name_would_break_the_answer_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no name of a benchmark; ic01"):
        speak_text(tmp_path, model)


def test_noise_of_any_kind_stays_within_memory_and_the_next_command_is_heard(tmp_path: Path) -> None:
    compiler = find_host_compiler()
    if compiler.name == "zig":
        pytest.skip("zig has no address sanitizer for C")
    (tmp_path / "trec_network.h").write_text((C_FOLDER / "tiny_network.h").read_text())
    (tmp_path / "trec_model.h").write_text('#define TREC_MODEL "ic01"\n#define TREC_MEASURES_ENERGY 0u\n')
    (tmp_path / "board.h").write_text("#define TREC_CLOCK_HZ 180000000u\n")
    sources = [TEXT / "main.c", TEXT / "trec_commands.c", RUNTIME / "platform" / "host" / "port.c"]
    sources.append(C_FOLDER / "tiny_network.c")
    program, include = tmp_path / "firmware", [tmp_path, TEXT, RUNTIME / "include"]
    build_host_program(sources, include, program, compiler, sanitize=True)
    chance = random.Random(7)
    words = [
        b"db",
        b"load",
        b"print",
        b"infer",
        b"12",
        b"0",
        b"3",
        b"00FF7a",
        b"ab" * 20,
        b"\xff\x00",
        b"results",
        b" ",
    ]
    noise = b"".join(b" ".join(chance.choices(words, k=chance.randrange(6))) + b"%" for _ in range(3000))
    noise += bytes(chance.randrange(256) for _ in range(50_000))
    done = subprocess.run([program], input=noise + b"%name%", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.endswith(b"m-ready\r\nm-name-dut-[trec_dse]\r\nm-ready\r\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", data_names("targets", ".toml"))
def test_every_board_speaks_it(name: str, tmp_path: Path) -> None:
    target = load_target(data_folder("targets") / f"{name}.toml")
    for runner in opened(target, tmp_path / "export"):
        runner.load(IMAGE)
        assert runner.ask("infer 1 1")[-1] == "m-results-[6,44,114]"
