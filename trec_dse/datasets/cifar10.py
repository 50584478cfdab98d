"""CIFAR-10: 60,000 photographs of 32x32 pixels in 10 classes (Krizhevsky, 2009) from the published python batches."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trec_dse.datasets._files import PublishedFile, check_content, read_published
from trec_dse.datasets._pickles import read_batch
from trec_dse.datasets._types import Dataset, Split, hold_out
from trec_dse.errors import DatasetError

INPUT_SHAPE, N_CLASSES = (32, 32, 3), 10
FOLDER = "cifar-10-batches-py"
ARCHIVES = ("cifar-10-python.tar.gz", f"{FOLDER}.tar.xz", f"{FOLDER}.tar.gz", "cifar-10-python.tar.xz")
FILES = (
    PublishedFile(
        "cifar-10-python.tar.gz",
        170498071,
        "c58f30108f718f92721af3b95e74349a",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
)
BATCHES = (
    PublishedFile("data_batch_1", 31035704, "c99cafc152244af753f735de768cd75f"),
    PublishedFile("data_batch_2", 31035320, "d4bba439e000b95fd0a9bffe97cbabec"),
    PublishedFile("data_batch_3", 31035999, "54ebc095f3ab1f0389bbae665268c751"),
    PublishedFile("data_batch_4", 31035696, "634d18415352ddfa80567beed471001a"),
    PublishedFile("data_batch_5", 31035623, "482c414d41f54cd18b22e5b47cb7c3cb"),
    PublishedFile("test_batch", 31035526, "40351d587109b95175f43aff81a1287e"),
)


def load(root: Path, batches: Sequence[PublishedFile] = BATCHES) -> Dataset:
    """45,000 / 5,000 / 10,000 images for training, validation and test; the validation images are a fixed
    stratified tenth of the five training batches.

    `root` holds the unpacked folder, its files themselves, or one of the archives, read without unpacking.
    """
    parts = [Split(*read_batch(content, where)) for where, content in _contents(root, batches)]
    known = Split(np.concatenate([p.images for p in parts[:-1]]), np.concatenate([p.labels for p in parts[:-1]]))
    train, validation = hold_out(known, len(known) // 10)
    return Dataset.of("cifar10", train, validation, parts[-1])


def _contents(root: Path, batches: Sequence[PublishedFile]) -> list[tuple[str, bytes]]:
    """(where it is, checked content) of every batch, in the order of `batches`."""
    for folder in (root / FOLDER, root):
        if (folder / batches[0].name).is_file():
            return [(str(folder / batch.name), read_published(folder, batch)) for batch in batches]
    for archive in (root / name for name in ARCHIVES):
        if archive.is_file():
            return _archived(archive, batches)
    raise DatasetError(
        f"{root}: found neither {FOLDER}/ nor {' nor '.join(ARCHIVES)}; it can be had from {FILES[0].url}"
    )


def _archived(archive: Path, batches: Sequence[PublishedFile]) -> list[tuple[str, bytes]]:
    wanted = {f"{FOLDER}/{batch.name}": batch for batch in batches}
    found = {}
    for member, content in _members(archive, set(wanted)):
        where = f"{archive}:{member}"
        check_content(content, wanted[member], where)
        found[member] = (where, content)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DatasetError(f"{archive}: holds no {', '.join(missing)}; fetch the file again")
    return [found[name] for name in wanted]


def _members(archive: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the wanted regular files of an archive, read once from front to back."""
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() and member.name in wanted else None
                if file is not None:
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as problem:
        size = archive.stat().st_size
        raise DatasetError(
            f"{archive}: cannot be read to its end ({problem}); {size} bytes found, "
            f"{FILES[0].size} expected of {FILES[0].name}; fetch the file again"
        ) from problem
