"""`trec-dse pick`: one trial of a study, and why."""

import argparse

from trec_dse import objectives, storage
from trec_dse.cli.output import cost_json, print_json
from trec_dse.pick import Budgets, parse_bytes, parse_mj, parse_ms, parse_pp, pick


def run(args: argparse.Namespace) -> int:
    """Print the trial's number and the reason; exit code 1 if nothing fits."""
    budgets = Budgets(
        sram_bytes=None if args.sram is None else parse_bytes(args.sram),
        flash_bytes=None if args.flash is None else parse_bytes(args.flash),
        latency_ms=None if args.latency is None else parse_ms(args.latency),
        energy_mj=None if args.energy is None else parse_mj(args.energy),
        max_loss_pp=None if args.max_loss is None else parse_pp(args.max_loss),
    )
    settings = storage.read_settings(args.folder)
    study = storage.load_study(args.folder)
    choice = pick(study.trials, budgets, objectives.select(settings.objectives))
    evaluation = choice.record.evaluation
    assert evaluation is not None
    if args.json:
        accuracy = {"int8_accuracy": evaluation.int8_accuracy, "test_accuracy": evaluation.test_accuracy}
        estimated = cost_json(evaluation.estimated)
        print_json({"trial": choice.record.number, "reason": choice.reason, **accuracy, "estimated": estimated})
        return 0
    print(choice.reason)
    print(f"next: trec-dse export {args.folder} {choice.record.number} --out firmware")
    return 0
