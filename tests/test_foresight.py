"""What untrained candidates are expected to show."""

from dataclasses import replace

import numpy as np
import pytest
from studies import make_evaluation

from trec_dse.candidate import Candidate, Recipe, TrecPolicy
from trec_dse.foresight import UNSURE, Choices, Features, Foresight, choices_of, features
from trec_dse.pareto import Floats
from trec_dse.results import RungResult


def point(size: float, clustering: float, choices: Choices | None = None) -> Features:
    return Features(np.array([size, size, size, size, size, clustering]), choices or {})


def asked(foresight: Foresight, *rows: Features) -> tuple[Floats, Floats]:
    """Of candidates that it has not seen."""
    keys = [f"asked {number}" for number in range(len(rows))]
    for key, row in zip(keys, rows, strict=True):
        foresight.note(key, row)
    return foresight.foresee(keys)


def shown(foresight: Foresight, key: str, row: Features, error: float) -> None:
    foresight.note(key, row)
    foresight.learn(key, error)


def taught(n: int) -> Foresight:
    """Errors fall with the size and rise with what clustering changes."""
    foresight, chance = Foresight(), np.random.default_rng(0)
    for number, (size, clustering) in enumerate(chance.random((n, 2))):
        shown(foresight, str(number), point(size, clustering), 0.2 * np.exp(clustering - size))
    return foresight


def test_of_less_than_three_only_the_mean_is_taken() -> None:
    assert not taught(0).is_ready
    foresight = Foresight()
    shown(foresight, "a", point(1, 1), 0.095)
    shown(foresight, "b", point(2, 1), 0.395)
    assert foresight.is_ready
    errors, spreads = asked(foresight, point(1, 1), point(9, 9))
    # of 10 % and 40 %, half a percent added, the geometric mean is 20 %
    assert errors == pytest.approx([0.195, 0.195])
    assert spreads.tolist() == [UNSURE, UNSURE]


def test_it_is_less_sure_far_from_what_was_trained() -> None:
    _, spreads = asked(taught(30), point(0.5, 0.5), point(3, 0.5), point(30, 0.5))
    assert spreads[0] < spreads[1] < spreads[2]
    assert spreads[0] < 0.2


def test_spreads_are_about_as_large_as_what_it_is_off() -> None:
    chance, foresight = np.random.default_rng(1), Foresight()
    points = chance.random((90, 2))
    truth = 0.3 * np.exp(points[:, 1] - points[:, 0] + chance.normal(0, 0.2, 90))
    for number in range(60):
        shown(foresight, str(number), point(*points[number]), truth[number])
    errors, spreads = asked(foresight, *(point(*pair) for pair in points[60:]))
    off = np.log(errors + 0.005) - np.log(truth[60:] + 0.005)
    assert 0.6 < float(np.sqrt((off**2).mean())) / float(spreads.mean()) < 1.5


def test_what_is_trained_further_replaces_what_it_showed_before() -> None:
    foresight = Foresight()
    shown(foresight, "a", point(1, 1), 0.4)
    foresight.learn("a", 0.2)
    assert foresight.error("a") == pytest.approx(0.2)


def test_larger_networks_and_gentler_clustering_promise_less_error() -> None:
    errors, _ = asked(taught(40), point(0.9, 0.1), point(0.5, 0.5), point(0.1, 0.9))
    assert errors == pytest.approx([0.2 * np.exp(-0.8), 0.2, 0.2 * np.exp(0.8)], rel=0.15)


def test_the_trend_reaches_beyond_what_was_trained() -> None:
    foresight = Foresight()
    for size in (0.0, 0.25, 0.5, 0.75, 1.0):
        shown(foresight, str(size), point(size, 0), 0.3 * np.exp(-size))
    smaller, larger = asked(foresight, point(-0.5, 0), point(1.5, 0))[0]
    assert smaller > 0.3
    assert larger < 0.3 * np.exp(-1)


def test_candidates_of_equal_sizes_are_told_apart_by_their_choices() -> None:
    foresight, chance = Foresight(), np.random.default_rng(0)
    errors = {'"channels"': 0.1, '"whole"': 0.3}
    for number in range(24):
        policy = list(errors)[number % 2]
        row = point(chance.random(), 0, {"trec.slice_policy": policy, "width": float(number % 3)})
        shown(foresight, str(number), row, errors[policy])
    unseen = (point(0.5, 0, {"trec.slice_policy": policy, "width": 1.0}) for policy in errors)
    found, _ = asked(foresight, *unseen)
    assert found == pytest.approx([0.1, 0.3], rel=0.15)


def test_a_choice_that_is_missing_or_was_never_noted_does_no_harm() -> None:
    foresight = Foresight()
    for number in range(12):
        choices: Choices = {"trec.bits": float(number)} if number % 2 else {}
        shown(foresight, str(number), point(1, 1, choices), 0.3)
    foresight.foresee(["0"])
    # new words after the last fit
    found, _ = asked(foresight, point(1, 1, {"trec.bits": '"many"', "new": 1.0}))
    assert found == pytest.approx([0.3])


def test_an_error_is_a_share() -> None:
    foresight = Foresight()
    for number in range(12):
        shown(foresight, str(number), point(number, 0), 1.0 if number % 2 else 0.0)
    errors, _ = asked(foresight, *(point(number, 0) for number in range(-3, 20)))
    assert ((errors >= 0) & (errors <= 1)).all()


def test_equal_candidates_are_expected_to_show_the_same() -> None:
    foresight = Foresight()
    for number in range(12):
        shown(foresight, str(number), point(1, 1), 0.3)
    assert foresight.error("3") == pytest.approx(0.3)


def test_sizes_are_logarithms_of_memory_work_and_the_untrained_error() -> None:
    evaluation = replace(make_evaluation(10.0, 8.0, 40.0, 8.0), rungs=(RungResult(0, 0.5, 0), RungResult(1, 0.2, 1)))
    # 8 KiB, 40 KiB, 8 ms at 100 MHz, 250,000 and 156,640 MACs, a half
    expected = np.log1p([8192, 40960, 800_000, 250_000, 156_640, 500])
    assert features(evaluation).sizes == pytest.approx(expected)
    assert features(replace(evaluation, rungs=())).sizes[-1] == 0
    assert features(evaluation).choices == choices_of(evaluation.candidate)


def test_choices_are_the_fields_by_name_without_what_the_recipe_leaves_as_it_is() -> None:
    dense = Candidate("digits", "tiny", {"width": 8}, None, {"*": 0.5}, Recipe(epochs=77))
    assert choices_of(dense) == {
        "dataset": '"digits"',
        "network": '"tiny"',
        "network_args.width": 8.0,
        "pruning.*": 0.5,
        "recipe.epochs": 77.0,
    }
    clustered = choices_of(replace(dense, trec=TrecPolicy(4, 5, scope="shared")))
    assert (clustered["trec.hash_bits_late"], clustered["trec.scope"]) == (5.0, '"shared"')
