"""Data sets, one file each: ``load(root)`` reads it from a folder, ``FILES`` lists what can be downloaded for it.

A file with ``NEEDS_FOLDER`` cannot be downloaded: ``npz`` and ``image_folder`` read data of one's own.

Images stay uint8 in NHWC order; a network sees (image / 255 - mean) / std, channel by channel.
"""

from functools import lru_cache
from pathlib import Path

from trec_dse import plugins
from trec_dse.datasets import _types
from trec_dse.datasets._files import fetch_missing
from trec_dse.datasets._types import Dataset, Split
from trec_dse.errors import DatasetError
from trec_dse.resources import cache_folder

__all__ = ["Dataset", "Shape", "Split", "load", "placeholder"]

Shape = tuple[int, int, int]


@lru_cache(maxsize=2)
def load(name: str, data_dir: Path | None = None) -> Dataset:
    """The data set `name`, kept in memory for the next call.

    With `data_dir` its files are expected there, or in ``data_dir/name``, and nothing is downloaded. Without, they
    are taken from the user's cache and downloaded into it if need be and possible. Raises DatasetError if they are
    missing, cut short or not the published ones.
    """
    module = plugins.load("datasets", name, DatasetError)
    folder = data_dir if data_dir is not None else cache_folder() / "data"
    if data_dir is None:
        fetch_missing(module.FILES, folder / name)
        if getattr(module, "NEEDS_FOLDER", False) and not (folder / name).is_dir():
            raise DatasetError(f"data set {name!r} cannot be downloaded; give the folder of its files as --data-dir")
    elif not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; the data directory must hold the files of {name!r}")
    dataset = module.load(folder / name if (folder / name).is_dir() else folder)
    assert isinstance(dataset, Dataset)
    return dataset


@lru_cache(maxsize=2)
def placeholder(name: str, brought: tuple[Shape, int] | None = None) -> Dataset:
    """Made-up images in the shape of the data set `name`: its real ones are not needed to price a network.

    Where that is the shape of one's own files, `brought` tells it, and the number of classes.
    """
    module = plugins.load("datasets", name, DatasetError)
    if brought is not None and not hasattr(module, "INPUT_SHAPE"):
        return _types.placeholder(name, *brought)
    if not hasattr(module, "INPUT_SHAPE"):
        raise DatasetError(f"data set {name!r} has the shape of your own files; give their folder as --data-dir")
    return _types.placeholder(name, module.INPUT_SHAPE, module.N_CLASSES)


def cached_folder(name: str) -> Path:
    """Where a downloaded data set lies, or would."""
    return cache_folder() / "data" / name
