"""Read .npz archives of plain arrays; an archive that holds pickled objects is refused, so reading executes nothing."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trec_dse.errors import DatasetError

Arrays = dict[str, npt.NDArray[Any]]


def read_npz(path: Path) -> Arrays:
    """All arrays of the archive by name; raises DatasetError, naming `path`, if it is missing, damaged or unsafe."""
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DatasetError(f"{path}: one bare array found, needed an archive as numpy.savez writes it")
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as problem:
        raise DatasetError(f"{path}: not a readable .npz archive of plain arrays: {problem}") from problem


def labels_of(arrays: Arrays, name: str, where: str) -> npt.NDArray[np.int64]:
    """The integer labels (n,) called `name`; a column (n, 1) is taken too."""
    labels = arrays.get(name)
    if labels is None:
        raise DatasetError(f"{where}: no array {name!r}; it holds {', '.join(sorted(arrays)) or 'none'}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DatasetError(f"{where}: {name!r} is {labels.dtype} {labels.shape}, needed one integer per image")
    return labels.astype(np.int64)
