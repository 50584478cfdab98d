"""Data sets: fixed splits, files that are checked before use, and pickles that cannot run anything."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
import torch

from trec_dse import datasets
from trec_dse.datasets import Dataset, Split, cifar10, digits, mnist
from trec_dse.datasets._files import PublishedFile, fetch_missing
from trec_dse.datasets._idx import read_idx
from trec_dse.datasets._pickles import read_batch
from trec_dse.datasets._types import hold_out, stratified_order
from trec_dse.errors import DatasetError


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> Iterator[None]:
    datasets.load.cache_clear()
    yield
    datasets.load.cache_clear()


def _published(name: str, content: bytes, url: str = "") -> PublishedFile:
    return PublishedFile(name, len(content), hashlib.md5(content).hexdigest(), url)


# Splits and normalisation


def _split(labels: list[int]) -> Split:
    return Split(np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1), np.array(labels, dtype=np.int64))


def test_a_stratified_part_keeps_the_proportions_and_the_order() -> None:
    split = _split([0] * 60 + [1] * 30 + [2] * 10)
    part = split.stratified(20, seed=1)
    assert np.bincount(part.labels).tolist() == [12, 6, 2]
    assert (np.diff(part.images.ravel().astype(int)) > 0).all()
    assert np.array_equal(part.images, split.stratified(20, seed=1).images)
    assert not np.array_equal(part.images, split.stratified(20, seed=2).images)
    assert split.stratified(100) is split


def test_every_prefix_of_a_stratified_order_is_balanced() -> None:
    labels = np.array([0, 1] * 50)
    order = stratified_order(labels, seed=0)
    assert sorted(order) == list(range(100))
    assert all(abs(int(labels[order[:n]].sum()) - n / 2) <= 1 for n in range(101))


def test_held_out_images_are_not_in_the_rest() -> None:
    rest, held = hold_out(_split([0, 1] * 10), 6)
    assert (len(rest), len(held)) == (14, 6)
    assert not set(rest.images.ravel()) & set(held.images.ravel())


def test_mean_and_deviation_are_those_of_the_training_images() -> None:
    images = np.zeros((1, 1, 2, 2), np.uint8)
    images[0, 0, 1] = [255, 51]  # channel 0: 0 and 1, channel 1: 0 and 0.2
    other = Split(np.full((1, 1, 2, 2), 9, np.uint8), np.array([1]))
    dataset = Dataset.of("dots", Split(images, np.array([0])), other, other)
    assert dataset.mean == pytest.approx((0.5, 0.1))
    assert dataset.std == pytest.approx((0.5, 0.1))
    assert dataset.n_classes == 2
    assert dataset.input_shape == (1, 2, 2)
    x = dataset.normalise(images)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, torch.tensor([[[[-1.0, 1]], [[-1, 1]]]]))
    assert torch.equal(dataset.normalise(torch.from_numpy(images.copy())), x)


def test_the_content_hash_sees_every_pixel() -> None:
    splits = [_split([0, 1]) for _ in range(3)]
    images = splits[2].images.copy()
    images[1, 0, 0, 0] += 1
    first = Dataset.of("a", splits[0], splits[1], splits[2])
    assert Dataset.of("b", splits[0], splits[1], splits[2]).sha256 == first.sha256
    assert Dataset.of("a", splits[0], splits[1], Split(images, splits[2].labels)).sha256 != first.sha256


def test_images_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        datasets.load("digits").train.images[0] = 0


# Digits


def test_digits_are_split_once_and_for_all() -> None:
    dataset = digits.load(Path("nowhere"))
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [1078, 359, 360]
    assert dataset.input_shape == (8, 8, 1)
    assert (dataset.train.images.min(), dataset.train.images.max()) == (0, 255)
    for split in (dataset.train, dataset.validation, dataset.test):
        share = np.bincount(split.labels) / len(split)
        assert abs(share - 0.1).max() < 0.01
    assert dataset.sha256 == digits.load(Path("nowhere")).sha256
    assert dataset.sha256.startswith("55995e82")


# MNIST


def _idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def _write_mnist(folder: Path) -> list[PublishedFile]:
    random = np.random.RandomState(0)
    files = []
    for name, n in (("train", 60), ("t10k", 10)):
        for kind, array in (("images", random.randint(0, 256, (n, 28, 28))), ("labels", np.arange(n) % 10)):
            content = gzip.compress(_idx(array.astype(np.uint8)), mtime=0)
            files.append(_published(f"{name}-{kind}.gz", content))
            (folder / files[-1].name).write_bytes(content)
    return files


def test_mnist_holds_out_a_stratified_sixth(tmp_path: Path) -> None:
    dataset = mnist.load(tmp_path, _write_mnist(tmp_path))
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [50, 10, 10]
    assert dataset.validation.labels.tolist().count(3) == 1
    assert dataset.input_shape == (28, 28, 1)


def test_a_cut_file_is_named_with_both_sizes(tmp_path: Path) -> None:
    files = _write_mnist(tmp_path)
    path = tmp_path / files[2].name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=rf"t10k-images\.gz: 100 bytes found, {files[2].size} expected"):
        mnist.load(tmp_path, files)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    files = _write_mnist(tmp_path)
    path = tmp_path / files[0].name
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"train-images\.gz: MD5 [0-9a-f]+ found, [0-9a-f]+ expected"):
        mnist.load(tmp_path, files)


def test_a_missing_file_is_named_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz: No such file.*had from https://"):
        mnist.load(tmp_path)


def test_idx_files_must_hold_what_their_header_says() -> None:
    good = _idx(np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert read_idx(gzip.compress(good), 2, "good").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DatasetError, match="short: 17 bytes found after decompression, 18 expected"):
        read_idx(gzip.compress(good[:-1]), 2, "short")
    with pytest.raises(DatasetError, match="flat: starts with 00000802, expected the IDX header 00000801"):
        read_idx(gzip.compress(good), 1, "flat")
    with pytest.raises(DatasetError, match="cut: not a whole gzip file"):
        read_idx(gzip.compress(good)[:-4], 2, "cut")
    with pytest.raises(DatasetError, match="empty: starts with"):
        read_idx(b"", 2, "empty")


# CIFAR-10


def _batch(n: int, seed: int) -> bytes:
    random = np.random.RandomState(seed)
    data = random.randint(0, 256, (n, 3072)).astype(np.uint8)
    return pickle.dumps({b"data": data, b"labels": [i % 10 for i in range(n)]}, protocol=2)


def _write_cifar(folder: Path) -> list[PublishedFile]:
    folder.mkdir(exist_ok=True)
    files = []
    for seed, name in enumerate((*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")):
        content = _batch(20, seed)
        files.append(_published(name, content))
        (folder / name).write_bytes(content)
    return files


def test_cifar_images_are_turned_into_height_width_channel(tmp_path: Path) -> None:
    files = _write_cifar(tmp_path / cifar10.FOLDER)
    dataset = cifar10.load(tmp_path, files)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [90, 10, 20]
    assert dataset.validation.labels.tolist().count(7) == 1
    rows = np.random.RandomState(5).randint(0, 256, (20, 3072))
    # a stored row is the red plane, then green, then blue, each 32 rows of 32
    assert dataset.test.images[4, 2, 3].tolist() == [rows[4, plane * 1024 + 2 * 32 + 3] for plane in range(3)]


@pytest.mark.parametrize("name", cifar10.ARCHIVES)
def test_cifar_is_read_from_an_archive_as_from_a_folder(tmp_path: Path, name: str) -> None:
    files = _write_cifar(tmp_path / cifar10.FOLDER)
    unpacked = cifar10.load(tmp_path / cifar10.FOLDER, files)
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / name, "w:xz" if name.endswith("xz") else "w:gz") as tar:
        tar.add(tmp_path / cifar10.FOLDER, cifar10.FOLDER)
    assert cifar10.load(packed, files).sha256 == unpacked.sha256
    content = (packed / name).read_bytes()
    (packed / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=rf"{name}.*{len(content) // 2} bytes found"):
        cifar10.load(packed, files)


def test_an_archive_without_a_batch_is_refused(tmp_path: Path) -> None:
    files = _write_cifar(tmp_path / cifar10.FOLDER)
    (tmp_path / cifar10.FOLDER / "data_batch_3").unlink()
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / cifar10.ARCHIVES[0], "w:gz") as tar:
        tar.add(tmp_path / cifar10.FOLDER, cifar10.FOLDER)
    with pytest.raises(DatasetError, match="holds no cifar-10-batches-py/data_batch_3"):
        cifar10.load(packed, files)


def test_an_empty_folder_says_what_cifar_needs(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"neither cifar-10-batches-py/ nor .*\.tar\.gz.*had from https://"):
        cifar10.load(tmp_path)


class _Harmful:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_that_asks_for_os_system_is_refused_before_anything_runs(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "it-ran"
    harmful = pickle.dumps({b"data": _Harmful(os.system, f"touch {witness}")}, protocol=protocol)
    with pytest.raises(DatasetError, match=r"evil: not a CIFAR-10 batch: it asks for posix\.system"):
        read_batch(harmful, "evil")
    assert not witness.exists()


@pytest.mark.parametrize("function", [eval, getattr, np.load, np.fromfile, io.open])
def test_other_functions_are_refused_as_well(function: Any) -> None:
    with pytest.raises(DatasetError, match="it asks for"):
        read_batch(pickle.dumps({b"data": _Harmful(function, "x")}, protocol=2), "evil")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CIFAR-10 batch"),
        (b"\x80\x02garbage", "not a CIFAR-10 batch"),
        (pickle.dumps({}, protocol=4), "step MEMOIZE of protocol 4"),
        (b"\x80\x02}r\xff\xff\xff\xff.", "keeps its value number 4294967295"),
        (pickle.dumps([1, 2], 2), "holds a list instead of a dict"),
        (pickle.dumps({b"labels": [1, 2]}, 2), "holds no array 'data'"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.float32), b"labels": [1, 2]}, 2), "holds no array 'data'"),
        (pickle.dumps({b"data": np.zeros((2, 3071), np.uint8), b"labels": [1, 2]}, 2), r"its shape is \(2, 3071\)"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 12]}, 2), "holds no list 'labels'"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, 2), "1 labels found, 2 expected"),
    ],
)
def test_what_is_no_batch_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_batch(content, "batch")


def test_damaged_pickles_are_refused_and_never_crash() -> None:
    good = _batch(2, seed=0)
    random = np.random.RandomState(1)
    n_refused = 0
    for _ in range(1000):
        damaged = bytearray(good)
        for place in random.randint(0, 160, 3):  # where the structure is; the pixels follow
            damaged[place] = random.randint(0, 256)
        try:
            images, labels = read_batch(bytes(damaged), "damaged")
            assert images.shape == (len(labels), 32, 32, 3)
        except DatasetError:
            n_refused += 1
    assert n_refused > 900


# Finding and downloading


class _Answer(io.BytesIO):
    """What `urlopen` gives back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _serve(monkeypatch: pytest.MonkeyPatch, content: bytes | OSError) -> list[str]:
    asked: list[str] = []

    def urlopen(url: str, timeout: float) -> _Answer:
        asked.append(url)
        assert timeout > 0
        if isinstance(content, OSError):
            raise content
        return _Answer(content)

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return asked


def test_a_missing_file_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _serve(monkeypatch, b"content")
    for _ in range(2):
        fetch_missing([_published("a.gz", b"content", "https://example.org/a.gz")], tmp_path / "new")
    assert asked == ["https://example.org/a.gz"]
    assert (tmp_path / "new" / "a.gz").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (b"cont", "4 bytes found, 7 expected"),
        (b"CONTENT", "MD5"),
        (OSError("no route"), r"https://example\.org/a\.gz: download failed \(no route\).*--data-dir"),
    ],
)
def test_a_bad_download_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: bytes | OSError, message: str
) -> None:
    _serve(monkeypatch, served)
    with pytest.raises(DatasetError, match=message):
        fetch_missing([_published("a.gz", b"content", "https://example.org/a.gz")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_is_used_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _serve(monkeypatch, OSError("no route"))
    with pytest.raises(DatasetError, match=r"neither cifar-10-batches-py/"):
        datasets.load("cifar10", tmp_path)
    with pytest.raises(DatasetError, match="no such folder; the data directory must hold the files of 'mnist'"):
        datasets.load("mnist", tmp_path / "absent")
    assert asked == []


def test_a_data_folder_may_have_one_folder_per_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = _write_cifar(tmp_path / "cifar10")
    monkeypatch.setattr(cifar10.load, "__defaults__", (files,))
    assert len(datasets.load("cifar10", tmp_path).test) == 20
    assert datasets.load("cifar10", tmp_path) is datasets.load("cifar10", tmp_path)


def test_without_a_data_folder_the_cache_is_filled_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    _serve(monkeypatch, OSError("no route"))
    with pytest.raises(DatasetError, match="download failed"):
        datasets.load("mnist")
    folder = tmp_path / "trec_dse" / "data" / "mnist"
    files = _write_mnist(folder)
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setattr(mnist.load, "__defaults__", (files,))
    assert len(datasets.load("mnist").train) == 50


def test_an_unknown_data_set_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(
        DatasetError, match="'imagenet'; choose from cifar10, digits, image_folder, imagenet64, mnist, npz"
    ):
        datasets.load("imagenet")
