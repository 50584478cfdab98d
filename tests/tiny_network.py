"""The hand-written network of tests/c as an export, for tests that need a firmware but no training."""

import json
from collections.abc import Mapping
from pathlib import Path

from trec_dse.firmware import write_export
from trec_dse.target import Target

BUILD_ID = "0123456789abcdef"
N_INPUTS, N_OUTPUTS, ARENA_BYTES = 12, 3, 96

_C_FOLDER = Path(__file__).parent / "c"


def tiny_files(replacements: Mapping[str, str] | None = None) -> dict[str, str]:
    """Files for `write_export`; `replacements` are made in the text of all of them."""
    files = {
        f"network/trec_{name}": (_C_FOLDER / f"tiny_{name}").read_text(encoding="utf-8")
        for name in ("network.h", "network.c", "kat.h", "kat.c")
    }
    files["manifest.json"] = json.dumps({"build_id": BUILD_ID})
    for old, new in (replacements or {}).items():
        files = {name: text.replace(old, new) for name, text in files.items()}
    return files


def write_tiny_export(folder: Path, target: Target, replacements: Mapping[str, str] | None = None) -> None:
    """The tiny network as an export folder; it uses no kernel."""
    write_export(folder, target, tiny_files(replacements), [])
