"""The live page over real HTTP: what it answers, what it refuses, and that it follows the study."""

import gzip
import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import pytest
from studies import make_study, make_trials

from trec_dse.errors import InputError, StudyError
from trec_dse.report.live import Ask, LiveServer, LiveStudy, StudyFolder
from trec_dse.results import Evaluation, StudyRecord, WhatIfGrid, WhatIfPoint, WhatIfSetting


@dataclass
class Source:
    """A study that a test changes under the server's hands."""

    study: StudyRecord = field(default_factory=make_study)
    stamps: int = 0
    reads: int = 0
    problem: str = ""

    def stamp(self) -> int:
        return self.stamps

    def read(self) -> StudyRecord:
        if self.problem:
            raise StudyError(self.problem)
        self.reads += 1
        return self.study

    def grids(self) -> Sequence[WhatIfGrid]:
        return ()

    def change(self, study: StudyRecord) -> None:
        self.study, self.stamps = study, self.stamps + 1


class Clock:
    """Seconds that pass only when a test says so, and 0.1 at every look."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


@contextmanager
def serving(study: LiveStudy, ask: Ask | None = None) -> Iterator[LiveServer]:
    with LiveServer(study, ask=ask) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def answer(trial: int, evaluation: Evaluation, setting: WhatIfSetting) -> WhatIfGrid:
    """What a network would say: an accuracy that shows what was asked."""
    point = WhatIfPoint(accuracy=setting.hash_bits / 10 + setting.n_kernel_reuse / 100)
    return WhatIfGrid(trial, 100, WhatIfPoint(accuracy=evaluation.int8_accuracy or 0), (setting,), (point,))


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with serving(LiveStudy(Source()), answer) as running:
        yield running


def get(server: LiveServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read()


def test_the_page_is_served_with_its_data_and_asks_only_its_own_server(server: LiveServer) -> None:
    answer, body = get(server, "/")
    text = body.decode()
    assert answer.status == HTTPStatus.OK
    assert "digits on the demo board" in text
    assert 'data-version="1"' in text
    assert "connect-src 'self'" in text
    assert 'class="block"' not in text  # details come one by one
    assert "@@" not in text.split("<script>/**")[0]


def test_the_data_are_given_only_when_they_are_new(server: LiveServer) -> None:
    answer, body = get(server, "/data")
    assert answer.headers["X-Version"] == "1"
    assert len(json.loads(body)["trials"]["%table"]) == 1 + 12
    answer, body = get(server, "/data?version=1")
    assert (answer.status, body) == (HTTPStatus.NO_CONTENT, b"")


def test_the_detail_of_a_trial_is_given_by_its_number(server: LiveServer) -> None:
    _, body = get(server, "/detail?trial=3")
    assert json.loads(body)["candidate"]["network"] == "lenet5"


@pytest.mark.parametrize("query", ["trial=9", "trial=99", "trial=-1", "trial=x", "trial=%C2%B3", "", "trial="])
def test_a_trial_without_evaluation_has_no_detail(server: LiveServer, query: str) -> None:
    assert get(server, f"/detail?{query}")[0].status == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/study.json",
        "//etc/passwd",
        "/data/../study.json",
        "/report.html",
        "/%00",
        "/data/",
    ],
)
def test_no_request_can_name_a_file(server: LiveServer, path: str) -> None:
    answer, body = get(server, path)
    assert answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)
    assert len(body) < 100


def test_an_address_that_is_none_is_answered_all_the_same(server: LiveServer) -> None:
    assert [server.answer(target).status for target in ("http://[", "", "?", "/data?&&==%")] == [404, 404, 404, 200]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_reading_is_possible(server: LiveServer, method: str) -> None:
    assert get(server, "/data", method)[0].status == HTTPStatus.NOT_IMPLEMENTED


def test_a_head_request_has_no_body(server: LiveServer) -> None:
    answer, body = get(server, "/data", "HEAD")
    assert int(answer.headers["Content-Length"]) > 1000
    assert body == b""


@pytest.mark.parametrize("host", ["evil.example:80", "evil.example", "127.0.0.1.evil.example:80", ""])
def test_a_page_of_another_name_learns_nothing(server: LiveServer, host: str) -> None:
    answer, body = get(server, "/data", Host=host)
    assert (answer.status, body) == (HTTPStatus.FORBIDDEN, b"")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_on_another_page_sets_nothing_to_work(server: LiveServer, site: str) -> None:
    question = "/what-if?trial=3&bits=4&policy=whole&reuse=1"
    assert get(server, question, **{"Sec-Fetch-Site": site})[0].status == HTTPStatus.FORBIDDEN
    assert get(server, question, **{"Sec-Fetch-Site": "same-origin"})[0].status == HTTPStatus.OK


def test_a_what_if_question_is_answered_for_a_trained_trial(server: LiveServer) -> None:
    _, body = get(server, "/what-if?trial=3&bits=4&policy=whole&reuse=1")
    found = json.loads(body)
    assert found["trained"]["accuracy"] == 0.99
    assert found["points"]["%table"][1][0] == pytest.approx(0.41)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("trial=7&bits=4&policy=whole&reuse=1", 404),  # never trained
        ("trial=99&bits=4&policy=whole&reuse=1", 404),
        ("trial=3&bits=-4&policy=whole&reuse=1", 400),
        ("trial=3&bits=4&policy=all&reuse=1", 400),
        ("trial=3&bits=4&policy=whole", 400),
        ("trial=3&bits=999999999999&policy=whole&reuse=1", 400),
    ],
)
def test_a_what_if_question_that_makes_no_sense_is_refused(server: LiveServer, query: str, status: int) -> None:
    assert get(server, f"/what-if?{query}")[0].status == status


def test_long_answers_are_compressed_for_who_can_read_it(server: LiveServer) -> None:
    answer, body = get(server, "/data", **{"Accept-Encoding": "gzip, br"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == get(server, "/data")[1]


def test_the_server_listens_on_this_machine_alone(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_a_port_in_use_is_said_with_the_way_out(server: LiveServer) -> None:
    port = server.server_address[1]
    with pytest.raises(InputError, match=f"port {port} cannot be listened on.*take another, or 0"):
        LiveServer(LiveStudy(Source()), port)
    with pytest.raises(InputError, match="port 70000 cannot be listened on"):
        LiveServer(LiveStudy(Source()), 70000)


def test_a_changed_study_is_read_again_but_not_more_often_than_it_can_be() -> None:
    source, clock = Source(make_study(make_trials()[:3])), Clock()
    study = LiveStudy(source, clock=clock)
    assert study.snapshot().version == "1"
    source.change(make_study(make_trials()[:4]))
    assert study.snapshot().version == "1"  # within half a second nothing is looked at
    clock.now += 1
    assert study.snapshot().version == "2"
    assert list(study.snapshot().evaluations) == [0, 1, 2, 3]
    clock.now += 1
    study.snapshot()
    assert source.reads == 2  # nothing has changed since


def test_a_change_that_shows_nothing_new_is_no_new_version() -> None:
    source, clock = Source(), Clock()
    study = LiveStudy(source, clock=clock)
    study.snapshot()
    source.change(make_study())
    clock.now += 1
    assert study.snapshot().version == "1"
    assert source.reads == 2


def test_a_study_that_cannot_be_read_for_a_moment_leaves_what_was_known() -> None:
    source, clock = Source(), Clock()
    study = LiveStudy(source, clock=clock)
    study.snapshot()
    source.change(make_study(()))
    source.problem = "the disk is busy"
    clock.now += 1
    assert study.snapshot().version == "1"
    with pytest.raises(StudyError, match="the disk is busy"):
        LiveStudy(Source(problem="the disk is busy")).snapshot()


def test_a_study_that_cannot_be_read_at_all_answers_with_the_reason() -> None:
    with serving(LiveStudy(Source(problem="the journal is damaged"))) as running:
        answer, body = get(running, "/data")
    assert (answer.status, body) == (HTTPStatus.SERVICE_UNAVAILABLE, b"the journal is damaged\n")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"there is no study\.json"):
        LiveStudy(StudyFolder(tmp_path)).snapshot()
