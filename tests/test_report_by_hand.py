"""The report page under a reader's hands, driven through WebDriver: choosing, sorting, filtering, keys, axes.

Skipped where no chromedriver is installed.
"""

import itertools
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studies import make_study

from trec_dse import objectives
from trec_dse.plots import front_data
from trec_dse.report import write_html

DRIVER = shutil.which("chromedriver")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
STUDY = make_study()

pytestmark = [pytest.mark.slow, pytest.mark.skipif(DRIVER is None, reason="no chromedriver on the path")]

Script = Callable[[str], Any]


def call(address: str, method: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


@pytest.fixture(scope="module")
def driver() -> Iterator[str]:
    """Address of a WebDriver that lives as long as this module's tests."""
    assert DRIVER is not None
    with subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = (re.search(r"on port (\d+)", line) for line in process.stdout)
        port = next(found[1] for found in lines if found and found[1] != "0")
        yield f"http://127.0.0.1:{port}"
        process.terminate()


@pytest.fixture(scope="module")
def session(driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = {"args": [*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]}
    capabilities = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
    address = f"{driver}/session/{call(f'{driver}/session', 'POST', capabilities)['sessionId']}"
    yield address
    call(address, "DELETE")


@pytest.fixture
def run(session: str, tmp_path: Path) -> Iterator[Script]:
    """Runs a line of script in a fresh page; at the end no error may have been shown."""
    write_html(STUDY, tmp_path / "report.html")
    call(f"{session}/url", "POST", {"url": (tmp_path / "report.html").as_uri()})

    def script(text: str) -> Any:
        return call(f"{session}/execute/sync", "POST", {"script": text, "args": []})

    yield script
    assert script("return document.body.dataset.error || null") is None


CARD = "return document.querySelector('#card h2').textContent"


def press(key: str) -> str:
    event = f"new KeyboardEvent('keydown', {{ key: '{key}' }})"
    return f"document.getElementById('plane').dispatchEvent({event}); {CARD}"


def test_a_click_on_a_row_opens_its_card_and_writes_the_address(run: Script) -> None:
    assert run(f"document.querySelector('[data-trial=\"2\"] a').click(); {CARD}") == "Trial 2"
    assert run("return location.hash") == "#trial=2&x=sram&y=error"
    assert run("return document.querySelector('[aria-current]').dataset.trial") == "2"


def test_arrow_keys_walk_along_the_front_and_stop_at_its_ends(run: Script) -> None:
    # by SRAM the front is 0, 6, 2, 3 and the page opens on 6
    walk = [run(press(key)) for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft")]
    assert walk == ["Trial 2", "Trial 3", "Trial 3", "Trial 2"]


def test_a_heading_sorts_and_sorts_back_and_unknown_values_stay_last(run: Script) -> None:
    order = "return [...document.querySelectorAll('[data-trial]')].map((row) => Number(row.dataset.trial))"
    click = "[...document.querySelectorAll('#table th button')].find((b) => b.textContent === 'Error (pp)').click();"
    assert run(click + order) == [8, 3, 2, 5, 1, 6, 4, 0, 11, 7, 9, 10]
    assert run(click + order) == [11, 0, 4, 1, 6, 2, 5, 3, 8, 7, 9, 10]
    assert run("return document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"


def test_a_filter_leaves_out_what_does_not_match(run: Script) -> None:
    order = "return [...document.querySelectorAll('[data-trial]')].map((row) => Number(row.dataset.trial))"
    assert run(f"document.getElementById('only-measured').click(); {order}") == [3, 6]
    assert run(f"document.getElementById('only-front').click(); {order}") == [3, 6]
    assert run(f"document.getElementById('only-measured').click(); {order}") == [0, 2, 3, 5, 6]


def test_the_page_draws_the_front_that_the_library_computes_on_every_pair_of_axes(run: Script) -> None:
    line = "const { x, y } = document.getElementById('plane').data[0]; return [x, y]"
    for x, y in itertools.permutations(objectives.names(), 2):
        drawn_x, drawn_y = run(
            f"for (const [side, name] of [['x', '{x}'], ['y', '{y}']]) {{"
            "  const select = document.getElementById(`axis-${side}`);"
            "  select.value = name;"
            "  select.dispatchEvent(new Event('change'));"
            f"}} {line}"
        )
        expected = dict.fromkeys(front_data(STUDY, objectives.get(x), objectives.get(y)).line)
        assert list(zip(drawn_x, drawn_y, strict=True)) == [pytest.approx(corner) for corner in expected]


def test_the_theme_can_be_switched(run: Script) -> None:
    click = "document.getElementById('theme').click(); return getComputedStyle(document.body).backgroundColor"
    assert run(click) != run(click)


@pytest.mark.usefixtures("run")
def test_the_page_shrinks_to_the_width_of_a_phone(session: str) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    cdp = f"{session}/goog/cdp/execute"
    call(cdp, "POST", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})
    widths = "done(innerWidth)"
    # the figures follow the window a moment later; if something never did, the driver's time limit would end this
    is_wider = "document.documentElement.scrollWidth > innerWidth"
    wait = f"const done = arguments[0]; const look = () => {is_wider} ? setTimeout(look, 50) : {widths}; look()"
    assert call(f"{session}/execute/async", "POST", {"script": wait, "args": []}) == 390
    call(cdp, "POST", {"cmd": "Emulation.clearDeviceMetricsOverride", "params": {}})
