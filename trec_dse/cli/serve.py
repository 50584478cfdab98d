"""`trec-dse serve`: the report page of a study, live while a search runs."""

import argparse
import signal
import threading

from trec_dse import objectives, storage
from trec_dse.cli.output import print_json
from trec_dse.report.live import LiveServer, LiveStudy, StudyFolder


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which is how this verb ends well."""
    settings = storage.read_settings(args.folder)
    study = LiveStudy(StudyFolder(args.folder), objectives.select(settings.objectives))
    study.snapshot()  # a study that cannot be read is said here rather than in the browser
    with LiveServer(study, args.port) as server:
        if args.json:
            print_json({"url": server.url})
        else:
            print(f"{settings.name}: {server.url} (Ctrl-C ends it)")
        _serve_until_interrupted(server)
    return 0


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
