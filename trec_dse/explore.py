"""Search a space for candidates that trade off the objectives best: ask, evaluate in workers, tell, and survive.

This process asks and tells; workers evaluate. Whatever is finished is on disk before it is told, so a search that
was interrupted in any way, or is run again with more trials, goes on where it stopped.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from trec_dse import sampling, storage, warm_start
from trec_dse.coordinator import Coordinator
from trec_dse.durable import write_text
from trec_dse.errors import StudyError
from trec_dse.events import Event
from trec_dse.objectives import require_figures, select
from trec_dse.pools import open_pool
from trec_dse.search_space import SearchSpace, load_search_space
from trec_dse.settings import ExploreSettings
from trec_dse.target import Target


def explore(
    space: SearchSpace,
    target: Target,
    folder: Path,
    *,
    settings: ExploreSettings,
    on_event: Callable[[Event], None],
) -> None:
    """Fill the study in `folder` up to `settings.n_trials` trials; it is made, or continued if it is there.

    Raises `StudyError` if the folder holds another study or is in use, if the disk is full, or when
    5 trials in a row fail. Ctrl-C ends the workers, leaves a study that can be continued, and is passed on.
    """
    if settings.executor != "local":
        # others may run in another directory
        folder = folder.resolve()
        settings = replace(settings, data_dir=None if settings.data_dir is None else settings.data_dir.resolve())
    objectives = select(settings.objectives)
    require_figures(objectives, target)
    now = _study_settings(space, target, folder, settings)
    is_new = not (folder / storage.SETTINGS).exists()
    if not is_new:
        now = storage.require_same(folder, now, force=settings.force)
    with (
        _interrupt_flag() as interrupted,
        storage.open_study(folder, now.name, objectives, settings.seed, settings.storage_url) as study,
        open_pool(settings, folder) as pool,
    ):
        if is_new and study.get_trials(deepcopy=False):
            raise StudyError(f"the storage has trials of a study {now.name!r}, but {folder} has no {storage.SETTINGS}")
        try:
            storage.write_settings(folder, now)
            write_text(folder / storage.SPACE_COPY, space.source.decode())
            storage.requeue_running(study)
            if is_new and settings.warm_start is not None:
                warm_start.enqueue(settings.warm_start, study, folder, space)
            # Optuna stores no state of a sampler: one that goes on must not repeat itself
            seed = settings.seed + len(study.get_trials(deepcopy=False))
            study.sampler = sampling.make_sampler(settings.sampler, seed)
            Coordinator(space, target, folder, settings, study, pool, on_event).run(interrupted)
        except OSError as problem:
            raise StudyError(
                f"{folder}: the study cannot be written: {problem.strerror}; nothing that was told is lost: "
                "make room, then resume"
            ) from problem
    if interrupted.is_set():
        raise KeyboardInterrupt


def resume(
    folder: Path, *, settings: ExploreSettings, on_event: Callable[[Event], None], space: SearchSpace | None = None
) -> None:
    """Continue the study of a folder. Its own seed, objectives, sampler, rungs and training size stand.

    The search space is loaded from where it was, unless given; if it has gone, from the copy in the folder.
    """
    fixed = storage.read_settings(folder)
    settings = replace(
        settings,
        seed=fixed.seed,
        objectives=fixed.objectives,
        n_train=fixed.n_train,
        storage_url=settings.storage_url or fixed.storage,
        sampler=fixed.sampler,
        reduction=fixed.reduction,
    )
    if space is None:
        has_gone = Path(fixed.space).suffix == ".py" and not Path(fixed.space).exists()
        space = load_search_space(str(folder / storage.SPACE_COPY) if has_gone else fixed.space)
    explore(space, fixed.target, folder, settings=settings, on_event=on_event)


def _study_settings(
    space: SearchSpace, target: Target, folder: Path, settings: ExploreSettings
) -> storage.StudySettings:
    return storage.StudySettings(
        name=folder.resolve().name,
        space=space.given,
        space_sha256=space.sha256,
        dataset=space.dataset,
        target=target,
        objectives=settings.objectives,
        seed=settings.seed,
        n_train=settings.n_train,
        n_trials=settings.n_trials,
        storage=storage.without_password(settings.storage_url),
        versions=storage.library_versions(),
        sampler=settings.sampler,
        reduction=settings.reduction,
    )


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C, so that no write is torn; the second one interrupts in the usual way."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # only the main thread may set handlers, and only it is interrupted
        yield flag
        return
    previous = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def note(number: int, frame: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
