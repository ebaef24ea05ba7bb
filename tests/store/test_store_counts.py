"""What the queue keeps instead of counting and searching equals a recount; on both databases."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import select, text
from store_samples import pair

from heedful.store import (
    Store,
    completions,
    disputes,
    open_store,
    people,
    picking,
    projects,
    queue,
    tables,
    tallies,
    undo,
)
from heedful.store.migrate import _config
from heedful.store.queue import Nothing
from heedful.types import Project, User

PEOPLE = [f"usr_{name}" for name in "abcde"]
SLOTS, ASSIGNMENTS = tables.slots.c, tables.assignments.c


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
def studio(database: str, clock: Clock) -> Iterator[Store]:
    with open_store(database, clock=clock) as store:
        with store.write() as tx:
            for name in PEOPLE:
                people.add(tx, User(id=name, name=name, role="annotator"))
        yield store


def fill(store: Store, name: str, *, overlap: int, numbers: range, priorities: int) -> None:
    with store.write() as tx:
        made = []
        for number in numbers:
            task, sides = pair(number)
            completions.add(tx, sides)
            made.append(replace(task, priority=float(number % priorities)))
        known = {one.dataset for one in projects.list_all(tx)}
        if name not in known:
            projects.add(tx, Project(dataset=name, title=name, form="pairwise", overlap=overlap))
        projects.add_tasks(tx, name, made)


def recount(store: Store, project: str) -> tallies.Counts:
    with store.read() as tx:
        states = Counter(tx.connection.scalars(select(SLOTS.state).where(SLOTS.project == project)))
    return tallies.Counts(
        num_open=states["open"], num_leased=states["leased"], num_done=states["done"]
    )


def eligible(store: Store, project: str, who: str) -> dict[str, float]:
    """Every task that a person could take, by the definition, with its priority."""
    with store.read() as tx:
        slots = tx.connection.execute(select(tables.slots).where(SLOTS.project == project)).all()
        done = set(
            tx.connection.scalars(
                select(ASSIGNMENTS.task_id).where(
                    ASSIGNMENTS.project == project,
                    ASSIGNMENTS.annotator == who,
                    ASSIGNMENTS.state != "open",
                )
            )
        )
        now = tx.now
    taken = {one.task_id for one in slots if one.holder == who and not expired(one, now)}
    return {
        one.task_id: -one.urgency
        for one in slots
        if (one.state == "open" or expired(one, now)) and one.task_id not in done | taken
    }


def expired(slot: object, now: datetime) -> bool:
    return slot.state == "leased" and slot.until < now  # type: ignore[attr-defined]


def act(store: Store, project: str, who: str, rng: random.Random, clock: Clock) -> None:
    """One random thing that a person does; what a lease gives is checked against the definition."""
    could = eligible(store, project, who)
    with store.write() as tx:
        held = {view.task_id for view in queue._held(tx, project, who, clock.now)}
        before = held - could.keys()  # a lease that ran out is given anew, in its turn
        found = queue.lease(tx, project, who, count=rng.choice((1, 1, 3)), rng=rng)
    views = [] if isinstance(found, Nothing) else found
    for view in views:
        if view.kind == "answer" and view.task_id not in before:
            assert could[view.task_id] == max(could.values())
            del could[view.task_id]
    if not views:
        assert not could
        return
    deed, view = rng.random(), rng.choice(views)
    with store.write() as tx:
        if deed < 0.15:
            queue.skip(tx, project, who, view.task_id, "no")
        elif deed < 0.75:
            side = {"preferred": rng.choice(view.shown_order)}
            for _ in range(rng.choice((1, 1, 2))):
                key = str(rng.random())
                queue.submit(tx, project, who, view.task_id, side, key=key, seconds=None)
        elif deed < 0.85:
            queue.extend(tx, project, who)
    if deed > 0.93:
        clock.now += timedelta(seconds=rng.choice((100, 601)))


@pytest.mark.parametrize("seed", range(4))
def test_counts_and_order_equal_their_definition_after_any_history(
    studio: Store, clock: Clock, seed: int
) -> None:
    rng = random.Random(seed)
    overlap, priorities = (2, 3, 2, 1)[seed], (1, 3, 2, 2)[seed]
    fill(studio, "p", overlap=overlap, numbers=range(8), priorities=priorities)
    for step in range(120):
        act(studio, "p", rng.choice(PEOPLE), rng, clock)
        if step % 40 == 20:
            numbers = range(8 + step, 11 + step)
            fill(studio, "p", overlap=overlap, numbers=numbers, priorities=priorities)
        if step % 5 == 0:
            with studio.read() as tx:
                assert tallies.read(tx, "p") == recount(studio, "p")
    with studio.read() as tx:
        own = Counter(
            tx.connection.scalars(
                select(ASSIGNMENTS.annotator).where(ASSIGNMENTS.state == "submitted")
            )
        )
        assert own == {who: queue.progress(tx, "p", who).num_own for who in own}
        items = tables.queue_items.c
        fresh = tx.connection.execute(
            select(items.urgency, items.place).where(items.place.is_not(None))
        ).all()
        for urgency in {one.urgency for one in fresh}:
            places = sorted(one.place for one in fresh if one.urgency == urgency)
            assert places == list(range(len(places)))


def test_a_first_draw_is_uniform_and_keeps_its_probability(studio: Store) -> None:
    """Every order of three tasks, by the generator that picks it: 3, 2 and 1 to choose from."""

    class Fixed(random.Random):
        """Chooses what a test says."""

        def __init__(self, choices: list[int]) -> None:
            super().__init__(0)
            self.choices = choices

        def randrange(self, stop: int) -> int:  # type: ignore[override]
            assert stop == 3 - (2 - len(self.choices))
            return self.choices.pop(0)

        def random(self) -> float:
            return 0.999

    orders = Counter()
    for first in range(3):
        for second in range(2):
            name = f"p{first}{second}"
            fill(studio, name, overlap=1, numbers=range(3), priorities=1)
            with studio.write() as tx:
                rng = Fixed([first, second])
                found = queue.lease(tx, name, "usr_a", count=2, rng=rng)
                assert isinstance(found, list)
                orders[tuple(view.task_id for view in found)] += 1
                items = tables.queue_items.c
                query = select(items.task_id, items.probability).where(items.project == name)
                kept = {row.task_id: row.probability for row in tx.connection.execute(query)}
            assert [kept[view.task_id] for view in found] == [1 / 3, 1 / 2]
    assert len(orders) == 6
    assert set(orders.values()) == {1}


def test_an_old_database_is_brought_over(tmp_path: Path, clock: Clock) -> None:
    from sqlalchemy import create_engine

    path = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for statement in OLD:
            connection.execute(text(statement))
    engine.dispose()
    with open_store(path, clock=clock) as store:
        with store.read() as tx:
            counts = tallies.read(tx, "p")
            assert (counts.num_open, counts.num_leased, counts.num_done) == (3, 0, 1)
            assert queue.progress(tx, "p", "usr_a").num_own == 1
            assert undo.recent(tx, "p", "usr_a") == [("t1", 0)]
        assert recount(store, "p") == counts
        assert set(eligible(store, "p", "usr_a")) == {"t2"}
        with store.write() as tx:
            (view,) = queue.lease(tx, "p", "usr_a", count=9, rng=random.Random(0))  # type: ignore[misc]
            assert view.task_id == "t2"
            (other, _) = queue.lease(tx, "p", "usr_b", count=9, rng=random.Random(0))  # type: ignore[misc]
            assert other.task_id == "t1"


def test_disagreements_of_an_old_database_are_found(tmp_path: Path) -> None:
    from sqlalchemy import create_engine

    path = tmp_path / "old.db"
    engine = create_engine(f"sqlite:///{path}")
    old = [one for one in OLD if "into annotations" not in one]
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for statement in old:
            connection.execute(text(statement))
        for task, who, side in (("t1", "a", "x"), ("t1", "b", "y"), ("t2", "a", "x")):
            said = f'{{"preferred": "{side}"}}'
            row = (f"{task}{who}", task, f"usr_{who}", "human", said, "[]", 0, None, "2026-01-01")
            connection.exec_driver_sql(
                "insert into annotations values (?, ?, ?, ?, ?, ?, ?, ?, ?)", row
            )
    engine.dispose()
    with open_store(path) as store, store.read() as tx:
        assert disputes.disputed(tx, "p", limit=9) == ["t1"]


NOW = "'2026-01-01 00:00:00'"
OLD = [
    f"insert into datasets values ('p', {NOW})",
    f"insert into prompts values ('q', '[]', '[]', {NOW})",
    *(
        f"insert into tasks values ('t{n}', 'pairwise', 'q', '', 2, {n}, 'x', {NOW})"
        for n in (1, 2)
    ),
    f"insert into completions values ('c', 'q', '[]', null, 'import:a', 0, 'stop', '{{}}', {NOW})",
    *(f"insert into task_completions values ('t{n}', 0, 'c', 'q')" for n in (1, 2)),
    f"insert into projects values ('p', 'P', 'pairwise', 2, 600, false, '{{}}', {NOW})",
    *(
        f"insert into users values ('usr_{n}', '{n}', 'annotator', null, '{{}}', true, {NOW})"
        for n in "ab"
    ),
    "insert into slots values (1, 'p', 't1', 0, 1, 'done', 'usr_a', null)",
    "insert into slots values (2, 'p', 't1', 1, 1, 'open', null, null)",
    "insert into slots values (3, 'p', 't2', 0, 0, 'open', null, null)",
    "insert into slots values (4, 'p', 't2', 1, 0, 'open', null, null)",
    "insert into assignments values "
    f"('p', 't1', 'usr_a', '[]', 1, 'submitted', null, null, {NOW}, {NOW})",
    f"insert into annotations values ('ann', 't1', 'usr_a', 'human', '{{}}', '[]', 0, null, {NOW})",
]


def test_no_statement_of_the_queue_scans_or_sorts(tmp_path: Path, clock: Clock) -> None:
    from sqlalchemy import event

    said: dict[str, object] = {}
    with open_store(tmp_path / "heedful.db", clock=clock) as store:
        with store.write() as tx:
            for name in PEOPLE:
                people.add(tx, User(id=name, name=name, role="annotator"))
        fill(store, "p", overlap=2, numbers=range(60), priorities=2)

        @event.listens_for(store.engine, "before_cursor_execute")
        def keep(_1: object, _2: object, statement: str, values: object, *_3: object) -> None:
            if statement.lstrip().startswith(("SELECT", "UPDATE")):
                said[statement] = values

        rng = random.Random(0)
        for _ in range(200):
            act(store, "p", rng.choice(PEOPLE), rng, clock)
            with store.read() as tx:
                queue.progress(tx, "p", "usr_a")
                undo.recent(tx, "p", "usr_a")
        event.remove(store.engine, "before_cursor_execute", keep)
        with store.read() as tx:
            plans = {
                statement: [
                    row[3]
                    for row in tx.connection.exec_driver_sql(
                        f"explain query plan {statement}",
                        values,  # type: ignore[arg-type]
                    )
                ]
                for statement, values in said.items()
                # the checks of this test are no part of the queue
                if "holder, slots.until \nFROM slots \nWHERE slots.project = ?" not in statement
            }
    assert len(plans) > 20
    for statement, plan in plans.items():
        # few: the sides of one task, what one person holds, what was opened since their last lease
        few = ("task_completions", "LEFT OUTER JOIN slots", "slots.turn > ?")
        is_small = any(words in statement for words in few)
        assert sum("TEMP B-TREE" in line for line in plan) <= 1, statement
        for line in plan:
            # of one row: a subquery that ends at its first hit
            is_one = line.split()[1] in ("behind", "opened_since", "last_started")
            assert is_one or not line.startswith("SCAN"), statement
            assert is_small or "TEMP B-TREE" not in line, statement


def test_the_probability_of_a_draw_is_that_of_its_mixture(studio: Store) -> None:
    """By enumeration of the coin and of every place: 5 tasks, 3 of them scored, share 0.3."""
    from collections.abc import Callable

    share, num, coins = 0.3, 5, 10
    chosen: Counter[str] = Counter()
    kept: dict[str, set[float]] = {}

    def scripted(coin: float, place: int) -> random.Random:
        class Scripted(random.Random):
            calls = 0

            def random(self) -> float:
                self.calls += 1
                return coin if self.calls == 1 else 0.999

            def randrange(self, stop: int) -> int:  # type: ignore[override]
                assert stop == num
                return place

        return Scripted(0)

    def undone(run: Callable[[object], None]) -> None:
        """Run in a transaction that leaves nothing."""
        try:
            with studio.write() as tx:
                run(tx)
                raise UndoError
        except UndoError:
            pass

    fill(studio, "p", overlap=1, numbers=range(num), priorities=1)
    with studio.write() as tx:
        settings = projects.get(tx, "p")
        projects.change(tx, replace(settings, strategy="d_optimal", random_share=share))
        ids = picking.fresh_tasks(tx, "p")
        picking.set_scores(tx, "p", "d_optimal", {ids[0]: 1.0, ids[3]: 7.0, ids[4]: 2.0})
        picking.set_scores(tx, "p", "disagreement", {ids[1]: 99.0})

    def draw(coin: float, place: int) -> Callable[[object], None]:
        def run(tx) -> None:  # type: ignore[no-untyped-def]
            rng = scripted(coin, place)
            (view,) = queue.lease(tx, "p", "usr_a", count=1, rng=rng)  # type: ignore[misc]
            chosen[view.task_id] += 1
            items = tables.queue_items.c
            query = select(items.probability).where(items.task_id == view.task_id)
            kept.setdefault(view.task_id, set()).add(tx.connection.scalar(query))

        return run

    for coin in range(coins):
        for place in range(num):
            undone(draw((coin + 0.5) / coins, place))
    assert set(chosen) == set(ids)
    for task, times in chosen.items():
        (probability,) = kept[task]
        assert probability == pytest.approx(times / (coins * num))
    assert chosen[ids[3]] == max(chosen.values())


class UndoError(Exception):
    """Takes a transaction back."""
