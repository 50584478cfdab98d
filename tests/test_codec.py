"""JSON in and out: strict about keys and types, and clear about the place."""

import pytest

from trec_dse import codec
from trec_dse.candidate import Candidate, Recipe, TrecConfig, TrecPolicy, content_key
from trec_dse.errors import CandidateError

CANDIDATE = Candidate("digits", "tiny", {"width": 3, "flag": True}, TrecPolicy(3, 4, layers=("conv1",)), {"*": 0.5})


def read(text: str) -> Candidate:
    return codec.from_json(text, Candidate, "c.json", CandidateError)


def test_a_candidate_survives_the_way_through_json() -> None:
    assert read(codec.to_json(CANDIDATE)) == CANDIDATE


def test_the_key_depends_on_every_field_and_on_nothing_else() -> None:
    assert read(codec.to_json(CANDIDATE)).key == CANDIDATE.key
    assert Candidate("digits", "tiny", recipe=Recipe(seed=1)).key != Candidate("digits", "tiny").key
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert len(CANDIDATE.key) == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"dataset": "a"}', "c.json: .*required key 'network' is missing"),
        ('{"dataset": "a", "network": "b", "x": 1}', "unknown key x; exactly these are known: dataset"),
        ('{"dataset": 1, "network": "b"}', "dataset: expected str, found 1"),
        ('{"dataset": "a", "network": "b", "recipe": {"epochs": 1.5}}', "recipe.epochs: expected int, found 1.5"),
        ('{"dataset": "a", "network": "b", "recipe": {"epochs": true}}', "expected int, found True"),
        ('{"dataset": "a", "network": "b", "pruning": {"*": 1}}', r"must lie in \[0, 1\)"),
        ("[]", "c.json"),
        ("{", "not valid JSON"),
    ],
)
def test_a_wrong_file_is_explained(text: str, message: str) -> None:
    with pytest.raises(CandidateError, match=message):
        read(text)


def test_a_whole_number_is_good_enough_where_a_fraction_is_asked_for() -> None:
    text = '{"dataset": "a", "network": "b", "recipe": {"learning_rate": 1}}'
    assert isinstance(read(text).recipe.learning_rate, float)


@pytest.mark.parametrize("bits", [-1, 13])
def test_hash_bits_outside_the_operator_s_range_are_refused(bits: int) -> None:
    with pytest.raises(CandidateError, match=r"0\.\.12"):
        TrecConfig(bits, 4)
