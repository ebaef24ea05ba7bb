"""Disagreements and adjudications; on both databases."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_samples import pair

from heedful.data.snapshot import read_snapshot
from heedful.errors import DataError, MissingError
from heedful.jobs.snapshot import make_snapshot
from heedful.store import Store, completions, disputes, open_store, people, projects, queue, tallies
from heedful.types import Preference, Project, Task, User


@pytest.fixture
def studio(database: str) -> Iterator[Store]:
    with open_store(database) as store:
        yield store


def fill(store: Store) -> Task:
    """One task, wanted from two people."""
    task, sides = pair(0)
    with store.write() as tx:
        projects.add(tx, Project(dataset="p", title="P", form="pairwise", overlap=2))
        for name in "abr":
            people.add(tx, User(id=f"usr_{name}", name=name, role="reviewer"))
        completions.add(tx, sides)
        projects.add_tasks(tx, "p", [task])
    return task


def say(store: Store, who: str, task: Task, side: int, key: str) -> None:
    with store.write() as tx:
        said = {"preferred": task.completion_ids[side]}
        queue.submit(tx, "p", who, task.id, said, key=key, seconds=None)


def vote(store: Store, who: str, task: Task, side: int) -> None:
    with store.write() as tx:
        assert isinstance(queue.lease(tx, "p", who, count=1, rng=random.Random(0)), list)
    say(store, who, task, side, who)


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
