"""Validation compares bytes, counts what differs and averages what was measured."""

from pathlib import Path

import numpy as np
import pytest

from trec_dse.device import Int8Array
from trec_dse.errors import DeviceError, InputError, NoAnswerError
from trec_dse.executors import replay
from trec_dse.executors.replay import RecordedAnswer, Recorder, Recording, ReplayExecutor, image_key
from trec_dse.validate import Mismatch, validate

IMAGES: Int8Array = np.arange(16, dtype=np.int8).reshape(4, 2, 2, 1)
EXPECTED: Int8Array = np.array([[1, 2, 3], [9, 2, 3], [5, 5, 1], [0, 0, 1]], np.int8)
LABELS = np.array([2, 0, 1, 2], np.int64)
CYCLES = (100, 110, 120, 131)


def recording(outputs: Int8Array = EXPECTED) -> Recording:
    return Recording(
        {
            image_key(image): RecordedAnswer(tuple(int(v) for v in output), cycles, 64 + index, (index, 10))
            for index, (image, output, cycles) in enumerate(zip(IMAGES, outputs, CYCLES, strict=True))
        }
    )


def test_right_answers_are_bit_exact() -> None:
    run = validate(ReplayExecutor(recording()), IMAGES, LABELS, EXPECTED)
    assert run.is_bit_exact
    assert (run.n_images, run.n_mismatches, run.mismatches) == (4, 0, ())


def test_cycles_clusters_and_stack_are_summarized() -> None:
    run = validate(ReplayExecutor(recording()), IMAGES, LABELS, EXPECTED)
    assert run.cycles == 115  # (100 + 110 + 120 + 131) / 4 = 115.25
    assert run.cycles_max == 131
    assert (run.cycles_p50, run.cycles_p99) == (110, 131)  # two of the four take at most 110
    assert run.stack_bytes == 67
    assert run.n_clusters == (1.5, 10.0)


def test_accuracy_takes_the_first_of_equal_outputs() -> None:
    # Classes 2, 0, 0 (5 and 5: the first) and 2 against labels 2, 0, 1, 2.
    assert validate(ReplayExecutor(recording()), IMAGES, LABELS, EXPECTED).accuracy == 0.75


def test_one_wrong_byte_is_a_mismatch() -> None:
    wrong = EXPECTED.copy()
    wrong[2, 0] = 4
    run = validate(ReplayExecutor(recording(wrong)), IMAGES, LABELS, EXPECTED)
    assert not run.is_bit_exact
    assert run.mismatches == (Mismatch(2, (5, 5, 1), (4, 5, 1)),)


def test_all_mismatches_are_counted_and_the_first_ten_kept() -> None:
    images = np.arange(48, dtype=np.int8).reshape(12, 2, 2, 1)
    answers = {image_key(image): RecordedAnswer((1, 2), 5, 6) for image in images}
    expected = np.full((12, 2), 9, np.int8)
    run = validate(ReplayExecutor(Recording(answers)), images, np.zeros(12, np.int64), expected)
    assert (run.n_mismatches, len(run.mismatches)) == (12, 10)
    assert run.n_clusters == ()


def test_an_answer_of_the_wrong_length_is_a_mismatch() -> None:
    answers = {image_key(IMAGES[0]): RecordedAnswer((1, 2), 5, 6)}
    run = validate(ReplayExecutor(Recording(answers)), IMAGES[:1], LABELS[:1], EXPECTED[:1])
    assert run.n_mismatches == 1


def test_progress_is_told_after_each_image() -> None:
    seen: list[int] = []
    validate(ReplayExecutor(recording()), IMAGES, LABELS, EXPECTED, on_image=seen.append)
    assert seen == [1, 2, 3, 4]


def test_unequal_or_no_images_are_refused() -> None:
    with pytest.raises(InputError, match="3 images, 4 labels and 4 expected outputs"):
        validate(ReplayExecutor(recording()), IMAGES[:3], LABELS, EXPECTED)
    with pytest.raises(InputError, match="0 images"):
        validate(ReplayExecutor(recording()), IMAGES[:0], LABELS[:0], EXPECTED[:0])


def test_a_device_that_gives_no_answer_has_no_result() -> None:
    with pytest.raises(NoAnswerError, match="was not recorded; 0 others were"):
        validate(ReplayExecutor(Recording()), IMAGES, LABELS, EXPECTED)


def test_what_a_recorder_heard_can_be_replayed(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    with Recorder(ReplayExecutor(recording())) as recorder:
        first = validate(recorder, IMAGES, LABELS, EXPECTED)
        replay.write_recording(recorder.recording, path)
    with replay.open(path) as executor:
        again = validate(executor, IMAGES, LABELS, EXPECTED)
    assert executor.name == "replay of answers.json"
    assert (again.cycles, again.n_clusters, again.accuracy) == (first.cycles, first.n_clusters, first.accuracy)


def test_a_damaged_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text('{"answers": {"x": {"output": [1.5], "cycles": 1, "stack_bytes": 1}}}', encoding="utf-8")
    with pytest.raises(DeviceError, match=r"answers\.json.*expected int"):
        replay.open(path)
    with pytest.raises(DeviceError, match="cannot be read"):
        replay.open(tmp_path / "missing.json")
