"""Searches without training: the whole engine, its study on disk included, over a table of known evaluations."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from search_table import CLOCK_HZ, DIGITS, RUNGS, Costs, Entry, Table, board

from trec_dse import codec, objectives, storage
from trec_dse.candidate import Candidate
from trec_dse.coordinator import Coordinator
from trec_dse.durable import write_text
from trec_dse.errors import StudyError
from trec_dse.events import Event
from trec_dse.pareto import Floats, hypervolume, losses, non_dominated
from trec_dse.results import Cost, EvaluateRequest, Evaluation, RungResult
from trec_dse.rungs import total_epochs
from trec_dse.sampling import make_sampler
from trec_dse.search_space import SearchSpace, load_search_space
from trec_dse.settings import ExploreSettings
from trec_dse.target import Target
from trec_dse.workers import Answer, PoolEvent

OnEvent = Callable[[Event], None]


def _ignore(event: Event) -> None:
    """Nobody watches."""


def cost_of(row: Costs, cycles: int) -> Cost:
    """The cost of a row of the table; everything in Flash counts as weights and everything in SRAM as arena."""
    return Cost(row.macs, row.dense_macs, cycles, cycles, CLOCK_HZ, row.flash, 0, row.sram, 0, 0)


@dataclass
class Replay:
    """Answers as a worker does, from the table, and counts epochs as sharing parents saves them.

    Attributes:
        table: by the candidate's name, as `kind` calls it.
        shares: whether dense and pruned parents are shared; a plain search trains every network on its own.
        epochs: run so far; finished: (epochs so far, evaluation) of each network that was trained to the end.
    """

    table: Mapping[str, Entry]
    shares: bool = True
    kind: Table = DIGITS
    epochs: int = 0
    finished: list[tuple[int, Evaluation]] = field(default_factory=list)
    _known: dict[tuple[str, int], int] = field(default_factory=dict)
    _parents: dict[tuple[object, ...], int] = field(default_factory=dict)

    def evaluate(self, request: EvaluateRequest) -> Evaluation:
        """The evaluation after as many dense epochs as were asked for."""
        candidate = request.candidate
        total = candidate.recipe.epochs
        epochs = total if request.epochs is None else request.epochs
        entry = self.table[self.kind.name_of(candidate)]
        earlier = self._earlier(Path(request.folder))
        untrained = RungResult(0, entry.costs.clustering_error, 0)
        trained = self._train(candidate, entry.costs.network, epochs)
        result = entry.results[RUNGS.index(epochs)] if epochs else None
        error, cycles = (result.error, result.cycles) if result else (0.9, entry.costs.cycles)
        rungs = earlier or (untrained,)
        if epochs:
            rungs = (*rungs, RungResult(epochs, error, trained))
        evaluation = Evaluation(
            candidate,
            entry.costs.network,
            request.target.name,
            cost_of(entry.costs, cycles),
            {"sram": -0.5, "flash": -0.5},
            1 - error,
            1 - error,
            rungs=rungs,
            fidelity=epochs / total,
        )
        self.epochs += trained
        if epochs == total:
            self.finished.append((self.epochs, evaluation))
        return evaluation

    def _train(self, candidate: Candidate, network: str, epochs: int) -> int:
        """Epochs that this takes, given what was trained before."""
        recipe = candidate.recipe
        if epochs == 0 or (network, epochs) in self._known:
            return 0
        self._known[network, epochs] = epochs
        if not self.shares:
            return total_epochs(recipe, epochs)
        short = recipe.shortened(epochs)
        dense = tuple(sorted(candidate.network_args.items()))
        spent, pruned = short.trec_epochs, (dense, tuple(sorted(candidate.pruning.items())), epochs)
        if pruned not in self._parents:
            spent += short.fine_tune_epochs + max(0, epochs - self._parents.get(dense, 0))
            self._parents[dense] = max(epochs, self._parents.get(dense, 0))
            self._parents[pruned] = epochs
        return spent

    @staticmethod
    def _earlier(folder: Path) -> tuple[RungResult, ...]:
        path = folder / "evaluation.json"
        if not path.exists():
            return ()
        return codec.from_json(path.read_text(), Evaluation, str(path), StudyError).rungs


class InstantPool:
    """Stands in for the worker pool: one task, answered when asked for."""

    def __init__(self, evaluate: Callable[[EvaluateRequest], Evaluation]) -> None:
        self._evaluate = evaluate
        self._answers: list[PoolEvent] = []
        self._n = 0

    @property
    def n_free(self) -> int:
        """One, unless it has an answer to give."""
        return 0 if self._answers else 1

    def submit(self, function: str, argument: str, save_as: Path | None = None) -> int:
        """Evaluate at once; `function` is not asked."""
        request = codec.from_json(argument, EvaluateRequest, "request", StudyError)
        assert save_as is not None
        write_text(save_as, codec.to_json(self._evaluate(request)))
        self._answers.append(Answer(self._n, ""))
        self._n += 1
        return self._n - 1

    def poll(self, timeout_s: float) -> list[PoolEvent]:
        """The answer."""
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Nothing runs."""


@contextmanager
def coordinator(
    folder: Path,
    settings: ExploreSettings,
    pool: InstantPool,
    space: SearchSpace,
    on_event: OnEvent = _ignore,
    target: Target | None = None,
) -> Iterator[Coordinator]:
    """The engine over a new study in `folder`, its workers replaced by `pool`; the table's board without `target`."""
    chosen = objectives.select(settings.objectives)
    with storage.open_study(folder, "replay", chosen, settings.seed) as study:
        storage.write_settings(folder, study_settings(space, settings))
        study.sampler = make_sampler(settings.sampler, settings.seed)
        yield Coordinator(space, target or board(), folder, settings, study, pool, on_event)


def study_settings(space: SearchSpace, settings: ExploreSettings) -> storage.StudySettings:
    """What the folder of a replayed study says of it."""
    return storage.StudySettings(
        "replay",
        space.given,
        space.sha256,
        space.dataset,
        board(),
        settings.objectives,
        settings.seed,
        None,
        settings.n_trials,
        None,
        {},
    )


def table_space(kind: Table = DIGITS) -> SearchSpace:
    """The space of a table."""
    return load_search_space(str(kind.space))


class Volume:
    """Hypervolume of evaluations as a share of the whole table's: error in points, sizes and time as logarithms.

    Errors count as at most `most_error` points.
    """

    def __init__(self, table: Mapping[str, Entry], most_error: float = DIGITS.most_error) -> None:
        self._most_error = most_error
        y = scaled(table_losses(table.values()), most_error)
        self._low, self._span = y.min(axis=0), y.max(axis=0) - y.min(axis=0)
        self._all = self._of((y - self._low) / self._span)

    def __call__(self, evaluations: list[Evaluation]) -> float:
        """0 to 1; only what was trained to the end may be given."""
        if not evaluations:
            return 0.0
        y = losses(evaluations, objectives.DEFAULT)
        return self._of((scaled(y, self._most_error) - self._low) / self._span) / self._all

    @staticmethod
    def _of(y: Floats) -> float:
        return hypervolume(y[non_dominated(y)], np.full(4, 1.0))


def table_losses(entries: Iterable[Entry]) -> Floats:
    """Losses of candidates that are trained to the end: points, KiB, KiB, milliseconds."""
    y = [
        [100 * last.error, costs.sram / 1024, costs.flash / 1024, 1000 * last.cycles / CLOCK_HZ]
        for costs, last in ((entry.costs, entry.results[-1]) for entry in entries)
    ]
    return np.array(y)


def scaled(y: Floats, most_error: float) -> Floats:
    """Error in points as it is, at most `most_error`; sizes and time as logarithms."""
    return np.column_stack([np.minimum(y[:, 0], most_error), np.log(y[:, 1:])])
