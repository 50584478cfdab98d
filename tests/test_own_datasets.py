"""Data of one's own, and ImageNet 64x64, on files made here: what is read, and what is refused."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from trec_dse import datasets
from trec_dse.cli.estimate import _dataset
from trec_dse.datasets import image_folder, imagenet64, npz
from trec_dse.datasets._types import Dataset, Split
from trec_dse.errors import DatasetError

Bytes = npt.NDArray[np.uint8]


def sizes(dataset: Dataset) -> list[int]:
    return [len(split) for split in (dataset.train, dataset.validation, dataset.test)]


def numbered(n: int, *shape: int) -> Bytes:
    """Images that can be told apart: all pixels of the i-th are i."""
    return np.arange(n, dtype=np.uint8).reshape(-1, *[1] * len(shape)) * np.ones((1, *shape), np.uint8)


# One archive


def test_an_archive_without_splits_is_split_in_five(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=numbered(50, 6, 4), labels=np.arange(50) % 2)
    dataset = datasets.load("npz", tmp_path)
    assert sizes(dataset) == [30, 10, 10]
    assert dataset.input_shape == (6, 4, 1)
    assert dataset.n_classes == 2
    parts = [set(s.images[:, 0, 0, 0].tolist()) for s in (dataset.train, dataset.validation, dataset.test)]
    assert set.union(*parts) == set(range(50))
    assert [int(s.labels.sum()) for s in (dataset.train, dataset.validation, dataset.test)] == [15, 5, 5]
    assert npz.load(tmp_path).sha256 == dataset.sha256


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_an_archive_with_splits_keeps_them(tmp_path: Path, validation: str) -> None:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, n in (("train", 20), (validation, 6), ("test", 4)):
        arrays[f"{name}_images"] = numbered(n, 5, 5, 3)
        arrays[f"{name}_labels"] = (np.arange(n, dtype=np.uint8) % 2).reshape(-1, 1)  # a column, as some archives do
    np.savez_compressed(tmp_path / "mine.npz", allow_pickle=False, **arrays)
    dataset = npz.load(tmp_path)
    assert sizes(dataset) == [20, 6, 4]
    assert dataset.test.labels.tolist() == [0, 1, 0, 1]


def test_an_archive_without_validation_takes_it_from_training(tmp_path: Path) -> None:
    test: dict[str, Any] = {"test_images": numbered(4, 5, 5), "test_labels": np.arange(4) % 2}
    np.savez(tmp_path / "mine.npz", train_images=numbered(20, 5, 5), train_labels=np.arange(20) % 2, **test)
    assert sizes(npz.load(tmp_path)) == [16, 4, 4]


GOOD: dict[str, Any] = {"images": numbered(10, 4, 4), "labels": np.arange(10) % 2}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": GOOD["labels"]}, "no array 'images' or 'train_images'; it holds labels"),
        ({"images": GOOD["images"]}, "no array 'labels'; it holds images"),
        ({**GOOD, "images": GOOD["images"].astype(np.float32)}, r"'images' is float32 \(10, 4, 4\), needed uint8"),
        ({**GOOD, "labels": np.zeros((10, 2), int)}, r"'labels' is int64 \(10, 2\), needed one integer per image"),
        ({**GOOD, "labels": np.arange(10) / 2}, "needed one integer per image"),
        ({**GOOD, "labels": np.arange(9) % 2}, "9 'labels' found, 10 expected"),
        ({**GOOD, "labels": np.arange(10) % 2 * 2}, r"classes \[0, 2\] found in training"),
        ({**GOOD, "labels": np.zeros(10, int)}, r"classes \[0\] found in training; needed two or more"),
        ({**GOOD, "test_images": numbered(2, 5, 4), "test_labels": np.arange(2)}, r"of test are \(5, 4, 1\)"),
        ({**GOOD, "test_images": numbered(2, 4, 4), "test_labels": np.arange(2) + 1}, "only of the 2 classes"),
        ({**GOOD, "labels": np.array([0, 1, None] * 3 + [0], dtype=object)}, "not a readable .npz archive"),
    ],
)
def test_an_archive_of_something_else_is_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        npz.load(tmp_path)


class _Harmful:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.witness}",)


def test_an_archive_that_would_run_something_is_refused(tmp_path: Path) -> None:
    witness, hold = tmp_path / "it-ran", np.empty(1, dtype=object)
    hold[0] = _Harmful(witness)
    np.savez(tmp_path / "mine.npz", images=GOOD["images"], labels=hold)
    with pytest.raises(DatasetError, match="Object arrays cannot be loaded"):
        npz.load(tmp_path)
    assert not witness.exists()


def test_a_damaged_archive_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **GOOD)
    whole = buffer.getvalue()
    for length in range(0, len(whole), 7):
        (tmp_path / "mine.npz").write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"mine\.npz"):
            npz.load(tmp_path)
    changed = bytearray(whole)
    changed[whole.index(b"images.npy") + 40] ^= 0xFF
    (tmp_path / "mine.npz").write_bytes(changed)
    with pytest.raises(DatasetError, match=r"mine\.npz"):
        npz.load(tmp_path)


def test_there_must_be_one_archive(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, **GOOD)
    with pytest.raises(DatasetError, match=r"needed one \.npz archive of images and labels, found a\.npz, b\.npz"):
        npz.load(tmp_path)


# A folder of images


def write_image(path: Path, value: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(path)


def write_classes(root: Path, n: int, mode: str = "RGB", suffix: str = ".png") -> None:
    for label, name in enumerate(("cat", "dog")):
        for i in range(n):
            write_image(root / name / f"{i:02}{suffix}", 100 * label + i, mode=mode)


def test_a_folder_per_class_is_split_in_five(tmp_path: Path) -> None:
    write_classes(tmp_path, 10)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    dataset = datasets.load("image_folder", tmp_path)
    assert sizes(dataset) == [12, 4, 4]
    assert dataset.input_shape == (6, 8, 3)
    # cats are red 0 to 9 and class 0, dogs 100 to 109 and class 1
    assert ((dataset.train.images[:, 3, 4, 0] >= 100) == (dataset.train.labels == 1)).all()
    assert (dataset.train.images[:, 0, 0, 2] == 255 - dataset.train.images[:, 0, 0, 0]).all()


def test_folders_of_splits_are_kept_and_grey_stays_grey(tmp_path: Path) -> None:
    for name, n in (("train", 10), ("val", 3), ("test", 2)):
        write_classes(tmp_path / name, n, mode="L", suffix=".bmp")
    dataset = image_folder.load(tmp_path)
    assert sizes(dataset) == [20, 6, 4]
    assert dataset.input_shape == (6, 8, 1)
    assert dataset.test.images[:, 0, 0, 0].tolist() == [0, 1, 100, 101]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]


def test_images_of_many_sizes_are_brought_to_the_one_asked_for(tmp_path: Path) -> None:
    for i, size in enumerate([(40, 20), (20, 40), (16, 16), (7, 9), (300, 3)]):
        write_image(tmp_path / "cat" / f"{i}.png", 10, size)
        write_image(tmp_path / "dog" / f"{i}.png", 200, size)
    striped = np.zeros((20, 40, 3), np.uint8)
    striped[:, 10:30] = 250  # only the middle square is kept
    Image.fromarray(striped).save(tmp_path / "cat" / "9.png")
    (tmp_path / "images.toml").write_text("height = 12\nwidth = 12\n")
    dataset = image_folder.load(tmp_path)
    assert dataset.input_shape == (12, 12, 3)
    everything = np.concatenate([s.images for s in (dataset.train, dataset.validation, dataset.test)])
    assert set(everything.max(axis=(1, 2))[:, 0].tolist()) == {10, 200, 250}
    middle = everything[everything[:, 6, 6, 1] > 0]
    assert middle.shape == (1, 12, 12, 3)
    assert (middle[:, :, 1:-1] == 250).all()
    assert (middle > 200).all()
    (tmp_path / "images.toml").write_text("height = 5\nwidth = 4\nchannels = 1\n")
    assert image_folder.load(tmp_path).input_shape == (5, 4, 1)


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 2)
    write_image(tmp_path / "dog" / "99.png", 1, (9, 6))
    with pytest.raises(DatasetError, match=r"dog/99\.png: 9x6 pixels found, 8x6 in the images before; write height"):
        image_folder.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("height = 12", "required key 'width' is missing"),
        ("height = 12\nwidth = 12\ndepth = 3", "unknown key depth"),
        ("height = 12\nwidth = 0", "must be at least 1"),
        ("height = 12\nwidth = 12\nchannels = 2", "channels 1 or 3"),
        ("height = ", "not readable TOML"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write_classes(tmp_path, 2)
    (tmp_path / "images.toml").write_text(text)
    with pytest.raises(DatasetError, match=rf"images\.toml.*{message}"):
        image_folder.load(tmp_path)


def test_folders_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="two or more classes, found none"):
        image_folder.load(tmp_path)
    write_classes(tmp_path / "train", 3)
    (tmp_path / "train" / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no image found"):
        image_folder.load(tmp_path)
    (tmp_path / "train" / "empty").rmdir()
    write_image(tmp_path / "test" / "wolf" / "0.png", 3)
    with pytest.raises(DatasetError, match="wolf found; the classes in training are cat, dog"):
        image_folder.load(tmp_path)


def test_damaged_and_deep_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "dog" / "00.jpg"
    for place in (tmp_path / "cat" / "00.jpg", path):
        place.parent.mkdir()
        Image.fromarray(np.random.RandomState(0).randint(0, 256, (48, 64, 3)).astype(np.uint8)).save(place)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"dog/00\.jpg: damaged image"):
        image_folder.load(tmp_path)
    path.write_bytes(b"no image at all")
    with pytest.raises(DatasetError, match=r"dog/00\.jpg: not an image"):
        image_folder.load(tmp_path)
    path.unlink()
    Image.fromarray(np.full((48, 64), 40_000, np.uint16)).save(tmp_path / "dog" / "00.png")
    with pytest.raises(DatasetError, match=r"dog/00\.png: pixels of mode 'I;16' found"):
        image_folder.load(tmp_path)


def test_without_pillow_the_way_to_get_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, 2)
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(DatasetError, match=r"need Pillow.*pip install 'trec_dse\[images\]'"):
        image_folder.load(tmp_path)


# ImageNet 64x64


def rows_of(n: int, seed: int) -> tuple[Bytes, list[int]]:
    random = np.random.RandomState(seed)
    return random.randint(0, 256, (n, 3 * 64 * 64)).astype(np.uint8), [1 + i % 2 for i in range(n)]


def write_batch(folder: Path, name: str, n: int, seed: int, *, pickled: bool) -> None:
    folder.mkdir(exist_ok=True)
    rows, labels = rows_of(n, seed)
    mean = rows.mean(axis=0)
    if pickled:
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": labels, "mean": mean}, protocol=3))
    else:
        np.savez(folder / f"{name}.npz", data=rows, labels=np.array(labels), mean=mean)


def test_archives_and_pickles_give_the_same_images(tmp_path: Path) -> None:
    for form in ("npz", "pickles"):
        pickled = form == "pickles"
        (tmp_path / form).mkdir()
        write_batch(tmp_path / form / "Imagenet64_train_part1", "train_data_batch_1", 20, 1, pickled=pickled)
        write_batch(tmp_path / form / "Imagenet64_train_part2", "train_data_batch_10", 10, 2, pickled=pickled)
        write_batch(tmp_path / form, "val_data", 6, 3, pickled=pickled)
    first = datasets.load("imagenet64", tmp_path / "npz")
    assert sizes(first) == [27, 3, 6]
    assert first.input_shape == imagenet64.INPUT_SHAPE
    assert imagenet64.load(tmp_path / "pickles").sha256 == first.sha256
    rows, _ = rows_of(6, 3)
    assert first.test.images[5, 7, 9].tolist() == [rows[5, plane * 4096 + 7 * 64 + 9] for plane in range(3)]
    assert first.test.labels.tolist() == [0, 1] * 3


def test_missing_batches_are_named_with_their_source(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no train_data_batch_1 or .*registered users get it from https://"):
        imagenet64.load(tmp_path)
    write_batch(tmp_path, "train_data_batch_3", 10, 0, pickled=False)
    with pytest.raises(DatasetError, match="found no val_data"):
        imagenet64.load(tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": _Harmful(Path("it-ran")), "labels": [1]}, r"it asks for posix\.system"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [1]}, "n x 12288"),
        ({"data": np.zeros((1, 12288), np.uint8), "labels": [0]}, "classes 1 to 1000"),
        ({"data": np.zeros((1, 12288), np.uint8), "labels": [1001]}, "classes 1 to 1000"),
        ({"data": np.zeros((2, 12288), np.uint8), "labels": [1]}, "1 labels found, 2 expected"),
    ],
)
def test_a_pickle_that_is_no_imagenet_batch_is_refused(tmp_path: Path, batch: Any, message: str) -> None:
    (tmp_path / "train_data_batch_1").write_bytes(pickle.dumps(batch, protocol=3))
    write_batch(tmp_path, "val_data", 4, 0, pickled=True)
    with pytest.raises(DatasetError, match=rf"train_data_batch_1: .*{message}"):
        imagenet64.load(tmp_path)
    assert not Path("it-ran").exists()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((1, 3072), np.uint8), "labels": np.ones(1, int)}, r"\(n, 12288\) expected, found uint8 \(1"),
        ({"labels": np.ones(1, int)}, r"\(n, 12288\) expected, found none"),
        ({"data": np.zeros((1, 12288), np.uint8)}, "no array 'labels'"),
        ({"data": np.zeros((1, 12288), np.uint8), "labels": np.zeros(1, int)}, "classes 1 to 1000"),
        ({"data": np.zeros((2, 12288), np.uint8), "labels": np.ones(1, int)}, "1 labels found, 2 expected"),
    ],
)
def test_an_archive_that_is_no_imagenet_batch_is_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    np.savez(tmp_path / "train_data_batch_1.npz", **arrays)
    write_batch(tmp_path, "val_data", 4, 0, pickled=False)
    with pytest.raises(DatasetError, match=rf"train_data_batch_1\.npz: .*{message}"):
        imagenet64.load(tmp_path)


def test_a_bare_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "mine.npz")
    with pytest.raises(DatasetError, match="one bare array found"):
        npz.load(tmp_path)
    with zipfile.ZipFile(tmp_path / "mine.npz", "w") as archive:
        archive.writestr("readme.txt", "no array")
    with pytest.raises(DatasetError, match="no array 'images'"):
        npz.load(tmp_path)


# Where the shape is not known


def test_data_of_ones_own_have_no_shape_until_they_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DatasetError, match=r"'npz' has the shape of your own files.*--data-dir"):
        _dataset("npz", None)
    assert _dataset("imagenet64", None).input_shape == (64, 64, 3)


def test_mean_and_deviation_do_not_depend_on_how_many_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(np.random.RandomState(0).randint(0, 256, (11, 3, 3, 2)).astype(np.uint8), np.arange(11) % 2)
    whole = Dataset.of("x", split, split, split)
    monkeypatch.setattr("trec_dse.datasets._types._COUNTED_AT_ONCE", 4)
    assert Dataset.of("x", split, split, split).mean == whole.mean
    assert whole.mean == pytest.approx(tuple(split.images.mean(axis=(0, 1, 2)) / 255))
