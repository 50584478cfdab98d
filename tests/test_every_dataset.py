"""Every file in `datasets/` keeps the agreement: `FILES` to download and `load(root)`."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from trec_dse import datasets, plugins
from trec_dse.datasets import Dataset
from trec_dse.datasets._files import PublishedFile
from trec_dse.errors import DatasetError

NAMES = plugins.names("datasets")
NEED_FOLDER = [name for name in NAMES if getattr(plugins.load("datasets", name), "NEEDS_FOLDER", False)]
BUNDLED = [name for name in NAMES if name not in NEED_FOLDER and not plugins.load("datasets", name).FILES]


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_says_what_can_be_downloaded_and_how_it_is_checked(name: str) -> None:
    module = plugins.load("datasets", name)
    for published in module.FILES:
        assert isinstance(published, PublishedFile)
        assert published.url.startswith("https://")
        assert published.url.endswith(published.name)
        assert published.size > 0
        assert re.fullmatch("[0-9a-f]{32}", published.md5)


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_loads_from_one_folder_and_says_so_when_it_is_empty(name: str, tmp_path: Path) -> None:
    module = plugins.load("datasets", name)
    required = [p for p in inspect.signature(module.load).parameters.values() if p.default is inspect.Parameter.empty]
    assert [parameter.name for parameter in required] == ["root"]
    if module.FILES:
        with pytest.raises(DatasetError, match="had from https://"):
            module.load(tmp_path)
    elif name in NEED_FOLDER:
        with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
            module.load(tmp_path)


@pytest.mark.parametrize("name", NEED_FOLDER)
def test_what_cannot_be_downloaded_asks_for_a_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    datasets.load.cache_clear()
    with pytest.raises(DatasetError, match=f"'{name}' cannot be downloaded.*--data-dir"):
        datasets.load(name)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_data_set_without_files_is_complete(name: str) -> None:
    dataset = datasets.load(name)
    assert isinstance(dataset, Dataset)
    assert dataset.name == name
    for split in (dataset.train, dataset.validation, dataset.test):
        assert split.images.dtype == np.uint8
        assert split.images.shape[1:] == dataset.input_shape
        assert split.labels.dtype == np.int64
        assert set(split.labels.tolist()) == set(range(dataset.n_classes))
