"""MNIST: 70,000 handwritten digits of 28x28 pixels (LeCun, Cortes, Burges) from the four published .gz files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trec_dse.datasets._files import PublishedFile, read_published
from trec_dse.datasets._idx import read_idx
from trec_dse.datasets._types import Dataset, Split, hold_out
from trec_dse.errors import DatasetError

INPUT_SHAPE, N_CLASSES = (28, 28, 1), 10
_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist"


def _published(name: str, size: int, md5: str) -> PublishedFile:
    return PublishedFile(name, size, md5, f"{_MIRROR}/{name}")


FILES = (
    _published("train-images-idx3-ubyte.gz", 9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    _published("train-labels-idx1-ubyte.gz", 28881, "d53e105ee54ea40749a09fcbcd1e9432"),
    _published("t10k-images-idx3-ubyte.gz", 1648877, "9fb629c4189551a2d022fa330f9573f3"),
    _published("t10k-labels-idx1-ubyte.gz", 4542, "ec29112dd5afa0611ce80d1b7f02629c"),
)


def load(root: Path, files: Sequence[PublishedFile] = FILES) -> Dataset:
    """50,000 / 10,000 / 10,000 images for training, validation and test; the validation images are a fixed
    stratified sixth of the published training file."""
    train_images, train_labels, test_images, test_labels = files
    known = _read(root, train_images, train_labels)
    train, validation = hold_out(known, len(known) // 6)
    return Dataset.of("mnist", train, validation, _read(root, test_images, test_labels))


def _read(root: Path, images_file: PublishedFile, labels_file: PublishedFile) -> Split:
    images = read_idx(read_published(root, images_file), 3, str(root / images_file.name))
    labels = read_idx(read_published(root, labels_file), 1, str(root / labels_file.name))
    if len(images) != len(labels):
        raise DatasetError(f"{root / labels_file.name}: {len(labels)} labels found, {len(images)} expected")
    return Split(images[..., np.newaxis], labels.astype(np.int64))
