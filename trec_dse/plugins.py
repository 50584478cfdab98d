"""Find networks, datasets, operators, boards and search spaces by file name.

The file name is the registry key: ``networks/lenet5.py`` is the network "lenet5".
There is no list to edit and no decorator to forget.
"""

import importlib
from pathlib import Path
from types import ModuleType

from trec_dse.errors import TrecDseError, UnsupportedError
from trec_dse.resources import data_folder, package_folder


def names(folder: str) -> list[str]:
    """Sorted names of the modules or sub-packages in ``trec_dse/<folder>/``."""
    found = []
    for path in package_folder(folder).iterdir():
        if path.name.startswith("_"):
            continue
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            found.append(path.stem)
    return sorted(found)


def load(folder: str, name: str, error: type[TrecDseError] = UnsupportedError) -> ModuleType:
    """The module ``trec_dse.<folder>.<name>``; raises `error`, listing what there is, if none has that name."""
    if name not in names(folder):
        raise error(f"no {folder} entry named {name!r}; choose from {', '.join(names(folder))}")
    return importlib.import_module(f"trec_dse.{folder}.{name}")


def data_file(folder: str, name: str, suffix: str, error: type[TrecDseError]) -> Path:
    """A shipped file by its stem, or the path itself if `name` is one; raises `error`, listing what there is."""
    path = Path(name)
    if path.suffix == suffix:
        if path.is_file():
            return path
        raise error(f"{path}: no such file")
    shipped = data_folder(folder) / f"{name}{suffix}"
    if shipped.is_file():
        return shipped
    raise error(
        f"no {folder} entry named {name!r}; choose from {', '.join(data_names(folder, suffix))}, or give a path"
    )


def data_names(folder: str, suffix: str) -> list[str]:
    """Sorted stems of the shipped files in `targets/`, `search_spaces/` or `presets/`."""
    return sorted(path.stem for path in data_folder(folder).glob(f"*{suffix}") if not path.name.startswith("_"))
