"""ImageNet in 64x64 pixels (Chrabaszcz, Loshchilov, Hutter, 2017): 1,281,167 photographs in 1000 classes.

It is given out to registered users only, so it is never downloaded here. The data directory holds the published
batches, unpacked, as .npz or as pickles: any of `train_data_batch_1` to `..._10`, and `val_data`. One training batch
takes 1.6 GB of memory and reading it twice that; take as many as you have room for.
"""

from pathlib import Path

import numpy as np

from trec_dse.datasets._files import PublishedFile
from trec_dse.datasets._npz import labels_of, read_npz
from trec_dse.datasets._pickles import BatchFormat, images_and_labels, read_batch
from trec_dse.datasets._types import Dataset, Split, hold_out
from trec_dse.errors import DatasetError

INPUT_SHAPE, N_CLASSES = (64, 64, 3), 1000
FILES: tuple[PublishedFile, ...] = ()
NEEDS_FOLDER = True
SOURCE = "https://image-net.org/download-images.php"
FORMAT = BatchFormat("ImageNet batch", 64, range(1, 1 + N_CLASSES), 3)
_TRAIN = tuple(f"train_data_batch_{i}" for i in range(1, 11))
_MOST_VALIDATION = 50_000


def load(root: Path) -> Dataset:
    """The training batches that are there, less a stratified tenth, at most 50,000 images, for validation; the
    published validation images are the test split.

    Batches lie in `root` or in its folders, as the published archives unpack.
    """
    batches = [path for name in _TRAIN if (path := _find(root, name)) is not None]
    test = _find(root, "val_data")
    if not batches or test is None:
        missing = "val_data" if batches else "train_data_batch_1"
        raise DatasetError(f"{root}: found no {missing} or {missing}.npz; registered users get it from {SOURCE}")
    parts = [_read(path) for path in batches]
    known = Split(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))
    del parts
    train, validation = hold_out(known, min(len(known) // 10, _MOST_VALIDATION))
    return Dataset.of("imagenet64", train, validation, _read(test))


def _find(root: Path, name: str) -> Path | None:
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    paths = (folder / file for folder in folders for file in (f"{name}.npz", name))
    return next((path for path in paths if path.is_file()), None)


def _read(path: Path) -> Split:
    where = str(path)
    if path.suffix != ".npz":
        return Split(*read_batch(path.read_bytes(), where, FORMAT))
    arrays = read_npz(path)
    rows, labels = arrays.get("data"), labels_of(arrays, "labels", where)
    if rows is None or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != FORMAT.row_bytes:
        found = "none" if rows is None else f"{rows.dtype} {rows.shape}"
        raise DatasetError(f"{where}: array 'data' of uint8 (n, {FORMAT.row_bytes}) expected, found {found}")
    if not len(labels) or labels.min() < 1 or labels.max() > N_CLASSES:
        raise DatasetError(f"{where}: labels must be classes 1 to {N_CLASSES}")
    return Split(*images_and_labels(rows, labels, where, FORMAT))
