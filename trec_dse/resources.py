"""Where the shipped boards, search spaces, presets and C files are, in a wheel as in a checkout."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_folder(name: str) -> Path:
    """A folder of shipped files, such as `targets`: packed inside a wheel, beside the package in a checkout."""
    packed = _PACKAGE / f"_{name}"
    return packed if packed.is_dir() else _PACKAGE.parent / name


def package_folder(name: str) -> Path:
    """A folder of the package itself, such as `ops` or `runtime`."""
    return _PACKAGE / name


def cache_folder() -> Path:
    """The user's cache for downloaded data and compiled helpers (XDG rule)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "trec_dse"


def calibration_folder() -> Path | None:
    """Where measurements of boards are kept beyond the studies that made them; None: nowhere.

    The variable TREC_DSE_CALIBRATION names the folder, or is "off"; without it, it is the user's data (XDG rule).
    """
    named = os.environ.get("TREC_DSE_CALIBRATION", "")
    if named == "off":
        return None
    base = os.environ.get("XDG_DATA_HOME", "")
    return Path(named) if named else (Path(base) if base else Path.home() / ".local" / "share") / "trec_dse" / "boards"
