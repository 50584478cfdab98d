"""An instant evaluation for the tests of the search, and a search in a process of its own that they may kill.

It writes down in `evaluations.log` of the study's folder what it does, and does what files there tell it:
`kill_worker` makes the next evaluation kill its own process (the file is removed), `kill_worker_always` every one;
`hang` makes evaluations wait for ever.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trec_dse.candidate import Candidate, TrecPolicy
from trec_dse.errors import UnsupportedError
from trec_dse.results import Cost, Evaluation
from trec_dse.target import Target, load_target

TARGET = "stm32f469i-disco"
KIB = 1024

SPACE = '''
"""Six parameters of which half the points do not fit."""

from trec_dse.candidate import Candidate, TrecPolicy

DATASET = "digits"


def suggest(trial):
    width = trial.suggest_int("width", 1, 20)
    depth = trial.suggest_int("depth", 1, 5)
    hash_bits = trial.suggest_int("hash_bits", 1, 6)
    use_trec = trial.suggest_categorical("use_trec", [True, False])
    return Candidate(
        dataset=DATASET,
        network="tiny",
        network_args={"width": width, "depth": depth},
        trec=TrecPolicy(hash_bits, hash_bits) if use_trec else None,
    )
'''


def target() -> Target:
    """A board that is shipped; the fake candidates need 64 KiB per unit of width on it, of a limit of 640."""
    from trec_dse import plugins  # noqa: PLC0415 - not needed in the workers, whose start the tests wait for
    from trec_dse.errors import TargetError  # noqa: PLC0415

    return load_target(plugins.data_file("targets", TARGET, ".toml", TargetError))


def evaluation_of(candidate: Candidate, target_name: str = TARGET) -> Evaluation:
    """SRAM is 64 KiB per unit of width, of 640 allowed; accuracy grows with everything and is None beyond that."""
    width, depth = int(candidate.network_args["width"]), int(candidate.network_args["depth"])
    hash_bits = candidate.trec.hash_bits_early if isinstance(candidate.trec, TrecPolicy) else 8
    sram, flash = 64 * KIB * width, 10 * KIB * width * depth
    violations = {"sram": sram / (640 * KIB) - 1, "flash": flash / (2048 * KIB) - 1}
    cost = Cost(
        macs=1000 * width * depth * hash_bits,
        dense_macs=8000 * width * depth,
        cycles=180_000 * width * depth * hash_bits,
        worst_cycles=180_000 * width * depth * 8,
        clock_hz=180_000_000,
        weight_bytes=flash,
        code_bytes=0,
        arena_bytes=sram,
        static_bytes=0,
        stack_bytes=0,
    )
    fits = all(value <= 0 for value in violations.values())
    accuracy = 1 - 1 / (1 + width * depth * hash_bits) if fits else None
    return Evaluation(candidate, candidate.key, target_name, cost, violations, accuracy, accuracy)


def evaluate(text: str, progress: Callable[[str], None]) -> str:
    """The fake evaluation."""
    from trec_dse import codec  # noqa: PLC0415

    request = json.loads(text)
    candidate = codec.structure(request["candidate"], Candidate, "request", UnsupportedError)
    folder = Path(request["folder"])
    study = folder.parent.parent
    _obey(study)
    note(study, "again" if (folder / "evaluation.json").exists() else "start", candidate.key)
    if candidate.network_args.get("fail"):
        raise UnsupportedError("this candidate cannot be evaluated")
    progress("epoch 1 of 1")
    if (study / "hang").exists():
        signal.pause()
    evaluation = evaluation_of(candidate, request["target"]["name"])
    if request.get("epochs") is not None:
        evaluation = after(evaluation, request["epochs"], folder / "evaluation.json")
    return codec.to_json(evaluation)


def evaluate_away(text: str, progress: Callable[[str], None]) -> str:
    """The fake evaluation as a worker runs it that shares no folder: the log is in its scratch folder."""
    return evaluate(json.dumps(json.loads(text)["request"]), progress)


def evaluate_any(text: str, progress: Callable[[str], None]) -> str:
    """What a network of width and depth one shows, whatever the candidate is."""
    from trec_dse import codec  # noqa: PLC0415

    candidate = codec.structure(json.loads(text)["candidate"], Candidate, "request", UnsupportedError)
    small = evaluation_of(Candidate(candidate.dataset, "tiny", {"width": 1, "depth": 1}))
    return codec.to_json(replace(small, candidate=candidate, key=candidate.key))


def after(evaluation: Evaluation, epochs: int, path: Path) -> Evaluation:
    """What it shows after so many of its 27 epochs: an error of 1 / (1 + epochs) more, chance where untrained."""
    from trec_dse import codec  # noqa: PLC0415
    from trec_dse.results import RungResult  # noqa: PLC0415

    if not evaluation.is_feasible or evaluation.int8_accuracy is None:
        return evaluation
    total = evaluation.candidate.recipe.epochs
    earlier: tuple[RungResult, ...] = ()
    if path.exists():
        earlier = codec.from_json(path.read_text(), Evaluation, "earlier", UnsupportedError).rungs
    is_last = epochs == total
    error = 1 - evaluation.int8_accuracy + (0.0 if is_last else 1 / (1 + epochs)) if epochs else 0.9
    untrained = () if earlier or not epochs else (RungResult(0, 1.0, 0),)
    trained = epochs - (earlier[-1].epochs if earlier else 0)
    rungs = (*earlier, *untrained, RungResult(epochs, error, trained))
    return replace(evaluation, float_accuracy=1 - error, int8_accuracy=1 - error, rungs=rungs, fidelity=epochs / total)


def evaluate_with_a_bug(text: str, progress: Callable[[str], None]) -> str:
    """Raises what nobody expects."""
    return str(1 / (len(text) - len(text)))


def echo(text: str, progress: Callable[[str], None]) -> str:
    """The text itself, after the worker's process id and its threads as progress."""
    sys.stdout.write("this must not disturb the protocol\n")
    progress(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
    return text


def hang(text: str, progress: Callable[[str], None]) -> str:
    """Says its process id and never answers."""
    progress(str(os.getpid()))
    signal.pause()
    return text


def die(text: str, progress: Callable[[str], None]) -> str:
    """Kills its own process; if `text` names a file, only while that does not exist."""
    path = Path(text)
    if text and path.exists():
        return "survived"
    if text:
        path.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


def refuse(text: str, progress: Callable[[str], None]) -> str:
    """Raises an error that is meant for the user."""
    raise UnsupportedError(f"no kernel for {text}")


def note(study: Path, what: str, key: str) -> None:
    """One line in the log; short appended writes of several processes do not mix."""
    with (study / "evaluations.log").open("ab", buffering=0) as log:
        log.write(f"{what} {key}\n".encode())


def _obey(study: Path) -> None:
    try:
        (study / "kill_worker").unlink()
    except FileNotFoundError:
        if not (study / "kill_worker_always").exists():
            return
    os.kill(os.getpid(), signal.SIGKILL)


def main(space: str, folder: str, n_trials: str, workers: str, reduction: str = "1") -> None:
    """Run a search, and write one line per event to stdout for the test that watches."""
    from trec_dse.events import Event, TrialDone  # noqa: PLC0415
    from trec_dse.explore import explore  # noqa: PLC0415
    from trec_dse.search_space import load_search_space  # noqa: PLC0415
    from trec_dse.settings import ExploreSettings  # noqa: PLC0415

    function = "fake_evaluation:evaluate"
    settings = ExploreSettings(int(n_trials), workers=int(workers), function=function, reduction=int(reduction))

    def tell(event: Event) -> None:
        number = event.record.number if isinstance(event, TrialDone) else ""
        sys.stdout.write(f"{type(event).__name__} {number}\n")
        sys.stdout.flush()

    explore(load_search_space(space), target(), Path(folder), settings=settings, on_event=tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
