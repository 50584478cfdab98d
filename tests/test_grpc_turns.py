"""What several workers need that share no folder is trained once: turns, copies, and whoever dies in its turn."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from over_grpc import KEY, NETWORK, PARENT, Clock, door, python, request_for, taken

from trec_dse import codec
from trec_dse.candidate import Candidate, Recipe, TrecPolicy
from trec_dse.durable import write_text
from trec_dse.errors import StudyError
from trec_dse.pools import mirror as mirrors
from trec_dse.pools.away import Errand, evaluate_away
from trec_dse.pools.grpc import GrpcPool
from trec_dse.pools.mirror import Mirror
from trec_dse.pools.wire import Beats, Client, End, Heard, Lost, Nothing, Ours, Stored, Turn, Unreachable
from trec_dse.results import Evaluation

pytest.importorskip("grpc")
LEASE_S = 10.0


@dataclass(frozen=True)
class Search:
    """One that listens, by a clock that stands still, and somebody who asks it."""

    study: Path
    clock: Clock
    pool: GrpcPool
    client: Client

    def taken(self) -> str:
        """The lease of one more task."""
        return taken(self.pool, self.client, self.study)

    def mirror(self, root: Path, said: list[str] | None = None) -> Mirror:
        """A worker's copy, for a task of its own."""
        return Mirror(self.client, root, self.taken(), (said if said is not None else list[str]()).append)

    def is_ours(self, lease: str) -> bool:
        """Whether a worker that holds a lease has its turn in the parent's folder."""
        return self.client.call("enter", Turn(lease, PARENT), Ours).is_ours


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Search]:
    monkeypatch.setattr(mirrors, "LONGEST_WAIT_S", 0.1)
    study, clock = tmp_path / "study", Clock()
    with ExitStack() as stack:
        pool = stack.enter_context(GrpcPool(9, study, "127.0.0.1:0", LEASE_S, now_s=clock))
        yield Search(study, clock, pool, stack.enter_context(Client(door(pool))))


def files_of(root: Path) -> dict[str, str]:
    """What the files below hold, except the locks of this machine."""
    found = [path for path in root.rglob("*") if path.is_file() and path.name != "lock"]
    return {path.relative_to(root).as_posix(): path.read_text() for path in found}


def test_a_copy_is_made_like_the_study_and_the_study_like_the_copy(search: Search, tmp_path: Path) -> None:
    mirror, own, result = (
        search.mirror(tmp_path / "copy"),
        tmp_path / "copy" / PARENT,
        f"candidates/{KEY}/evaluation.json",
    )
    write_text(search.study / PARENT / "after_1.safetensors", "one epoch")
    write_text(search.study / result, "earlier")
    write_text(own / "rung_1.json", "of a search before")
    mirror.fetch(f"candidates/{KEY}")
    with mirror.turn(own) as folder:
        assert folder == own
        assert files_of(mirror.root) == {f"{PARENT}/after_1.safetensors": "one epoch", result: "earlier"}
        write_text(own / "dense.safetensors", "checkpoint")
        write_text(mirror.root / result, "not ours to write")
        write_text(mirror.root / NETWORK / "graph.json", "not our turn")
        mirror.send()
        assert files_of(search.study / PARENT) == {
            "after_1.safetensors": "one epoch",
            "dense.safetensors": "checkpoint",
        }
        (own / "dense.safetensors").unlink()
        write_text(own / "after_2.safetensors", "two epochs")
    assert files_of(search.study / PARENT) == {"after_1.safetensors": "one epoch", "after_2.safetensors": "two epochs"}
    assert files_of(search.study / "candidates") == {f"{KEY}/evaluation.json": "earlier"}
    assert not (search.study / NETWORK).exists()


def test_only_what_has_changed_travels(search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = search.mirror(tmp_path / "copy")
    write_text(search.study / NETWORK / "graph.json", "{}")
    with mirror.turn(mirror.root / NETWORK) as folder:
        write_text(folder / "rung_1.json", "{}")

    def travel(*_: object) -> Stored:
        raise AssertionError("a file travels")

    monkeypatch.setattr(search.client, "put", travel)
    monkeypatch.setattr(search.client, "get", travel)
    with mirror.turn(mirror.root / NETWORK):
        mirror.send()
    # a worker that comes to it anew knows its copies by their time and size
    with search.mirror(mirror.root).turn(mirror.root / NETWORK):
        pass


def test_turns_within_turns_are_sent_together_and_left_one_by_one(search: Search, tmp_path: Path) -> None:
    mirror = search.mirror(tmp_path / "copy")
    with mirror.turn(mirror.root / NETWORK) as network:
        with mirror.turn(mirror.root / PARENT) as parent:
            write_text(network / "rung_1.json", "{}")
            write_text(parent / "after_1.safetensors", "one epoch")
            mirror.send()
            assert files_of(search.study) == {
                "grpc.token": search.pool.token + "\n",
                f"{NETWORK}/rung_1.json": "{}",
                f"{PARENT}/after_1.safetensors": "one epoch",
            }
        assert search.is_ours(search.taken())
        assert not search.client.call("enter", Turn(search.taken(), NETWORK), Ours).is_ours


def together(search: Search, root: Path, first: Candidate, second: Candidate) -> tuple[list[Evaluation], list[str]]:
    """Two workers evaluate at the same time: the second begins when the first is in its dense training, which goes on
    when the second has said that it waits. Returns what each found, and what the second said."""
    said: list[str] = []
    is_waiting, found = threading.Event(), dict[int, Evaluation]()

    def evaluate(number: int, candidate: Candidate, say: Callable[[str], None]) -> None:
        request = request_for(candidate, root / str(number))
        errand = Errand(request, door(search.pool), search.taken())
        answer = evaluate_away(codec.to_json(errand), say)
        found[number] = codec.from_json(answer, Evaluation, "answer", StudyError)

    def listen(line: str) -> None:
        said.append(line)
        is_waiting.set()

    other = threading.Thread(target=evaluate, args=(1, second, listen))

    def begin_the_other(line: str) -> None:
        if line.startswith("dense epoch 1/"):
            other.start()
            assert is_waiting.wait(60)

    evaluate(0, first, begin_the_other)
    other.join()
    return [found[0], found[1]], said


RECIPE = Recipe(
    epochs=3, fine_tune_epochs=2, trec_epochs=1, batch_size=64, n_train=300, n_validation=100, n_calibration=16
)
PRUNED = Candidate("digits", "tiny", {"width": 8, "depth": 1}, TrecPolicy(3, 3), {"*": 0.25}, RECIPE)


def test_two_workers_that_need_the_same_parents_at_the_same_time_train_them_once(
    search: Search, tmp_path: Path
) -> None:
    second = replace(PRUNED, trec=TrecPolicy(2, 2))
    evaluations, said = together(search, tmp_path, PRUNED, second)
    # 3 dense epochs and 2 after pruning for both of them, 1 with TREC for each
    assert [evaluation.trained_epochs for evaluation in evaluations] == [3 + 2 + 1, 1]
    assert [line.split("/")[0] for line in said] == ["waits for parents", "trec epoch 1"]
    shared = sorted(path.name for path in (search.study / "parents").rglob("*.safetensors"))
    assert shared == ["after_3.safetensors", "after_3.safetensors"]


def test_two_candidates_that_come_down_to_one_network_train_it_once(search: Search, tmp_path: Path) -> None:
    plain = replace(PRUNED, trec=None, pruning={}, recipe=replace(RECIPE, fine_tune_epochs=0))
    by_name = replace(plain, pruning={"*": 0.0})
    assert by_name.key != plain.key
    evaluations, said = together(search, tmp_path, plain, by_name)
    assert evaluations[0].key == evaluations[1].key
    assert [evaluation.trained_epochs for evaluation in evaluations] == [3 + 1, 0]
    assert [line.split("/")[0] for line in said] == ["waits for networks"]


HOLDER = """
import signal, sys
from pathlib import Path
from trec_dse.pools.mirror import Mirror
from trec_dse.pools.wire import Client, Door
host, token, root, lease, folder = sys.argv[1:]
with Client(Door(host, token)) as client:
    mirror = Mirror(client, Path(root), lease, print)
    with mirror.turn(Path(root) / folder) as mine:
        (mine / "dense.safetensors").write_text("two epochs")
        mirror.send()
        (mine / "dense.safetensors").write_text("three epochs, never sent")
        print("holds", flush=True)
        signal.pause()
"""


def test_a_worker_that_is_killed_in_its_turn_holds_up_the_others_until_its_lease_ends(
    search: Search, tmp_path: Path
) -> None:
    lost, other = search.taken(), search.mirror(tmp_path / "other")
    arguments = (search.pool.address, search.pool.token, str(tmp_path / "killed"), lost, PARENT)
    with python(HOLDER, *arguments) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        assert not search.is_ours(other.lease)
        holder.kill()
    search.clock.s = LEASE_S
    assert search.client.call("beat", Beats({other.lease: ""}), Lost) == Lost(())
    assert not search.is_ours(other.lease)
    search.clock.s = LEASE_S + 0.001
    with other.turn(other.root / PARENT) as folder:
        assert files_of(folder) == {"dense.safetensors": "two epochs"}
    assert search.client.call("beat", Beats({lost: ""}), Lost) == Lost((lost,))


def test_a_worker_that_waits_goes_on_as_soon_as_the_lost_one_s_lease_has_ended(search: Search, tmp_path: Path) -> None:
    said: list[str] = []
    lost, other = search.taken(), search.mirror(tmp_path / "other", said)
    assert search.is_ours(lost)
    is_in = threading.Event()

    def wait() -> None:
        with other.turn(other.root / PARENT):
            is_in.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not said:
        assert not is_in.wait(0.01)
    search.clock.s = LEASE_S
    search.client.call("beat", Beats({other.lease: ""}), Lost)
    assert not is_in.wait(0.3)
    search.clock.s = LEASE_S + 0.001
    assert is_in.wait(60)
    thread.join()
    assert said == [f"waits for {PARENT}, which another worker trains"]


def test_a_worker_that_has_sent_all_and_dies_before_it_leaves_has_trained_for_the_others(
    search: Search, tmp_path: Path
) -> None:
    done, other = search.mirror(tmp_path / "done"), search.mirror(tmp_path / "other")
    turn = done.turn(done.root / PARENT)
    write_text(turn.__enter__() / "after_3.safetensors", "all of it")
    done.send()
    search.clock.s = LEASE_S
    search.client.call("beat", Beats({other.lease: ""}), Lost)
    search.clock.s = LEASE_S + 1
    with other.turn(other.root / PARENT) as folder:
        assert (folder / "after_3.safetensors").read_text() == "all of it"


def test_who_comes_back_after_its_lease_has_ended_changes_nothing(search: Search, tmp_path: Path) -> None:
    slow, other = search.mirror(tmp_path / "slow"), search.mirror(tmp_path / "other")

    def cut_off() -> None:
        with slow.turn(slow.root / PARENT) as late:
            write_text(late / "dense.safetensors", "late")
            search.clock.s = LEASE_S
            search.client.call("beat", Beats({other.lease: ""}), Lost)
            search.clock.s = LEASE_S + 1
            with other.turn(other.root / PARENT) as folder:
                write_text(folder / "after_3.safetensors", "all of it")

    with pytest.raises(StudyError, match="the lease has run out; somebody else has the task"):
        cut_off()
    with pytest.raises(StudyError, match="the lease has run out"), slow.turn(slow.root / PARENT):
        pass
    assert files_of(search.study / PARENT) == {"after_3.safetensors": "all of it"}


def test_a_task_that_fails_in_its_turn_lets_the_others_in_when_it_has_said_so(search: Search, tmp_path: Path) -> None:
    failing, other = search.mirror(tmp_path / "failing"), search.taken()
    with pytest.raises(StudyError, match="a bad candidate"), failing.turn(failing.root / PARENT):
        raise StudyError("a bad candidate")
    assert not search.is_ours(other)
    search.client.call("end", End(failing.lease, "failed", "a bad candidate"), Heard)
    assert search.is_ours(other)


def test_a_search_that_does_not_answer_for_a_while_costs_no_turn(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, call, deaf = search.mirror(tmp_path / "copy"), search.client.call, {"enter": 1, "look": 1, "leave": 2}

    def call_deaf(name: str, message: object, reply: type[object]) -> object:
        if deaf.get(name):
            deaf[name] -= 1
            raise Unreachable("no search answers")
        return call(name, message, reply)

    monkeypatch.setattr(search.client, "call", call_deaf)
    with mirror.turn(mirror.root / PARENT) as folder:
        write_text(folder / "after_1.safetensors", "one epoch")
    assert deaf == {"enter": 0, "look": 0, "leave": 0}
    assert files_of(search.study / PARENT) == {"after_1.safetensors": "one epoch"}
    assert search.is_ours(search.taken())
    monkeypatch.setattr(mirrors, "PATIENCE_S", 0.0)
    deaf["enter"] = 9
    with pytest.raises(Unreachable), mirror.turn(mirror.root / NETWORK):
        pass
    assert deaf["enter"] == 8


def test_whose_turn_it_is_is_asked_of_what_workers_share_alone(search: Search) -> None:
    with pytest.raises(StudyError, match="is no folder that workers may see"):
        search.client.call("enter", Turn(search.taken(), "../other"), Ours)
    assert search.client.call("leave", Turn("no lease", PARENT), Nothing) == Nothing()
