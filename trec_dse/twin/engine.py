"""The one door to Unicorn, an optional dependency whose binding is typed only in part."""

import importlib
from typing import Any

from trec_dse.errors import ToolchainError

VERSION = "2.1.3"
# Skips instructions behind a hooked memory access inside an IT block.
BROKEN_VERSION = "2.1.4"


def _load() -> Any:
    try:
        module = importlib.import_module("unicorn")
    except ImportError as problem:
        raise ToolchainError(
            f"the twin needs unicorn {VERSION}: {problem}; run: pip install 'trec_dse[twin]'"
        ) from problem
    if module.__version__ == BROKEN_VERSION:
        raise ToolchainError(
            f"unicorn {BROKEN_VERSION} executes IT blocks wrongly; run: pip install unicorn=={VERSION}"
        )
    return module


unicorn = _load()
UcError: type[Exception] = unicorn.UcError
Engine = Any
