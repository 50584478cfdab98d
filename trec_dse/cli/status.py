"""`trec-dse status`: what a study holds."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from trec_dse import objectives, pareto, rungs, storage
from trec_dse.cli.output import cost_json, front_headings, front_rows, print_json, print_table
from trec_dse.results import Measurement, StudyRecord, TrialRecord


def run(args: argparse.Namespace) -> int:
    """Print the counts and the front."""
    settings = storage.read_settings(args.folder)
    show(storage.load_study(args.folder), settings.objectives, as_json=args.json)
    return 0


def show(study: StudyRecord, names: Sequence[str], *, as_json: bool) -> None:
    """The study's counts and front, as text or JSON."""
    chosen = objectives.select(tuple(names))
    front = pareto.front(study.trials, chosen)
    counts = Counter(trial.state for trial in study.trials)
    judged = rungs.judged(study.trials)
    correlations = rungs.correlations(judged)
    if as_json:
        print_json(
            {
                "name": study.name,
                "target": study.target.name,
                "objectives": [objective.name for objective in chosen],
                "n_trials": len(study.trials),
                "n_complete": counts["complete"],
                "n_stopped": counts["stopped"],
                "epochs": sum(evaluation.trained_epochs for evaluation in judged),
                "rungs": [asdict(correlation) for correlation in correlations],
                "n_infeasible": counts["infeasible"],
                "n_failed": counts["failed"],
                "n_interrupted": counts["interrupted"],
                "n_running": counts["running"],
                "front": [_point(record, names) for record in front],
            }
        )
        return
    states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    print(f"{study.name} on {study.target.name}: {len(study.trials)} trials ({states or 'none yet'})")
    if correlations:
        print(f"{sum(evaluation.trained_epochs for evaluation in judged)} epochs trained; how well rungs foretell:")
        for c in correlations:
            print(f"  {rungs.name_of(c.lower)} -> {rungs.name_of(c.upper)}: Spearman {c.rho:.2f} over {c.n} candidates")
    if front:
        print_table("Front", front_headings(chosen), front_rows(front, chosen))


def _point(record: TrialRecord, names: Sequence[str]) -> dict[str, object]:
    evaluation = record.evaluation
    assert evaluation is not None
    return {
        "number": record.number,
        "values": {name: objectives.get(name).value(evaluation) for name in names},
        "key": evaluation.key,
        "float_accuracy": evaluation.float_accuracy,
        "int8_accuracy": evaluation.int8_accuracy,
        "test_accuracy": evaluation.test_accuracy,
        "estimated": cost_json(evaluation.estimated),
        "measured": None if evaluation.measured is None else _measured(evaluation.measured),
    }


def _measured(measured: Measurement) -> dict[str, object]:
    return {
        "executor": measured.executor,
        "n_images": measured.n_images,
        "n_mismatches": measured.n_mismatches,
        "sram_bytes": measured.sram_bytes,
        "flash_bytes": measured.flash_bytes,
        "arena_bytes": measured.arena_bytes,
        "stack_bytes": measured.stack_bytes,
        "cycles": measured.cycles,
        "cycles_max": measured.cycles_max,
        "latency_ms": measured.latency_ms,
        "accuracy": measured.accuracy,
    }
