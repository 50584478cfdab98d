"""Encrypted searches: who is believed, who is let in, and what is said to everybody else."""

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fake_evaluation import SPACE
from over_grpc import free_port, take
from searching import FAKE, counted, run

from trec_dse import codec
from trec_dse.cli import main
from trec_dse.errors import InputError, StudyError
from trec_dse.pools import open_pool, tls, wire
from trec_dse.pools.away import Post, Worker
from trec_dse.pools.grpc import GrpcPool
from trec_dse.pools.wire import Client, Door, Offer, Unreachable, door_of
from trec_dse.search_space import load_search_space
from trec_dse.settings import ExploreSettings, Tls
from trec_dse.storage import load_study

pytest.importorskip("grpc")
OPENSSL = shutil.which("openssl")
if OPENSSL is None:
    pytest.skip("certificates are made with the command openssl, which is not here", allow_module_level=True)


@dataclass(frozen=True)
class Authority:
    """One that signs, with its files in `folder`."""

    folder: Path
    name: str

    @property
    def ca(self) -> str:
        return str(self.folder / f"{self.name}.pem")

    def found(self) -> "Authority":
        """Make its own certificate."""
        openssl("req", "-x509", *key_pair(self.folder / self.name), "-subj", f"/CN={self.name}")
        return self

    def sign(self, name: str, *, names: str = "", days: int = 30) -> Tls:
        """What somebody shows who believes this authority too; `names` as its subjectAltName, for so many `days`."""
        path = self.folder / f"{self.name}_{name}"
        extension = ["-addext", f"subjectAltName={names}"] if names else []
        request = [*key_pair(path, ".csr"), *extension, "-subj", f"/CN={name}"]
        openssl("req", *request)
        signing = ["-CA", self.ca, "-CAkey", self.ca.replace(".pem", ".key"), "-days", str(days)]
        openssl("x509", "-req", "-in", f"{path}.csr", *signing, "-copy_extensions", "copy", "-out", f"{path}.pem")
        return Tls(f"{path}.pem", f"{path}.key", self.ca)


def openssl(*arguments: str) -> None:
    subprocess.run([str(OPENSSL), *arguments], check=True, capture_output=True)


def key_pair(path: Path, ending: str = ".pem") -> list[str]:
    """Options of `openssl req` that make a new key beside what it writes."""
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    return [*kind, "-keyout", f"{path}.key", "-out", f"{path}{ending}"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"), "ours").found()


@pytest.fixture(scope="module")
def theirs(ours: Authority) -> Authority:
    return Authority(ours.folder, "theirs").found()


@pytest.fixture(scope="module")
def head(ours: Authority) -> Tls:
    """What a search shows that is found at 127.0.0.1."""
    return ours.sign("head", names="IP:127.0.0.1")


@pytest.fixture(scope="module")
def worker(ours: Authority) -> Tls:
    return ours.sign("worker")


@contextmanager
def listening(folder: Path, shown: Tls | None) -> Iterator[Door]:
    """The way into a search that shows `shown`, plain as yet."""
    with GrpcPool(1, folder / "study", "127.0.0.1:0", tls=shown) as pool:
        pool.submit("nobody:asks", "request", folder / "answer")
        yield Door(pool.address, pool.token)


def asked(door: Door, shown: Tls | None) -> str:
    """What a worker hears that shows and believes this: the request, or why it gets none."""
    try:
        with Client(replace(door, tls=shown)) as client:
            return take(client).request
    except InputError as problem:
        assert not isinstance(problem, StudyError), problem
        return str(problem)


def only_ca(certificates: Tls) -> Tls:
    """A worker's that has no certificate of its own."""
    return Tls(ca=certificates.ca)


def without_ca(certificates: Tls) -> Tls:
    """A search's that lets in whoever knows the token."""
    return replace(certificates, ca="")


def test_a_worker_that_believes_the_search_s_authority_is_let_in_by_its_token(
    tmp_path: Path, head: Tls, worker: Tls
) -> None:
    with listening(tmp_path, without_ca(head)) as door:
        assert asked(door, only_ca(worker)) == "request"
        assert "does not know our token" in asked(replace(door, token="guessed"), only_ca(worker))
        # a certificate that nobody has asked for does no harm
        with Client(replace(door, tls=worker)) as client:
            assert take(client) == Offer()


def test_a_search_with_an_authority_lets_in_only_whom_that_has_signed(
    tmp_path: Path, head: Tls, worker: Tls, theirs: Authority
) -> None:
    with listening(tmp_path, head) as door:
        stranger = replace(theirs.sign("stranger"), ca=head.ca)
        assert asked(door, only_ca(worker)) == (
            f"the search at {door.host} lets in workers with a certificate only; needed --tls-cert FILE and --tls-key "
            "FILE, signed by the authority that its --tls-ca names"
        )
        assert asked(door, stranger).startswith(
            f"the search at {door.host} does not accept --tls-cert {stranger.cert}; needed is one that the authority "
            "which its --tls-ca names has signed"
        )
        assert asked(door, worker) == "request"


def test_a_search_of_another_authority_is_not_believed(tmp_path: Path, head: Tls, theirs: Authority) -> None:
    with listening(tmp_path, without_ca(head)) as door:
        assert asked(door, Tls(ca=theirs.ca)) == (
            f"the certificate of the search at {door.host} was not signed by --tls-ca {theirs.ca} (unable to get local "
            "issuer certificate); needed is the authority that signed it"
        )


@pytest.mark.parametrize("names", ["DNS:elsewhere", "IP:127.0.0.2"])
def test_a_certificate_of_another_machine_is_not_believed(names: str, tmp_path: Path, ours: Authority) -> None:
    with listening(tmp_path, without_ca(ours.sign("elsewhere", names=names))) as door:
        assert asked(door, Tls(ca=ours.ca)) == (
            f"the certificate of the search at {door.host} is not for '127.0.0.1'; ask at a name that it has, or make "
            "one with this name as its subjectAltName"
        )


def test_a_certificate_is_believed_at_each_of_its_names(tmp_path: Path, ours: Authority) -> None:
    shown = without_ca(ours.sign("both", names="DNS:localhost,IP:127.0.0.1"))
    with listening(tmp_path, shown) as door, Client(replace(door, tls=Tls(ca=ours.ca))) as client:
        assert take(client).request == "request"
        assert asked(replace(door, host=door.host.replace("127.0.0.1", "localhost")), Tls(ca=ours.ca)) == ""


def test_who_does_not_encrypt_is_told_to_and_who_does_is_told_that_the_search_does_not(
    tmp_path: Path, head: Tls, worker: Tls
) -> None:
    for shown in (head, without_ca(head)):
        with listening(tmp_path, shown) as door:
            assert (
                asked(door, None) == f"the search at {door.host} encrypts; needed grpcs://{door.host} and --tls-ca FILE"
            )
    with listening(tmp_path, None) as door:
        assert asked(door, worker) == (
            f"the search at {door.host} does not encrypt; start it with --tls-cert and --tls-key"
        )


def test_an_expired_certificate_is_named_by_whoever_is_to_show_it(tmp_path: Path, ours: Authority) -> None:
    old = ours.sign("old", names="IP:127.0.0.1", days=-1)
    message = f"--tls-cert {old.cert}: this certificate has expired; needed is a new one"
    with pytest.raises(InputError) as refused:
        GrpcPool(1, tmp_path, "127.0.0.1:0", tls=old)
    assert str(refused.value) == message
    assert asked(Door("127.0.0.1:1", ""), old) == message


def test_a_certificate_that_expires_while_a_search_runs_is_named_to_its_next_worker(
    tmp_path: Path, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ours.sign("old", names="IP:127.0.0.1", days=-1)
    monkeypatch.setattr(tls, "_verify_code", lambda *_: 0)  # as it was when the search began
    with listening(tmp_path, without_ca(old)) as door:
        assert asked(door, Tls(ca=ours.ca)) == (
            f"the certificate of the search at {door.host} has expired; it needs a new one"
        )
    with listening(tmp_path, ours.sign("head", names="IP:127.0.0.1")) as door:
        assert "does not accept --tls-cert" in (found := asked(door, old))
        assert found.endswith("has signed, for clients, and that has not expired")


def test_files_that_are_none_are_named_with_their_option(tmp_path: Path, head: Tls, worker: Tls) -> None:
    junk, missing, locked = tmp_path / "junk.pem", tmp_path / "missing.pem", tmp_path / "locked.key"
    junk.write_text("junk")
    openssl("pkey", "-in", worker.key, "-aes128", "-passout", "pass:secret", "-out", str(locked))
    no_certificate = "holds no certificate; needed is PEM, with -----BEGIN CERTIFICATE-----"
    for shown, message in {
        replace(worker, ca=str(missing)): f"--tls-ca {missing}: cannot be read: No such file or directory",
        replace(worker, ca=str(tmp_path)): f"--tls-ca {tmp_path}: cannot be read: Is a directory",
        replace(worker, ca=str(junk)): f"--tls-ca {junk} {no_certificate}",
        replace(worker, cert=str(missing)): f"--tls-cert {missing}: cannot be read: No such file or directory",
        replace(worker, key=str(missing)): f"--tls-key {missing}: cannot be read: No such file or directory",
        replace(worker, cert=str(junk)): f"--tls-cert {junk} {no_certificate}",
        replace(worker, key=str(junk)): f"--tls-key {junk} holds no key that can be read; needed is PEM, with "
        "-----BEGIN PRIVATE KEY-----",
        replace(worker, key=head.key): f"--tls-key {head.key} is not the key of --tls-cert {worker.cert}; needed are "
        "the two that were made together",
        replace(worker, key=str(locked)): "a key that needs a password cannot be used; needed is one without: openssl "
        "pkey -in KEY -out NEW",
    }.items():
        assert asked(Door("127.0.0.1:1", ""), shown) == message
        with pytest.raises(InputError) as refused:
            GrpcPool(1, tmp_path / "study", "127.0.0.1:0", tls=shown)
        assert str(refused.value) == message


def test_half_of_a_pair_and_an_authority_alone_are_refused_with_what_is_missing(tmp_path: Path, head: Tls) -> None:
    for half in (replace(head, key=""), replace(head, cert=""), only_ca(head)):
        with pytest.raises(InputError, match="a search that encrypts shows a certificate; needed --tls-cert FILE and"):
            GrpcPool(1, tmp_path, "127.0.0.1:0", tls=half)
    for half in (replace(head, key=""), replace(head, cert="")):
        assert asked(Door("127.0.0.1:1", ""), half).startswith("a certificate is of no use without its key; needed")
    assert asked(Door("127.0.0.1:1", ""), Tls()).startswith("whose certificate is the search's to be? Needed --tls-ca")


def commands_of_the_page() -> str:
    """How docs/cluster.md makes certificates, for a search at 127.0.0.1."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "cluster.md").read_text()
    block = page[page.index('    new="-x509') : page.index("`ca.pem` may be seen")]
    assert "DNS:head,IP:10.0.0.1" in block
    return block.replace("DNS:head,IP:10.0.0.1", "IP:127.0.0.1")


def test_the_commands_of_the_page_make_certificates_that_let_in_workers_but_none_that_a_worker_has_signed(
    tmp_path: Path,
) -> None:
    subprocess.run(["sh", "-ec", commands_of_the_page()], cwd=tmp_path, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.{ending}" for name in ("ca", "head", "worker") for ending in ("key", "pem")
    )
    authority, pretender = Authority(tmp_path, "ca"), Authority(tmp_path, "worker")
    forged = replace(pretender.sign("forged"), ca=authority.ca)
    with Path(forged.cert).open("a") as chain:
        chain.write(Path(pretender.ca).read_text())
    head, worker = (
        Tls(str(tmp_path / f"{name}.pem"), str(tmp_path / f"{name}.key"), authority.ca) for name in ("head", "worker")
    )
    with listening(tmp_path, head) as door:
        assert "does not accept --tls-cert" in asked(door, forged)
        assert asked(door, worker) == "request"


def test_addresses_say_whether_they_are_encrypted(worker: Tls) -> None:
    assert door_of("grpcs://head:13000", "token", worker) == Door("head:13000", "token", worker)
    assert door_of("grpcs://head:13000", "token") == Door("head:13000", "token", Tls())
    with pytest.raises(InputError, match=r"grpc://head:1 is not encrypted.*; needed grpcs://head:1"):
        door_of("grpc://head:1", "token", worker)
    door = Door("head:13000", "token", worker)
    assert codec.from_json(codec.to_json(door), Door, "door", StudyError) == door


def test_nobody_at_all_is_no_question_of_encryption(tmp_path: Path, worker: Tls) -> None:
    host = f"127.0.0.1:{free_port()}"
    for shown in (None, worker):
        assert tls.why_refused(host, shown) is None
        with Client(Door(host, "token", shown)) as client, pytest.raises(Unreachable, match="no search answers at"):
            take(client)


def test_a_search_that_was_reached_and_is_gone_may_come_back(tmp_path: Path, head: Tls, worker: Tls) -> None:
    with ExitStack() as stack:
        with listening(tmp_path, head) as door:
            client = stack.enter_context(Client(replace(door, tls=worker)))
            assert take(client).request == "request"
        with pytest.raises(Unreachable):
            take(client)
        # what is there now may be of somebody else, for a moment
        with GrpcPool(1, tmp_path / "plain", door.host), pytest.raises(Unreachable):
            take(client)


def test_a_whole_search_with_certificates_on_both_sides(
    tmp_path: Path, head: Tls, worker: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wire.TOKEN, "secret")
    (tmp_path / "space.py").write_text(SPACE)
    host, study = f"127.0.0.1:{free_port()}", tmp_path / "study"
    settings = replace(FAKE, n_trials=5, executor="grpc", listen=host, tls=head)
    search = threading.Thread(target=run, args=(load_search_space(str(tmp_path / "space.py")), study, settings))
    search.start()
    post = Post(
        Door(host, "secret", worker), tmp_path / "scratch", idle_s=3.0, function="fake_evaluation:evaluate_away"
    )
    said: list[str] = []
    working = threading.Thread(target=Worker(post, said.append).run)
    working.start()
    search.join()
    assert {trial.state for trial in counted(load_study(study))} <= {"complete", "infeasible"}
    assert len(counted(load_study(study))) == 5
    working.join()


def test_the_command_line_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wire.TOKEN, "secret")

    def failing(*arguments: str) -> str:
        assert main(arguments) == 2
        return capsys.readouterr().err

    assert "Needed --tls-ca FILE" in failing("worker", "--storage", "grpcs://127.0.0.1:1")
    assert "--tls-ca no.pem: cannot be read" in failing(
        "worker", "--storage", "grpcs://127.0.0.1:1", "--tls-ca", "no.pem"
    )
    assert "needed grpcs://127.0.0.1:1" in failing("worker", "--storage", "grpc://127.0.0.1:1", "--tls-ca", "no.pem")
    assert "go with --storage grpcs://HOST:PORT" in failing("worker", str(tmp_path), "--tls-ca", "no.pem")
    search = (
        "search",
        "digits_tiny",
        "--target",
        "stm32f469i-disco",
        "--out",
        str(tmp_path / "study"),
        "--no-validate",
    )
    assert "needed --executor grpc" in failing(*search, "--tls-cert", "no.pem", "--tls-key", "no.key")
    certified = ("--executor", "grpc", "--listen", "127.0.0.1:0", "--tls-cert", "no.pem", "--tls-key", "no.key")
    assert "--tls-key no.key: cannot be read" in failing(*search, *certified)


def test_the_settings_of_a_search_reach_whoever_listens(tmp_path: Path, head: Tls, worker: Tls) -> None:
    settings = ExploreSettings(executor="grpc", listen="127.0.0.1:0", tls=head)
    with open_pool(settings, tmp_path) as pool:
        assert isinstance(pool, GrpcPool)
        with Client(Door(pool.address, pool.token, worker)) as client:
            assert take(client) == Offer()
