"""Two writers of one process, of which one writes while the other commits; on both databases.

PostgreSQL lets the second in as soon as the first has only its commit left.
"""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import event
from store_samples import pair

from heedful.errors import DataError
from heedful.store import Store, Transaction, completions, extras, open_store, people, projects
from heedful.types import Project, Task, User

PROJECT = Project(dataset="p", title="P", form="pairwise")
COMMIT_SECONDS = 0.3
Write = Callable[[Transaction], object]


@pytest.fixture
def studio(database: str) -> Iterator[tuple[Store, Task]]:
    """Two owners and a project of one task."""
    with open_store(database) as store:
        task, sides = pair(0)
        with store.write() as tx:
            for name in ("ada", "ben"):
                people.add(tx, User(id=f"usr_{name}", name=name, role="owner"))
            projects.add(tx, PROJECT)
            completions.add(tx, sides)
            projects.add_tasks(tx, "p", [task])
        yield store, task


def write_both(store: Store, first: Write, second: Write) -> list[Exception]:
    """What was refused of two writes, where the second begins in the commit of the first."""
    is_committing, refused = threading.Event(), list[Exception]()

    def commit(_: object) -> None:
        if not is_committing.is_set():
            is_committing.set()
            time.sleep(COMMIT_SECONDS)

    def write(what: Write) -> None:
        try:
            with store.write() as tx:
                what(tx)
        except DataError as error:
            refused.append(error)

    event.listen(store.engine, "commit", commit)
    threads = [threading.Thread(target=write, args=[one]) for one in (first, second)]
    threads[0].start()
    assert is_committing.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join(10)
    event.remove(store.engine, "commit", commit)
    return refused


def test_guidelines_that_two_write_at_once_are_two_versions(studio: tuple[Store, Task]) -> None:
    store, _ = studio

    def writes(text: str, author: str) -> Write:
        return lambda tx: projects.write_guideline(tx, "p", text, author=author)

    write_both(store, writes("Be kind.", "usr_ada"), writes("Be brief.", "usr_ben"))
    with store.read() as tx:
        found = [projects.guideline(tx, "p", version) for version in (1, 2)]
    assert [one.text for one in found] == ["Be kind.", "Be brief."]


@pytest.mark.parametrize("left", [{"role": "reader"}, {"is_active": False}])
def test_two_owners_who_demote_each_other_leave_one(
    studio: tuple[Store, Task], left: dict[str, object]
) -> None:
    store, _ = studio

    def demotes(who: str) -> Write:
        return lambda tx: people.change(tx, who, **left)

    (refused,) = write_both(store, demotes("usr_ada"), demotes("usr_ben"))
    assert "the last owner cannot leave" in str(refused)


def test_of_two_known_answers_said_at_once_the_later_one_stands(
    studio: tuple[Store, Task],
) -> None:
    store, task = studio

    def knows(side: int, who: str) -> Write:
        payload = {"preferred": task.completion_ids[side]}
        return lambda tx: extras.set_gold(tx, PROJECT, task.id, payload, who=who)

    write_both(store, knows(0, "usr_ada"), knows(1, "usr_ben"))
    with store.read() as tx:
        (gold,) = extras.golds(tx, "p")
    assert (gold.payload["preferred"], gold.author) == (task.completion_ids[1], "usr_ben")
