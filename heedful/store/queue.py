"""The queue: who may answer which task next, and the answers that come back.

A *slot* is a place for one answer. Taking one is a lease that runs out, so that an annotator who
leaves blocks nobody; answering fills it. An answer that comes after its lease was given to someone
else is kept as surplus: work that was done is never refused.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import and_, bindparam, func, select, update

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import (
    annotations,
    disputes,
    entry,
    extras,
    people,
    picking,
    projects,
    slots,
    tables,
    tallies,
    tasks,
)
from heedful.store.database import Transaction
from heedful.store.tallies import AT, WHO
from heedful.types import JSON, Annotation, AnnotationKind, Project, Source, content_id

RETRY_SECONDS = 30
MAX_KEY = 100  # characters of an idempotency key
_SETTLED = "your ruling was not stored: copy what you want to keep of it, then skip the task"
ROUNDS: Mapping[AnnotationKind, int] = {"repeat": 1, "adjudication": 2}

SLOTS, ASSIGNMENTS = tables.slots.c, tables.assignments.c
_SENT, _STORED, _SHOWN = tables.submissions.c, tables.annotations.c, tables.task_completions.c

_MINE = and_(ASSIGNMENTS.project == AT, ASSIGNMENTS.annotator == WHO)
_OF_TASK = and_(_MINE, ASSIGNMENTS.task_id == slots.TASK)
_THIS = and_(_OF_TASK, ASSIGNMENTS.round == bindparam("of_round"))
_WITH_LEASE = tables.assignments.outerjoin(
    tables.slots, slots.HELD & (SLOTS.task_id == ASSIGNMENTS.task_id)
)
_LEASED = select(tables.assignments, SLOTS.until).select_from(_WITH_LEASE)
_NEWEST = _LEASED.where(_OF_TASK).order_by(ASSIGNMENTS.round.desc()).limit(1)
_OF_ROUND = _LEASED.where(_THIS).limit(1)
_HELD = (
    select(tables.assignments)
    .select_from(_WITH_LEASE)
    .where(_MINE, ASSIGNMENTS.state == "open")
    .where((ASSIGNMENTS.kind != "answer") | SLOTS.id.is_not(None))
    .order_by(ASSIGNMENTS.given)
)
_EXTRAS = and_(_MINE, ASSIGNMENTS.state == "open", ASSIGNMENTS.kind != "answer")
_RENEW_EXTRAS = update(tables.assignments).where(_EXTRAS).values(changed_at=bindparam("now"))
_RENEW_LIVE_EXTRAS = _RENEW_EXTRAS.where(ASSIGNMENTS.changed_at >= bindparam("since"))
_DRAFT = update(tables.assignments).where(_THIS).values(draft=bindparam("to_draft"))
_FINISH = (
    update(tables.assignments)
    .where(_THIS)
    .values(
        draft=None,
        state=bindparam("to_state"),
        answered=func.coalesce(ASSIGNMENTS.answered, bindparam("to_answered")),
        skip_reason=bindparam("to_reason"),
        changed_at=bindparam("now"),
    )
)
_ORDER = select(_SHOWN.completion_id).where(_SHOWN.task_id == slots.TASK).order_by(_SHOWN.position)
_RECEIPT = (
    select(_SENT.annotation_id, _SENT.is_surplus, _STORED.revision, _STORED.annotator)
    .add_columns(_STORED.task_id, _STORED.payload)
    .join(tables.annotations, _STORED.id == _SENT.annotation_id)
    .where(_SENT.key == bindparam("sent"))
)
_NEWEST_REVISION = select(func.max(_STORED.revision)).where(
    _STORED.task_id == slots.TASK, _STORED.annotator == WHO
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task as one annotator has it: the order of answers, the guidelines, the draft.

    Made by ``lease``; ``until`` is when the lease runs out, None when none is held. ``kind`` says
    what the answer will be for; the annotator does not learn it. ``round`` tells apart what one
    person was given of one task: each round has its order, its draft and its answer.
    """

    project: str
    task_id: str
    round: int
    kind: AnnotationKind
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

    Held leases are renewed. Atomic: a slot has one holder, also between processes. A task may be
    followed by an item that measures the annotator (``extras.py``). Who is not in yet gets entry
    questions alone (``entry.py``).
    """
    settings = projects.get(tx, project)
    role = people.serialise(tx, annotator)
    if settings.is_paused:
        return Nothing(reason="paused", retry_seconds=None)
    until = tx.now + timedelta(seconds=settings.lease_seconds)
    slots.release_expired(tx, project, annotator)
    if entry.is_asked(settings, role):
        mine = tallies.participant(tx, project, annotator)
        is_in = entry.decide(tx, settings, annotator, mine)
        if not is_in:
            return _ask_first(tx, settings, annotator, is_in, count, until, rng)
    views = _held(tx, project, annotator, until)
    if any(view.kind == "answer" for view in views):
        slots.renew(tx, project, annotator, until, is_late_too=True)
    if any(view.kind != "answer" for view in views):
        tx.connection.execute(_RENEW_EXTRAS, {"at": project, "who": annotator, "now": tx.now})
    version = projects.newest_version(tx, project) if len(views) < count else 0
    while len(views) < count:
        claimed = picking.claim(tx, settings, annotator, until, rng)
        if claimed is None:
            break
        task_id, number = claimed
        order = _shuffled(tx, task_id, rng)
        views.append(_give(tx, project, task_id, annotator, version, order, until, number=number))
        more = extras.draw(tx, settings, annotator, rng)
        if more is not None:
            order = list(more.shown_order) or _shuffled(tx, more.task_id, rng)
            views.append(
                _give(tx, project, more.task_id, annotator, version, order, until, kind=more.kind)
            )
    return views[:count] or _why_nothing(tx, project)


def take(
    tx: Transaction, project: str, annotator: str, task_id: str, order: Sequence[str]
) -> Assignment:
    """Give somebody exactly this task, shown in this order, or as they were given it before.

    When others have all its slots the answer will be surplus. Raises ``MissingError`` for a task
    of another project, ``DataError`` while the project is paused.
    """
    settings = projects.get(tx, project)
    people.serialise(tx, annotator)
    this = {"at": project, "who": annotator, "task": task_id, "of_round": 0}
    row: Any = tx.connection.execute(_OF_ROUND, this).one_or_none()
    if row is not None:
        return _view(row, row.until)
    if settings.is_paused:
        raise DataError(f"project {project!r} is paused; an owner can open it")
    until = tx.now + timedelta(seconds=settings.lease_seconds)
    _, number = picking.claim_this(tx, project, task_id, annotator, until)
    version = projects.newest_version(tx, project)
    return _give(tx, project, task_id, annotator, version, order, until, number=number)


def get(
    tx: Transaction, project: str, annotator: str, task_id: str, *, round: int | None = None
) -> Assignment:
    """An annotator's own view of a task: of one round, or as they were given it last.

    Raises ``MissingError`` when they were never given it.
    """
    parameters: dict[str, Any] = {"at": project, "who": annotator, "task": task_id}
    parameters |= {} if round is None else {"of_round": round}
    statement = _NEWEST if round is None else _OF_ROUND
    row: Any = tx.connection.execute(statement, parameters).one_or_none()
    if row is None:
        raise MissingError(f"task {task_id!r} was not given to you in {project!r}; take the next")
    until = row.until if row.kind == "answer" else None
    if row.kind != "answer" and row.state == "open":  # looks like any other
        until = row.changed_at + timedelta(seconds=projects.get(tx, project).lease_seconds)
    return _view(row, until)


def adjudicate(
    tx: Transaction, project: str, reviewer: str, task_id: str, *, rng: random.Random
) -> Assignment:
    """Give a reviewer a task that people disagree on, to be answered like any other.

    The slot of it that they may hold goes to others: the ruling is their word on the task. Raises
    ``MissingError`` for a task of another project, ``DataError`` for one not in dispute.
    """
    settings = projects.get(tx, project)
    people.serialise(tx, reviewer)
    disputes.require(tx, project, task_id)
    slots.release(tx, project, reviewer, task_id)
    until = tx.now + timedelta(seconds=settings.lease_seconds)
    version = projects.newest_version(tx, project)
    order = _shuffled(tx, task_id, rng)
    return _give(tx, project, task_id, reviewer, version, order, until, kind="adjudication")


def extend(tx: Transaction, project: str, annotator: str) -> datetime | None:
    """Renew every lease that the annotator holds; until when, or None when there is none."""
    lasts = timedelta(seconds=projects.get(tx, project).lease_seconds)
    until = tx.now + lasts
    is_renewed = slots.renew(tx, project, annotator, until, is_late_too=False)
    alive = {"at": project, "who": annotator, "now": tx.now, "since": tx.now - lasts}
    holds_extra = tx.connection.execute(_RENEW_LIVE_EXTRAS, alive).rowcount > 0
    return until if is_renewed or holds_extra else None


def save_draft(
    tx: Transaction,
    project: str,
    annotator: str,
    task_id: str,
    draft: Mapping[str, JSON],
    *,
    round: int | None = None,
) -> None:
    """Keep an unfinished answer; it is not checked by the form. A finished one is not touched."""
    view = get(tx, project, annotator, task_id, round=round)
    tx.connection.execute(_DRAFT, _this(view, annotator) | {"to_draft": dict(draft)})


def submit(
    tx: Transaction,
    project: str,
    annotator: str,
    task_id: str,
    payload: Mapping[str, JSON] | Callable[[Assignment], Mapping[str, JSON]],
    *,
    key: str,
    seconds: float | None,
    source: Source = "human",
    round: int | None = None,
) -> Receipt:
    """Store an answer, or a new revision of it. The same ``key`` again returns the same receipt.

    ``round`` is the one that was shown, by default the one that was given last. Who names answers
    by their places gives a function that makes the payload of the annotator's view.

    Raises ``DataError`` for a payload that the form refuses, for a key of another answer and for a
    ruling on what is not in dispute any more, ``MissingError`` for a task that the annotator was
    never given. None of them stores anything.
    """
    if not 0 < len(key) <= MAX_KEY:
        raise DataError(f"the key of an answer has {len(key)} characters; give 1 to {MAX_KEY}")
    role = people.serialise(tx, annotator)
    view = get(tx, project, annotator, task_id, round=round)
    payload = payload(view) if callable(payload) else payload
    known = _receipt(tx, key, annotator, task_id, payload)
    if known is not None:
        return known
    if view.kind == "adjudication" and view.state != "submitted":
        disputes.lock(tx, project, task_id)
        disputes.require(tx, project, task_id, hint=_SETTLED)
    answer = Annotation(
        task_id=task_id,
        annotator=annotator,
        source=source,
        payload=payload,
        shown_order=view.shown_order,
        revision=_next_revision(tx, task_id, annotator),
        seconds=seconds,
        kind=view.kind,
    )
    asked = tasks.get(tx, [task_id])[task_id]
    FORMS[asked.task.form].check(asked.task, asked.completions, answer)
    annotations.add(tx, [answer], asked={task_id: (asked.task.form, asked.task.completion_ids)})
    is_surplus = False
    number = None
    if view.state != "submitted" and view.kind == "answer":
        is_filled, number = slots.fill(tx, project, annotator, task_id)
        is_surplus = not is_filled
    elif view.state != "submitted":
        number = tallies.change(tx, project, annotator, num_answered=1).num_answered
    row = {"key": key, "annotation_id": answer.id, "is_surplus": is_surplus}
    tx.insert_new(tables.submissions, [row])
    _finish(tx, view, annotator, "submitted", number=number)
    if view.kind in ("answer", "adjudication"):
        disputes.update_dispute(tx, project, task_id, asked.task.form)
    if view.kind == "gold" and entry.is_asked(settings := projects.get(tx, project), role):
        entry.decide(tx, settings, annotator, tallies.participant(tx, project, annotator))
    return Receipt(annotation_id=answer.id, revision=answer.revision, is_surplus=is_surplus)


def skip(
    tx: Transaction,
    project: str,
    annotator: str,
    task_id: str,
    reason: str,
    *,
    round: int | None = None,
) -> None:
    """Give a task back to others and never see it again; ``reason`` is kept.

    Raises ``DataError`` for an empty reason or a task that was answered already.
    """
    if not reason.strip():
        raise DataError("a skip has no reason; say why, for example 'not my language'")
    people.serialise(tx, annotator)
    view = get(tx, project, annotator, task_id, round=round)
    if view.state == "submitted":
        raise DataError(f"task {task_id!r} is answered; change the answer instead of skipping it")
    if view.kind == "answer":
        slots.release(tx, project, annotator, task_id)
    _finish(tx, view, annotator, "skipped", reason=reason.strip())


def progress(tx: Transaction, project: str, annotator: str) -> Progress:
    """How far the project is, and this annotator."""
    counts = tallies.read(tx, project)
    return Progress(
        num_slots=counts.num_slots,
        num_done=counts.num_done,
        num_leased=counts.num_leased,
        num_own=num_own(tx, project, annotator),
    )


def num_own(tx: Transaction, project: str, annotator: str) -> int:
    """How many tasks of a project an annotator has answered."""
    mine = tallies.participant(tx, project, annotator)
    return mine.num_answered if mine else 0


def _ask_first(
    tx: Transaction,
    project: Project,
    annotator: str,
    is_in: bool | None,
    count: int,
    until: datetime,
    rng: random.Random,
) -> list[Assignment] | Nothing:
    """What somebody gets who is not in: entry questions until it is decided, then nothing.

    Ordinary tasks that they hold, from before the project asked any, go back.
    """
    name = project.dataset
    slots.reopen_leased(tx, name, annotator)
    if is_in is not None:
        return Nothing(reason="not_qualified", retry_seconds=None)
    views = [one for one in _held(tx, name, annotator, until) if one.kind == "gold"]
    new = entry.draw(tx, project, annotator, held=len(views), count=count, rng=rng)
    if new is None:
        return Nothing(reason="no_entry_questions", retry_seconds=None)
    version = projects.newest_version(tx, name) if new else 0
    for task_id in new:
        order = _shuffled(tx, task_id, rng)
        views.append(_give(tx, name, task_id, annotator, version, order, until, kind="gold"))
    return views[:count]


def _held(tx: Transaction, project: str, annotator: str, until: datetime) -> list[Assignment]:
    """What the annotator was given and still may answer, in the order in which it was given."""
    rows = tx.connection.execute(_HELD, {"at": project, "who": annotator})
    return [_view(row, until) for row in rows]


def _shuffled(tx: Transaction, task_id: str, rng: random.Random) -> list[str]:
    """The completions of a task in a random order."""
    order = list(tx.connection.scalars(_ORDER, {"task": task_id}))
    rng.shuffle(order)
    return order


def _give(
    tx: Transaction,
    project: str,
    task_id: str,
    annotator: str,
    guideline: int,
    order: Sequence[str],
    until: datetime,
    *,
    kind: AnnotationKind = "answer",
    number: int | None = None,
) -> Assignment:
    """Keep in which order the annotator sees the answers, once and for all.

    A task whose lease they let run out is theirs again as it was. ``number`` is the how manieth
    task it is for them, where that was counted with its slot.
    """
    if number is None:
        number = tallies.change(tx, project, annotator, num_given=1).num_given
    row: dict[str, Any] = {
        "project": project,
        "task_id": task_id,
        "annotator": annotator,
        "round": ROUNDS.get(kind, 0),
        "kind": kind,
        "shown_order": list(order),
        "guideline": guideline,
        "state": "open",
        "given": number,
        "changed_at": tx.now,
    }
    if tx.insert_new(tables.assignments, [row]):
        return _view(SimpleNamespace(**row, draft=None), until)
    return replace(get(tx, project, annotator, task_id, round=row["round"]), until=until)


def _view(row: Any, until: datetime | None) -> Assignment:
    return Assignment(
        project=row.project,
        task_id=row.task_id,
        round=row.round,
        kind=row.kind,
        shown_order=tuple(row.shown_order),
        guideline=row.guideline or 0,
        state=row.state,
        draft=row.draft,
        until=until,
    )


def _finish(
    tx: Transaction,
    view: Assignment,
    annotator: str,
    state: str,
    *,
    number: int | None = None,
    reason: str | None = None,
) -> None:
    values = {"to_state": state, "to_answered": number, "to_reason": reason, "now": tx.now}
    tx.connection.execute(_FINISH, _this(view, annotator) | values)


def _receipt(
    tx: Transaction, key: str, annotator: str, task_id: str, payload: Mapping[str, JSON]
) -> Receipt | None:
    row: Any = tx.connection.execute(_RECEIPT, {"sent": key}).one_or_none()
    if row is None:
        return None
    if (row.annotator, row.task_id) != (annotator, task_id):
        raise DataError(f"the key {key!r} belongs to another answer; make a new one per answer")
    if content_id("", row.payload) != content_id("", dict(payload)):
        raise DataError(
            f"the key {key!r} was sent with another judgement, which is stored; to change it, go "
            "back to the answer and send it with a new key"
        )
    return Receipt(
        annotation_id=row.annotation_id, revision=row.revision, is_surplus=row.is_surplus
    )


def _next_revision(tx: Transaction, task_id: str, annotator: str) -> int:
    parameters = {"task": task_id, "who": annotator}
    newest: int | None = tx.connection.scalar(_NEWEST_REVISION, parameters)
    return 0 if newest is None else newest + 1


def _why_nothing(tx: Transaction, project: str) -> Nothing:
    counts = tallies.read(tx, project)
    if not counts.num_slots:
        return Nothing(reason="no_tasks", retry_seconds=None)
    if counts.num_open:
        return Nothing(reason="answered_all_open", retry_seconds=RETRY_SECONDS)
    if counts.num_leased:
        return Nothing(reason="all_leased", retry_seconds=RETRY_SECONDS)
    return Nothing(reason="all_done", retry_seconds=None)


def _this(view: Assignment, annotator: str) -> dict[str, Any]:
    of_task = {"at": view.project, "who": annotator, "task": view.task_id}
    return of_task | {"of_round": view.round}
