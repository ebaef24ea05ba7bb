"""Known answers and repeats: when they come, what they count for; on both databases."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from store_samples import pair

from heedful.errors import DataError, MissingError
from heedful.jobs.snapshot import make_snapshot
from heedful.store import (
    Store,
    annotations,
    assignments,
    completions,
    desks,
    extras,
    open_store,
    people,
    projects,
    queue,
    tables,
    tallies,
    tasks,
    undo,
)
from heedful.store.extras import Tally
from heedful.store.queue import Assignment, Nothing
from heedful.types import Project, Task, User


@pytest.fixture
def studio(database: str) -> Iterator[Store]:
    with open_store(database) as store:
        yield store


def fill(store: Store, *, num_tasks: int, **settings: object) -> list[Task]:
    project = Project(dataset="p", title="P", form="pairwise", **settings)  # type: ignore[arg-type]
    with store.write() as tx:
        projects.add(tx, project)
        for name in "ab":
            people.add(tx, User(id=f"usr_{name}", name=name, role="annotator"))
        made = []
        for number in range(num_tasks):
            task, sides = pair(number)
            completions.add(tx, sides)
            made.append(task)
        projects.add_tasks(tx, "p", made)
    return made


def step(store: Store, who: str, rng: random.Random, *, on_left: bool = False) -> Assignment | None:
    """Take the next item and answer it: the task's first completion, or what stands left."""
    with store.write() as tx:
        found = queue.lease(tx, "p", who, count=1, rng=rng)
        if isinstance(found, Nothing):
            return None
        (view,) = found
        asked = tasks.get(tx, [view.task_id])[view.task_id].task
        said = view.shown_order[0] if on_left else asked.completion_ids[0]
        key = f"{who} {view.task_id} {view.round}"
        queue.submit(tx, "p", who, view.task_id, {"preferred": said}, key=key, seconds=None)
    return view


def set_gold(store: Store, task: Task, side: int = 0) -> None:
    with store.write() as tx:
        project = projects.get(tx, "p")
        known = {"preferred": task.completion_ids[side]}
        extras.set_gold(tx, project, task.id, known, who="usr_o")


def test_a_repeat_comes_late_once_and_reversed(studio: Store) -> None:
    fill(studio, num_tasks=60, repeat_share=0.2, gold_share=0.0)
    rng = random.Random(0)
    seen: list[Assignment] = []
    while (view := step(studio, "usr_a", rng)) is not None:
        seen.append(view)
    again = [(number, view) for number, view in enumerate(seen) if view.kind == "repeat"]
    assert len(again) > 3
    assert max(Counter(view.task_id for _, view in again).values()) == 1
    for number, view in again:
        first = next(n for n, one in enumerate(seen) if one.task_id == view.task_id)
        assert number - first > extras.REPEAT_AFTER
        assert view.shown_order == tuple(reversed(seen[first].shown_order))
    with studio.read() as tx:
        state = queue.progress(tx, "p", "usr_a")
    assert (state.num_done, state.num_own) == (60, len(seen))


def test_repeats_are_no_votes_and_leave_the_first_answer_as_it_is(studio: Store) -> None:
    made = fill(studio, num_tasks=60, repeat_share=0.2, gold_share=0.0)
    rng = random.Random(0)
    while step(studio, "usr_a", rng, on_left=True) is not None:
        pass
    with studio.read() as tx:
        pairs = extras.repeats(tx, "p")
        votes = annotations.latest(tx, [task.id for task in made])
        assert extras.repeat_tallies(tx, "p") == {"usr_a": Tally(hits=0, trials=len(pairs))}
    assert len(votes) == 60
    assert {vote.revision for vote in votes} == {0}
    for one in pairs:
        assert one.first.payload["preferred"] == one.first.shown_order[0]
        assert one.again.payload["preferred"] == one.again.shown_order[0]
        assert one.again.payload != one.first.payload
        assert one.again.id != one.first.id


def test_a_changed_repeat_stays_a_repeat(studio: Store) -> None:
    fill(studio, num_tasks=60, repeat_share=0.2, gold_share=0.0)
    rng = random.Random(0)
    while (view := step(studio, "usr_a", rng)) is not None and view.kind != "repeat":
        pass
    assert view is not None
    with studio.write() as tx:
        assert undo.recent(tx, "p", "usr_a")[0] == (view.task_id, 1)
        other = {"preferred": None}
        receipt = queue.submit(tx, "p", "usr_a", view.task_id, other, key="again", seconds=None)
        assert receipt.revision == 2
        (one,) = extras.repeats(tx, "p")
        assert one.again.payload == other
        assert one.first.payload["preferred"] is not None


def test_shares_are_of_all_items(studio: Store) -> None:
    """The odds of one draw: with shares 0.3 and 0.2, 3 and 2 of 10 items are extra."""
    drawn: Counter[str] = Counter()
    project = Project(dataset="p", title="P", form="pairwise", gold_share=0.3, repeat_share=0.2)

    class At(random.Random):
        def __init__(self, value: float) -> None:
            super().__init__(0)
            self.value = value

        def random(self) -> float:
            return self.value

    with pytest.MonkeyPatch.context() as patch, studio.read() as tx:
        patch.setattr(extras, "_unseen_gold", lambda *_: "gold")
        patch.setattr(extras, "_old_answer", lambda *_: "repeat")
        for number in range(1000):
            found = extras.draw(tx, project, "usr_a", At((number + 0.5) / 1000))
            drawn["task"] += 1
            drawn[str(found or "none")] += 1
    total = drawn["task"] + drawn["gold"] + drawn["repeat"]
    assert drawn["gold"] / total == pytest.approx(0.3, abs=1e-3)
    assert drawn["repeat"] / total == pytest.approx(0.2, abs=1e-3)


def test_a_known_answer_is_shown_once_and_is_no_vote(studio: Store, tmp_path: object) -> None:
    made = fill(studio, num_tasks=40, gold_share=0.3, repeat_share=0.0, overlap=2)
    for number, task in enumerate(made[:5]):
        set_gold(studio, task, side=number % 2)
    with studio.read() as tx:
        assert tallies.read(tx, "p").num_slots == 35 * 2
    seen = []
    rng = random.Random(0)
    while (view := step(studio, "usr_a", rng)) is not None:
        seen.append(view)
    known = {task.id for task in made[:5]}
    assert {view.task_id for view in seen if view.kind == "gold"} == known
    assert len(seen) == 40
    with studio.read() as tx:
        assert extras.gold_tallies(tx, "p") == {"usr_a": Tally(hits=3, trials=5)}
        assert queue.progress(tx, "p", "usr_a").num_done == 35
    votes = make_snapshot(studio, "p", "preference", str(tmp_path))
    assert votes.num_rows == 35
    asked = make_snapshot(studio, "p", "preference", str(tmp_path), include_gold=True)
    assert asked.num_rows == 40


def test_a_task_without_its_known_answer_is_ordinary_again(studio: Store) -> None:
    made = fill(studio, num_tasks=3, gold_share=0.3, repeat_share=0.0, overlap=2)
    set_gold(studio, made[0])
    with studio.write() as tx:
        project = projects.get(tx, "p")
        extras.unset_gold(tx, project, made[0].id, who="usr_o")
        assert extras.golds(tx, "p") == []
        assert tallies.read(tx, "p").num_open == 6
        found = queue.lease(tx, "p", "usr_a", count=9, rng=random.Random(0))
        assert {view.task_id for view in found} == {task.id for task in made}  # type: ignore[union-attr]
        with pytest.raises(MissingError, match="no known answer"):
            extras.unset_gold(tx, project, made[0].id, who="usr_o")


def test_a_known_answer_must_be_an_answer(studio: Store) -> None:
    made = fill(studio, num_tasks=2)
    with studio.write() as tx:
        project = projects.get(tx, "p")
        with pytest.raises(DataError, match="choose from"):
            extras.set_gold(tx, project, made[0].id, {"preferred": "x"}, who="usr_o")
        with pytest.raises(MissingError, match="not in project"):
            extras.set_gold(tx, project, "tsk_none", {"preferred": None}, who="usr_o")
        assert tallies.read(tx, "p").num_slots == 2


def until_repeat(store: Store, rng: random.Random) -> tuple[Assignment, Assignment]:
    """Answer until a task comes once more; as it was given first, and now, not answered yet."""
    seen: dict[str, Assignment] = {}
    while True:
        with store.write() as tx:
            (view,) = queue.lease(tx, "p", "usr_a", count=1, rng=rng)  # type: ignore[misc]
        if view.kind == "repeat":
            return seen[view.task_id], view
        seen[view.task_id] = view
        assert step(store, "usr_a", rng) is not None


def test_the_first_answer_is_changed_by_itself_while_its_repeat_is_open(studio: Store) -> None:
    fill(studio, num_tasks=60, repeat_share=0.2, gold_share=0.0)
    first, again = until_repeat(studio, random.Random(0))
    task = first.task_id
    with studio.write() as tx:
        shown = queue.get(tx, "p", "usr_a", task, round=0)
        assert (shown.state, shown.shown_order) == ("submitted", first.shown_order)
        said = {"preferred": None}
        queue.submit(tx, "p", "usr_a", task, said, key="changed", seconds=None, round=0)
        assert queue.get(tx, "p", "usr_a", task, round=1).state == "open"
        assert undo.recent(tx, "p", "usr_a")[0] == (task, 0)
        (vote,) = annotations.latest(tx, [task])
        assert (vote.payload, vote.shown_order) == (said, first.shown_order)
        assert annotations.latest(tx, [task], ("repeat",)) == []
        queue.submit(tx, "p", "usr_a", task, said, key="again", seconds=None, round=1)
        (repeat,) = annotations.latest(tx, [task], ("repeat",))
        assert repeat.shown_order == again.shown_order
        assert undo.recent(tx, "p", "usr_a")[:2] == [(task, 1), (task, 0)]


def test_a_task_that_undo_leads_to_is_not_asked_again(studio: Store) -> None:
    """The only answer that is old enough was changed just now."""
    fill(studio, num_tasks=60, repeat_share=0.0, gold_share=0.0)
    rng = random.Random(0)
    first = step(studio, "usr_a", rng)
    assert first is not None
    for _ in range(extras.REPEAT_AFTER):
        step(studio, "usr_a", rng)
    with studio.write() as tx:
        drawn = extras._old_answer(tx, "p", "usr_a", rng)
        assert drawn is not None
        assert drawn.task_id == first.task_id
        said = {"preferred": None}
        queue.submit(tx, "p", "usr_a", first.task_id, said, key="changed", seconds=None)
        assert extras._old_answer(tx, "p", "usr_a", rng) is None


def counts(store: Store) -> tuple[int, int, int]:
    """Open, leased and done slots as they are counted, which is how many there are."""
    with store.read() as tx:
        there = Counter(tx.connection.scalars(select(tables.slots.c.state)))
        counted = tallies.read(tx, "p")
    found = (counted.num_open, counted.num_leased, counted.num_done)
    assert found == (there["open"], there["leased"], there["done"])
    return found


@pytest.mark.parametrize("way", ["skipped", "expired"])
def test_a_slot_given_back_after_the_answer_became_known_is_no_slot_any_more(
    database: str, way: str
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with open_store(database, clock=lambda: now) as store:
        (task,) = fill(store, num_tasks=1, gold_share=0.0, repeat_share=0.0, overlap=2)
        with store.write() as tx:
            queue.lease(tx, "p", "usr_a", count=1, rng=random.Random(0))
        set_gold(store, task)
        assert counts(store) == (0, 1, 0)
        if way == "skipped":
            with store.write() as tx:
                queue.skip(tx, "p", "usr_a", task.id, "no")
        now += timedelta(seconds=700)
        with store.write() as tx:
            assert isinstance(queue.lease(tx, "p", "usr_b", count=1, rng=random.Random(0)), Nothing)
        assert counts(store) == (0, 0, 0)
        with store.write() as tx:
            extras.unset_gold(tx, projects.get(tx, "p"), task.id, who="usr_o")
        assert counts(store) == (2, 0, 0)


def test_whoever_has_a_known_answer_open_when_it_is_removed_gives_no_vote(studio: Store) -> None:
    (task,) = fill(studio, num_tasks=1, gold_share=0.0, repeat_share=0.0)
    set_gold(studio, task)
    with studio.write() as tx:
        desk = desks.enter(tx, "p", "usr_a")
        assignments.give(tx, desk, task.id, tx.now, order=task.completion_ids, kind="gold")
        extras.unset_gold(tx, projects.get(tx, "p"), task.id, who="usr_o")
        (view,) = queue.lease(tx, "p", "usr_a", count=3, rng=random.Random(0))  # type: ignore[misc]
        assert view.kind == "gold"
        queue.submit(tx, "p", "usr_a", task.id, {"preferred": None}, key="k", seconds=None)
        assert isinstance(queue.lease(tx, "p", "usr_a", count=1, rng=random.Random(0)), Nothing)
    assert counts(studio) == (1, 0, 0)
    with studio.write() as tx:
        (other,) = queue.lease(tx, "p", "usr_b", count=1, rng=random.Random(0))  # type: ignore[misc]
        assert (other.task_id, other.kind) == (task.id, "answer")
