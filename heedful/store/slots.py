"""Slots: places for answers, and how they are leased, filled and opened again.

Every change of a slot's state goes through here, so that the counts go with it.
"""

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)

from heedful.store import tables, tallies
from heedful.store.database import Transaction
from heedful.store.page import MAX_PARAMETERS, chunks
from heedful.store.tallies import AT, WHO

SLOTS = tables.slots.c
TASK: BindParameter[str] = bindparam("task")
# States are written out, because a partial index is used only where its condition is.
IS_LEASED = SLOTS.state == literal_column("'leased'")
IS_STARTED = and_(SLOTS.state == literal_column("'open'"), SLOTS.turn.is_not(None))
HELD = and_(SLOTS.project == AT, SLOTS.holder == WHO, IS_LEASED)  # by an annotator


def lease(wanted: Select[Any]) -> Update:
    """The statement that leases the slot that another one finds, until ``ends``."""
    taken = {"state": "leased", "holder": WHO, "until": bindparam("ends")}
    statement = update(tables.slots).where(SLOTS.id == wanted.scalar_subquery()).values(taken)
    return statement.returning(SLOTS.task_id)


_OF_TASK = and_(SLOTS.project == AT, SLOTS.task_id == TASK)
_HELD_OF_TASK = and_(_OF_TASK, SLOTS.holder == WHO, SLOTS.state == "leased")
_OPEN_OF_TASK = and_(_OF_TASK, SLOTS.state == "open")
_FIRST_OPEN = select(SLOTS.id).where(_OPEN_OF_TASK).order_by(SLOTS.number).limit(1)
_DONE = {"state": "done", "holder": WHO, "until": None}
_FREE: dict[str, Any] = {"state": "open", "holder": None, "until": None}
RENEW = update(tables.slots).where(HELD).values(until=bindparam("ends"))
_RENEW_LIVE = RENEW.where(SLOTS.until >= bindparam("now"))
_HELD_SLOT = select(SLOTS.id).where(_HELD_OF_TASK).with_for_update()
_FILL_OWN = update(tables.slots).where(_HELD_OF_TASK).values(_DONE)
_FILL_FREE = (
    update(tables.slots)
    .where(SLOTS.id == _FIRST_OPEN.with_for_update(skip_locked=True).scalar_subquery())
    .values(_DONE)
)
_IS_FIRST = SLOTS.number == (
    select(func.min(SLOTS.number)).where(_OPEN_OF_TASK).correlate(None).scalar_subquery()
)
_BEGIN = (
    update(tables.slots)
    .where(_OPEN_OF_TASK)
    .values(
        turn=bindparam("to_turn"),
        state=case((_IS_FIRST, "leased"), else_=SLOTS.state),
        holder=case((_IS_FIRST, WHO), else_=null()),
        until=case((_IS_FIRST, bindparam("ends", type_=SLOTS.until.type)), else_=null()),
    )
    .returning(SLOTS.holder)
)
_LEASE_FIRST = lease(_FIRST_OPEN)
_GOLDS, _TASKS = tables.golds.c, tables.tasks.c
# of a task that measures people or is somebody's conversation: nobody else is asked to vote on it
_IS_KNOWN = exists().where(_GOLDS.project == SLOTS.project, _GOLDS.task_id == SLOTS.task_id)
_IS_CHAT = exists().where(_TASKS.id == SLOTS.task_id, _TASKS.reason == "chat")
_IS_EXPIRED = and_(SLOTS.project == AT, IS_LEASED, SLOTS.until < bindparam("now"))
HAS_EXPIRED = exists().where(_IS_EXPIRED)
_EXPIRED = (
    select(SLOTS.id, SLOTS.task_id)
    .where(_IS_EXPIRED)
    .order_by(SLOTS.until)
    .limit(MAX_PARAMETERS)
    .with_for_update(skip_locked=True)
)


class Given(NamedTuple):
    """A task that somebody is given, and whether they hold a slot of it; their row tells nothing
    of it yet."""

    task_id: str
    has_slot: bool


def renew(
    tx: Transaction, project: str, annotator: str, until: datetime, *, is_late_too: bool
) -> bool:
    """Renew what an annotator holds, with or without what has run out; was there anything?"""
    parameters = {"at": project, "who": annotator, "ends": until}
    if is_late_too:
        return tx.connection.execute(RENEW, parameters).rowcount > 0
    return tx.connection.execute(_RENEW_LIVE, parameters | {"now": tx.now}).rowcount > 0


def begin(
    tx: Transaction, project: str, task_id: str, annotator: str, until: datetime, turn: int
) -> Given:
    """Lease the first slot of a task, if one is open; the others are started from now on."""
    parameters = _of(project, annotator, task_id) | {"ends": until}
    holders = tx.connection.scalars(_BEGIN, parameters | {"to_turn": turn}).all()
    # somebody may just have taken the first one
    is_leased = annotator in holders or tx.connection.scalar(_LEASE_FIRST, parameters) is not None
    return Given(task_id=task_id, has_slot=is_leased)


def fill(tx: Transaction, project: str, annotator: str, task_id: str) -> dict[str, int]:
    """Mark the annotator's slot as done, or else a free one.

    What that adds to their row, which the caller has to write; nothing without a slot.
    """
    parameters = _of(project, annotator, task_id)
    if tx.connection.execute(_FILL_OWN, parameters).rowcount:
        return {"num_leased": -1, "num_done": 1}
    if tx.connection.execute(_FILL_FREE, parameters).rowcount:
        return {"num_open": -1, "num_done": 1}
    return {}


def release(tx: Transaction, project: str, annotator: str, task_id: str) -> None:
    """Open the slot that an annotator holds, if there is one."""
    slot = tx.connection.scalar(_HELD_SLOT, _of(project, annotator, task_id))
    if slot is not None:
        num_open = _open(tx, [slot], tallies.next_turn(tx, project))
        tallies.change(tx, project, annotator, num_leased=-1, num_open=num_open)


def release_expired(tx: Transaction, project: str, annotator: str) -> None:
    """Open the slots whose leases ran out, if any has; ``annotator`` is who notices.

    They get a new turn, and so do other open slots of their tasks: whoever let a lease run out may
    take any of them again.
    """
    turn = tallies.next_turn(tx, project)  # before the slots, as whoever draws locks them
    rows = tx.connection.execute(_EXPIRED, {"at": project, "now": tx.now}).all()
    if not rows:
        return
    num_open = _open(tx, [row.id for row in rows], turn)
    others = (
        select(SLOTS.id)
        .where(SLOTS.project == project, SLOTS.task_id.in_({row.task_id for row in rows}))
        .where(IS_STARTED)
        .with_for_update(skip_locked=True)
    )
    tx.connection.execute(update(tables.slots).where(SLOTS.id.in_(others)).values(turn=turn))
    tallies.change(tx, project, annotator, num_leased=-len(rows), num_open=num_open)


def reopen(tx: Transaction, annotator: str, which: ColumnElement[bool]) -> None:
    """Open slots that an annotator holds or filled, in whatever projects they are.

    Those of their conversations are taken away instead: they are shown to nobody.
    """
    query = select(SLOTS.id, SLOTS.project, SLOTS.state).where(SLOTS.holder == annotator, which)
    rows = tx.connection.execute(query.order_by(SLOTS.project).with_for_update()).all()
    for project, group in itertools.groupby(rows, key=lambda row: str(row.project)):
        found = list(group)
        num_leased = sum(row.state == "leased" for row in found)
        turn = tallies.next_turn(tx, project)
        closed = or_(_IS_KNOWN, _IS_CHAT)
        ids = chunks([row.id for row in found])
        tallies.change_queue(
            tx,
            project,
            num_open=sum(_open(tx, chunk, turn, closed=closed) for chunk in ids),
            num_leased=-num_leased,
            num_done=num_leased - len(found),
        )


def reopen_leased(tx: Transaction, project: str, annotator: str) -> None:
    """Open what an annotator holds in a project."""
    reopen(tx, annotator, and_(SLOTS.project == project, SLOTS.state == "leased"))


def open_tasks(tx: Transaction, project: str, task_ids: Sequence[str]) -> list[str]:
    """Those of the tasks that have an open slot, by id."""
    found = set[str]()
    for chunk in chunks(task_ids):
        query = select(SLOTS.task_id).where(SLOTS.project == project, SLOTS.task_id.in_(chunk))
        found.update(tx.connection.scalars(query.where(SLOTS.state == "open").distinct()))
    return sorted(found)


def withdraw(tx: Transaction, project: str, task_id: str) -> None:
    """Take away the open slots of a task; the queue's order is the caller's to change."""
    gone = and_(SLOTS.project == project, SLOTS.task_id == task_id, SLOTS.state == "open")
    number = tx.connection.execute(tables.slots.delete().where(gone)).rowcount
    tallies.change_queue(tx, project, num_open=-number)


def add(
    tx: Transaction, project: str, task_id: str, *, urgency: float, up_to: int, turn: int
) -> None:
    """Open slots of a task until it has ``up_to``; the queue's order is the caller's to change."""
    here = and_(SLOTS.project == project, SLOTS.task_id == task_id)
    taken = set(tx.connection.scalars(select(SLOTS.number).where(here)))
    row = {"project": project, "task_id": task_id, "urgency": urgency, "turn": turn}
    rows = [row | {"number": n, "state": "open"} for n in range(up_to) if n not in taken]
    if rows:
        tx.connection.execute(tables.slots.insert(), rows)
        tallies.change_queue(tx, project, num_open=len(rows))


def _open(
    tx: Transaction,
    ids: Sequence[int],
    turn: int,
    *,
    closed: ColumnElement[bool] = _IS_KNOWN,
) -> int:
    """Open slots, or take them away where the task is closed to others; how many were opened."""
    those = SLOTS.id.in_(ids)
    tx.connection.execute(tables.slots.delete().where(those, closed))
    free = _FREE | {"turn": turn}
    return tx.connection.execute(update(tables.slots).where(those).values(free)).rowcount


def _of(project: str, annotator: str, task_id: str) -> dict[str, Any]:
    return {"at": project, "who": annotator, "task": task_id}
