"""The report page in a real browser: its script runs to the end, and the address chooses the candidate.

Skipped where no Chromium is installed.
"""

import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from studies import make_evaluation, make_study, make_trials

from trec_dse.report import write_html
from trec_dse.results import StudyRecord, TrialRecord

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OFFLINE = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--enable-unsafe-swiftshader",
    "--virtual-time-budget=8000",
    "--window-size=1400,1000",
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on the path")]


def opened(study: StudyRecord, folder: Path, fragment: str = "") -> str:
    """The document after the script has run, without its scripts and styles."""
    page = folder / "report.html"
    write_html(study, page)
    assert BROWSER is not None
    command = [BROWSER, *OFFLINE, f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"{page.as_uri()}{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return re.sub(r"<(script|style)\b.*?</\1>", "", done.stdout, flags=re.DOTALL)


def card_heading(document: str) -> str:
    found = re.search(r'<aside id="card".*?<h2>(.*?)</h2>', document, re.DOTALL)
    assert found is not None
    return unescape(found[1])


def is_drawn(document: str) -> bool:
    """The script came to its end, and no error was shown."""
    body = re.search(r"<body[^>]*>", document)
    return body is not None and 'data-ready="true"' in body[0] and "data-error" not in body[0]


def test_the_page_opens_on_the_knee(tmp_path: Path) -> None:
    document = opened(make_study(), tmp_path)
    assert is_drawn(document)
    assert card_heading(document) == "Trial 6"
    assert "bit-exact on 100 images, twin" in document
    assert document.count("data-trial=") == 12


def test_the_address_opens_the_card_of_a_trial_on_the_axes_it_names(tmp_path: Path) -> None:
    document = opened(make_study(), tmp_path, "#trial=8&x=flash&y=latency")
    assert is_drawn(document)
    assert card_heading(document) == "Trial 8"
    assert "flash 17 % over" in document  # 300 KiB on a board with 256
    assert "Latency (ms) over Flash (KiB)" in document


def test_a_layer_that_stays_dense_shows_why(tmp_path: Path) -> None:
    document = opened(make_study(), tmp_path, "#trial=3")
    assert is_drawn(document)
    assert re.search(r'<td class="text quiet small" colspan="5">stays dense: too dear</td>', document)


def test_a_failed_trial_shows_why(tmp_path: Path) -> None:
    document = opened(make_study(), tmp_path, "#trial=9")
    assert is_drawn(document)
    assert "ToolchainError: the compiler refused conv2.c" in document


def test_an_address_that_names_no_trial_is_harmless(tmp_path: Path) -> None:
    document = opened(make_study(), tmp_path, "#trial=999&x=nonsense")
    assert is_drawn(document)
    assert card_heading(document) == "Trial 6"


def test_a_study_without_a_fitting_trial_opens(tmp_path: Path) -> None:
    document = opened(make_study(make_trials()[7:11]), tmp_path)
    assert is_drawn(document)
    assert "No trial fits the board yet." in document
    assert "No candidate has been measured yet." in document


def test_a_study_without_trials_opens(tmp_path: Path) -> None:
    document = opened(make_study(()), tmp_path)
    assert is_drawn(document)
    assert card_heading(document) == "No trial chosen"


def test_markup_in_names_is_shown_and_not_run(tmp_path: Path) -> None:
    evil = '<img src=x onerror="document.body.dataset.error = 1">'
    record = TrialRecord(0, "complete", {evil: evil}, make_evaluation(5.0, 8.0), message=evil)
    document = opened(replace(make_study((record,)), name=evil, space=evil), tmp_path)
    assert is_drawn(document)
    assert "<img src=x" not in document
