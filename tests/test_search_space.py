"""Loading a search space and drawing candidates from it."""

from pathlib import Path

import optuna
import pytest
from fake_evaluation import SPACE

from trec_dse.candidate import Candidate
from trec_dse.errors import SearchSpaceError
from trec_dse.search_space import SearchSpace, load_search_space, sample


def write(folder: Path, source: str) -> str:
    path = folder / "space.py"
    path.write_text(source)
    return str(path)


def space_that(folder: Path, body: str) -> SearchSpace:
    source = f'from trec_dse.candidate import Candidate, Recipe\nDATASET = "digits"\ndef suggest(trial):\n    {body}\n'
    return load_search_space(write(folder, source))


def trial(**params: int | bool | str) -> optuna.trial.FixedTrial:
    return optuna.trial.FixedTrial(params)


def test_a_file_with_dataset_and_suggest_is_a_search_space(tmp_path: Path) -> None:
    given = write(tmp_path, SPACE)
    space = load_search_space(given)
    assert (space.name, space.given, space.dataset) == ("space", given, "digits")
    candidate = sample(space, trial(width=3, depth=2, hash_bits=4, use_trec=True))
    assert candidate.network_args == {"width": 3, "depth": 2}
    assert candidate.trec is not None
    assert candidate.trec.hash_bits_early == 4


def test_the_hash_is_that_of_the_bytes_that_were_run(tmp_path: Path) -> None:
    space = load_search_space(write(tmp_path, 'DATASET = "digits"\ndef suggest(trial): ...\n'))
    # sha256sum of exactly this text
    assert space.sha256.startswith("e1f3ff08867c4376")
    assert space.source.startswith(b"DATASET")


def test_an_edit_within_the_same_second_is_seen_and_no_byte_code_is_left(tmp_path: Path) -> None:
    for name in ("digits", "mnist1", "mnist2"):
        space = load_search_space(write(tmp_path, f'DATASET = "{name}"\ndef suggest(trial): ...\n'))
        assert space.dataset == name
    assert [path.name for path in tmp_path.iterdir()] == ["space.py"]


def test_a_space_may_define_dataclasses(tmp_path: Path) -> None:
    source = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n"
    assert load_search_space(write(tmp_path, f'{source}DATASET = "x"\ndef suggest(trial): ...\n')).dataset == "x"


def test_an_unknown_name_lists_the_shipped_spaces() -> None:
    with pytest.raises(SearchSpaceError, match=r"named 'nonsense'; choose from .*digits_tiny"):
        load_search_space("nonsense")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(SearchSpaceError, match=r"absent\.py: no such file"):
        load_search_space(str(tmp_path / "absent.py"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("DATASET = 'x'\ndef suggest(trial:\n", r"space\.py:2: SyntaxError"),
        ("DATASET = 'x'\n\nimport no_such_module\n", r"space\.py:3: ModuleNotFoundError: No module named 'no_such"),
        ("def f():\n    return 1 / 0\nf()\n", r"space\.py:2: ZeroDivisionError"),
        ("def suggest(trial): ...\n", r'DATASET is None; a search space says DATASET = "digits"'),
        ("DATASET = 3\ndef suggest(trial): ...\n", "DATASET is 3"),
        ("DATASET = 'x'\n", r"there is no function suggest\(trial\)"),
        ("DATASET = 'x'\nsuggest = 4\n", r"there is no function suggest\(trial\)"),
        ("\x00", r"space\.py:\w+: SyntaxError|space\.py: "),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(SearchSpaceError, match=message):
        load_search_space(write(tmp_path, source))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}['a']", r"space\.py:4: KeyError: 'a'"),
        ("return trial.suggest_int('x', 5, 1)", r"space\.py:4: ValueError"),
        ("return None", "suggest returned None; it must return a Candidate"),
        ("return Candidate('mnist', 'tiny')", "for the dataset 'mnist'; DATASET is 'digits'"),
        (
            "return Candidate(DATASET, 'tiny', pruning={'*': 1.5})",
            r"space\.py:4: CandidateError: pruning share of '\*'",
        ),
        ("return Candidate(DATASET, 'tiny', recipe=Recipe(epochs=2.5))", "expected int, found 2.5"),
        ("return Candidate(DATASET, 'tiny', network_args={'width': {1, 2}})", "impossible candidate"),
        ("return Candidate(DATASET, 'tiny', network_args={'width': [1]})", "impossible candidate: .*found"),
    ],
)
def test_a_space_that_samples_nonsense_is_named_with_its_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(SearchSpaceError, match=message):
        sample(space_that(tmp_path, body), trial(x=3))


def test_an_interrupt_in_a_space_stays_an_interrupt(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sample(space_that(tmp_path, "raise KeyboardInterrupt"), trial())


def test_the_candidate_is_what_a_worker_reads(tmp_path: Path) -> None:
    candidate = sample(space_that(tmp_path, "return Candidate(DATASET, 'tiny', pruning={'*': 0})"), trial())
    # JSON has one kind of number, so the share becomes the float that its field says
    assert candidate == Candidate("digits", "tiny", pruning={"*": 0.0})
    assert isinstance(candidate.pruning["*"], float)
