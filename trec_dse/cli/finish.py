"""What follows a search: every front point is built and run on the twin, and the report is written."""

import argparse
import importlib.util
import sys
from pathlib import Path

from rich.console import Console

from trec_dse import codec, objectives, pareto, storage
from trec_dse.cli import status
from trec_dse.errors import ToolchainError
from trec_dse.report import write_html
from trec_dse.results import MeasureRequest, TrialRecord
from trec_dse.toolchain import find_host_compiler, find_target_compiler
from trec_dse.workers import Answer, Died, Failed, Progress, WorkerPool

MISMATCH, FAILED = 1, 2


def console(args: argparse.Namespace) -> Console:
    """Where progress goes: standard output, or standard error where that is kept for JSON."""
    return Console(stderr=bool(args.json))


def require_tools(args: argparse.Namespace) -> None:
    """Raise ToolchainError now rather than after hours of training."""
    find_host_compiler()
    if args.no_validate:
        return
    find_target_compiler()
    if importlib.util.find_spec("unicorn") is None:
        raise ToolchainError(
            "the front is validated on the board's twin, which needs unicorn: pip install 'trec_dse[twin]', "
            "or search with --no-validate"
        )


def finish(folder: Path, args: argparse.Namespace) -> int:
    """Validate the front, write report.html, print the front. 1 if any point answered wrongly."""
    code = 0
    if not args.no_validate:
        code = _measure_front(folder, args)
    settings = storage.read_settings(folder)
    study = storage.load_study(folder, args.storage)
    write_html(study, folder / "report.html", objectives.select(settings.objectives))
    status.show(study, settings.objectives, as_json=args.json)
    if not args.json:
        print(f"\nreport   {folder / 'report.html'}\nfirmware {folder / 'firmware'}")
    return code


def _measure_front(folder: Path, args: argparse.Namespace) -> int:
    settings = storage.read_settings(folder)
    study = storage.load_study(folder, args.storage)
    front = pareto.front(study.trials, objectives.select(settings.objectives))
    due = [record for record in front if _is_due(record, args.images)]
    out = console(args)
    code = 0
    n = args.workers if args.executor == "local" else 1  # nodes train; the twin runs here
    with WorkerPool(n, folder / "workers.log") as pool:
        tasks = {}
        for record in due:
            assert record.evaluation is not None
            key = record.evaluation.candidate.key
            data = None if args.data is None else str(args.data)
            request = MeasureRequest(str(folder), key, record.number, study.target, data, args.images)
            path = storage.evaluation_path(folder, key)
            task = pool.submit("trec_dse.measure:measure_json", codec.to_json(request), save_as=path)
            tasks[task] = (record, key)
        n_due = len(tasks)
        while tasks:
            for event in pool.poll(0.2):
                if isinstance(event, Progress) or (isinstance(event, Died) and event.will_retry):
                    continue
                record, key = tasks.pop(event.task)
                counter = f"[{n_due - len(tasks)}/{n_due}] front point, trial {record.number}:"
                if isinstance(event, Answer):
                    evaluation = storage.read_evaluation(folder, key)
                    measured = None if evaluation is None else evaluation.measured
                    assert measured is not None
                    out.print(
                        f"{counter} {measured.n_mismatches} mismatches in {measured.n_images} images, "
                        f"{measured.cycles:,} cycles",
                        highlight=False,
                    )
                    code = max(code, MISMATCH if measured.n_mismatches else 0)
                else:
                    message = event.message if isinstance(event, Failed) else event.reason
                    print(f"{counter} {message}", file=sys.stderr)
                    code = FAILED
    return code


def _is_due(record: TrialRecord, n_images: int) -> bool:
    """Whether the twin has to show more. What a board has shown stays: a new firmware would replace its folder."""
    if record.evaluation is None:
        return False
    measured = record.evaluation.measured
    return measured is None or (measured.executor == storage.TWIN and measured.n_images < n_images)
