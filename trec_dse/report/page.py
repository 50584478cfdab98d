"""The report page: one HTML file that holds its data, its script and plotly.js, and asks no network for anything."""

import base64
import gzip
import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from plotly.offline import get_plotlyjs

from trec_dse import objectives as registry
from trec_dse.errors import StudyError
from trec_dse.objectives import Objective
from trec_dse.report.payload import build_detail, build_payload, to_plain
from trec_dse.results import StudyRecord, WhatIfGrid

_FOLDER = Path(__file__).resolve().parent
_SCRIPTS = (
    "base.js",
    "details.js",
    "plane.js",
    "charts.js",
    "card.js",
    "layers.js",
    "arena.js",
    "trials.js",
    "pick.js",
    "compare.js",
    "whatif.js",
    "live.js",
    "main.js",
)
_STYLES = ("card.css", "page.css")
BLOCK = 64  # details that are packed together: a card unpacks one block, not the whole study


def write_html(
    study: StudyRecord,
    path: Path,
    objectives: Sequence[Objective] = registry.DEFAULT,
    what_if: Sequence[WhatIfGrid] = (),
) -> None:
    """Write the page of `study`; about 5 MB, most of it plotly.js. `#trial=3` in its address opens trial 3.

    `objectives` are those of the study: they define the front, the knee and the progress, and the first two the
    axes at the start. `what_if`: networks that can be clustered otherwise on the page.
    Raises `StudyError` if the file cannot be written.
    """
    text = render(study, objectives, what_if)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise StudyError(f"{path}: the report cannot be written: {problem.strerror}") from problem


def render(
    study: StudyRecord, objectives: Sequence[Objective] = registry.DEFAULT, what_if: Sequence[WhatIfGrid] = ()
) -> str:
    """The text of the page."""
    data = _script_safe(to_plain(build_payload(study, objectives, what_if)))
    return _filled(data=data, title=html.escape(study.name), blocks="\n".join(_blocks(study)))


def render_live(data: str, version: str) -> str:
    """The page for a server that gives details and newer versions of its JSON `data` when asked."""
    title = html.escape(json.loads(data)["name"])
    return _filled(data=data.replace("<", "\\u003c"), title=title, version=version, connect="; connect-src 'self'")


def _filled(**given: str) -> str:
    parts = {
        "blocks": "",
        "version": "",
        "connect": "",
        "style": "\n".join(_asset(name) for name in _STYLES),
        "plotly": get_plotlyjs(),
        "script": "\n".join(_asset(name) for name in _SCRIPTS),
        **given,
    }
    # split once: what is put in may itself contain the marker of another part
    pieces = _asset("page.html").split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _blocks(study: StudyRecord) -> Iterator[str]:
    """The details of the evaluated trials, in their order, packed: gzip in base64, which holds no markup."""
    evaluated = [(record.number, record.evaluation) for record in study.trials if record.evaluation is not None]
    for start in range(0, len(evaluated), BLOCK):
        details = {str(number): to_plain(build_detail(each)) for number, each in evaluated[start : start + BLOCK]}
        # without a time: the same study gives the same page
        packed = base64.b64encode(gzip.compress(_script_safe(details).encode(), mtime=0)).decode()
        yield f'<script type="application/gzip" class="block" data-trials="{" ".join(details)}">{packed}</script>'


def _script_safe(data: object) -> str:
    """JSON that cannot end the script element it stands in: no "<" survives, in any string."""
    return json.dumps(tabulated(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def tabulated(data: object) -> object:
    """The same data with each list of like objects as one table, its keys said once: half the size of a big study."""
    if isinstance(data, dict):
        return {key: tabulated(item) for key, item in data.items()}
    if not isinstance(data, list | tuple):
        return data
    keys = list(data[0]) if data and isinstance(data[0], dict) else []
    if not keys or not all(isinstance(item, dict) and list(item) == keys for item in data):
        return [tabulated(item) for item in data]
    return {"%table": [keys, *([tabulated(item[key]) for key in keys] for item in data)]}


def _asset(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
