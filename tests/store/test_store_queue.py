"""Leases, answers and skips; every test on both databases."""

import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from store_samples import pair

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import (
    Store,
    completions,
    datasets,
    open_store,
    people,
    projects,
    queue,
    tasks,
    undo,
)
from heedful.store.queue import Nothing
from heedful.types import Project, Task, User
from heedful.web.fields import with_completions

PROJECT = Project(dataset="support", title="Support", form="pairwise", overlap=2)


class Clock:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def studio(database: str, clock: Clock) -> Store:
    with open_store(database, clock=clock) as store:
        fill(store)
        yield store


def fill(store: Store, *, num_tasks: int = 4, people_named: str = "abcdefgh") -> list[Task]:
    made = []
    with store.write() as tx:
        projects.add(tx, PROJECT)
        for number in range(num_tasks):
            task, sides = pair(number)
            completions.add(tx, sides)
            made.append(replace(task, priority=float(-number)))
        projects.add_tasks(tx, "support", made)
        for name in people_named:
            people.add(tx, User(id=f"usr_{name}", name=name, role="annotator"))
    return made


def take(store: Store, who: str, count: int = 1) -> list[queue.Assignment] | Nothing:
    with store.write() as tx:
        return queue.lease(tx, "support", f"usr_{who}", count=count, rng=random.Random(0))


def answer(store: Store, who: str, task_id: str, key: str, side: int = 0) -> queue.Receipt:
    with store.write() as tx:
        order = queue.get(tx, "support", f"usr_{who}", task_id).shown_order
        return queue.submit(
            tx, "support", f"usr_{who}", task_id, {"preferred": order[side]}, key=key, seconds=3.0
        )


def test_the_most_urgent_task_comes_first_and_every_annotator_gets_it_once(studio: Store) -> None:
    first = take(studio, "a")
    assert isinstance(first, list)
    assert take(studio, "a") == first
    second = take(studio, "b")
    assert isinstance(second, list)
    assert second[0].task_id == first[0].task_id
    third = take(studio, "c")
    assert isinstance(third, list)
    assert third[0].task_id != first[0].task_id


def test_an_expired_lease_goes_to_somebody_else(studio: Store, clock: Clock) -> None:
    mine, other = take(studio, "a"), take(studio, "b")
    assert isinstance(mine, list)
    assert isinstance(other, list)
    clock.now += timedelta(seconds=PROJECT.lease_seconds + 1)
    again = take(studio, "c")
    assert isinstance(again, list)
    assert again[0].task_id == mine[0].task_id


def test_a_heartbeat_keeps_a_lease(studio: Store, clock: Clock) -> None:
    (mine,) = take(studio, "a")
    take(studio, "b")
    for _ in range(5):
        clock.now += timedelta(seconds=PROJECT.lease_seconds - 1)
        with studio.write() as tx:
            assert queue.extend(tx, "support", "usr_a") is not None
    (theirs,) = take(studio, "c")
    (fresh,) = take(studio, "d")
    assert theirs.task_id == mine.task_id  # b left, so b's slot is free
    assert fresh.task_id != mine.task_id
    clock.now += timedelta(seconds=PROJECT.lease_seconds + 1)
    with studio.write() as tx:
        assert queue.extend(tx, "support", "usr_a") is None


def test_the_same_key_stores_an_answer_once(studio: Store) -> None:
    (mine,) = take(studio, "a")
    first = answer(studio, "a", mine.task_id, "k1")
    assert answer(studio, "a", mine.task_id, "k1") == first
    assert first.revision == 0
    assert count(studio, "annotations") == 1


def test_the_same_key_with_another_judgement_is_refused(studio: Store) -> None:
    (mine,) = take(studio, "a")
    answer(studio, "a", mine.task_id, "k1")
    with pytest.raises(DataError, match="another judgement"):
        answer(studio, "a", mine.task_id, "k1", side=1)
    assert count(studio, "annotations") == 1


def test_a_key_of_another_answer_is_refused(studio: Store) -> None:
    one, two = take(studio, "a", count=2)
    answer(studio, "a", one.task_id, "k1")
    with pytest.raises(DataError, match="belongs to another answer"):
        answer(studio, "a", two.task_id, "k1")
    assert count(studio, "annotations") == 1


def test_a_changed_answer_is_a_new_revision_and_takes_no_second_slot(studio: Store) -> None:
    (mine,) = take(studio, "a")
    answer(studio, "a", mine.task_id, "k1")
    with studio.read() as tx:
        assert undo.recent(tx, "support", "usr_a") == [(mine.task_id, 0)]
    changed = answer(studio, "a", mine.task_id, "k2", side=1)
    assert (changed.revision, changed.is_surplus) == (1, False)
    with studio.read() as tx:
        assert queue.progress(tx, "support", "usr_a").num_done == 1
    assert count(studio, "annotations") == 2


def test_an_answer_after_its_slot_was_given_away_is_kept_as_surplus(
    studio: Store, clock: Clock
) -> None:
    (late,) = take(studio, "a")
    clock.now += timedelta(seconds=PROJECT.lease_seconds + 1)
    for who in "bc":
        (other,) = take(studio, who)
        assert other.task_id == late.task_id
        assert not answer(studio, who, other.task_id, f"key {who}").is_surplus
    assert answer(studio, "a", late.task_id, "key a").is_surplus
    assert count(studio, "annotations") == 3


def test_a_late_answer_takes_the_slot_when_it_is_still_free(studio: Store, clock: Clock) -> None:
    (late,) = take(studio, "a")
    clock.now += timedelta(seconds=PROJECT.lease_seconds + 1)
    assert not answer(studio, "a", late.task_id, "k").is_surplus
    with studio.read() as tx:
        assert queue.progress(tx, "support", "usr_a").num_done == 1


def test_a_refused_answer_stores_nothing_and_keeps_the_lease(studio: Store) -> None:
    (mine,) = take(studio, "a")
    with studio.write() as tx:
        queue.save_draft(tx, "support", "usr_a", mine.task_id, {"preferred": "half"})
    with pytest.raises(DataError, match="choose from"), studio.write() as tx:
        queue.submit(
            tx, "support", "usr_a", mine.task_id, {"preferred": "x"}, key="k", seconds=None
        )
    assert count(studio, "annotations") == 0
    assert count(studio, "submissions") == 0
    (still,) = take(studio, "a")
    assert still.task_id == mine.task_id
    assert still.draft == {"preferred": "half"}
    answer(studio, "a", mine.task_id, "k")
    with studio.read() as tx:
        assert queue.get(tx, "support", "usr_a", mine.task_id).draft is None


WRONG = {
    "pairwise": [{"preferred": "7"}, {"preferred": "cmp_f"}, {"preferred": None, "strength": 2}],
    "ranking": [{"ranks": [["0"]]}, {"ranks": [["7"], ["0", "1"]]}, {"ranks": [["0"], ["0", "1"]]}],
    "rating": [{"ratings": {"0": {"zzz": 5}}}, {"ratings": {"7": {"kind": 5}}}],
    "flags": [{"flags": {"7": {}}}, {"flags": {"0": {"bias": {"severity": 9}}}}],
    "demonstration": [{"accepted": "7"}, {"accepted": "0", "written": "both"}],
    "critique": [{"critique": ""}],
    "steps": [{"labels": [1, 1, 1]}, {"labels": [7]}],
}


@pytest.mark.parametrize("form", list(FORMS))
def test_no_refusal_names_answers_by_ids_in_which_authors_could_be_guessed(
    form: str, studio: Store
) -> None:
    task, sides = pair(9)
    shown = task.completion_ids[: FORMS[form].num_completions[0]]
    criteria = ("kind",) if form == "rating" else ()
    with studio.write() as tx:
        projects.add(tx, Project(dataset="other", title="Other", form=form, criteria=criteria))
        completions.add(tx, sides)
        asked = Task(form=form, prompt=task.prompt, completion_ids=shown)
        projects.add_tasks(tx, "other", [asked])
    with studio.write() as tx:
        queue.lease(tx, "other", "usr_a", count=1, rng=random.Random(0))
        order = queue.get(tx, "other", "usr_a", asked.id).shown_order
    for payload in WRONG[form]:
        with pytest.raises(DataError) as error, studio.write() as tx:
            queue.submit(
                tx, "other", "usr_a", asked.id, with_completions(payload, order), key="k",
                seconds=None,
            )  # fmt: skip
        assert not re.search("(cmp|ann)_", str(error.value)), str(error.value)
    assert count(studio, "annotations") == 0


def test_a_task_that_was_never_given_cannot_be_answered(studio: Store) -> None:
    (mine,) = take(studio, "a")
    with pytest.raises(MissingError, match="not given to you"):
        answer(studio, "b", mine.task_id, "k")


def test_a_skipped_task_goes_back_and_never_returns(studio: Store) -> None:
    (mine,) = take(studio, "a")
    with studio.write() as tx:
        queue.skip(tx, "support", "usr_a", mine.task_id, "not my language")
    (other,) = take(studio, "a")
    assert other.task_id != mine.task_id
    for who in "bc":
        (theirs,) = take(studio, who)
        assert theirs.task_id == mine.task_id


@pytest.mark.parametrize(
    ("prepare", "reason", "asks_again"),
    [
        ("empty", "no_tasks", False),
        ("paused", "paused", False),
        ("done", "all_done", False),
        ("leased", "all_leased", True),
        ("mine", "answered_all_open", True),
    ],
)
def test_no_work_always_says_why(
    studio: Store, prepare: str, reason: str, asks_again: bool
) -> None:
    who = "h"
    if prepare == "empty":
        with studio.write() as tx:
            projects.add(tx, replace(PROJECT, dataset="other"))
            found = queue.lease(tx, "other", "usr_h", count=1, rng=random.Random(0))
    else:
        if prepare == "paused":
            with studio.write() as tx:
                projects.change(tx, replace(PROJECT, is_paused=True))
        if prepare in ("done", "leased"):
            for other in "ab":
                for one in take(studio, other, count=4):
                    if prepare == "done":
                        answer(studio, other, one.task_id, f"{other} {one.task_id}")
        if prepare == "mine":
            for one in take(studio, who, count=4):
                answer(studio, who, one.task_id, one.task_id)
        found = take(studio, who)
    assert isinstance(found, Nothing)
    assert (found.reason, found.retry_seconds is not None) == (reason, asks_again)


def test_order_is_drawn_per_annotator_and_stays(studio: Store) -> None:
    orders = set()
    for seed, who in enumerate(("usr_a", "usr_b")):
        with studio.write() as tx:
            found = queue.lease(tx, "support", who, count=4, rng=random.Random(seed))
        assert isinstance(found, list)
        assert len(found) == 4
        with studio.read() as tx:
            again = [queue.get(tx, "support", who, one.task_id) for one in found]
        assert [one.shown_order for one in again] == [one.shown_order for one in found]
        orders |= {(one.task_id, one.shown_order) for one in found}
    by_task = Counter(task for task, _ in orders)
    assert max(by_task.values()) == 2  # drawn apart: some pair lies the other way round


def test_adding_tasks_twice_makes_no_second_slot(studio: Store) -> None:
    with studio.write() as tx:
        asked = [one.task for one in tasks.by_dataset(tx, "support")]
        assert projects.add_tasks(tx, "support", asked) == 0
        assert queue.progress(tx, "support", "usr_a").num_slots == 4 * PROJECT.overlap
        assert datasets.count_items(tx)["support"] == 4


def test_many_at_once_never_share_a_slot_and_lose_nothing(database: str) -> None:
    with open_store(database) as store:
        fill(store, num_tasks=12)

        def work(who: str) -> int:
            done = 0
            while True:
                found = take(store, who, count=3)
                if isinstance(found, Nothing):
                    if found.reason in ("all_done", "answered_all_open"):
                        return done
                    continue
                for one in found:
                    receipt = answer(store, who, one.task_id, f"{who} {one.task_id}")
                    assert not receipt.is_surplus
                    done += 1

        with ThreadPoolExecutor(6) as pool:
            answered = sum(pool.map(work, "abcdef"))
        with store.read() as tx:
            state = queue.progress(tx, "support", "usr_a")
        assert answered == state.num_done == 12 * PROJECT.overlap == count(store, "annotations")
        with store.read() as tx:
            most = tx.connection.scalar(
                text("select max(n) from (select count(*) n from annotations group by task_id) t")
            )
        assert most == PROJECT.overlap


def count(store: Store, table: str) -> int:
    with store.read() as tx:
        found: int = tx.connection.scalar(text(f"select count(*) from {table}"))
        return found
