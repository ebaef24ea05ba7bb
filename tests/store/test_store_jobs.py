"""Jobs and their leases, on both databases, with a clock that is passed in."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heedful.errors import DataError, MissingError
from heedful.store import Store, jobs, open_store

KINDS = ("fit", "ask")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, time: timedelta) -> None:
        self.now += time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(database: str, clock: Clock) -> Iterator[Store]:
    with open_store(database, clock=clock) as opened:
        yield opened


def add(store: Store, key: str = "k", kind: str = "fit") -> str:
    with store.write() as tx:
        return jobs.add(tx, kind, {"name": key}, who="usr_o", key=key)


def claim(store: Store, worker: str) -> jobs.Job | None:
    with store.write() as tx:
        return jobs.claim(tx, worker, KINDS)


def do(store: Store, action: Callable[..., Any], *values: Any) -> Any:
    with store.write() as tx:
        return action(tx, *values)


def get(store: Store, job: str) -> jobs.Job:
    with store.read() as tx:
        return jobs.get(tx, job)


def test_the_same_key_queues_a_job_once(timed: Store) -> None:
    assert add(timed, "a") == add(timed, "a")
    assert add(timed, "b") != add(timed, "a")
    with timed.read() as tx:
        assert len(jobs.newest(tx, limit=9, kinds=KINDS)) == 2


def test_jobs_are_done_once_each_in_the_order_they_were_asked_for(
    timed: Store, clock: Clock
) -> None:
    wanted = []
    for key in "abc":
        wanted.append(add(timed, key))
        clock.pass_(timedelta(seconds=1))
    add(timed, "other", kind="unknown")
    taken = [claim(timed, "w") for _ in range(4)]
    assert [one.id if one else None for one in taken] == [*wanted, None]
    assert do(timed, jobs.finish, wanted[0], "w", {"model": "m"})
    done = get(timed, wanted[0])
    assert (done.state, done.result, done.attempts) == ("finished", {"model": "m"}, 1)
    with timed.read() as tx:
        assert not jobs.is_due(tx, KINDS)


def test_of_many_workers_that_claim_at_once_each_gets_its_own(store: Store) -> None:
    made = {add(store, f"{number}") for number in range(8)}
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: claim(store, f"w{number}"), range(12)))
    got = [one.id for one in taken if one is not None]
    # with SKIP LOCKED a claimer may find everything locked and come back
    while (late := claim(store, "late")) is not None:
        got.append(late.id)
    assert sorted(got) == sorted(made)


def test_a_dead_workers_job_goes_to_the_next_and_the_dead_one_can_write_nothing(
    timed: Store, clock: Clock
) -> None:
    job = add(timed)
    claim(timed, "first")
    clock.pass_(jobs.LEASE - timedelta(seconds=1))
    assert do(timed, jobs.beat, job, "first", {"out": "/runs/1"})
    clock.pass_(jobs.LEASE - timedelta(seconds=1))
    assert claim(timed, "second") is None  # the heartbeat renewed the lease
    clock.pass_(timedelta(seconds=2))
    taken = claim(timed, "second")
    assert taken is not None
    assert (taken.attempts, taken.progress) == (2, {"out": "/runs/1"})
    assert not do(timed, jobs.beat, job, "first")
    assert not do(timed, jobs.finish, job, "first", {"model": "wrong"})
    assert do(timed, jobs.finish, job, "second", {"model": "right"})
    assert get(timed, job).result == {"model": "right"}


def test_a_job_that_kills_its_workers_is_not_tried_for_ever(timed: Store, clock: Clock) -> None:
    job = add(timed)
    for number in range(jobs.MAX_ATTEMPTS):
        assert claim(timed, f"w{number}") is not None
        clock.pass_(jobs.LEASE + timedelta(seconds=1))
    assert claim(timed, "last") is None
    ended = get(timed, job)
    assert ended.state == "failed"
    assert "3 workers died" in ended.error


def test_a_worker_that_leaves_in_order_costs_no_attempt(timed: Store) -> None:
    job = add(timed)
    for _ in range(2 * jobs.MAX_ATTEMPTS):
        assert claim(timed, "w") is not None
        assert do(timed, jobs.give_back, job, "w")
    assert (get(timed, job).state, get(timed, job).attempts) == ("waiting", 0)


def test_a_waiting_job_is_cancelled_and_a_running_one_is_told_to_stop(timed: Store) -> None:
    first, second = add(timed, "a"), add(timed, "b")
    running = claim(timed, "w")
    assert running is not None
    other = second if running.id == first else first
    assert do(timed, jobs.cancel, other) == "cancelled"
    assert do(timed, jobs.cancel, running.id) == "running"
    assert not do(timed, jobs.beat, running.id, "w")
    assert do(timed, jobs.stop, running.id, "w")
    assert get(timed, running.id).state == "cancelled"
    with pytest.raises(DataError, match="is cancelled; only waiting and running"):
        do(timed, jobs.cancel, running.id)
    with pytest.raises(MissingError):
        do(timed, jobs.cancel, "job_none")


def test_a_cancelled_job_whose_worker_died_stays_cancelled(timed: Store, clock: Clock) -> None:
    job = add(timed)
    claim(timed, "w")
    do(timed, jobs.cancel, job)
    clock.pass_(jobs.LEASE + timedelta(seconds=1))
    assert claim(timed, "next") is None
    assert get(timed, job).state == "cancelled"


def test_a_failure_keeps_its_reason(timed: Store) -> None:
    job = add(timed)
    claim(timed, "w")
    assert do(timed, jobs.fail, job, "w", "data set 'x' is not in the store")
    assert (get(timed, job).state, get(timed, job).error) == (
        "failed",
        "data set 'x' is not in the store",
    )


def test_the_list_is_paged_newest_first(timed: Store, clock: Clock) -> None:
    made = []
    for key in "abcd":
        made.append(add(timed, key))
        clock.pass_(timedelta(seconds=1))
    with timed.read() as tx:
        first = jobs.newest(tx, limit=3, kinds=KINDS)
        rest = jobs.newest(tx, limit=3, kinds=KINDS, before=first[-1].id)
    assert [one.id for one in [*first, *rest]] == made[::-1]


def test_a_worker_is_missing_when_a_job_waits_and_none_is_done(timed: Store, clock: Clock) -> None:
    assert not do(timed, jobs.lacks_worker)
    add(timed, "a")
    add(timed, "b")
    assert not do(timed, jobs.lacks_worker)  # a worker may be about to take it
    clock.pass_(jobs.PATIENCE + timedelta(seconds=1))
    assert do(timed, jobs.lacks_worker)
    claim(timed, "w")
    assert not do(timed, jobs.lacks_worker)  # "b" waits for its turn
    clock.pass_(jobs.LEASE + timedelta(seconds=1))
    assert do(timed, jobs.lacks_worker)  # the worker is gone
