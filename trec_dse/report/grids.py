"""What-if grids of a study on disk: one file per trial in its folder `what_if`, for the page to show."""

from pathlib import Path

from trec_dse import codec
from trec_dse.durable import write_text
from trec_dse.errors import StudyError
from trec_dse.results import WhatIfGrid

_FOLDER = "what_if"


def write_grid(folder: Path, grid: WhatIfGrid) -> Path:
    """Keep the grid of a trial, in place of an older one."""
    path = folder / _FOLDER / f"trial_{grid.trial}.json"
    path.parent.mkdir(exist_ok=True)
    write_text(path, codec.to_json(grid))
    return path


def read_grids(folder: Path) -> tuple[WhatIfGrid, ...]:
    """All grids of a study, by trial; StudyError names a file that is damaged."""
    found = [
        codec.from_json(path.read_text(encoding="utf-8"), WhatIfGrid, str(path), StudyError)
        for path in (folder / _FOLDER).glob("trial_*.json")
    ]
    return tuple(sorted(found, key=lambda grid: grid.trial))
