"""`trec-dse calibrate`: measure a designed set of layers on a board's twin, and learn from it what work costs."""

import argparse
import sys
import time

from trec_dse import codec
from trec_dse.calibrate import AUTO, Report, judge, measure_set, write_report
from trec_dse.calibration import Store
from trec_dse.cli.boards import LEARNED, costs_text, plain_board_of
from trec_dse.cli.output import print_json, print_table
from trec_dse.errors import InputError
from trec_dse.target import Target


def run(args: argparse.Namespace) -> int:
    """Measure what is not measured yet, refit, print how far held-out layers are from their estimates."""
    target = plain_board_of(args)
    store = Store.default()
    if store is None:
        raise InputError("TREC_DSE_CALIBRATION is off; unset it, or name a folder that measurements are kept in")
    if not args.no_measure:
        measure_set(target, store, _Progress())
    report = judge(target, store, AUTO if args.cycles == LEARNED else args.cycles)
    path = write_report(report, store)
    if args.json:
        print_json(codec.unstructure(report))
        return 0
    _print(report, target)
    print(f"\nmeasurements {store.path(target.name)}\nerrors       {path}")
    print(f"next: trec-dse estimate SPACE --target {args.target} --cycles {args.cycles}")
    return 0


class _Progress:
    """One line that changes, at a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, done: int, of: int, what: str) -> None:
        is_last, is_seen = done == of, sys.stderr.isatty()
        if is_seen or is_last or done % 50 == 0:
            seconds = time.monotonic() - self._start
            text = f"{done}/{of} networks, {seconds:.0f} s: {what}"
            end = "\n" if is_last or not is_seen else ""
            print(f"\r\033[K{text}" if is_seen else text, end=end, file=sys.stderr, flush=True)


def _print(report: Report, target: Target) -> None:
    rows = []
    for label, e in report.errors.items():
        before = report.before[label]
        figures = [f"{e.mean:.2f}", f"{e.p95:.2f}", f"{e.largest:.1f}", f"{100 * e.within_10:.1f}", f"{e.rank:.4f}"]
        rows.append([label or "all", str(e.n), *figures, f"{before.mean:.2f}", f"{before.p95:.2f}"])
    headings = ["op", "n", "mean %", "p95 %", "largest %", "within 10 %", "rank", "file: mean %", "p95 %"]
    print_table(f"{target.name}: layers whose network was held out", headings, rows)
    print(f"\nlearned from {costs_text(report.calibration)}")
    if report.n_foreign:
        print(f"{report.n_foreign} measurements of other compilers, clocks, boards or releases were left out")
