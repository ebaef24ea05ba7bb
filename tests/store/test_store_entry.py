"""Entry questions: who gets what before it is decided, and who decides; on both databases."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import event, text
from store_samples import pair

from heedful.errors import DataError, MissingError
from heedful.store import (
    Store,
    Transaction,
    completions,
    entry,
    extras,
    open_store,
    people,
    projects,
    queue,
    tallies,
    tasks,
)
from heedful.store.extras import Tally
from heedful.store.forget import forget
from heedful.store.migrate import _config
from heedful.store.queue import Assignment, Nothing
from heedful.types import Project, Task, User

NUM_KNOWN = 6
PROJECT = Project(
    dataset="p", title="P", form="pairwise", gold_share=0.0, repeat_share=0.0, qualify_with=5
)


@pytest.fixture
def made(database: str) -> Iterator[tuple[Store, list[Task]]]:
    """Twelve tasks, the right answer to the first six of which is known: their first completion."""
    with open_store(database) as store:
        with store.write() as tx:
            projects.add(tx, PROJECT)
            for name, role in [("a", "annotator"), ("b", "annotator"), ("o", "owner")]:
                people.add(tx, User(id=f"usr_{name}", name=name, role=role))  # type: ignore[arg-type]
            asked = []
            for number in range(12):
                task, sides = pair(number)
                completions.add(tx, sides)
                asked.append(task)
            projects.add_tasks(tx, "p", asked)
            for task in asked[:NUM_KNOWN]:
                known = {"preferred": task.completion_ids[0]}
                extras.set_gold(tx, PROJECT, task.id, known, who="usr_o")
        yield store, asked


def take(store: Store, who: str = "usr_a", count: int = 1) -> list[Assignment] | Nothing:
    with store.write() as tx:
        return queue.lease(tx, "p", who, count=count, rng=random.Random(len(who)))


def say(store: Store, view: Assignment, right: bool, *, who: str = "usr_a", key: str = "") -> None:
    """Answer so that a known answer is hit, or missed: each is its task's first completion."""
    with store.write() as tx:
        ids = sorted(view.shown_order, key=_order(tx, view.task_id).index)
        said = {"preferred": ids[0 if right else 1]}
        key = key or f"{who} {view.task_id}"
        queue.submit(tx, "p", who, view.task_id, said, key=key, seconds=None)


def _order(tx: Transaction, task_id: str) -> tuple[str, ...]:
    return tasks.get(tx, [task_id])[task_id].task.completion_ids


def answer(store: Store, rights: str, *, who: str = "usr_a") -> None:
    """Take and answer one item for every letter: ``r`` right, ``w`` wrong."""
    for letter in rights:
        found = take(store, who)
        assert isinstance(found, list), found
        assert found[0].kind == "gold"
        say(store, found[0], letter == "r", who=who)


def decision(store: Store, who: str = "usr_a") -> tuple[bool | None, str | None]:
    with store.read() as tx:
        row = tallies.participant(tx, "p", who)
    return (None, None) if row is None else (row.is_qualified, row.decided_by)


def test_entry_questions_come_first_and_four_of_five_let_in(made) -> None:
    store, asked = made
    known = {task.id for task in asked[:NUM_KNOWN]}
    found = take(store, count=3)
    assert {one.kind for one in found} == {"gold"}
    assert len({one.task_id for one in found} & known) == 3
    answer(store, "rrwr")
    assert decision(store) == (None, None)
    (last,) = take(store, count=3)  # what is needed until it is decided, and no more
    say(store, last, True)
    assert decision(store) == (True, None)
    with store.read() as tx:
        assert tallies.participant(tx, "p", "usr_a").decided_at is not None
    assert [one.kind for one in take(store, count=3)] == ["answer"] * 3


def test_who_misses_too_many_gets_nothing_more(made) -> None:
    store, _ = made
    answer(store, "rwrwr")
    assert decision(store) == (False, None)
    assert take(store) == Nothing(reason="not_qualified", retry_seconds=None)
    with store.read() as tx:
        assert tallies.read(tx, "p").num_leased == 0


@pytest.mark.parametrize(("at", "is_in"), [(0.6, True), (0.61, False)])
def test_the_share_itself_lets_in(made, at: float, is_in: bool) -> None:
    store, _ = made
    with store.write() as tx:
        projects.change(tx, replace(PROJECT, qualify_at=at))
    answer(store, "rwrwr")
    assert decision(store)[0] is is_in


def test_a_changed_answer_counts_until_it_is_decided_and_never_after(made) -> None:
    store, _ = made
    (first,) = take(store)
    say(store, first, False)
    say(store, first, True, key="again")
    answer(store, "rrw")
    (last,) = take(store)
    say(store, last, True)
    assert decision(store) == (True, None)
    for number, view in enumerate((first, last)):
        say(store, view, False, key=f"later {number}")
    with store.read() as tx:
        assert entry.answered(tx, PROJECT, "usr_a") == Tally(hits=2, trials=5)
    assert decision(store) == (True, None)


def test_too_few_known_answers_say_so_and_let_nobody_in(made) -> None:
    store, _ = made
    with store.write() as tx:
        projects.change(tx, replace(PROJECT, qualify_with=NUM_KNOWN + 2))
        assert entry.num_missing(tx, projects.get(tx, "p")) == 2
    assert take(store) == Nothing(reason="no_entry_questions", retry_seconds=None)
    assert take(store, "usr_o")[0].kind == "answer"  # type: ignore[index]


def test_a_skipped_entry_question_is_replaced_while_there_are_others(made) -> None:
    store, _ = made
    for is_left in (True, False):
        (view,) = take(store)
        with store.write() as tx:
            queue.skip(tx, "p", "usr_a", view.task_id, "not my language")
        assert isinstance(take(store), list) is is_left


def test_what_was_answered_before_the_project_asked_counts(made) -> None:
    store, _ = made
    with store.write() as tx:
        projects.change(tx, replace(PROJECT, qualify_with=6))
    answer(store, "wrrrr")
    with store.write() as tx:
        projects.change(tx, replace(PROJECT, qualify_with=0))
    (view,) = take(store)  # type: ignore[misc]
    say(store, view, True)
    with store.write() as tx:  # a vote on what is known since counts as well
        known = {"preferred": _order(tx, view.task_id)[1]}
        extras.set_gold(tx, PROJECT, view.task_id, known, who="usr_o")
        projects.change(tx, replace(PROJECT, qualify_with=6))
    assert decision(store) == (None, None)
    assert take(store) == Nothing(reason="not_qualified", retry_seconds=None)
    with store.read() as tx:
        assert entry.answered(tx, PROJECT, "usr_a") == Tally(hits=4, trials=6)


def test_ordinary_tasks_held_before_go_back(made) -> None:
    store, _ = made
    with store.write() as tx:
        projects.change(tx, replace(PROJECT, qualify_with=0))
    (held,) = take(store)
    with store.write() as tx:
        projects.change(tx, PROJECT)
    assert take(store)[0].kind == "gold"  # type: ignore[index]
    with store.read() as tx:
        counts = tallies.read(tx, "p")
    assert (counts.num_leased, counts.num_open) == (0, 6)
    say(store, held, True)  # late, and not lost
    with store.read() as tx:
        assert tallies.read(tx, "p").num_done == 1


def test_an_owner_lets_in_and_out_by_hand_and_the_log_tells(made) -> None:
    store, _ = made
    answer(store, "wwwww")
    with store.write() as tx:
        entry.set_by_hand(tx, "p", "usr_a", True, who="usr_o")
        entry.set_by_hand(tx, "p", "usr_b", True, who="usr_o")  # who was never here
    assert decision(store) == (True, "usr_o")
    assert take(store, count=2)[1].kind == "answer"  # type: ignore[index]
    assert take(store, "usr_b")[0].kind == "answer"  # type: ignore[index]
    with store.write() as tx:
        entry.set_by_hand(tx, "p", "usr_a", False, who="usr_o")
        assert tallies.read(tx, "p").num_leased == 1
        log = [(one.what, one.who, one.subject, one.detail) for one in people.history(tx, limit=3)]
    assert take(store).reason == "not_qualified"  # type: ignore[union-attr]
    assert log[::2] == [
        ("kept out of project", "usr_o", "usr_a", {"project": "p"}),
        ("let into project", "usr_o", "usr_a", {"project": "p"}),
    ]
    with store.read() as tx:
        states = {one.name: (one.state, one.tally, one.by) for one in entry.standings(tx, PROJECT)}
    none = Tally(hits=0, trials=0)
    assert states == {
        "a": ("out", Tally(hits=0, trials=5), "usr_o"),
        "b": ("in", none, "usr_o"),
        "o": ("not_asked", none, None),
    }


def test_a_hand_needs_a_project_that_asks_and_a_person_who_is_asked(made) -> None:
    store, _ = made
    with store.write() as tx:
        with pytest.raises(DataError, match="owners are always in"):
            entry.set_by_hand(tx, "p", "usr_o", False, who="usr_o")
        with pytest.raises(MissingError, match="usr_x"):
            entry.set_by_hand(tx, "p", "usr_x", True, who="usr_o")
        projects.change(tx, replace(PROJECT, qualify_with=0))
        with pytest.raises(DataError, match="asks no entry questions"):
            entry.set_by_hand(tx, "p", "usr_a", True, who="usr_o")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"qualify_with": -1}, "0 .none. to 100"),
        ({"qualify_with": 101}, "0 .none. to 100"),
        ({"qualify_at": 0.49}, "choose from 0.5 to 1"),
        ({"qualify_at": 1.01}, "choose from 0.5 to 1"),
        ({"form": "critique", "qualify_with": 1}, "cannot be compared"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, told: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(DataError, match=told):
        projects.check(replace(PROJECT, **settings))


def test_a_lease_costs_one_statement_more_where_it_is_decided_who_is_in(made) -> None:
    store, _ = made
    with store.write() as tx:
        entry.set_by_hand(tx, "p", "usr_a", True, who="usr_o")
    counted = []
    for settings in (replace(PROJECT, qualify_with=0), PROJECT):
        with store.write() as tx:
            projects.change(tx, settings)
        seen: list[str] = []

        def note(*args: object, seen: list[str] = seen) -> None:
            seen.append(str(args[2]))

        event.listen(store.engine, "before_cursor_execute", note)
        (view,) = take(store)  # type: ignore[misc]
        event.remove(store.engine, "before_cursor_execute", note)
        assert view.kind == "answer"
        counted.append(seen)
        with store.write() as tx:
            queue.skip(tx, "p", "usr_a", view.task_id, "no")
    assert len(counted[1]) == len(counted[0]) + 1
    assert not any("golds" in statement for statement in counted[1])


def test_many_tabs_of_one_person_get_no_question_too_many(made) -> None:
    store, _ = made
    found: list[list[Assignment] | Nothing] = []
    threads = [
        threading.Thread(target=lambda: found.append(take(store, count=3))) for _ in range(6)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    given = {view.task_id for views in found for view in views}  # type: ignore[union-attr]
    assert len(found) == 6
    assert len(given) == 3


@pytest.mark.parametrize("how", ["anonymise", "delete"])
def test_forgetting_drops_the_decision_and_the_name_of_who_decided(made, how) -> None:
    store, _ = made
    answer(store, "rrrrr")
    with store.write() as tx:
        people.add(tx, User(id="usr_p", name="Paula", role="owner"))
        entry.set_by_hand(tx, "p", "usr_b", True, who="usr_p")
    forget(store, "a", how, confirm="a", who="usr_o")
    forget(store, "Paula", how, confirm="Paula", who="usr_o")
    with store.read() as tx:
        rows = tx.connection.execute(
            text("select annotator, is_qualified, decided_by, decided_at from participants")
        ).all()
    for row in rows:
        if row.annotator == "usr_b":
            assert row.is_qualified
            assert row.decided_by.startswith(people.GONE)
        else:
            assert (row.is_qualified, row.decided_by, row.decided_at) == (None, None, None)


def test_people_of_an_older_database_are_undecided(empty_database: str) -> None:
    with open_store(empty_database) as store, store.write() as tx:
        config = _config()
        config.attributes["connection"] = tx.connection
        command.downgrade(config, "0008")
        now = "'2026-01-01 00:00:00+00:00'"
        for statement in (
            f"insert into datasets values ('p', {now})",
            "insert into projects (dataset, title, form, overlap, lease_seconds, is_paused,"
            f" settings, created_at) values ('p', 'P', 'pairwise', 1, 60, false, '{{}}', {now})",
            "insert into users (id, name, role, attributes, is_active, created_at)"
            f" values ('usr_a', 'a', 'annotator', '{{}}', true, {now})",
            "insert into participants (project, annotator, num_open, num_leased, num_done,"
            " num_given, num_answered, cursor_turns) values ('p', 'usr_a', 0, 0, 0, 7, 7, 0)",
        ):
            tx.connection.execute(text(statement))
    with open_store(empty_database) as store, store.read() as tx:
        assert projects.get(tx, "p").qualify_with == 0
        row = tallies.participant(tx, "p", "usr_a")
    assert (row.num_given, row.is_qualified, row.decided_at) == (7, None, None)
