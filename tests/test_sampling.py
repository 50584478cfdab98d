"""Samplers: even starts, what TPE sees, and children of good parents."""

from collections import Counter
from collections.abc import Iterator

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from trec_dse.errors import InputError
from trec_dse.sampling import AutoSampler, at_share, excess, make_sampler
from trec_dse.settings import SAMPLERS, SamplerSettings


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield


def study_with(settings: SamplerSettings, seed: int = 0) -> optuna.Study:
    return optuna.create_study(directions=["minimize", "minimize"], sampler=make_sampler(settings, seed))


def tell_one(study: optuna.Study) -> dict[str, int | str]:
    """Minimise x and 9 - x with y = 0; x above 7 does not fit."""
    trial = study.ask()
    x, y = trial.suggest_int("x", 0, 9), trial.suggest_int("y", 0, 9)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    trial.set_user_attr("key", f"{x} {y} {kind}")
    trial.set_constraint("sram", x / 7 - 1)
    if x > 7:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, [x + y, 9 - x + y])
    return {"x": x, "y": y, "kind": kind}


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        (IntDistribution(3, 6), [3, 4, 5, 6]),
        (IntDistribution(4, 16, step=4), [4, 8, 12, 16]),
        (CategoricalDistribution(["a", "b"]), ["a", "a", "b", "b"]),
        (FloatDistribution(0.0, 1.0), [0.0, 0.25, 0.5, 0.75]),
        (FloatDistribution(0.0, 0.9, step=0.3), [0.0, 0.3, 0.6, 0.9]),
        (FloatDistribution(1.0, 16.0, log=True), [1.0, 2.0, 4.0, 8.0]),
    ],
)
def test_quarters_of_a_distribution(distribution: IntDistribution, expected: list[object]) -> None:
    values = [at_share(distribution, share) for share in (0.0, 0.25, 0.5, 0.75)]
    assert values == (pytest.approx(expected) if isinstance(distribution, FloatDistribution) else expected)


def test_whole_numbers_on_a_logarithmic_scale_stay_inside() -> None:
    values = {at_share(IntDistribution(1, 100, log=True), share / 1000) for share in range(1000)}
    assert min(values) == 1
    assert max(values) == 100


def test_the_first_ten_trials_take_each_of_ten_values_once() -> None:
    study = study_with(SamplerSettings(n_start=10))
    first = [tell_one(study) for _ in range(10)]
    assert sorted(int(params["x"]) for params in first) == list(range(10))
    assert sorted(int(params["y"]) for params in first) == list(range(10))
    assert Counter(params["kind"] for params in first) == {"a": 5, "b": 5}
    # and not in the same order
    assert [params["x"] for params in first] != [params["y"] for params in first]


def test_tpe_learns_that_y_is_bad_and_that_x_is_limited() -> None:
    study = study_with(SamplerSettings())
    for _ in range(40):
        tell_one(study)
    late = [tell_one(study) for _ in range(20)]
    assert sum(int(params["y"]) for params in late) / 20 < 2  # 4.5 by chance
    assert sum(int(params["x"]) > 7 for params in late) <= 4


def test_evolution_goes_on_from_the_best() -> None:
    study = study_with(SamplerSettings(n_start=10, n_tpe=10))
    ys = []
    for _ in range(300):
        trial = study.ask()
        x, y = trial.suggest_int("x", 0, 99), trial.suggest_int("y", 0, 99)
        study.tell(trial, [x + y, 99 - x + y])
        ys.append(y)
    assert sum(ys[:20]) / 20 > 35
    assert sum(ys[-20:]) / 20 < 30


def test_equal_seeds_give_equal_searches() -> None:
    def search(seed: int) -> list[dict[str, int | str]]:
        study = study_with(SamplerSettings(n_start=5, n_tpe=15), seed)
        return [tell_one(study) for _ in range(20)]

    assert search(1) == search(1) != search(2)


def test_of_many_trials_tpe_sees_the_best_and_some_others() -> None:
    study = study_with(SamplerSettings("random"))
    for number in range(1000):
        trial = study.ask()
        x = trial.suggest_int("x", 0, 9999)
        trial.set_user_attr("key", str(number))
        study.tell(trial, [x, x])
    sampler = AutoSampler(SamplerSettings(), 0)
    sampler.before_trial(study, study.ask()._cached_frozen_trial)
    seen = sampler._seen.as_study().trials
    assert 150 <= len(seen) <= 188
    best = sorted(trial.values[0] for trial in study.trials if trial.values)[:50]
    assert set(best) <= {trial.values[0] for trial in seen if trial.values}
    assert max(trial.values[0] for trial in seen if trial.values) > 5000


def test_only_the_newest_judgement_of_a_candidate_is_seen() -> None:
    study = study_with(SamplerSettings("random"))
    for value in (9.0, 1.0):
        trial = study.ask()
        trial.suggest_int("x", 5, 5)
        trial.set_user_attr("key", "same")
        study.tell(trial, [value, value])
    sampler = AutoSampler(SamplerSettings(), 0)
    sampler.before_trial(study, study.ask()._cached_frozen_trial)
    assert [trial.values for trial in sampler._seen.as_study().trials] == [[1.0, 1.0]]


def test_a_running_trial_is_seen_as_running() -> None:
    study = study_with(SamplerSettings("random"))
    study.ask().suggest_int("x", 0, 9)
    sampler = AutoSampler(SamplerSettings(), 0)
    sampler.before_trial(study, study.ask()._cached_frozen_trial)
    assert [trial.state for trial in sampler._seen.as_study().trials] == [TrialState.RUNNING]


def test_what_exceeds_a_limit_is_summed() -> None:
    constraints = {"sram": 0.5, "flash": -0.2, "time": 0.25}
    trial = optuna.trial.create_trial(state=TrialState.PRUNED, constraints=constraints)
    assert excess(trial) == 0.75


def test_a_parameter_that_the_parents_lack_is_drawn_anew() -> None:
    study = study_with(SamplerSettings(n_start=2, n_tpe=2))
    for _ in range(6):
        tell_one(study)
    drawn = {study.ask().suggest_int("new", 0, 9) for _ in range(40)}
    assert len(drawn) > 5


def test_every_name_gives_a_sampler_and_no_other_does() -> None:
    classes = {
        "tpe": optuna.samplers.TPESampler,
        "nsga2": optuna.samplers.NSGAIISampler,
        "qmc": optuna.samplers.QMCSampler,
        "random": optuna.samplers.RandomSampler,
        "auto": AutoSampler,
    }
    assert set(classes) == set(SAMPLERS)
    for name in SAMPLERS:
        assert isinstance(make_sampler(SamplerSettings(name), 0), classes[name])
    with pytest.raises(InputError, match="no sampler is called 'magic'; choose from auto"):
        SamplerSettings("magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needed 1 <= start <= TPE"):
        SamplerSettings(n_start=20, n_tpe=10)
