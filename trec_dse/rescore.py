"""Another board from the same trained networks: every trial is priced anew, nothing is trained.

Networks and accuracies do not depend on the board; bytes, cycles and limits do. The new folder is a whole study: it can
be reported, picked from, exported and continued. What the old board had no room for was never trained, and what was
not promising there was not trained to the end; both are queued, and `resume` judges them anew, from where their
training stands.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from trec_dse import codec, objectives, storage, warm_start
from trec_dse.cost import violations
from trec_dse.durable import write_text
from trec_dse.errors import StudyError
from trec_dse.evaluate import cost_of, network_folder
from trec_dse.ledger import noted
from trec_dse.results import Evaluation, TrialRecord
from trec_dse.store import load_graph
from trec_dse.target import Target

RESCORED_FROM = "rescored_from"


@dataclass(frozen=True)
class Rescored:
    """What became of the trials: priced anew, of those too large for the new board, queued to be judged anew."""

    n_priced: int
    n_infeasible: int
    n_queued: int


def rescore(folder: Path, target: Target, out: Path) -> Rescored:
    """Write the study of `folder` for another board to `out`, which must not hold a study yet.

    Raises StudyError if it does, or if `folder` holds none, InputError if the board lacks a figure for an objective.
    """
    settings, study = storage.read_settings(folder), storage.load_study(folder)
    if (out / storage.SETTINGS).exists():
        raise StudyError(f"{out} already holds a study; give --out a new folder")
    name = out.resolve().name
    chosen = objectives.select(settings.objectives)
    objectives.require_figures(chosen, target)
    distributions = storage.distributions(folder)
    n_priced = n_infeasible = n_queued = 0
    with storage.open_study(out, name, chosen, settings.seed) as rescored:
        storage.write_settings(out, replace(settings, name=name, target=target, storage=None))
        shutil.copyfile(folder / storage.SPACE_COPY, out / storage.SPACE_COPY)
        warm_start.take_along(folder, out)
        for record in _owners(study.trials):
            assert record.evaluation is not None
            if record.state != "complete":
                rescored.enqueue_trial(dict(record.params), user_attrs={RESCORED_FROM: record.number})
                n_queued += 1
                continue
            evaluation = _priced(record.evaluation, folder, out, target)
            attributes = {**noted(evaluation, settings.reduction), storage.EPOCHS: 0, RESCORED_FROM: record.number}
            rescored.add_trial(_trial(evaluation, attributes, record.params, distributions[record.number], chosen))
            n_priced += 1
            n_infeasible += not evaluation.is_feasible
    return Rescored(n_priced, n_infeasible, n_queued)


def _owners(trials: tuple[TrialRecord, ...]) -> list[TrialRecord]:
    """The first trial of each evaluated candidate."""
    found: dict[str, TrialRecord] = {}
    for record in trials:
        if record.evaluation is not None and record.state in ("complete", "stopped", "infeasible"):
            found.setdefault(record.evaluation.candidate.key, record)
    return list(found.values())


def _priced(evaluation: Evaluation, folder: Path, out: Path, target: Target) -> Evaluation:
    """The evaluation for the new board, written to `out`, where its network is; measurements stay behind."""
    key = evaluation.candidate.key
    source = network_folder(storage.evaluation_path(folder, key).parent, evaluation.key)
    path = storage.evaluation_path(out, key)
    cost = cost_of(load_graph(source), target, evaluation.n_clusters)
    over = violations(cost, target, evaluation.limits)
    priced = replace(evaluation, target=target.name, estimated=cost, violations=over, measured=None)
    write_text(path.with_name("candidate.json"), codec.to_json(evaluation.candidate))
    write_text(path, codec.to_json(priced))
    return priced


def _trial(
    evaluation: Evaluation,
    attributes: Mapping[str, object],
    params: Mapping[str, object],
    distributions: dict[str, optuna.distributions.BaseDistribution],
    chosen: tuple[objectives.Objective, ...],
) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        values=[objective.value(evaluation) for objective in chosen],
        params=dict(params),
        distributions=distributions,
        user_attrs={storage.KEY: evaluation.candidate.key, **attributes},
        constraints=dict(evaluation.violations),
    )
