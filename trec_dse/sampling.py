"""Where the next candidate comes from: a Latin hypercube to start with, then TPE, and evolution once much is known.

TPE asks which parameters the best tenth of all trials had that the others had not. What it takes grows with the trials,
what it gains from them does not; so it sees a few hundred of them: the best, and a random sample of the rest. Of a
candidate that was judged several times it sees the newest judgement only.
"""

import math
import random
import warnings
import zlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from trec_dse.pareto import Floats, crowding, ranks
from trec_dse.settings import SamplerSettings

KEY = "key"  # user attribute: trials of equal keys are judgements of one candidate
_N_SEEN = 150
_POPULATION = 50


def make_sampler(settings: SamplerSettings, seed: int) -> BaseSampler:
    """The sampler of a search. Optuna stores no sampler's state: a search that goes on needs another seed."""
    match settings.name:
        case "auto":
            return AutoSampler(settings, seed)
        case "tpe":
            return _tpe(seed, settings.n_start)
        case "nsga2":
            return NSGAIISampler(population_size=_POPULATION, seed=seed)
        case "qmc":
            with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
                return QMCSampler(seed=seed, warn_asynchronous_seeding=False, warn_independent_sampling=False)
        case "random":
            return RandomSampler(seed)


def _tpe(seed: int, n_start: int) -> TPESampler:
    """Univariate, because the multivariate one collapses onto few points of a constrained space with several
    objectives; with constant liar, because several trials run at once.
    """
    return TPESampler(multivariate=False, constant_liar=True, n_startup_trials=n_start, seed=seed)


class AutoSampler(BaseSampler):
    """A Latin hypercube, TPE, evolution: one after the other as the study grows."""

    def __init__(self, settings: SamplerSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._chance = random.Random(seed)
        self._tpe = _tpe(seed, n_start=1)
        self._seen = _Seen(self._chance)
        self._view: optuna.Study | None = None
        self._parents: tuple[FrozenTrial, FrozenTrial] | None = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Look at what has happened since the last trial."""
        self._seen.read(study)
        self._view = self._parents = None
        if trial.number >= self._settings.n_tpe:
            self._parents = self._seen.parents()
        elif trial.number >= self._settings.n_start:
            self._view = self._seen.as_study()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """No parameters are drawn together."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing; see `infer_relative_search_space`."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one parameter."""
        if self._view is not None:
            # a trial that is not in the view: one there must not be taken for it
            stranger = create_trial(state=TrialState.RUNNING)
            return self._tpe.sample_independent(self._view, stranger, param_name, param_distribution)
        if self._parents is not None:
            return self._inherited(self._parents, param_name, param_distribution)
        return at_share(param_distribution, self._stratum(trial.number, param_name))

    def _stratum(self, number: int, name: str) -> float:
        """A number in 0..1; over the first trials each of as many equal parts of 0..1 is hit once."""
        if number >= self._settings.n_start:
            return self._chance.random()
        order = np.random.default_rng([self._seed, zlib.crc32(name.encode())]).permutation(self._settings.n_start)
        return (int(order[number]) + self._chance.random()) / self._settings.n_start

    def _inherited(self, parents: Sequence[FrozenTrial], name: str, distribution: BaseDistribution) -> Any:
        """Uniform crossover, and a new value for one parameter in the mean (Deb et al. 2002)."""
        giver = self._chance.choice(parents)
        is_new = self._chance.random() * len(giver.params) < 1
        if is_new or giver.distributions.get(name) != distribution:
            return at_share(distribution, self._chance.random())
        return giver.params[name]


class _Seen:
    """The newest judgement of each candidate, thinned out, and the trials that run."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._n_read = 0
        self._open: list[int] = []
        self._running: list[FrozenTrial] = []
        self._judged: dict[str, FrozenTrial] = {}
        self._directions: list[StudyDirection] = []

    def read(self, study: optuna.Study) -> None:
        """Take in what is new."""
        trials = study.get_trials(deepcopy=False)
        self._directions = study.directions
        self._open += range(self._n_read, len(trials))
        self._n_read = len(trials)
        for number in self._open:
            trial = trials[number]
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.params:
                self._judged[str(trial.user_attrs.get(KEY, number))] = trial
        self._open = [number for number in self._open if not trials[number].state.is_finished()]
        self._running = [trials[number] for number in self._open if trials[number].state == TrialState.RUNNING]
        if len(self._judged) > _N_SEEN * 5 // 4:
            self._thin_out()

    def as_study(self) -> optuna.Study:
        """A study of these trials in memory."""
        view = optuna.create_study(directions=self._directions)
        view.add_trials([*self._judged.values(), *(trial for trial in self._running if trial.params)])
        return view

    def parents(self) -> tuple[FrozenTrial, FrozenTrial] | None:
        """Two of the best, each the better of two drawn at random; None while there are less than two."""
        best = list(self._judged.values())
        best = [best[i] for i in self._best_first(best)[:_POPULATION]]
        if len(best) < 2:
            return None
        first, second = (min(self._chance.sample(range(len(best)), 2)) for _ in range(2))
        return best[first], best[second]

    def _thin_out(self) -> None:
        """Keep the best half of what may be seen, and of all others as many by chance."""
        keys, trials = list(self._judged), list(self._judged.values())
        order = self._best_first(trials)
        others = self._chance.sample(order[_N_SEEN // 2 :], _N_SEEN - _N_SEEN // 2)
        # in their old order, so that the newest stay the newest
        self._judged = {keys[i]: trials[i] for i in sorted([*order[: _N_SEEN // 2], *others])}

    def _best_first(self, trials: Sequence[FrozenTrial]) -> list[int]:
        """Places of `trials`: by rank, the loneliest of a front first; then what does not fit, by how much."""
        fitting = [i for i, trial in enumerate(trials) if trial.state == TrialState.COMPLETE and excess(trial) == 0]
        signs = np.array([-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in self._directions])
        y: Floats = np.array([trials[i].values for i in fitting]).reshape(len(fitting), len(signs)) * signs
        rank = ranks(y)
        lonely = np.zeros(len(fitting))
        for front in set(rank.tolist()):
            lonely[rank == front] = crowding(y[rank == front])
        first = [fitting[i] for i in np.lexsort((-lonely, rank))]
        others = sorted(set(range(len(trials))) - set(fitting), key=lambda i: excess(trials[i]))
        return first + others


def excess(trial: FrozenTrial) -> float:
    """By how much the trial breaks its limits, summed over them as shares of the limits."""
    return sum(value for value in trial.constraints.values() if value > 0)


def at_share(distribution: BaseDistribution, share: float) -> Any:
    """The value that `share`, in 0 <= share < 1, of the distribution lies below; a choice or a whole step of it."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    bounded = cast("IntDistribution | FloatDistribution", distribution)
    if bounded.log:
        half = 0.5 if isinstance(bounded, IntDistribution) else 0.0
        low, high = math.log(bounded.low - half), math.log(bounded.high + half)
        value = math.exp(low + share * (high - low))
    elif bounded.step is None:
        value = bounded.low + share * (bounded.high - bounded.low)
    else:
        n_steps = int((bounded.high - bounded.low) / bounded.step + 1e-9) + 1
        value = bounded.low + int(share * n_steps) * bounded.step
    if isinstance(bounded, IntDistribution):
        return min(bounded.high, max(bounded.low, round(value)))
    return min(bounded.high, max(bounded.low, value))
