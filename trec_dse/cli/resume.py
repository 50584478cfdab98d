"""`trec-dse resume`: go on where a study stopped."""

import argparse

from trec_dse import storage
from trec_dse.cli import finish
from trec_dse.cli.connection import tls_of
from trec_dse.explore import resume
from trec_dse.progress import open_view
from trec_dse.settings import ExploreSettings


def run(args: argparse.Namespace) -> int:
    """Continue the search, then validate the front and write the report as `search` does."""
    fixed = storage.read_settings(args.folder)
    finish.require_tools(args)
    settings = ExploreSettings(
        n_trials=args.trials or fixed.n_trials,
        workers=args.workers,
        data_dir=args.data,
        storage_url=args.storage,
        timeout_s=args.timeout,
        max_epochs=args.max_epochs,
        force=args.force,
        executor=args.executor,
        lease_s=args.lease,
        scheduler=args.scheduler,
        gpus=args.gpus,
        listen=args.listen,
        tls=tls_of(args),
    )
    with open_view(finish.console(args)) as view:
        resume(args.folder, settings=settings, on_event=view.on_event)
    return finish.finish(args.folder, args)
