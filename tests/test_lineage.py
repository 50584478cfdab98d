"""Which parents candidates share, and how many epochs are left to them."""

from dataclasses import replace

import pytest

from trec_dse.candidate import Candidate, PruningRecipe, Recipe, TrecPolicy
from trec_dse.lineage import Lineage, Trained, lineage

RECIPE = Recipe(epochs=15, fine_tune_epochs=3, trec_epochs=2)
PLAIN = Candidate(dataset="digits", network="tiny", network_args={"width": 8}, recipe=RECIPE)


def line(candidate: Candidate, network: str = "a") -> Lineage:
    return lineage(candidate, network)


def test_every_choice_of_trec_has_the_same_parents() -> None:
    clustered = line(replace(PLAIN, trec=TrecPolicy(4, 4)))
    assert (clustered.dense, clustered.pruned) == (line(PLAIN).dense, line(PLAIN).pruned)
    assert (clustered.epochs, clustered.fine_tuning, clustered.later) == (15, 3, 2)


def test_every_pruning_has_the_same_dense_parent_and_a_pruned_one_of_its_own() -> None:
    half = line(replace(PLAIN, pruning={"*": 0.5}))
    assert half.dense == line(PLAIN).dense
    assert half.pruned != line(PLAIN).pruned


def test_another_network_or_rate_has_other_parents() -> None:
    wider = replace(PLAIN, network_args={"width": 16})
    faster = replace(PLAIN, recipe=replace(RECIPE, learning_rate=0.5))
    assert len({line(candidate).dense for candidate in (PLAIN, wider, faster)}) == 3


def test_what_is_pruned_while_it_is_trained_shares_nothing_dense() -> None:
    gradual = replace(RECIPE, pruning=PruningRecipe(schedule="agp"))
    first, second = (line(replace(PLAIN, recipe=gradual, pruning={"*": share})) for share in (0.25, 0.5))
    assert first.dense != second.dense


def test_relatives_of_what_is_trained_have_little_left() -> None:
    trained, first = Trained(), line(PLAIN)
    relative, cousin = line(replace(PLAIN, trec=TrecPolicy(4, 4)), "b"), line(replace(PLAIN, pruning={"*": 0.5}), "c")
    assert [trained.left(each) for each in (first, relative, cousin)] == [20, 20, 20]
    trained.note(first, 1 / 3)
    assert [trained.left(each) for each in (first, relative, cousin)] == pytest.approx([15, 15, 15])
    trained.note(first, 1)
    assert [trained.left(each) for each in (relative, cousin)] == [2, 5]
    assert trained.knows(first)
    assert not trained.knows(relative)
    # a rung of a relative takes nothing back
    trained.note(relative, 1 / 27)
    assert trained.left(cousin) == 5


def test_who_has_no_phase_of_his_own_takes_an_epoch_at_least() -> None:
    trained, first = Trained(), Lineage("a", "dense", "pruned", 15, 0, 0)
    trained.note(first, 1)
    assert trained.left(replace(first, network="b")) == 1
