"""Known answers and repeats: when they come, what they count for; on both databases."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from store_samples import pair

from heedful.errors import DataError, MissingError
from heedful.jobs.snapshot import make_snapshot
from heedful.store import (
    Store,
    annotations,
    completions,
    extras,
    open_store,
    people,
    projects,
    queue,
    tallies,
    tasks,
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
        assert queue.recent(tx, "p", "usr_a")[0] == view.task_id
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
