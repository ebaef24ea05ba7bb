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
    Float,
    String,
    and_,
    bindparam,
    case,
    exists,
    null,
    or_,
    select,
    true,
    tuple_,
    update,
)

from heedful.errors import DataError, MissingError
from heedful.store import slots, tables, tallies
from heedful.store.database import Transaction
from heedful.store.tallies import AT, WHO, Own, Place
from heedful.types import Project

SLOTS, ITEMS, ASSIGNMENTS = tables.slots.c, tables.queue_items.c, tables.assignments.c


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
_LEAST_URGENCY = (
    select(ITEMS.urgency).where(ITEMS.project == AT, ITEMS.place.is_not(None))
    .order_by(ITEMS.urgency).limit(1)
)  # fmt: skip
# Where the first started slot for the annotator stands, among those behind their cursor and among
# those opened since it was set; where the last of all stands, and how urgent the first fresh task.
_behind = _STARTED.where(_BEHIND, ~_is_theirs()).order_by(*_IN_ORDER).limit(1).subquery("behind")
_since = (
    _STARTED.where(SLOTS.turn > bindparam("turns"), ~_is_theirs())
    .order_by(*_IN_ORDER)
    .limit(1)
    .subquery("opened_since")
)
_last = _STARTED.order_by(SLOTS.urgency.desc(), SLOTS.turn.desc()).limit(1).subquery("last_started")
_LOOK = (
    select(tables.queues.c.num_turns, _LEAST_URGENCY.scalar_subquery().label("fresh"))
    .add_columns(_behind.c.urgency.label("behind"), _behind.c.turn.label("behind_turn"))
    .add_columns(_since.c.urgency.label("since"), _since.c.turn.label("since_turn"))
    .add_columns(_last.c.urgency.label("last"), _last.c.turn.label("last_turn"))
    .select_from(
        tables.queues.outerjoin(_behind, true()).outerjoin(_since, true()).outerjoin(_last, true())
    )
    .where(tables.queues.c.project == AT)
)
_TAKE_STARTED = slots.lease(
    select(SLOTS.id)
    .where(SLOTS.project == AT, slots.IS_STARTED, _BEHIND, ~_is_theirs())
    .order_by(*_IN_ORDER)
    .limit(1)
    .with_for_update(skip_locked=True)
)

_FRESH = and_(ITEMS.project == AT, ITEMS.place.is_not(None))
_SAME_URGENCY = ITEMS.urgency == bindparam("of_urgency")
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
    # a task that was drawn is left alone: whoever answers it has it locked, and may wait for us
    .where(_FRESH, ITEMS.task_id == bindparam("task"))
    .values(score=bindparam("to_score"), scored_by=bindparam("by"))
)
_IS_DRAWN = ITEMS.place == bindparam("of_place")
_BEGIN = (  # the last task gets the place of the one that is drawn
    update(tables.queue_items)
    .where(_FRESH, _SAME_URGENCY, ITEMS.place.in_((bindparam("of_place"), bindparam("last_place"))))
    .values(
        place=case((_IS_DRAWN, null()), else_=bindparam("of_place")),
        probability=case((_IS_DRAWN, bindparam("with", type_=Float)), else_=ITEMS.probability),
        drawn_by=case((_IS_DRAWN, bindparam("by", type_=String)), else_=ITEMS.drawn_by),
    )
    .returning(ITEMS.task_id, ITEMS.place)
)
_MOVE = (
    update(tables.queue_items)
    .where(_FRESH, _SAME_URGENCY, ITEMS.place == bindparam("of_place"))
    .values(place=bindparam("to_place"))
)


def claim(
    tx: Transaction, project: Project, own: Own, until: datetime, rng: random.Random
) -> slots.Given | None:
    """Lease the next slot to the annotator; its task, or None when there is none for them.

    Their cursor moves in ``own``; the caller writes it.
    """
    started, fresh = _look(tx, own)
    found = None
    if started is not None and (fresh is None or started[0] <= fresh):
        found = _take_started(tx, own, until, started)
    if found is None and fresh is not None:
        found = _draw(tx, project, own.annotator, until, rng)
    if found is None and started is not None:
        found = _take_started(tx, own, until, started)
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


def set_scores(
    tx: Transaction, project: str, strategy: str, scores: Mapping[str, float | None]
) -> None:
    """What a strategy thinks of asking these tasks; the highest score is asked first.

    ``None`` takes back what was thought before: the task comes at random. Nobody draws meanwhile,
    so write many in parts.
    """
    bad = [task for task, score in scores.items() if score is not None and not math.isfinite(score)]
    if bad:
        raise DataError(f"task {bad[0]} has score {scores[bad[0]]}; scores are finite numbers")
    rows = [
        {"at": project, "task": task, "to_score": score, "by": None if score is None else strategy}
        for task, score in sorted(scores.items())
    ]
    if rows:
        tallies.next_turn(tx, project)
        tx.connection.execute(_SCORE, rows)


def last_place(tx: Transaction, project: str, urgency: float) -> int:
    """The last place among the tasks of one urgency that nobody was given; -1 without any."""
    found = tx.connection.scalar(_LAST_PLACE, {"at": project, "of_urgency": urgency})
    return -1 if found is None else found


def _look(tx: Transaction, own: Own) -> tuple[Place | None, float | None]:
    """Where the first started slot for the annotator stands, and how urgent the first fresh task.

    Moves their cursor up to there, and behind the last started slot when there is none for them.
    """
    parameters = {"at": own.project, "who": own.annotator, "turns": own.turns}
    row: Any = tx.connection.execute(_LOOK, parameters | _from(own.place)).one()
    places = ((row.behind, row.behind_turn), (row.since, row.since_turn))
    found = min((one for one in places if one[0] is not None), default=None)
    end = None if row.last is None else (row.last, row.last_turn + 1)
    own.place, own.turns = found or end or own.place, row.num_turns
    return found, row.fresh


def _from(place: Place) -> dict[str, Any]:
    return {"from_urgency": place[0], "from_turn": place[1]}


def _take_started(tx: Transaction, own: Own, until: datetime, place: Place) -> slots.Given | None:
    """Lease the first started slot for the annotator that nobody else is just taking."""
    parameters = {"at": own.project, "who": own.annotator, "ends": until}
    found: str | None = tx.connection.scalar(_TAKE_STARTED, parameters | _from(place))
    return None if found is None else slots.Given(task_id=found, has_slot=True)


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
    there = {"at": project, "of_urgency": urgency, "of_place": place, "last_place": last}
    rows = tx.connection.execute(_BEGIN, there | {"with": probability, "by": by}).all()
    (task_id,) = (str(row.task_id) for row in rows if row.place is None)
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
