"""The table of a study, and the page as a file; what its script does is tested in a browser elsewhere."""

import base64
import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import make_evaluation, make_study, make_trials

from trec_dse import objectives
from trec_dse.errors import StudyError
from trec_dse.report import table, write_html
from trec_dse.report.page import BLOCK, render
from trec_dse.results import StudyRecord, TrialRecord

STUDY = make_study()


def embedded(text: str) -> Any:
    """The data of a page, with its tables back as lists of objects."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1], object_hook=_untabulated)


def packed(text: str) -> dict[str, Any]:
    """The details of a page by trial number, unpacked from all its blocks."""
    found: dict[str, Any] = {}
    for numbers, block in re.findall(r'class="block" data-trials="([0-9 ]*)">([A-Za-z0-9+/=]*)<', text):
        details = json.loads(gzip.decompress(base64.b64decode(block)), object_hook=_untabulated)
        assert list(details) == numbers.split()
        found |= details
    return found


def _untabulated(item: dict[str, Any]) -> Any:
    if "%table" not in item:
        return item
    keys, *rows = item["%table"]
    return [dict(zip(keys, row, strict=True)) for row in rows]


def without_plotly(text: str) -> str:
    """The page less plotly.js, which is none of our text."""
    return re.sub(r"<script>/\*\*.*?</script>", "", text, count=1, flags=re.DOTALL)


def test_the_table_has_a_row_per_trial_with_units_in_the_headings() -> None:
    frame = table(STUDY)
    assert frame["trial"].tolist() == list(range(12))
    assert frame.loc[2, "SRAM (KiB)"] == 24.0
    assert frame.loc[2, "Error (pp)"] == pytest.approx(2.0)
    assert frame.loc[3, "Latency (ms)"] == 40.0
    assert frame.loc[3, "Latency measured (ms)"] == 44.0
    assert frame.loc[3, "mismatches"] == 0
    assert frame.loc[1, "param.slice_policy"] == "channels"


def test_the_table_marks_the_front_of_the_objectives_asked_for() -> None:
    plane = (objectives.error, objectives.sram)
    frame = table(STUDY, plane)
    assert frame.loc[frame["front"], "trial"].tolist() == [0, 2, 3, 6]


def test_what_is_not_known_is_nan_in_the_table() -> None:
    frame = table(STUDY)
    assert frame["Error (pp)"].isna().tolist()[7]
    assert frame["SRAM measured (KiB)"].isna().tolist()[0]
    assert frame["SRAM (KiB)"].isna().tolist()[9]
    assert frame["message"].tolist()[9] == "ToolchainError: the compiler refused conv2.c"


def test_an_empty_study_has_an_empty_table() -> None:
    assert table(make_study(())).empty


def test_the_page_holds_every_trial_and_what_the_card_needs() -> None:
    text = render(STUDY)
    data, details = embedded(text), packed(text)
    assert [trial["number"] for trial in data["trials"]] == list(range(12))
    assert data["board"]["sram_bytes"] == 64 * 1024
    assert data["versions"]["data"] == "digits:0011223344556677"
    detail = details["3"]
    assert detail["candidate"]["network"] == "lenet5"
    assert [layer["name"] for layer in detail["layers"]] == ["conv1", "pool1", "conv2", "fc"]
    assert detail["layers"][2]["trec"]["config"]["hash_bits"] == 4
    assert detail["arena"]["buffers"][0]["name"] == "input"
    assert detail["measured"]["executor"] == "twin"
    assert detail["n_clusters"] == {"conv2": [40, 44, 48, 48, 52, 56]}


def test_only_evaluated_trials_have_a_detail() -> None:
    assert list(packed(render(STUDY))) == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "11"]


def test_details_are_packed_in_blocks() -> None:
    trials = tuple(TrialRecord(i, "complete", {}, make_evaluation(5.0, 8.0 + i / 100)) for i in range(BLOCK + 1))
    text = render(make_study(trials))
    assert text.count('class="block"') == 2
    assert len(packed(text)) == BLOCK + 1


def test_the_same_study_gives_the_same_page() -> None:
    assert render(STUDY) == render(make_study())


def test_trials_of_one_network_say_so() -> None:
    networks = [trial["network"] for trial in embedded(render(STUDY))["trials"]]
    assert networks == [0, 1, 2, 3, 4, 5, 1, 7, 8, None, None, 11]  # trial 6 is trial 1 again


def test_the_page_knows_the_progress_over_epochs_and_what_moves_what() -> None:
    data = embedded(render(STUDY))
    assert data["progress"]["epochs"] == [15, 30, 45, 60, 75, 90, 90, 120]
    assert data["influence"]["objectives"] == objectives.names()
    assert set(data["influence"]["parameters"]) == {"hash_bits", "slice_policy", "pruning"}


def test_the_values_of_a_trial_follow_the_axes() -> None:
    data = embedded(render(STUDY))
    names = [axis["name"] for axis in data["axes"]]
    assert names == objectives.names()
    assert data["trials"][2]["values"][names.index("sram")] == 24.0
    assert data["trials"][3]["measured"][names.index("latency")] == 44.0
    assert data["axes"][names.index("flash")]["limit"] == 256.0


def test_an_unknown_value_is_null_since_json_has_no_nan() -> None:
    data = embedded(render(STUDY))
    assert data["trials"][7]["values"][0] is None
    assert packed(render(STUDY))["7"]["int8_accuracy"] is None
    assert data["trials"][9]["values"] == [None] * len(objectives.names())


def test_the_knee_is_shown_first() -> None:
    assert embedded(render(STUDY))["knee"] == 6
    assert embedded(render(make_study(make_trials()[7:11])))["knee"] is None


def test_the_front_of_the_page_is_that_of_the_studys_objectives() -> None:
    plane = (objectives.error, objectives.sram)
    data = embedded(render(STUDY, plane))
    assert data["objectives"] == ["error", "sram"]
    assert [trial["number"] for trial in data["trials"] if trial["on_front"]] == [0, 2, 3, 6]


def test_the_page_asks_no_network_for_anything() -> None:
    text = without_plotly(render(STUDY))
    assert "default-src 'none'" in text
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=", text) == ['<link rel="icon" href=']
    addresses = set(re.findall(r"https?://[^\"' )]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG, never fetched


def test_plotly_is_in_the_file_once() -> None:
    text = render(STUDY)
    assert len(re.findall(r"<script>/\*\*", text)) == 1
    assert 4_000_000 < len(text) < 6_000_000


def hostile() -> StudyRecord:
    evil = '</script><script>document.body.dataset.error = "injected"</script><!--'
    record = TrialRecord(0, "complete", {evil: evil}, make_evaluation(5.0, 8.0), message=evil)
    return replace(make_study((record,)), name=f"{evil}@@data@@", space=evil, versions={evil: evil})


def test_names_that_look_like_markup_stay_text() -> None:
    text = render(hostile())
    assert 'dataset.error = "injected"' not in without_plotly(text)
    data = embedded(text)
    assert data["space"].startswith("</script><script>")
    assert data["name"].endswith("@@data@@")


def test_no_marker_of_the_template_is_left() -> None:
    assert "@@" not in without_plotly(render(STUDY))


def test_the_page_is_written_as_one_file(tmp_path: Path) -> None:
    write_html(STUDY, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(STUDY)


def test_a_page_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"absent/report.html: the report cannot be written: No such file"):
        write_html(STUDY, tmp_path / "absent" / "report.html")


def test_a_study_without_trials_still_has_a_page() -> None:
    data = embedded(render(make_study(())))
    assert (data["trials"], data["knee"], data["progress"]["numbers"]) == ([], None, [])


def test_looking_at_results_loads_neither_torch_nor_optuna() -> None:
    program = (
        "import sys, trec_dse.report, trec_dse.pick, trec_dse.plots\n"
        "print(sorted({'torch', 'optuna', 'torch_pruning'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
