"""What-if under a reader's hands: sliders over a grid in the page, and over answers of the server.

Skipped where no chromedriver is installed.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from browser import CARD, Browser, a_browser, needs_browser
from studies import CLOCK_HZ, KIB, make_study
from test_serve import Source, answer, serving

from trec_dse.candidate import SlicePolicy, TrecConfig
from trec_dse.report import write_html
from trec_dse.report.live import LiveStudy
from trec_dse.results import WhatIfGrid, WhatIfPoint, WhatIfSetting

pytestmark = needs_browser

POLICIES: tuple[SlicePolicy, ...] = ("channels", "kernel_row")
SETTINGS = tuple(WhatIfSetting(*each) for each in product((2, 3, 4), POLICIES, (0, 1)))
REFUSED = WhatIfSetting(2, "channels", 1)


def point(setting: WhatIfSetting) -> WhatIfPoint:
    """A point whose figures can be told from its setting: H / 10 right, 10 KiB and a tenth of a second per bit."""
    if setting == REFUSED:
        return WhatIfPoint(refusal="conv2 has no kernels to reuse")
    return WhatIfPoint(
        accuracy=setting.hash_bits / 10,
        sram_bytes=10 * KIB * setting.hash_bits,
        flash_bytes=50 * KIB,
        macs=100_000,
        cycles=CLOCK_HZ // 10 * setting.hash_bits,
        worst_cycles=CLOCK_HZ,
        clock_hz=CLOCK_HZ,
        redundancy={"conv2": 1 - setting.hash_bits / 20},
        configs={"conv2": TrecConfig(setting.hash_bits, 30, "kernel_reuse" if setting.n_kernel_reuse else "per_slice")},
    )


def a_grid(trial: int) -> WhatIfGrid:
    trained = point(WhatIfSetting(4, "kernel_row", 0))
    return WhatIfGrid(trial, 1000, trained, SETTINGS, tuple(map(point, SETTINGS)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as window:
        yield window


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    """The page of a study that holds a grid of trial 3; at the end no error may have been shown."""
    write_html(make_study(), tmp_path / "report.html", what_if=[a_grid(3)])
    browser.open((tmp_path / "report.html").as_uri() + "#trial=3")
    browser.wait("document.querySelector('#what-if-figures tbody')")
    yield browser
    assert browser.run("return document.body.dataset.error || null") is None


def slide(name: str, place: int) -> str:
    """A line of script that moves a slider."""
    return (
        f"const slider = document.getElementById('what-if-{name}'); slider.value = {place};"
        "slider.dispatchEvent(new Event('input'));"
    )


FIGURES = (
    "Object.fromEntries([...document.querySelectorAll('#what-if-figures tbody tr')]"
    ".map((row) => [row.cells[0].textContent, [...row.cells].slice(1).map((cell) => cell.textContent)]))"
)
LAYERS = (
    "[...document.querySelectorAll('#what-if-layers tbody tr')]"
    ".map((row) => [...row.cells].map((cell) => cell.textContent))"
)


def test_the_sliders_start_where_the_trial_is_and_change_nothing(page: Browser) -> None:
    assert page.run("return document.getElementById('h-what-if').textContent") == "What if trial 3 clustered otherwise?"
    bits, reuse, policy = page.run(
        "return ['bits', 'reuse', 'policy'].map((name) => document.getElementById(`what-if-${name}`).value)"
    )
    assert (bits, reuse, policy) == ("2", "0", "kernel_row")  # the third of three: 4 bits, as TrecPolicy(4, 3) early
    assert page.run(f"return {FIGURES}.Accuracy") == ["40.00 %", "40.00 %", ""]


def test_a_slider_changes_every_figure_and_says_by_how_much(page: Browser) -> None:
    figures = page.run(f"{slide('bits', 0)} return {FIGURES}")
    assert figures["Accuracy"] == ["40.00 %", "20.00 %", "−20.00 pp"]
    assert figures["SRAM"] == ["40.0 KiB", "20.0 KiB", "−50.0 %"]
    assert figures["Latency"] == ["400 ms", "200 ms", "−50.0 %"]
    assert figures["Flash"] == ["50.0 KiB", "50.0 KiB", ""]
    assert page.run(f"return {LAYERS}") == [["conv2", "4, 30", "80.0 %", "2, 30", "90.0 %"]]


def test_kernel_reuse_is_marked_in_the_layer_that_does_it(page: Browser) -> None:
    assert page.run(f"{slide('reuse', 1)} return {LAYERS}")[0][3] == "4, 30 reuse"


def test_a_setting_that_cannot_be_says_why(page: Browser) -> None:
    page.run("const list = document.getElementById('what-if-policy'); list.value = 'channels';"
             "list.dispatchEvent(new Event('change'))")  # fmt: skip
    page.run(slide("bits", 0))
    note = page.run(f"{slide('reuse', 1)} return document.getElementById('what-if-note').textContent")
    assert note == "There is no such network: conv2 has no kernels to reuse."
    assert page.run("return document.getElementById('what-if-answer').hidden")


def test_a_click_in_the_plane_sets_the_sliders(page: Browser) -> None:
    place = page.run(
        "return document.getElementById('what-if-plane').data[0].customdata.findIndex((key) => key === '3 channels 1')"
    )
    page.run(
        "const plot = document.getElementById('what-if-plane');"
        f"plot.emit('plotly_click', {{ points: [{{ customdata: plot.data[0].customdata[{place}] }}] }})"
    )
    assert page.run(f"return {FIGURES}.Accuracy")[1] == "30.00 %"
    assert page.run("return document.getElementById('what-if-reuse').value") == "1"


def test_a_trial_without_a_grid_tells_how_to_get_one_and_an_untrained_one_shows_nothing(page: Browser) -> None:
    assert page.run(f"document.querySelector('[data-trial=\"2\"] a').click(); {CARD}") == "Trial 2"
    hint = page.wait("!document.getElementById('what-if-hint').hidden && "
                     "document.getElementById('what-if-hint').textContent")  # fmt: skip
    assert "trec-dse report DIR --what-if 2" in hint
    page.run("document.querySelector('[data-trial=\"7\"] a').click()")
    assert page.wait("document.getElementById('what-if').hidden")


def test_a_served_page_asks_the_server_for_what_it_does_not_know(browser: Browser) -> None:
    with serving(LiveStudy(Source()), answer) as server:
        browser.open(f"{server.url}#trial=3")
        browser.wait("document.getElementById('what-if-bits')")
        browser.run(slide("bits", 1))  # two bits and no reuse: the stub says 20 %
        wanted = f"{FIGURES}.Accuracy && {FIGURES}.Accuracy[1] === '20.00 %' && {FIGURES}.Accuracy"
        assert browser.wait(wanted) == ["99.00 %", "20.00 %", "−79.00 pp"]
        browser.run(slide("reuse", 1))
        browser.wait(f"{FIGURES}.Accuracy[1] === '21.00 %'")
        assert browser.run("return document.body.dataset.error || null") is None
