"""`trec-dse train`: one candidate, no search."""

import argparse
import sys

from trec_dse import codec
from trec_dse.cli.boards import board_of
from trec_dse.cli.output import print_cost, print_evaluation, print_json
from trec_dse.durable import write_text
from trec_dse.evaluate import evaluate
from trec_dse.results import EvaluateRequest
from trec_dse.search_space import load_candidate
from trec_dse.storage import evaluation_path


def run(args: argparse.Namespace) -> int:
    """Train, quantise and price it; 1 if it cannot fit the board."""
    target = board_of(args)
    candidate = load_candidate(args.candidate)
    path = evaluation_path(args.out, candidate.key)
    data = None if args.data is None else str(args.data)
    request = EvaluateRequest(candidate, target, data, str(path.parent))
    evaluation = evaluate(request, lambda text: print(text, file=sys.stderr))
    write_text(path, codec.to_json(evaluation))
    if args.json:
        print_json(codec.unstructure(evaluation))
    else:
        print_cost(evaluation.estimated)
        print_evaluation(evaluation)
        print(f"written  {path.parent}")
    return 0 if evaluation.is_feasible else 1
