"""`trec-dse serve`: the report page of a study, live while a search runs."""

import argparse
import signal
import threading
from functools import cache
from typing import TYPE_CHECKING

from trec_dse import codec, objectives, storage
from trec_dse.cli.output import print_json
from trec_dse.errors import StudyError
from trec_dse.report.live import Ask, LiveServer, LiveStudy, StudyFolder
from trec_dse.results import Evaluation, WhatIfGrid, WhatIfSetting

if TYPE_CHECKING:
    from trec_dse.what_if import TrainedNetwork


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which is how this verb ends well."""
    settings = storage.read_settings(args.folder)
    study = LiveStudy(StudyFolder(args.folder), objectives.select(settings.objectives))
    study.snapshot()  # a study that cannot be read is said here rather than in the browser
    with LiveServer(study, args.port, _asker(args)) as server:
        if args.json:
            print_json({"url": server.url})
        else:
            print(f"{settings.name}: {server.url} (Ctrl-C ends it)")
        _serve_until_interrupted(server)
    return 0


def _asker(args: argparse.Namespace) -> Ask:
    """Answers what-if questions; the networks asked about stay open, and nothing is written."""
    answers: dict[tuple[int, WhatIfSetting], WhatIfGrid] = {}
    target = storage.read_settings(args.folder).target

    @cache
    def opened(key: str, evaluation_json: str) -> "TrainedNetwork":
        from trec_dse.what_if import open_network  # noqa: PLC0415 - it needs torch; following a search does not

        evaluation = codec.from_json(evaluation_json, Evaluation, "evaluation", StudyError)
        return open_network(args.folder, key, evaluation, target, data_dir=args.data, n_images=args.what_if_images)

    def ask(trial: int, evaluation: Evaluation, setting: WhatIfSetting) -> WhatIfGrid:
        from trec_dse.what_if import grid  # noqa: PLC0415 - as above

        if (trial, setting) not in answers:
            network = opened(evaluation.candidate.key, codec.to_json(evaluation))
            answers[trial, setting] = grid(network, trial, [setting], lambda *_: None, store=False)
        return answers[trial, setting]

    return ask


def _serve_until_interrupted(server: LiveServer) -> None:
    """Serve in a thread, so that Ctrl-C and SIGTERM end it between two requests."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        stop.wait()
    finally:
        server.shutdown()
        thread.join()
        for number, handler in before.items():
            signal.signal(number, handler)
