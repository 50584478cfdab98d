"""`trec-dse search`: a study from its first trial to its report."""

import argparse
from pathlib import Path

from trec_dse.cli import finish
from trec_dse.cli.boards import board_of
from trec_dse.cli.connection import tls_of
from trec_dse.errors import SearchSpaceError
from trec_dse.explore import explore
from trec_dse.progress import open_view
from trec_dse.search_space import load_search_space
from trec_dse.settings import N_START, ExploreSettings, SamplerSettings


def run(args: argparse.Namespace) -> int:
    """Search, validate the front, write the report."""
    target = board_of(args)
    space = load_search_space(args.space)
    if not space.name:
        raise SearchSpaceError(f"{args.space}: a search space needs a name")
    folder = args.out or Path("runs") / f"{space.name}-{target.name}"
    finish.require_tools(args)
    settings = ExploreSettings(
        n_trials=args.trials,
        seed=args.seed,
        workers=args.workers,
        objectives=tuple(args.objectives.split(",")),
        data_dir=args.data,
        n_train=args.n_train,
        storage_url=args.storage,
        timeout_s=args.timeout,
        sampler=SamplerSettings(args.sampler, n_tpe=max(N_START, args.tpe_trials)),
        reduction=args.reduction,
        max_epochs=args.max_epochs,
        warm_start=args.warm_start,
        executor=args.executor,
        lease_s=args.lease,
        scheduler=args.scheduler,
        gpus=args.gpus,
        listen=args.listen,
        tls=tls_of(args),
    )
    with open_view(finish.console(args)) as view:
        explore(space, target, folder, settings=settings, on_event=view.on_event)
    return finish.finish(folder, args)
