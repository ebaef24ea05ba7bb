"""The queue: who may answer which task next, and the answers that come back.

A *slot* is a place for one answer. Taking one is a lease that runs out, so that an annotator who
leaves blocks nobody; answering fills it. An answer that comes after its lease was given to someone
else is kept as surplus: work that was done is never refused.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select, update

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import annotations, projects, tables, tasks
from heedful.store.database import Transaction
from heedful.types import JSON, Annotation

RETRY_SECONDS = 30
NUM_UNDO = 20
MAX_KEY = 100  # characters of an idempotency key

SLOTS, ASSIGNMENTS = tables.slots.c, tables.assignments.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task as one annotator has it: the order of answers, the guidelines, the draft.

    Made by ``lease``; ``until`` is when the lease runs out, None when none is held.
    """

    project: str
    task_id: str
    shown_order: tuple[str, ...]
    guideline: int
    state: str
    draft: Mapping[str, JSON] | None
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Why there is no task, and when to ask again (None: not before something changes)."""

    reason: str
    retry_seconds: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of an answer. ``is_surplus``: more people answered than were asked."""

    annotation_id: str
    revision: int
    is_surplus: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Slots of a project by state, and what one annotator has done."""

    num_slots: int
    num_done: int
    num_leased: int
    num_own: int


def lease(
    tx: Transaction, project: str, annotator: str, *, count: int, rng: random.Random
) -> list[Assignment] | Nothing:
    """Up to ``count`` tasks to answer: those already held, then the next ones of the queue.

    Held leases are renewed. Atomic: a slot has one holder, also between processes.
    """
    settings = projects.get(tx, project)
    _serialise(tx, annotator)
    if settings.is_paused:
        return Nothing(reason="paused", retry_seconds=None)
    until = tx.now + timedelta(seconds=settings.lease_seconds)
    _release_expired(tx)
    held = and_(SLOTS.project == project, SLOTS.holder == annotator, SLOTS.state == "leased")
    tx.connection.execute(update(tables.slots).where(held).values(until=until))
    held_ids = list(tx.connection.scalars(select(SLOTS.task_id).where(held).order_by(SLOTS.id)))
    version = projects.guideline(tx, project).version
    while len(held_ids) < count:
        task_id = _claim(tx, project, annotator, until)
        if task_id is None:
            break
        _assign(tx, project, task_id, annotator, version, rng)
        held_ids.append(task_id)
    if not held_ids:
        return _why_nothing(tx, project)
    return [get(tx, project, annotator, task_id) for task_id in held_ids[:count]]


def get(tx: Transaction, project: str, annotator: str, task_id: str) -> Assignment:
    """An annotator's own view of a task; ``MissingError`` when they were never given it."""
    mine = _mine(project, annotator, task_id)
    row: Any = tx.connection.execute(select(tables.assignments).where(mine)).one_or_none()
    if row is None:
        raise MissingError(f"task {task_id!r} was not given to you in {project!r}; take the next")
    leased = select(SLOTS.until).where(_held(project, annotator, task_id))
    return Assignment(
        project=row.project,
        task_id=row.task_id,
        shown_order=tuple(row.shown_order),
        guideline=row.guideline or 0,
        state=row.state,
        draft=row.draft,
        until=tx.connection.scalar(leased),
    )


def extend(tx: Transaction, project: str, annotator: str) -> datetime | None:
    """Renew every lease that the annotator holds; until when, or None when there is none."""
    until = tx.now + timedelta(seconds=projects.get(tx, project).lease_seconds)
    held = and_(
        SLOTS.project == project,
        SLOTS.holder == annotator,
        SLOTS.state == "leased",
        SLOTS.until >= tx.now,
    )
    renewed = tx.connection.execute(update(tables.slots).where(held).values(until=until))
    return until if renewed.rowcount else None


def save_draft(
    tx: Transaction, project: str, annotator: str, task_id: str, draft: Mapping[str, JSON]
) -> None:
    """Keep an unfinished answer; it is not checked by the form. A finished one is not touched."""
    get(tx, project, annotator, task_id)
    statement = update(tables.assignments).where(_mine(project, annotator, task_id))
    tx.connection.execute(statement.values(draft=dict(draft)))


def submit(
    tx: Transaction,
    project: str,
    annotator: str,
    task_id: str,
    payload: Mapping[str, JSON],
    *,
    key: str,
    seconds: float | None,
) -> Receipt:
    """Store an answer, or a new revision of it. The same ``key`` again returns the same receipt.

    Raises ``DataError`` for a payload that the form refuses and for a key of another answer,
    ``MissingError`` for a task that the annotator was never given. Neither stores anything.
    """
    if not 0 < len(key) <= MAX_KEY:
        raise DataError(f"the key of an answer has {len(key)} characters; give 1 to {MAX_KEY}")
    _serialise(tx, annotator)
    known = _receipt(tx, key, annotator, task_id)
    if known is not None:
        return known
    view = get(tx, project, annotator, task_id)
    answer = Annotation(
        task_id=task_id,
        annotator=annotator,
        source="human",
        payload=payload,
        shown_order=view.shown_order,
        revision=_next_revision(tx, task_id, annotator),
        seconds=seconds,
    )
    asked = tasks.get(tx, [task_id])[task_id]
    FORMS[asked.task.form].check(asked.task, asked.completions, answer)
    annotations.add(tx, [answer])
    is_surplus = view.state != "submitted" and not _fill_slot(tx, project, annotator, task_id)
    row = {"key": key, "annotation_id": answer.id, "is_surplus": is_surplus}
    tx.insert_new(tables.submissions, [row])
    _finish(tx, project, annotator, task_id, state="submitted", skip_reason=None)
    return Receipt(annotation_id=answer.id, revision=answer.revision, is_surplus=is_surplus)


def skip(tx: Transaction, project: str, annotator: str, task_id: str, reason: str) -> None:
    """Give a task back to others and never see it again; ``reason`` is kept.

    Raises ``DataError`` for an empty reason or a task that was answered already.
    """
    if not reason.strip():
        raise DataError("a skip has no reason; say why, for example 'not my language'")
    _serialise(tx, annotator)
    if get(tx, project, annotator, task_id).state == "submitted":
        raise DataError(f"task {task_id!r} is answered; change the answer instead of skipping it")
    freed = {"state": "open", "holder": None, "until": None}
    held = _held(project, annotator, task_id)
    tx.connection.execute(update(tables.slots).where(held).values(**freed))
    _finish(tx, project, annotator, task_id, state="skipped", skip_reason=reason.strip())


def recent(tx: Transaction, project: str, annotator: str, limit: int = NUM_UNDO) -> list[str]:
    """The tasks that an annotator answered last, newest first: what undo goes back through."""
    query = (
        select(ASSIGNMENTS.task_id)
        .where(
            ASSIGNMENTS.annotator == annotator,
            ASSIGNMENTS.project == project,
            ASSIGNMENTS.state == "submitted",
        )
        .order_by(ASSIGNMENTS.changed_at.desc(), ASSIGNMENTS.task_id)
        .limit(limit)
    )
    return list(tx.connection.scalars(query))


def progress(tx: Transaction, project: str, annotator: str) -> Progress:
    """How far the project is, and this annotator."""
    counted = select(SLOTS.state, func.count()).where(SLOTS.project == project)
    states: dict[str, int] = {
        row[0]: row[1] for row in tx.connection.execute(counted.group_by(SLOTS.state))
    }
    own = select(func.count()).where(
        ASSIGNMENTS.annotator == annotator,
        ASSIGNMENTS.project == project,
        ASSIGNMENTS.state == "submitted",
    )
    return Progress(
        num_slots=sum(states.values()),
        num_done=states.get("done", 0),
        num_leased=states.get("leased", 0),
        num_own=tx.connection.scalar(own) or 0,
    )


def _serialise(tx: Transaction, annotator: str) -> None:
    """One transaction at a time per person, so that two tabs cannot take a task twice."""
    users = tables.users.c
    query = select(users.id).where(users.id == annotator).with_for_update()
    if tx.connection.scalar(query) is None:
        raise MissingError(f"user {annotator!r} is not in the store; sign in")


def _release_expired(tx: Transaction) -> None:
    expired = and_(SLOTS.until < tx.now, SLOTS.state == "leased")
    locked = select(SLOTS.id).where(expired).with_for_update(skip_locked=True)
    free = {"state": "open", "holder": None, "until": None}
    tx.connection.execute(update(tables.slots).where(SLOTS.id.in_(locked)).values(**free))


def _claim(tx: Transaction, project: str, annotator: str, until: datetime) -> str | None:
    """Take the first open slot of a task that the annotator is not done with; its task."""
    other = tables.slots.alias()
    answered = exists().where(
        ASSIGNMENTS.project == project,
        ASSIGNMENTS.task_id == SLOTS.task_id,
        ASSIGNMENTS.annotator == annotator,
        ASSIGNMENTS.state != "open",
    )
    holding = exists().where(
        other.c.project == project,
        other.c.task_id == SLOTS.task_id,
        other.c.holder == annotator,
    )
    first = (
        select(SLOTS.id)
        .where(SLOTS.project == project, SLOTS.state == "open", ~answered, ~holding)
        .order_by(SLOTS.priority.desc(), SLOTS.task_id, SLOTS.number)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = {"state": "leased", "holder": annotator, "until": until}
    statement = update(tables.slots).where(SLOTS.id == first).values(**taken)
    found: str | None = tx.connection.scalar(statement.returning(SLOTS.task_id))
    return found


def _assign(
    tx: Transaction, project: str, task_id: str, annotator: str, guideline: int, rng: random.Random
) -> None:
    """Draw the order in which the annotator sees the answers, once and for all."""
    shown = tables.task_completions.c
    query = select(shown.completion_id).where(shown.task_id == task_id).order_by(shown.position)
    order = list(tx.connection.scalars(query))
    rng.shuffle(order)
    row = {
        "project": project,
        "task_id": task_id,
        "annotator": annotator,
        "shown_order": order,
        "guideline": guideline,
        "state": "open",
        "changed_at": tx.now,
    }
    tx.insert_new(tables.assignments, [row])


def _fill_slot(tx: Transaction, project: str, annotator: str, task_id: str) -> bool:
    """Mark the annotator's slot as done, or else a free one; False when all are taken."""
    done = {"state": "done", "holder": annotator, "until": None}
    own = update(tables.slots).where(_held(project, annotator, task_id)).values(**done)
    if tx.connection.execute(own).rowcount:
        return True
    free = (
        select(SLOTS.id)
        .where(SLOTS.project == project, SLOTS.task_id == task_id, SLOTS.state == "open")
        .order_by(SLOTS.number)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    late = update(tables.slots).where(SLOTS.id == free).values(**done)
    return tx.connection.execute(late).rowcount > 0


def _finish(tx: Transaction, project: str, annotator: str, task_id: str, **values: Any) -> None:
    statement = update(tables.assignments).where(_mine(project, annotator, task_id))
    tx.connection.execute(statement.values(draft=None, changed_at=tx.now, **values))


def _receipt(tx: Transaction, key: str, annotator: str, task_id: str) -> Receipt | None:
    sent, stored = tables.submissions.c, tables.annotations.c
    query = (
        select(sent.annotation_id, sent.is_surplus, stored.revision, stored.annotator)
        .add_columns(stored.task_id)
        .join(tables.annotations, stored.id == sent.annotation_id)
        .where(sent.key == key)
    )
    row: Any = tx.connection.execute(query).one_or_none()
    if row is None:
        return None
    if (row.annotator, row.task_id) != (annotator, task_id):
        raise DataError(f"the key {key!r} belongs to another answer; make a new one per answer")
    return Receipt(
        annotation_id=row.annotation_id, revision=row.revision, is_surplus=row.is_surplus
    )


def _next_revision(tx: Transaction, task_id: str, annotator: str) -> int:
    stored = tables.annotations.c
    query = select(func.max(stored.revision)).where(
        stored.task_id == task_id, stored.annotator == annotator
    )
    newest: int | None = tx.connection.scalar(query)
    return 0 if newest is None else newest + 1


def _why_nothing(tx: Transaction, project: str) -> Nothing:
    counted = select(SLOTS.state, func.count()).where(SLOTS.project == project)
    states = {row[0]: row[1] for row in tx.connection.execute(counted.group_by(SLOTS.state))}
    if not states:
        return Nothing(reason="no_tasks", retry_seconds=None)
    if states.get("open"):
        return Nothing(reason="answered_all_open", retry_seconds=RETRY_SECONDS)
    if states.get("leased"):
        return Nothing(reason="all_leased", retry_seconds=RETRY_SECONDS)
    return Nothing(reason="all_done", retry_seconds=None)


def _mine(project: str, annotator: str, task_id: str) -> ColumnElement[bool]:
    return and_(
        ASSIGNMENTS.project == project,
        ASSIGNMENTS.task_id == task_id,
        ASSIGNMENTS.annotator == annotator,
    )


def _held(project: str, annotator: str, task_id: str) -> ColumnElement[bool]:
    return and_(
        SLOTS.project == project,
        SLOTS.task_id == task_id,
        SLOTS.holder == annotator,
        SLOTS.state == "leased",
    )
