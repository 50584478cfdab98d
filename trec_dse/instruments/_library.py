"""Where instruments get their makers' libraries, which are extras of this package."""

import importlib
from typing import Any

from trec_dse.errors import ToolchainError


def library(module: str, extra: str) -> Any:
    """The module of that name; raises `ToolchainError` with what to install where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        raise ToolchainError(
            f"this instrument needs its library: {problem}; run: pip install 'trec_dse[{extra}]'"
        ) from problem
