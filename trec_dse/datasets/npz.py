"""Images of one's own in one .npz archive, the only one in the data directory.

It holds `images` and `labels`, which are split; or `train_images` and `train_labels` and, if there are such splits,
`validation_...` (also `val_...`) and `test_...`. Images are uint8, (n, H, W, C) or (n, H, W); labels count from 0.
"""

from pathlib import Path

import numpy as np

from trec_dse.datasets._files import PublishedFile
from trec_dse.datasets._npz import Arrays, labels_of, read_npz
from trec_dse.datasets._types import Dataset, Split, complete
from trec_dse.errors import DatasetError

FILES: tuple[PublishedFile, ...] = ()
NEEDS_FOLDER = True
_PREFIXES = {"train": ("train_", ""), "validation": ("validation_", "val_"), "test": ("test_",)}


def load(root: Path) -> Dataset:
    """The splits that the archive has; a missing one is a stratified fifth of the training images, always the same."""
    found = sorted(root.glob("*.npz"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DatasetError(f"{root}: needed one .npz archive of images and labels, found {names}")
    where, arrays = str(found[0]), read_npz(found[0])
    train, validation, test = (_split(arrays, where, prefixes) for prefixes in _PREFIXES.values())
    if train is None:
        raise DatasetError(f"{where}: no array 'images' or 'train_images'; it holds {', '.join(arrays) or 'none'}")
    _require_like(train, {"validation": validation, "test": test}, where)
    return Dataset.of("npz", *complete(train, validation, test))


def _split(arrays: Arrays, where: str, prefixes: tuple[str, ...]) -> Split | None:
    for prefix in prefixes:
        images = arrays.get(f"{prefix}images")
        if images is None:
            continue
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise DatasetError(
                f"{where}: '{prefix}images' is {images.dtype} {images.shape}, needed uint8 (n, H, W, C) or (n, H, W)"
            )
        labels = labels_of(arrays, f"{prefix}labels", where)
        if len(labels) != len(images):
            raise DatasetError(f"{where}: {len(labels)} '{prefix}labels' found, {len(images)} expected, one per image")
        return Split(images if images.ndim == 4 else images[..., np.newaxis], labels)
    return None


def _require_like(train: Split, others: dict[str, Split | None], where: str) -> None:
    """Every class from 0 on has training images, and the other splits have images and classes like those."""
    classes = np.unique(train.labels)
    if len(classes) < 2 or not np.array_equal(classes, np.arange(len(classes))):
        raise DatasetError(
            f"{where}: classes {classes.tolist()} found in training; needed two or more, from 0 on without a gap"
        )
    for name, split in others.items():
        if split is None:
            continue
        if split.images.shape[1:] != train.images.shape[1:]:
            raise DatasetError(
                f"{where}: images of {name} are {split.images.shape[1:]}, of training {train.images.shape[1:]}"
            )
        if not len(split) or not np.isin(split.labels, classes).all():
            raise DatasetError(f"{where}: {name} must have images, and only of the {len(classes)} classes of training")
