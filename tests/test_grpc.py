"""Workers that share no folder with the search: tasks, tokens, and a worker that is killed."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_evaluation import SPACE
from over_grpc import KEY, NETWORK, PARENT, all_events, door, free_port, request_for, take, taken, worker
from searching import FAKE, counted, run

from trec_dse import codec
from trec_dse.candidate import Candidate, Recipe
from trec_dse.durable import write_text
from trec_dse.errors import InputError, StudyError
from trec_dse.pools import away, open_pool, wire
from trec_dse.pools.away import Post, Worker
from trec_dse.pools.grpc import GrpcPool
from trec_dse.pools.wire import (
    Beats,
    Client,
    Door,
    End,
    Files,
    Heard,
    Look,
    Lost,
    Nothing,
    Offer,
    Ours,
    Place,
    Turn,
    Unreachable,
    door_of,
    require_file,
    require_folder,
)
from trec_dse.results import Evaluation
from trec_dse.search_space import load_search_space
from trec_dse.settings import ExploreSettings
from trec_dse.storage import load_study
from trec_dse.workers import Answer, Died, Failed, PoolEvent, Progress

pytest.importorskip("grpc")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "study"


@pytest.fixture
def pool(study: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrpcPool]:
    monkeypatch.delenv(wire.TOKEN, raising=False)
    with GrpcPool(2, study, "127.0.0.1:0", lease_s=5.0) as pool:
        yield pool


@pytest.fixture
def client(pool: GrpcPool) -> Iterator[Client]:
    with Client(door(pool)) as client:
        yield client


def test_an_answer_is_on_disk_before_it_is_heard_of(pool: GrpcPool, client: Client, study: Path) -> None:
    task = pool.submit("nobody:asks", "the request", study / "candidates" / KEY / "evaluation.json")
    other = pool.submit("nobody:asks", "another", study / "other")
    assert pool.n_free == 0
    offer = take(client)
    assert offer.request == "the request"
    assert client.call("beat", Beats({offer.lease: "epoch 1", "no lease": ""}), Lost) == Lost(("no lease",))
    assert all_events(pool, 1) == [Progress(task, "epoch 1")]
    assert client.call("end", End(offer.lease, "answer", "{}\n"), Heard).was_good
    assert (study / "candidates" / KEY / "evaluation.json").read_text() == "{}\n"
    assert not client.call("end", End(offer.lease, "answer", "late"), Heard).was_good
    client.call("end", End(take(client).lease, "failed", "no kernel for conv9"), Heard)
    assert all_events(pool, 2) == [Answer(task, ""), Failed(other, "no kernel for conv9")]
    assert pool.n_free == 2
    assert take(client) == Offer()


def test_a_silent_worker_loses_its_task_to_the_next_that_asks(study: Path) -> None:
    with GrpcPool(1, study, "127.0.0.1:0", lease_s=0.2) as pool, Client(door(pool)) as client:
        task = pool.submit("nobody:asks", "request", study / "answer")
        slow = take(client)
        assert all_events(pool, 1) == [Died(task, "its worker gave no sign of life for 0 s", will_retry=True)]
        quick = take(client)
        assert client.call("beat", Beats({slow.lease: ""}), Lost) == Lost((slow.lease,))
        assert not client.call("end", End(slow.lease, "answer", "slow"), Heard).was_good
        client.call("end", End(quick.lease, "answer", "quick"), Heard)
        assert all_events(pool, 1) == [Answer(task, "")]
        assert (study / "answer").read_text() == "quick"


def test_who_does_not_know_the_token_learns_and_changes_nothing(pool: GrpcPool, study: Path) -> None:
    pool.submit("nobody:asks", "request", study / "answer")
    write_text(study / NETWORK / "graph.json", "{}")
    with Client(Door(pool.address, "guessed")) as stranger:
        for ask in (
            lambda: take(stranger),
            lambda: stranger.get(f"{NETWORK}/graph.json"),
            lambda: stranger.put(Place("", f"{NETWORK}/graph.json"), b""),
        ):
            with pytest.raises(InputError, match="does not know our token; see TREC_DSE_TOKEN"):
                ask()
    assert (study / "grpc.token").stat().st_mode & 0o077 == 0
    with Client(Door(pool.address, (study / "grpc.token").read_text().strip())) as friend:
        assert take(friend).request == "request"


def test_a_token_of_the_environment_is_taken_and_the_studys_own_outlives_a_search(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(wire.TOKEN, raising=False)
    settings = ExploreSettings(executor="grpc", listen="127.0.0.1:0")
    tokens = []
    for _ in range(2):
        with open_pool(settings, study) as own:
            assert isinstance(own, GrpcPool)
            tokens.append(own.token)
    assert tokens[0] == tokens[1]
    monkeypatch.setenv(wire.TOKEN, "ours")
    with GrpcPool(1, study, "127.0.0.1:0") as pool:
        assert pool.token == "ours"


def test_files_come_and_go_in_parts_and_only_with_a_good_lease_in_its_turn(
    pool: GrpcPool, client: Client, study: Path
) -> None:
    lease = taken(pool, client, study)
    content = bytes(range(256)) * (wire.CHUNK // 128) + b"rest"  # two parts and four bytes
    place = Place(lease, f"{NETWORK}/weights.safetensors")
    with pytest.raises(StudyError, match=f"{NETWORK} is written by whoever has its turn there"):
        client.put(place, content)
    assert client.call("enter", Turn(lease, NETWORK), Ours) == Ours(True)
    there = client.put(place, content)
    assert there.size == len(content) == 2 * wire.CHUNK + 4
    assert client.get(there.path) == content
    assert client.call("look", Look((NETWORK, PARENT)), Files) == Files((there,))
    with pytest.raises(StudyError, match="the lease has run out"):
        client.put(Place("old", there.path), b"")
    with pytest.raises(StudyError, match="the lease has run out"):
        client.call("drop", Place("old", there.path), Nothing)
    client.call("drop", place, Nothing)
    assert client.call("look", Look((NETWORK,)), Files) == Files(())
    with pytest.raises(StudyError, match="No such file"):
        client.get(there.path)
    client.call("leave", Turn(lease, NETWORK), Nothing)
    with pytest.raises(StudyError, match="this is not our turn"):
        client.call("drop", place, Nothing)


@pytest.mark.parametrize(
    "name",
    [
        "../study.json",
        "networks/../../etc/passwd",
        f"{NETWORK}/../x",
        f"/{NETWORK}/x",
        f"{NETWORK}/.hidden",
        "study.json",
    ],
)
def test_nothing_outside_of_what_is_shared_is_read_or_written(name: str, client: Client) -> None:
    with pytest.raises(StudyError, match="is no file that workers may read"):
        client.get(name)
    with pytest.raises(StudyError, match="is no file that workers may write"):
        client.put(Place("", name), b"")
    with pytest.raises(StudyError, match="is no folder that workers may see"):
        client.call("look", Look((name,)), Files)


def test_what_a_candidate_shows_is_read_by_workers_and_written_by_the_search() -> None:
    path = f"candidates/{KEY}/evaluation.json"
    assert require_file(path, to_write=False) == path
    with pytest.raises(StudyError, match="may write"):
        require_file(path, to_write=True)
    assert require_folder(f"candidates/{KEY}") == f"candidates/{KEY}"


def test_a_message_that_is_none_is_refused_with_what_would_be_right(client: Client) -> None:
    with pytest.raises(StudyError, match="required key 'said' is missing"):
        client.call("beat", Look(()), Lost)


def test_addresses_and_numbers_that_are_none_are_named(study: Path, pool: GrpcPool) -> None:
    assert door_of("grpc://head:13000", "ours") == Door("head:13000", "ours")
    for wrong in ("head:13000", "grpc://head", "grpc://:1", "sqlite:///x.db"):
        with pytest.raises(InputError, match="is no address of a search; needed grpc://HOST:PORT or"):
            door_of(wrong, "ours")
    with pytest.raises(InputError, match="is no address to listen on"):
        GrpcPool(1, study, "13000")
    with pytest.raises(InputError, match="nobody can listen there"):
        GrpcPool(1, study, pool.address)
    with pytest.raises(InputError, match="both must be positive"):
        GrpcPool(0, study, "127.0.0.1:0")
    with pytest.raises(InputError, match="a task needs one"):
        pool.submit("nobody:asks", "request")


def test_a_worker_without_a_search_says_so_and_leaves(tmp_path: Path) -> None:
    said: list[str] = []
    post = Post(Door(f"127.0.0.1:{free_port()}", "token"), tmp_path, idle_s=0.5)
    assert Worker(post, said.append).run() == 0
    assert len(said) == 1
    assert said[0].startswith("no search answers at 127.0.0.1:")


def test_a_search_over_two_workers_of_which_one_is_killed_is_complete_and_repeats_nothing(
    tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wire.TOKEN, "secret")
    (tmp_path / "space.py").write_text(SPACE)
    host, function = f"127.0.0.1:{free_port()}", "fake_evaluation:evaluate_away"
    settings = replace(FAKE, n_trials=25, workers=4, executor="grpc", lease_s=3.0, listen=host)
    search = threading.Thread(target=run, args=(load_search_space(str(tmp_path / "space.py")), study, settings))
    with worker(host, tmp_path / "killed", function) as killed, worker(host, tmp_path / "other", function):
        search.start()
        assert killed.stdout is not None
        line = next(line for line in killed.stdout if line.endswith(": taken\n"))
        assert len(line) == len(f"{KEY}: taken\n")
        killed.send_signal(signal.SIGKILL)
        search.join()
    record = load_study(study)
    assert len(counted(record)) == 25
    assert {trial.state for trial in counted(record)} == {"complete", "infeasible"}
    keys = [trial.evaluation.key for trial in counted(record) if trial.evaluation]
    assert len(set(keys)) == 25
    done = (tmp_path / "other" / "0" / "evaluations.log").read_text().splitlines()
    assert len(done) == len(set(done))


def test_a_worker_gives_up_what_the_search_has_given_to_another(
    pool: GrpcPool, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(away, "BEAT_S", 0.1)
    (tmp_path / "scratch" / "0").mkdir(parents=True)
    (tmp_path / "scratch" / "0" / "hang").touch()
    candidate = Candidate("digits", "tiny", {"width": 1, "depth": 1})
    task = pool.submit("nobody:asks", codec.to_json(request_for(candidate, study)), study / "answer")
    said: list[str] = []
    post = Post(door(pool), tmp_path / "scratch", idle_s=1.0, function="fake_evaluation:evaluate_away")
    thread = threading.Thread(target=Worker(post, said.append).run)
    thread.start()
    assert all_events(pool, 1) == [Progress(task, "epoch 1 of 1")]
    with pool._book.lock:
        (lease,) = pool._book.leases._held
        pool._book.leases.end(lease)
    thread.join()
    assert said == [f"{candidate.key}: taken", "the search has given a candidate to somebody else"]


@pytest.mark.slow
def test_the_task_of_a_killed_worker_goes_on_from_the_last_epoch_that_it_sent(
    tmp_path: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wire.TOKEN, "secret")
    recipe = Recipe(epochs=40, fine_tune_epochs=1, trec_epochs=1, batch_size=64)
    candidate = Candidate("digits", "tiny", {"width": 8, "depth": 2}, recipe=recipe)
    path = study / "candidates" / candidate.key / "evaluation.json"
    with GrpcPool(1, study, "127.0.0.1:0", lease_s=5.0) as pool:
        task = pool.submit("", codec.to_json(request_for(candidate, study)), path)
        with worker(pool.address, tmp_path / "killed", "trec_dse.pools.away:evaluate_away") as killed:
            n_done = 0
            while n_done < 3:
                said = [event.text for event in pool.poll(1.0) if isinstance(event, Progress)]
                n_done = max([n_done, *(int(text.split()[2].split("/")[0]) for text in said)])
            killed.send_signal(signal.SIGKILL)
        with worker(pool.address, tmp_path / "other", "trec_dse.pools.away:evaluate_away"):
            events: list[PoolEvent] = []
            while not any(isinstance(event, Answer) for event in events):
                events += pool.poll(1.0)
    assert Answer(task, "") in events
    assert [event.will_retry for event in events if isinstance(event, Died)] == [True]
    found = codec.from_json(path.read_text(), Evaluation, "answer", StudyError)
    assert found.fidelity == 1
    # of the epochs that were heard of at most the last one had not been sent
    assert found.trained_epochs <= 42 - (n_done - 1)
    network = study / "networks" / found.key
    assert {"graph.json", "weights.safetensors", "evaluation.json"} <= {file.name for file in network.iterdir()}
    assert not (network / "training").exists() or not list((network / "training").iterdir())
    assert not list((study / "parents").rglob("dense.safetensors"))


def test_nobody_answers_is_told_from_a_refusal(pool: GrpcPool, client: Client) -> None:
    assert take(client) == Offer()
    pool.close()
    with pytest.raises(Unreachable, match="no search answers at 127"):
        take(client)


def test_a_search_that_ends_while_it_is_asked_may_come_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    grpc = wire.import_grpc()

    class Cancelled(grpc.RpcError):  # type: ignore[misc, name-defined]
        """What a server sends that stops between hearing a call and answering it."""

        code, details = staticmethod(lambda: grpc.StatusCode.CANCELLED), staticmethod(lambda: "CANCELLED")

    def cancelled(*_: object, **__: object) -> bytes:
        raise Cancelled

    monkeypatch.setattr(client._channel, "unary_unary", lambda _: cancelled)
    with pytest.raises(Unreachable, match=r"no search answers at .*: CANCELLED"):
        take(client)
