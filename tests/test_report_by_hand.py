"""The report page under a reader's hands, driven through WebDriver: choosing, sorting, filtering, keys, axes.

Skipped where no chromedriver is installed.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import CARD, ROWS, Browser, a_browser, needs_browser
from studies import make_evaluation, make_study

from trec_dse import objectives
from trec_dse.errors import NothingFitsError
from trec_dse.pick import Budgets, pick
from trec_dse.plots import front_data
from trec_dse.report import write_html
from trec_dse.results import MeasuredEnergy, TrialRecord

STUDY = make_study()

pytestmark = needs_browser

Script = Callable[[str], Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as window:
        yield window


@pytest.fixture
def run(browser: Browser, tmp_path: Path) -> Iterator[Script]:
    """Runs a line of script in a fresh page; at the end no error may have been shown."""
    write_html(STUDY, tmp_path / "report.html")
    browser.open((tmp_path / "report.html").as_uri())
    yield browser.run
    assert browser.run("return document.body.dataset.error || null") is None


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
    click = "[...document.querySelectorAll('#table th button')].find((b) => b.textContent === 'Error (pp)').click();"
    assert run(click + ROWS) == [8, 3, 2, 5, 1, 6, 4, 0, 11, 7, 9, 10]
    assert run(click + ROWS) == [11, 0, 4, 1, 6, 2, 5, 3, 8, 7, 9, 10]
    assert run("return document.querySelector('[aria-sort]').getAttribute('aria-sort')") == "descending"


def test_a_filter_leaves_out_what_does_not_match(run: Script) -> None:
    assert run(f"document.getElementById('only-measured').click(); {ROWS}") == [3, 6]
    assert run(f"document.getElementById('only-front').click(); {ROWS}") == [3, 6]
    assert run(f"document.getElementById('only-measured').click(); {ROWS}") == [0, 2, 3, 5, 6]


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
def test_the_page_shrinks_to_the_width_of_a_phone(browser: Browser) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.run("document.getElementById('hold').click(); document.querySelector('[data-trial=\"3\"] a').click()")
    browser.command("Emulation.setDeviceMetricsOverride", **size)
    # the figures follow the window a moment later; if something never did, the driver's time limit would end this
    assert browser.wait("document.documentElement.scrollWidth <= innerWidth && innerWidth") == 390
    browser.command("Emulation.clearDeviceMetricsOverride")


def test_two_candidates_stand_side_by_side(run: Script, browser: Browser) -> None:
    run("document.querySelector('[data-trial=\"3\"] a').click(); document.getElementById('hold').click()")
    assert "Choose another trial" in run("return document.getElementById('comparison').textContent")
    run("document.querySelector('[data-trial=\"6\"] a').click()")
    rows = browser.wait(
        "document.getElementById('figures-of-two') && "
        "[...document.querySelectorAll('#figures-of-two tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    cells = {row[0]: row[1:] for row in rows}
    assert cells["SRAM (KiB)"] == ["48.0", "12.0", "−75.0 %"]
    assert cells["Error (pp)"] == ["1.00", "4.00", "+3.00 pp"]
    assert cells["Latency (ms), measured"] == ["44.0", "12.6", ""]
    assert run("return location.hash").endswith("&with=3")
    text = run("return document.getElementById('comparison').textContent")
    assert "hash_bits63" in text  # 6 in trial 3, 3 in trial 6
    assert run("return document.querySelectorAll('#comparison svg.arena').length") == 2


def test_both_arenas_of_a_comparison_have_one_scale_and_it_can_be_swapped_and_closed(
    run: Script, browser: Browser
) -> None:
    run("document.querySelector('[data-trial=\"3\"] a').click(); document.getElementById('hold').click()")
    run("document.querySelector('[data-trial=\"6\"] a').click()")
    arenas = "[...document.querySelectorAll('#comparison svg.arena')]"
    tops = f"{arenas}.map((arena) => [...arena.querySelectorAll('.axis')][4].textContent)"
    assert browser.wait(f"{tops}.length === 2 && {tops}") == ["45.0", "45.0"]  # of 9 and 45 KiB
    button = "[...document.querySelectorAll('#comparison button')].find((b) => b.textContent === '{}').click();"
    assert run(button.format("Swap") + CARD) == "Trial 3"
    assert run("return document.getElementById('h-comparison').textContent") == "Trial 6 and trial 3"
    assert run(button.format("Close") + "return document.getElementById('comparison').hidden")
    assert "with=" not in run("return location.hash")


def budgets() -> Iterator[Budgets]:
    """From far too little to more than enough; 12,416 B are 12.125 KiB, an exact half in the text of a limit."""
    sizes = (None, 9 * 1024, 12_416, 24 * 1024, 49_664, 2**20)
    for sram, flash, latency, loss in itertools.product(
        sizes, (None, 40 * 1024, 100 * 1024), (None, 8.0, 12.6, 30.125), (None, 0.5, 1.0, 9.0)
    ):
        yield Budgets(sram, flash, latency, loss)
    for sram, loss, energy in itertools.product(sizes, (None, 1.0), (0.01, 0.4, 0.63, 1.50625)):
        yield Budgets(sram, None, 12.6, loss, energy)


def expected(study_budgets: Budgets) -> str:
    try:
        return pick(STUDY.trials, study_budgets, objectives.DEFAULT).reason
    except NothingFitsError as problem:
        return str(problem)


def test_the_page_picks_what_the_command_picks_and_says_so_in_the_same_words(run: Script) -> None:
    asked = list(budgets())
    rows = [
        [_kib(each.sram_bytes), _kib(each.flash_bytes), each.latency_ms, each.energy_mj, each.max_loss_pp]
        for each in asked
    ]
    said = run(
        "const set = (id, value) => { const field = document.getElementById(`budget-${id}-number`);"
        "  field.value = value === null ? '' : value; field.dispatchEvent(new Event('input')); };"
        f"return {json.dumps(rows)}.map((row) => {{"
        "  ['sram', 'flash', 'latency', 'energy', 'loss'].forEach((id, i) => set(id, row[i]));"
        "  return document.getElementById('reason').textContent })"
    )
    assert said == [expected(each) for each in asked]
    assert len({reason.split(":")[0] for reason in said}) > 5


def _kib(size: int | None) -> float | None:
    return None if size is None else size / 1024


def test_a_slider_sets_a_budget_and_the_answer_opens(run: Script) -> None:
    # the first stop is what the smallest network uses: 8 KiB
    script = (
        "const slider = document.getElementById('budget-sram'); slider.value = 0;"
        "slider.dispatchEvent(new Event('input'));"
        "return [document.getElementById('budget-sram-number').value, document.getElementById('reason').textContent]"
    )
    assert run(script) == ["8", "trial 0: the only one within SRAM <= 8 KiB"]
    assert run(f"document.querySelector('#choice button').click(); {CARD}") == "Trial 0"
    assert run("return document.querySelector('#choice code').textContent") == "trec-dse pick DIR --sram 8192"
    assert "&sram=8192" in run("return location.hash")


def test_an_energy_slider_is_there_where_the_study_has_energy(run: Script) -> None:
    # 50 mW for 8 ms are 0.4 mJ, the least there is
    script = (
        "const slider = document.getElementById('budget-energy'); slider.value = 0;"
        "slider.dispatchEvent(new Event('input'));"
        "return [document.getElementById('budget-energy-number').value, document.getElementById('reason').textContent]"
    )
    assert run(script) == ["0.4", "trial 0: the only one within energy <= 0.4 mJ"]
    assert run("return document.querySelector('#choice code').textContent") == "trec-dse pick DIR --energy 0.4mJ"
    assert "&energy=0.4" in run("return location.hash")


def test_without_the_boards_current_there_is_no_energy_slider_and_no_budget_from_the_address(
    browser: Browser, tmp_path: Path
) -> None:
    def unknown(record: TrialRecord) -> TrialRecord:
        e = record.evaluation
        return (
            record if e is None else replace(record, evaluation=replace(e, estimated=replace(e.estimated, run_mw=None)))
        )

    study = replace(STUDY, trials=tuple(map(unknown, STUDY.trials)), target=replace(STUDY.target, power=None))
    write_html(study, tmp_path / "plain.html")
    browser.open(f"{(tmp_path / 'plain.html').as_uri()}#trial=2&energy=0.4")
    shown = browser.run("return [...document.querySelectorAll('#budgets input[type=range]')].map((each) => each.id)")
    assert shown == ["budget-sram", "budget-flash", "budget-latency", "budget-loss"]
    assert "energy" not in browser.run("return document.querySelector('#choice code').textContent")
    assert browser.run("return document.body.dataset.error || null") is None


def test_the_card_sets_measured_energy_beside_the_estimate(browser: Browser, tmp_path: Path) -> None:
    energy = MeasuredEnergy("ppk2 at /dev/ttyACM1", 100, 1.6, 1.55, 1.625, 20.0, 12.25, 2.5)
    chosen = next(each for each in STUDY.trials if each.evaluation is not None and each.evaluation.measured)
    assert chosen.evaluation is not None and chosen.evaluation.measured is not None
    evaluation = replace(chosen.evaluation, measured=replace(chosen.evaluation.measured, energy=energy))
    assert evaluation.estimated.energy_mj == 2.0  # 50 mW for 40 ms
    trials = tuple(replace(chosen, evaluation=evaluation) if each is chosen else each for each in STUDY.trials)
    write_html(replace(STUDY, trials=trials), tmp_path / "metered.html")
    browser.open(f"{(tmp_path / 'metered.html').as_uri()}#trial={chosen.number}")
    row = "[...document.querySelectorAll('#card tbody tr')].find((row) => row.cells[0].textContent === 'Energy')"
    cells = browser.wait(f"{row} && [...{row}.cells].map((cell) => cell.textContent)")
    assert cells == ["Energy", "2.00 mJ", "1.60 mJ", "+25.0 %"]
    assert browser.run("return document.getElementById('metered').textContent") == (
        "Energy of 100 inferences by ppk2 at /dev/ttyACM1: 1.55 to 1.63 mJ; 20.0 mA at 2.50 V, 12.3 mA while it waits"
    )


def test_the_redundancy_of_a_layer_is_shown_over_the_calibration_images(run: Script, browser: Browser) -> None:
    run("document.querySelector('[data-trial=\"3\"] a').click()")
    text = browser.wait(
        "document.querySelector('#detail figure p') && document.querySelector('#detail figure p').textContent"
    )
    # 64 positions x 5 slices are 320 rows: 48 clusters leave 85 %, 40 leave 87.5, 56 leave 82.5, 80 at most leave 75
    assert text == "mean 85.0 %, 82.5 % to 87.5 %; at least 75.0 %: N_c ≤ 80"
    assert run("return document.querySelectorAll('#detail .bins rect title').length") == 24


def test_of_many_trials_only_the_rows_in_sight_are_in_the_document(browser: Browser, tmp_path: Path) -> None:
    trials = tuple(TrialRecord(i, "complete", {"a": i}, make_evaluation(5.0, 8.0 + i / 100)) for i in range(600))
    write_html(make_study(trials), tmp_path / "many.html")
    browser.open((tmp_path / "many.html").as_uri())
    shown = browser.run(ROWS)
    assert shown[0] == 0
    assert len(shown) < 60
    browser.run("const box = document.getElementById('rows'); box.scrollTop = box.scrollHeight")
    assert browser.wait("[...document.querySelectorAll('[data-trial]')].some((row) => row.dataset.trial === '599')")
    height = browser.run("return document.getElementById('table').tBodies[0].getBoundingClientRect().height")
    assert height == 600 * 31


def test_of_many_trials_a_thousand_lines_are_drawn_when_they_come_into_sight(browser: Browser, tmp_path: Path) -> None:
    trials = tuple(
        TrialRecord(i, "complete", {"a": i % 7, "b": i % 3}, make_evaluation(5.0 + i % 7, 8.0 + i / 100))
        for i in range(2500)
    )
    write_html(make_study(trials), tmp_path / "lines.html")
    browser.open((tmp_path / "lines.html").as_uri())
    assert browser.run("return !document.getElementById('parallel').data")
    browser.run("document.getElementById('parallel').scrollIntoView()")
    drawn = browser.wait(
        "document.getElementById('parallel').data && document.getElementById('parallel').data[0].line.color"
    )
    # the first trial errs least with the least memory, so it is the front; of the other 2,499 every third is drawn
    assert (len(drawn), sum(drawn)) == (1 + 2499 // 3, 1)
    note = browser.run("return document.getElementById('parallel-note').textContent")
    assert note == "The trials on the front in colour, and one in 3 of the others. Drag along an axis to keep a range."
