"""Who has which task, and whose turn it is in which folder: all by a clock that the tests move."""

from dataclasses import replace

import pytest

from trec_dse.errors import StudyError
from trec_dse.pools._leases import Leases
from trec_dse.workers import Died, Progress


def test_the_oldest_task_is_given_first_and_to_one_only() -> None:
    leases = Leases(10.0)
    leases.offer(7, "first")
    leases.offer(8, "second")
    assert [found and found[1] for found in (leases.take(0), leases.take(0), leases.take(0))] == [
        "first",
        "second",
        None,
    ]


def test_a_beat_keeps_a_lease_and_silence_loses_it_once_with_and_once_without_another_try() -> None:
    leases = Leases(10.0)
    leases.offer(3, "request")
    first = leases.take(100.0)
    assert first is not None
    assert leases.beat({first[0]: "epoch 1", "a stranger's": "epoch 9"}, 109.0) == [Progress(3, "epoch 1")]
    assert leases.beat({first[0]: "epoch 1"}, 118.0) == []
    assert leases.reap(128.0) == []
    died = Died(3, "its worker gave no sign of life for 10 s", will_retry=True)
    assert leases.reap(128.1) == [died]
    assert not leases.holds(first[0])
    assert leases.end(first[0]) is None
    second = leases.take(200.0)
    assert second is not None
    assert second[1] == "request"
    assert second[0] != first[0]
    assert leases.reap(300.0) == [replace(died, will_retry=False)]
    assert leases.take(300.0) is None


def test_what_has_ended_is_nobodys_any_more() -> None:
    leases = Leases(10.0)
    leases.offer(0, "request")
    lease, _ = leases.take(0.0) or ("", "")
    assert leases.end(lease) == 0
    assert leases.end(lease) is None
    assert leases.reap(1000.0) == []


def two_tasks() -> tuple[Leases, str, str]:
    """Leases of 10 s for two tasks that are taken at 0 s."""
    leases = Leases(10.0)
    for number in range(2):
        leases.offer(number, "request")
    first, second = leases.take(0.0), leases.take(0.0)
    assert first is not None
    assert second is not None
    return leases, first[0], second[0]


def test_a_folder_is_one_lease_s_at_a_time_and_who_asks_again_still_has_it() -> None:
    leases, first, second = two_tasks()
    assert leases.enter(first, "parents/a")
    assert not leases.enter(second, "parents/a")
    assert leases.enter(second, "parents/b")
    assert leases.enter(first, "parents/a")
    leases.require_turn(first, "parents/a")
    with pytest.raises(
        StudyError, match="parents/a is written by whoever has its turn there, and this is not our turn"
    ):
        leases.require_turn(second, "parents/a")


def test_who_leaves_lets_the_next_in_and_nobody_can_send_another_one_out() -> None:
    leases, first, second = two_tasks()
    leases.enter(first, "parents/a")
    leases.leave(second, "parents/a")
    assert not leases.enter(second, "parents/a")
    leases.leave(first, "parents/a")
    leases.leave(first, "parents/a")
    assert leases.enter(second, "parents/a")
    assert not leases.enter(first, "parents/a")


def test_a_turn_ends_with_its_lease_and_not_a_second_later() -> None:
    leases, first, second = two_tasks()
    leases.enter(first, "parents/a")
    leases.enter(first, "networks/b")
    leases.beat({second: ""}, 9.0)
    assert leases.reap(10.0) == []
    assert not leases.enter(second, "parents/a")
    assert [event.task for event in leases.reap(10.001)] == [0]
    assert leases.enter(second, "parents/a")
    assert leases.enter(second, "networks/b")


def test_a_turn_lasts_as_long_as_its_holder_gives_signs_of_life() -> None:
    leases, first, second = two_tasks()
    leases.enter(first, "parents/a")
    for now_s in (8.0, 16.0, 24.0):
        leases.beat({first: "", second: ""}, now_s)
        assert leases.reap(now_s + 9) == []
        assert not leases.enter(second, "parents/a")


def test_a_task_that_ends_leaves_nothing_behind_it() -> None:
    leases, first, second = two_tasks()
    leases.enter(first, "parents/a")
    leases.end(first)
    assert leases.enter(second, "parents/a")


def test_who_has_lost_its_lease_has_no_turn_any_more_and_gets_none() -> None:
    leases, first, _ = two_tasks()
    leases.enter(first, "parents/a")
    leases.reap(11.0)
    for ask in (leases.enter, leases.require_turn):
        with pytest.raises(StudyError, match="the lease has run out; somebody else has the task"):
            ask(first, "parents/a")
    again = leases.take(11.0)
    assert again is not None
    assert leases.enter(again[0], "parents/a")
    leases.leave(first, "parents/a")
    leases.require_turn(again[0], "parents/a")
