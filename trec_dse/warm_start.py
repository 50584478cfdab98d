"""Begin a study with what is known: the front of another study, or the candidates that are shipped.

What they need is queued as the study's first trials. Networks and dense parents of the other study are taken along, so
that what comes down to the same network is answered and not trained again, also on another board.
"""

import shutil
from pathlib import Path

import optuna

from trec_dse import objectives, pareto, plugins, storage
from trec_dse.errors import InputError
from trec_dse.search_space import SearchSpace, load_candidate

PRESETS = "presets"
_SHARED = ("networks", "parents")


def enqueue(what: str, study: optuna.Study, folder: Path, space: SearchSpace) -> int:
    """Queue the front of the study in the folder `what`, or all presets of the data set of `space`; returns how many.

    Raises InputError if there is nothing to begin with.
    """
    n = _enqueue_presets(study, space) if what == PRESETS else _enqueue_front(Path(what), study, folder)
    if n == 0:
        raise InputError(f"{what}: nothing to begin with: no preset of {space.dataset}, or a study without a front")
    return n


def _enqueue_presets(study: optuna.Study, space: SearchSpace) -> int:
    names = plugins.data_names("presets", ".json")
    fitting = [name for name in names if load_candidate(name).dataset == space.dataset]
    for name in fitting:
        study.enqueue_trial({}, user_attrs={storage.PRESET: name})
    return len(fitting)


def _enqueue_front(other: Path, study: optuna.Study, folder: Path) -> int:
    settings = storage.read_settings(other)
    front = pareto.front(storage.load_study(other).trials, objectives.select(settings.objectives))
    take_along(other, folder)
    for record in front:
        study.enqueue_trial(dict(record.params), skip_if_exists=True)
    return len(front)


def take_along(other: Path, folder: Path) -> None:
    """Copy what the study in `other` has trained, whole or in part, to `folder`."""
    for shared in _SHARED:
        if (other / shared).is_dir():
            shutil.copytree(other / shared, folder / shared, dirs_exist_ok=True)
