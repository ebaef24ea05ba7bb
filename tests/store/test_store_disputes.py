"""Disagreements and adjudications; on both databases."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from store_samples import pair, prefer

from heedful.data.snapshot import read_snapshot
from heedful.errors import DataError, MissingError
from heedful.jobs.snapshot import make_snapshot
from heedful.store import (
    Store,
    annotations,
    completions,
    disputes,
    items,
    open_store,
    people,
    projects,
    queue,
    tables,
    tallies,
)
from heedful.types import Preference, Project, Task, User


@pytest.fixture
def studio(database: str) -> Iterator[Store]:
    with open_store(database) as store:
        yield store


def fill(store: Store, *, overlap: int = 2) -> Task:
    """One task, wanted from some people."""
    task, sides = pair(0)
    with store.write() as tx:
        projects.add(tx, Project(dataset="p", title="P", form="pairwise", overlap=overlap))
        for name in "abrz":
            people.add(tx, User(id=f"usr_{name}", name=name, role="reviewer"))
        completions.add(tx, sides)
        projects.add_tasks(tx, "p", [task])
    return task


def say(
    store: Store, who: str, task: Task, side: int, key: str, *, round: int | None = None
) -> queue.Receipt:
    with store.write() as tx:
        said = {"preferred": task.completion_ids[side]}
        return queue.submit(tx, "p", who, task.id, said, key=key, seconds=None, round=round)


def lease(store: Store, who: str) -> list[queue.Assignment]:
    with store.write() as tx:
        found = queue.lease(tx, "p", who, count=3, rng=random.Random(0))
    return found if isinstance(found, list) else []


def take(store: Store, who: str, task: Task, seed: int = 0) -> queue.Assignment:
    with store.write() as tx:
        return queue.adjudicate(tx, "p", who, task.id, rng=random.Random(seed))


def vote(store: Store, who: str, task: Task, side: int) -> None:
    assert lease(store, who)
    say(store, who, task, side, who)


def recounted(store: Store) -> bool:
    """Are the counts of the project's slots those of its rows?"""
    with store.read() as tx:
        there = Counter(tx.connection.scalars(select(tables.slots.c.state)))
        counts = tallies.read(tx, "p")
    kept = (counts.num_open, counts.num_leased, counts.num_done)
    return kept == (there["open"], there["leased"], there["done"])


def open_disputes(store: Store) -> list[str]:
    with store.read() as tx:
        found = disputes.disputed(tx, "p", limit=9)
        assert len(found) == disputes.count(tx, "p")
    return found


def test_a_task_is_in_dispute_while_its_answers_differ(studio: Store) -> None:
    task = fill(studio)
    vote(studio, "usr_a", task, 0)
    assert open_disputes(studio) == []
    vote(studio, "usr_b", task, 1)
    assert open_disputes(studio) == [task.id]
    say(studio, "usr_b", task, 0, "changed")
    assert open_disputes(studio) == []


def test_an_adjudication_outranks_the_votes_and_keeps_them(studio: Store, tmp_path: Path) -> None:
    task = fill(studio)
    vote(studio, "usr_a", task, 0)
    vote(studio, "usr_b", task, 1)
    with studio.write() as tx:
        view = queue.adjudicate(tx, "p", "usr_r", task.id, rng=random.Random(0))
        assert view.kind == "adjudication"
        assert queue.adjudicate(tx, "p", "usr_r", task.id, rng=random.Random(1)) == view
        before = tallies.read(tx, "p")
    say(studio, "usr_r", task, 1, "ruling")
    assert open_disputes(studio) == []
    with studio.read() as tx:
        assert tallies.read(tx, "p") == before
        (one,) = disputes.settled(tx, "p", "usr_r", limit=5)
    assert {vote.annotator for vote in one.votes} == {"usr_a", "usr_b"}
    assert one.adjudication.payload["preferred"] == task.completion_ids[1]
    made = make_snapshot(studio, "p", "preference", tmp_path)
    (row,) = read_snapshot(made.path)
    assert isinstance(row, Preference)
    assert row.annotation_ids == (one.adjudication.id,)
    assert made.drops == {"adjudicated": 2}


def test_a_reviewer_who_voted_can_settle_and_change_the_ruling(studio: Store) -> None:
    task = fill(studio)
    vote(studio, "usr_r", task, 0)
    vote(studio, "usr_b", task, 1)
    with studio.write() as tx:
        queue.adjudicate(tx, "p", "usr_r", task.id, rng=random.Random(0))
    say(studio, "usr_r", task, 1, "ruling")
    say(studio, "usr_r", task, 0, "other ruling")
    with studio.read() as tx:
        (one,) = disputes.settled(tx, "p", "usr_r", limit=5)
    assert one.adjudication.payload["preferred"] == task.completion_ids[0]
    assert {vote.annotator for vote in one.votes} == {"usr_r", "usr_b"}


def test_only_a_task_in_dispute_can_be_taken(studio: Store) -> None:
    task = fill(studio)
    vote(studio, "usr_a", task, 0)
    with studio.write() as tx, pytest.raises(DataError, match="nobody disagrees"):
        queue.adjudicate(tx, "p", "usr_r", task.id, rng=random.Random(0))
    with studio.write() as tx, pytest.raises(MissingError, match="not in project"):
        queue.adjudicate(tx, "p", "usr_r", "tsk_none", rng=random.Random(0))


def test_a_reviewer_who_holds_a_task_settles_it_and_is_done_with_it(studio: Store) -> None:
    task = fill(studio, overlap=3)
    assert lease(studio, "usr_r")
    vote(studio, "usr_a", task, 0)
    vote(studio, "usr_b", task, 1)
    ruling = take(studio, "usr_r", task)
    assert [(view.kind, view.round) for view in lease(studio, "usr_r")] == [("adjudication", 2)]
    say(studio, "usr_r", task, 0, "ruling", round=ruling.round)
    assert lease(studio, "usr_r") == []
    assert [view.task_id for view in lease(studio, "usr_z")] == [task.id]
    assert recounted(studio)


def test_whoever_settles_a_task_is_not_handed_a_slot_of_it(studio: Store) -> None:
    task = fill(studio, overlap=3)
    vote(studio, "usr_a", task, 0)
    vote(studio, "usr_b", task, 1)
    take(studio, "usr_r", task)
    assert [view.round for view in lease(studio, "usr_r")] == [2]
    with studio.read() as tx:
        assert tallies.read(tx, "p").num_open == 1


def test_each_round_of_a_task_has_its_order_draft_and_answer(studio: Store) -> None:
    task = fill(studio, overlap=3)
    (first,) = lease(studio, "usr_r")
    vote(studio, "usr_a", task, 0)
    vote(studio, "usr_b", task, 1)
    ruling = take(studio, "usr_r", task)
    with studio.write() as tx:
        queue.save_draft(tx, "p", "usr_r", task.id, {"comment": "vote"}, round=0)
        queue.save_draft(tx, "p", "usr_r", task.id, {"comment": "ruling"}, round=2)
        views = [queue.get(tx, "p", "usr_r", task.id, round=n) for n in (0, 2)]
        assert [view.draft for view in views] == [{"comment": "vote"}, {"comment": "ruling"}]
        assert [view.shown_order for view in views] == [first.shown_order, ruling.shown_order]
        assert queue.get(tx, "p", "usr_r", task.id).round == 2
        with pytest.raises(MissingError, match="not given to you"):
            queue.get(tx, "p", "usr_r", task.id, round=1)
    say(studio, "usr_r", task, 1, "late vote", round=0)
    say(studio, "usr_r", task, 0, "ruling", round=2)
    with studio.read() as tx:
        kinds = ("answer", "adjudication")
        said = annotations.latest(tx, [task.id], kinds)
        mine = {one.kind: one.payload["preferred"] for one in said if one.annotator == "usr_r"}
        assert mine == dict(zip(kinds, reversed(task.completion_ids), strict=True))
    assert recounted(studio)


def test_of_two_reviewers_the_second_is_told_that_the_task_is_settled(studio: Store) -> None:
    task = fill(studio)
    vote(studio, "usr_a", task, 0)
    vote(studio, "usr_b", task, 1)
    take(studio, "usr_r", task)
    take(studio, "usr_z", task)
    say(studio, "usr_z", task, 1, "first")
    with pytest.raises(DataError, match=r"somebody has settled it; .* skip the task"):
        say(studio, "usr_r", task, 0, "second")
    assert say(studio, "usr_z", task, 0, "changed").revision == 1
    with studio.write() as tx:
        queue.skip(tx, "p", "usr_r", task.id, "settled")
    assert lease(studio, "usr_r") == []


def test_the_newest_ruling_stands_in_snapshots_and_exports(studio: Store, tmp_path: Path) -> None:
    """Two of them can be imported; the one whose reviewer's name comes first is the newer one."""
    task = fill(studio)
    vote(studio, "usr_a", task, 0)
    vote(studio, "usr_b", task, 1)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    old, new = (
        replace(prefer(task, side, annotator=who), kind="adjudication")
        for side, who in ((1, "usr_z"), (0, "usr_r"))
    )
    with studio.write() as tx:
        annotations.add(tx, [old, new], times={old.id: noon, new.id: noon + timedelta(days=1)})
    with studio.read() as tx:
        (item,) = items.stream(tx, "p")
    assert item.newest == (new,)
    made = make_snapshot(studio, "p", "preference", tmp_path)
    (row,) = read_snapshot(made.path)
    assert isinstance(row, Preference)
    assert row.annotation_ids == (new.id,)
    assert made.drops == {"adjudicated": 3}


def test_a_vote_that_is_changed_after_the_ruling_does_not_undo_it(studio: Store) -> None:
    task = fill(studio)
    vote(studio, "usr_r", task, 0)
    vote(studio, "usr_b", task, 1)
    take(studio, "usr_r", task)
    say(studio, "usr_r", task, 1, "ruling")
    say(studio, "usr_r", task, 0, "vote", round=0)
    assert open_disputes(studio) == []
