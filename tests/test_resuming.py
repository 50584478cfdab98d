"""A validation that was cut off asks a device only what it has not answered yet."""

from pathlib import Path

import numpy as np
import pytest

from trec_dse.device import Inference, Int8Array
from trec_dse.errors import PortError
from trec_dse.executors.resuming import Asked, ResumingExecutor

ASKED = Asked("elf", "board")
IMAGES: Int8Array = np.arange(20, dtype=np.int8).reshape(5, 2, 2, 1)


class Device:
    """Answers with the sum of the image, until its cable is pulled after so many answers."""

    name = "fake"

    def __init__(self, until: int = 1000) -> None:
        self.left, self.asked = until, 0

    def infer(self, image: Int8Array) -> Inference:
        if self.asked == self.left:
            raise PortError("fake was lost while in use")
        self.asked += 1
        return Inference(np.array([image.sum(), 7], np.int8), 100 + self.asked, 64, (3,))

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def ask_all(executor: ResumingExecutor) -> list[tuple[list[int], int]]:
    with executor:
        return [(answer.output.tolist(), answer.cycles) for answer in map(executor.infer, IMAGES)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def cut_off(path: Path, after: int, asked: Asked = ASKED) -> None:
    with pytest.raises(PortError):
        ask_all(ResumingExecutor(Device(after), path, asked))


def test_what_was_answered_before_the_cable_was_pulled_is_not_asked_again(path: Path) -> None:
    cut_off(path, after=3)
    device = Device()
    executor = ResumingExecutor(device, path, ASKED)
    assert executor.n_kept == 3
    # the sums of 0..3, 4..7 and so on; the cycles of the first three are those of the first device
    assert ask_all(executor) == [([6, 7], 101), ([22, 7], 102), ([38, 7], 103), ([54, 7], 101), ([70, 7], 102)]
    assert (device.asked, executor.n_answered) == (2, 5)


def test_a_line_that_was_cut_off_is_asked_again_and_spoils_nothing_after_it(path: Path) -> None:
    cut_off(path, after=3)
    path.write_text(path.read_text()[:-20])
    cut_off(path, after=1)
    assert ResumingExecutor(Device(), path, ASKED).n_kept == 3


@pytest.mark.parametrize("other", [Asked("another elf", "board"), Asked("elf", "another board")])
def test_answers_of_another_firmware_or_board_are_not_gone_on_from(path: Path, other: Asked) -> None:
    cut_off(path, after=3, asked=other)
    executor = ResumingExecutor(Device(), path, ASKED)
    assert executor.n_kept == 0
    ask_all(executor)
    assert ResumingExecutor(Device(), path, other).n_kept == 0


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"elf": 1}\n', "\x00\x01"])
def test_a_spoilt_file_is_begun_anew(path: Path, text: str) -> None:
    path.write_text(text)
    executor = ResumingExecutor(Device(), path, ASKED)
    assert executor.n_kept == 0
    assert len(ask_all(executor)) == 5
    assert ResumingExecutor(Device(), path, ASKED).n_kept == 5


def test_equal_images_are_asked_once(path: Path) -> None:
    device = Device()
    with ResumingExecutor(device, path, ASKED) as executor:
        for _ in range(3):
            executor.infer(IMAGES[0])
    assert device.asked == 1


def test_a_result_that_is_safe_needs_no_file(path: Path) -> None:
    executor = ResumingExecutor(Device(), path, ASKED)
    ask_all(executor)
    executor.forget()
    assert not path.exists()


def test_a_firmware_is_known_by_its_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.elf", tmp_path / "second.elf"
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    assert Asked.of(first, "b") != Asked.of(second, "b")
    second.write_bytes(b"one")
    assert Asked.of(first, "b") == Asked.of(second, "b")
