"""Which slot an annotator gets next.

The most urgent tasks come first. Among equally urgent ones, those that somebody was given already
are finished before others are begun. A task is begun by drawing it from those of its urgency: a
share at random, otherwise the one with the highest score of the project's strategy. The probability
of that draw is kept. Every query here is a range of an index that ends at its first hit, so the
size of a project does not matter.

On PostgreSQL a started slot is taken past those that others are just taking. Drawing a task, giving
one back and adding some change the order and hold the queue's row for that transaction: a draw is
from exactly the tasks that are counted, at the price of one draw at a time per project.
"""

import math
import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    exists,
    or_,
    select,
    tuple_,
    update,
)

from heedful.errors import DataError, MissingError
from heedful.store import slots, tables, tallies
from heedful.store.database import Transaction
from heedful.store.tallies import AT, WHO
from heedful.types import Project

SLOTS, ITEMS, ASSIGNMENTS = tables.slots.c, tables.queue_items.c, tables.assignments.c
Place = tuple[float, int]  # urgency and turn: where a started slot stands


def _is_theirs() -> ColumnElement[bool]:
    """Is the slot of a task that the annotator is done with or settles, or holds another slot of?

    Whoever was given a task to settle it, or as a question with a known answer, gives no vote.
    """
    other = tables.slots.alias()
    answered = exists().where(
        ASSIGNMENTS.project == AT,
        ASSIGNMENTS.task_id == SLOTS.task_id,
        ASSIGNMENTS.annotator == WHO,
        or_(ASSIGNMENTS.state != "open", ASSIGNMENTS.kind != "answer"),
    )
    holding = exists().where(
        other.c.project == AT, other.c.task_id == SLOTS.task_id, other.c.holder == WHO
    )
    return answered | holding


_STARTED = select(SLOTS.urgency, SLOTS.turn).where(SLOTS.project == AT, slots.IS_STARTED)
_IN_ORDER = (SLOTS.urgency, SLOTS.turn)
_BEHIND = tuple_(SLOTS.urgency, SLOTS.turn) >= tuple_(
    bindparam("from_urgency"), bindparam("from_turn")
)
_OPENED_SINCE = _STARTED.where(SLOTS.turn > bindparam("turns")).order_by(*_IN_ORDER).limit(1)
_FIRST = _STARTED.where(~_is_theirs()).order_by(*_IN_ORDER).limit(1)
_FIRST_BEHIND = _STARTED.where(_BEHIND, ~_is_theirs()).order_by(*_IN_ORDER).limit(1)
_LAST = _STARTED.order_by(SLOTS.urgency.desc(), SLOTS.turn.desc()).limit(1)
_TAKE_STARTED = slots.lease(
    select(SLOTS.id)
    .where(SLOTS.project == AT, slots.IS_STARTED, _BEHIND, ~_is_theirs())
    .order_by(*_IN_ORDER)
    .limit(1)
    .with_for_update(skip_locked=True)
)

_FRESH = and_(ITEMS.project == AT, ITEMS.place.is_not(None))
_SAME_URGENCY = ITEMS.urgency == bindparam("of_urgency")
_LEAST_URGENCY = select(ITEMS.urgency).where(_FRESH).order_by(ITEMS.urgency).limit(1)
_LAST_PLACE = select(ITEMS.place).where(_FRESH, _SAME_URGENCY).order_by(ITEMS.place.desc()).limit(1)
_LAST_FRESH = (  # among the most urgent ones
    select(ITEMS.urgency, ITEMS.place)
    .where(_FRESH, ITEMS.urgency == _LEAST_URGENCY.correlate(None).scalar_subquery())
    .order_by(ITEMS.place.desc())
    .limit(1)
)
_BEST = (
    select(ITEMS.place)
    .where(_FRESH, _SAME_URGENCY, ITEMS.scored_by == bindparam("by"), ITEMS.score.is_not(None))
    .order_by(ITEMS.score.desc(), ITEMS.task_id.desc())
    .limit(1)
)
_SCORE = (
    update(tables.queue_items)
    .where(ITEMS.project == AT, ITEMS.task_id == bindparam("task"))
    .values(score=bindparam("to_score"), scored_by=bindparam("by"))
)
_BEGIN = (
    update(tables.queue_items)
    .where(_FRESH, _SAME_URGENCY, ITEMS.place == bindparam("of_place"))
    .values(place=None, probability=bindparam("with"), drawn_by=bindparam("by"))
    .returning(ITEMS.task_id)
)
_MOVE = (
    update(tables.queue_items)
    .where(_FRESH, _SAME_URGENCY, ITEMS.place == bindparam("of_place"))
    .values(place=bindparam("to_place"))
)


def claim(
    tx: Transaction,
    project: Project,
    annotator: str,
    until: datetime,
    rng: random.Random,
) -> slots.Given | None:
    """Lease the next slot to the annotator; its task, or None when there is none for them."""
    name = project.dataset
    started = _first_started(tx, name, annotator)
    fresh = _fresh_urgency(tx, name)
    found = None
    if started is not None and (fresh is None or started[0] <= fresh):
        found = _take_started(tx, name, annotator, until, started)
    if found is None and fresh is not None:
        found = _draw(tx, project, annotator, until, rng)
    if found is None and started is not None:
        found = _take_started(tx, name, annotator, until, started)
    return found


def claim_this(
    tx: Transaction, project: str, task_id: str, annotator: str, until: datetime
) -> slots.Given:
    """Lease a slot of exactly this task, if one is open, without a draw."""
    turn = tallies.next_turn(tx, project)
    there = and_(ITEMS.project == project, ITEMS.task_id == task_id)
    urgency = tx.connection.scalar(select(ITEMS.urgency).where(there))
    if urgency is None:
        raise MissingError(f"task {task_id!r} is not in project {project!r}; add it first")
    withdraw(tx, project, task_id, urgency)
    return slots.begin(tx, project, task_id, annotator, until, turn)


def draw_probability(num_fresh: int, *, is_best: bool, random_share: float) -> float:
    """With which probability a task is drawn out of ``num_fresh``.

    With probability ``random_share`` the draw is uniform, otherwise it is the best.
    """
    return random_share / num_fresh + (1 - random_share) * is_best


def fresh_tasks(tx: Transaction, project: str) -> list[str]:
    """The tasks that nobody was given yet, most urgent first."""
    query = select(ITEMS.task_id).where(ITEMS.project == project, ITEMS.place.is_not(None))
    return list(tx.connection.scalars(query.order_by(ITEMS.urgency, ITEMS.task_id)))


def set_scores(tx: Transaction, project: str, strategy: str, scores: Mapping[str, float]) -> None:
    """What a strategy thinks of asking these tasks; the highest score is asked first.

    Nobody draws meanwhile, so write many in parts.
    """
    bad = [task for task, score in scores.items() if not math.isfinite(score)]
    if bad:
        raise DataError(f"task {bad[0]} has score {scores[bad[0]]}; scores are finite numbers")
    rows = [
        {"at": project, "task": task, "to_score": float(score), "by": strategy}
        for task, score in sorted(scores.items())
    ]
    if rows:
        tallies.next_turn(tx, project)
        tx.connection.execute(_SCORE, rows)


def last_place(tx: Transaction, project: str, urgency: float) -> int:
    """The last place among the tasks of one urgency that nobody was given; -1 without any."""
    found = tx.connection.scalar(_LAST_PLACE, {"at": project, "of_urgency": urgency})
    return -1 if found is None else found


def _first_started(tx: Transaction, project: str, annotator: str) -> Place | None:
    """Where the first started slot for the annotator stands; moves their cursor up to there."""
    mine = tallies.cursor(tx, project, annotator)
    turns = mine.num_turns
    cursor: Place | None = None
    if mine.cursor_urgency is not None:
        cursor = (mine.cursor_urgency, mine.cursor_turn)
        if turns > mine.cursor_turns:
            opened = _place(tx, _OPENED_SINCE, {"at": project, "turns": mine.cursor_turns})
            cursor = min(cursor, opened or cursor)
    parameters: dict[str, Any] = {"at": project, "who": annotator}
    if cursor is None:
        found = _place(tx, _FIRST, parameters)
    else:
        parameters |= {"from_urgency": cursor[0], "from_turn": cursor[1]}
        found = _place(tx, _FIRST_BEHIND, parameters)
    moved = found or _end(tx, project) or cursor
    if moved and (moved != cursor or turns != mine.cursor_turns):
        tallies.set_cursor(tx, project, annotator, moved, turns)
    return found


def _end(tx: Transaction, project: str) -> Place | None:
    """The place behind the last started slot."""
    last = _place(tx, _LAST, {"at": project})
    return (last[0], last[1] + 1) if last else None


def _place(tx: Transaction, statement: Any, parameters: dict[str, Any]) -> Place | None:
    row = tx.connection.execute(statement, parameters).first()
    return (row.urgency, row.turn) if row else None


def _take_started(
    tx: Transaction, project: str, annotator: str, until: datetime, place: Place
) -> slots.Given | None:
    """Lease the first started slot for the annotator that nobody else is just taking."""
    parameters = {"at": project, "who": annotator, "ends": until}
    found: str | None = tx.connection.scalar(
        _TAKE_STARTED, parameters | {"from_urgency": place[0], "from_turn": place[1]}
    )
    if found is None:
        return None
    counted = tallies.change(tx, project, annotator, num_open=-1, num_leased=1, num_given=1)
    return slots.Given(task_id=found, number=counted.num_given)


def _fresh_urgency(tx: Transaction, project: str) -> float | None:
    """The urgency of the most urgent tasks that nobody was given."""
    return tx.connection.scalar(_LEAST_URGENCY, {"at": project})


def _draw(
    tx: Transaction, project: Project, annotator: str, until: datetime, rng: random.Random
) -> slots.Given | None:
    """Begin a task of the most urgent ones and lease a slot of it."""
    name = project.dataset
    turn = tallies.next_turn(tx, name)
    fresh: Any = tx.connection.execute(_LAST_FRESH, {"at": name}).one_or_none()
    if fresh is None:
        return None
    urgency, last = fresh
    best: int | None = None
    if project.strategy != "random":
        parameters = {"at": name, "of_urgency": urgency, "by": project.strategy}
        best = tx.connection.scalar(_BEST, parameters)
    share = 1.0 if best is None else project.random_share
    is_random = best is None or rng.random() < share
    place = rng.randrange(last + 1) if is_random else best
    assert place is not None
    probability = draw_probability(last + 1, is_best=place == best, random_share=share)
    by = "random" if is_random else project.strategy
    task_id = _begin(tx, name, urgency, place, last, probability=probability, by=by)
    return slots.begin(tx, name, task_id, annotator, until, turn)


def _begin(
    tx: Transaction,
    project: str,
    urgency: float,
    place: int,
    last: int,
    *,
    probability: float,
    by: str,
) -> str:
    """Take a task out of those that nobody was given; the last one gets its place."""
    there = {"at": project, "of_urgency": urgency}
    drawn = there | {"of_place": place, "with": probability, "by": by}
    task_id: str = tx.connection.execute(_BEGIN, drawn).scalar_one()
    if place != last:
        tx.connection.execute(_MOVE, there | {"of_place": last, "to_place": place})
    return task_id


def withdraw(tx: Transaction, project: str, task_id: str, urgency: float) -> None:
    """Take a task out of those that can be drawn, without a draw."""
    mine = and_(ITEMS.project == project, ITEMS.task_id == task_id)
    place = tx.connection.scalar(select(ITEMS.place).where(mine))
    if place is None:
        return
    last = last_place(tx, project, urgency)
    tx.connection.execute(update(tables.queue_items).where(mine).values(place=None))
    if place != last:
        there = {"at": project, "of_urgency": urgency}
        tx.connection.execute(_MOVE, there | {"of_place": last, "to_place": place})
