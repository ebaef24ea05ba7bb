"""The queue: who may answer which task next, and the answers that come back.

A *slot* is a place for one answer. Taking one is a lease that runs out, so that an annotator who
leaves blocks nobody; answering fills it. An answer that comes after its lease was given to someone
else is kept as surplus: work that was done is never refused.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

from sqlalchemy import and_, bindparam, func, select, update

from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.forms.rating import check_rates
from heedful.store import (
    annotations,
    desks,
    disputes,
    entry,
    extras,
    people,
    picking,
    projects,
    slots,
    summaries,
    tables,
    tallies,
    tasks,
)
from heedful.store.assignments import (
    ASSIGNMENTS,
    FINISH,
    MINE,
    OF_ROUND,
    OF_TASK,
    THIS,
    WITH_LEASE,
    from_row,
    give,
    key_of,
    not_given,
    row_of,
)
from heedful.store.assignments import Assignment as Assignment
from heedful.store.assignments import get as get
from heedful.store.database import Transaction, Writes
from heedful.store.desks import Desk
from heedful.types import JSON, Annotation, Source, content_id

RETRY_SECONDS = 30
MAX_KEY = 100  # characters of an idempotency key
_COMPLETION_ID, _ANNOTATION_ID = re.compile(r"cmp_\w*"), re.compile(r" ann_\w*")
_SETTLED = "your ruling was not stored: copy what you want to keep of it, then skip the task"

SLOTS = tables.slots.c
_SENT, _STORED = tables.submissions.c, tables.annotations.c

_HELD = (
    select(tables.assignments)
    .select_from(WITH_LEASE)
    .where(MINE, ASSIGNMENTS.state == "open")
    .where((ASSIGNMENTS.kind != "answer") | SLOTS.id.is_not(None))
    .order_by(ASSIGNMENTS.given)
)
_EXTRAS = and_(MINE, ASSIGNMENTS.state == "open", ASSIGNMENTS.kind != "answer")
_RENEW_EXTRAS = update(tables.assignments).where(_EXTRAS).values(changed_at=bindparam("now"))
_RENEW_LIVE_EXTRAS = _RENEW_EXTRAS.where(ASSIGNMENTS.changed_at >= bindparam("since"))
_DRAFT = update(tables.assignments).where(THIS).values(draft=bindparam("to_draft"))
_SAID = ("task_id", "annotator", "source", "payload", "shown_order", "revision", "seconds", "kind")
_STORE = Writes(
    tables.annotations.insert().values(row_of(tables.annotations, "id", "created_at", *_SAID)),
    tables.submissions.insert().values(
        row_of(tables.submissions, "is_surplus", "created_at")
        | {"annotation_id": bindparam("row_id"), "key": bindparam("sent")}
    ),
    FINISH,
    tallies.ADD,
)
# An answer's assignment with what became of its key, once for everything said to the task so far.
_said = tables.annotations.alias("said")
_RECEIPT = ("annotator", "task_id", "payload", "revision")
_NEWEST_ROUND = select(func.max(ASSIGNMENTS.round)).where(OF_TASK).correlate(None)
_ANSWERING = (
    select(tables.assignments, _SENT.annotation_id, _SENT.is_surplus)
    .add_columns(*(_STORED[name].label(f"stored_{name}") for name in _RECEIPT))
    .add_columns(*(_said.c[name].label(f"said_{name}") for name in _SAID))
    .select_from(
        tables.assignments.outerjoin(tables.submissions, _SENT.key == bindparam("sent"))
        .outerjoin(tables.annotations, _STORED.id == _SENT.annotation_id)
        .outerjoin(_said, _said.c.task_id == ASSIGNMENTS.task_id)
    )
    .where(OF_TASK)
    .where(
        ASSIGNMENTS.round
        == func.coalesce(
            bindparam("of_round", type_=ASSIGNMENTS.round.type), _NEWEST_ROUND.scalar_subquery()
        )
    )
)


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
    """Slots of a project by state, and what one annotator has done.

    ``num_imported``: where there are no slots, the stored answers, which came from elsewhere; at
    most ``MOST``, since pages count them.
    """

    MOST: ClassVar[int] = 10_000

    num_slots: int
    num_done: int
    num_leased: int
    num_own: int
    num_imported: int


def lease(
    tx: Transaction,
    project: str,
    annotator: str,
    *,
    count: int,
    rng: random.Random,
    at: Desk | None = None,
) -> list[Assignment] | Nothing:
    """Up to ``count`` tasks to answer: those already held, then the next ones of the queue.

    Held leases are renewed. Atomic: a slot has one holder, also between processes. A task may be
    followed by an item that measures the annotator (``extras.py``). Who is not in yet gets entry
    questions alone (``entry.py``). ``at`` is their desk, where they have entered already.
    """
    desk = at or desks.enter(tx, project, annotator)
    settings, own = desk.project, desk.own
    if settings.is_paused:
        return Nothing(reason="paused", retry_seconds=None)
    until = tx.now + timedelta(seconds=settings.lease_seconds)
    if desk.has_expired:
        slots.release_expired(tx, project, annotator)
    if entry.is_asked(settings, desk.role):
        mine = tallies.participant(tx, project, annotator)
        is_in = entry.decide(tx, settings, annotator, mine)
        if not is_in:
            return _ask_first(tx, desk, is_in, count, until, rng)
    views = _held(tx, project, annotator, until)
    if any(view.kind != "answer" for view in views):
        tx.connection.execute(_RENEW_EXTRAS, {"at": project, "who": annotator, "now": tx.now})
    is_renewed = not any(view.kind == "answer" for view in views)
    while len(views) < count:
        claimed = picking.claim(tx, settings, own, until, rng)
        if claimed is None:
            break
        views.append(give(tx, desk, claimed.task_id, until, rng, slot=claimed.has_slot))
        is_renewed = True
        more = extras.draw(tx, settings, annotator, rng)
        if more is not None:
            order = more.shown_order
            views.append(give(tx, desk, more.task_id, until, rng, kind=more.kind, order=order))
    if not is_renewed:
        slots.renew(tx, project, annotator, until, is_late_too=True)
    own.save_cursor(tx)
    return views[:count] or _why_nothing(tx, project)


def take(
    tx: Transaction, project: str, annotator: str, task_id: str, order: Sequence[str]
) -> Assignment:
    """Give somebody exactly this task, shown in this order, or as they were given it before.

    When others have all its slots the answer will be surplus. Raises ``MissingError`` for a task
    of another project, ``DataError`` while the project is paused.
    """
    desk = desks.enter(tx, project, annotator)
    this = {"at": project, "who": annotator, "task": task_id, "of_round": 0}
    row: Any = tx.connection.execute(OF_ROUND, this).one_or_none()
    if row is not None:
        return from_row(row, row.until)
    if desk.project.is_paused:
        raise DataError(f"project {project!r} is paused; an owner can open it")
    until = tx.now + timedelta(seconds=desk.project.lease_seconds)
    claimed = picking.claim_this(tx, project, task_id, annotator, until)
    return give(tx, desk, task_id, until, order=order, slot=claimed.has_slot)


def adjudicate(
    tx: Transaction, project: str, reviewer: str, task_id: str, *, rng: random.Random
) -> Assignment:
    """Give a reviewer a task that people disagree on, to be answered like any other.

    The slot of it that they may hold goes to others: the ruling is their word on the task. Raises
    ``MissingError`` for a task of another project, ``DataError`` for one not in dispute.
    """
    desk = desks.enter(tx, project, reviewer)
    disputes.require(tx, project, task_id)
    slots.release(tx, project, reviewer, task_id)
    until = tx.now + timedelta(seconds=desk.project.lease_seconds)
    return give(tx, desk, task_id, until, rng, kind="adjudication")


def extend(tx: Transaction, project: str, annotator: str) -> datetime | None:
    """Renew every lease that the annotator holds; until when, or None when there is none."""
    people.serialise(tx, annotator)  # who draws for them locks known answers before slots
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
    tx.connection.execute(_DRAFT, key_of(view, annotator) | {"to_draft": dict(draft)})


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
    at: Desk | None = None,
) -> Receipt:
    """Store an answer, or a new revision of it. The same ``key`` again returns the same receipt.

    ``round`` is the one that was shown, by default the one that was given last. Who names answers
    by their places gives a function that makes the payload of the annotator's view. ``at`` is the
    desk of who has entered for this task already.

    Raises ``DataError`` for a payload that the form refuses, for a key of another answer and for a
    ruling on what is not in dispute any more, ``MissingError`` for a task that the annotator was
    never given. None of them stores anything.
    """
    if not 0 < len(key) <= MAX_KEY:
        raise DataError(f"the key of an answer has {len(key)} characters; give 1 to {MAX_KEY}")
    desk = at or desks.enter(tx, project, annotator, task=task_id)
    named = {"at": project, "who": annotator, "task": task_id, "of_round": round, "sent": key}
    rows: Any = tx.connection.execute(_ANSWERING, named).all()
    if not rows:
        raise not_given(project, task_id)
    view = from_row(rows[0], None)
    payload = payload(view) if callable(payload) else payload
    known = _receipt(rows[0], key, annotator, task_id, payload)
    if known is not None:
        return known
    if view.kind == "adjudication" and view.state != "submitted" and not desk.is_disputed:
        disputes.require(tx, project, task_id, hint=_SETTLED)
    said = _said_so_far(rows)
    mine = [one.revision for one in said if one.annotator == annotator]
    answer = Annotation(
        task_id=task_id,
        annotator=annotator,
        source=source,
        payload=payload,
        shown_order=view.shown_order,
        revision=max(mine, default=-1) + 1,
        seconds=seconds,
        kind=view.kind,
    )
    asked = tasks.get(tx, [task_id])[task_id]
    with _speaking_of_places(view.shown_order):
        FORMS[asked.task.form].check(asked.task, asked.completions, answer)
        if asked.task.form == "rating" and desk.project.criteria:
            check_rates(answer.payload, desk.project.criteria)
        annotations.check(answer, (asked.task.form, asked.task.completion_ids))
    added, is_surplus = {}, False
    if view.state != "submitted":
        added["num_answered"] = 1
        if view.kind == "answer":
            filled = slots.fill(tx, project, annotator, task_id)
            added |= filled
            is_surplus = not filled
    _store(tx, desk, view, answer, added, key=key, is_surplus=is_surplus)
    if view.kind in disputes.KINDS:
        now_said = [
            one for one in annotations.newest([*said, answer]) if one.kind in disputes.KINDS
        ]
        form, before = asked.task.form, desk.is_disputed
        disputes.note(tx, project, task_id, form, now_said, was_disputed=before)
    if view.kind == "gold" and entry.is_asked(desk.project, desk.role):
        entry.decide(tx, desk.project, annotator, tallies.participant(tx, project, annotator))
    return Receipt(annotation_id=answer.id, revision=answer.revision, is_surplus=is_surplus)


@contextmanager
def _speaking_of_places(shown: Sequence[str]) -> Iterator[None]:
    """Refuse in words that name answers by place: ids are hashes, by which authors are guessed."""
    places = {one: str(place) for place, one in enumerate(shown)}
    try:
        yield
    except DataError as error:
        said = _ANNOTATION_ID.sub("", str(error))
        raise DataError(_COMPLETION_ID.sub(lambda at: places.get(at[0], "…"), said)) from None


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
    values = {"to_state": "skipped", "to_answered": None, "to_reason": reason.strip()}
    tx.connection.execute(FINISH, key_of(view, annotator) | values | {"now": tx.now})


def progress(tx: Transaction, project: str, annotator: str) -> Progress:
    """How far the project is, and this annotator."""
    counts = tallies.read(tx, project)
    has_slots = counts.num_slots > 0
    return Progress(
        num_slots=counts.num_slots,
        num_done=counts.num_done,
        num_leased=counts.num_leased,
        num_own=num_own(tx, project, annotator),
        num_imported=0 if has_slots else summaries.count_answers(tx, project, up_to=Progress.MOST),
    )


def num_own(tx: Transaction, project: str, annotator: str) -> int:
    """How many tasks of a project an annotator has answered."""
    mine = tallies.participant(tx, project, annotator)
    return mine.num_answered if mine else 0


def _ask_first(
    tx: Transaction,
    desk: Desk,
    is_in: bool | None,
    count: int,
    until: datetime,
    rng: random.Random,
) -> list[Assignment] | Nothing:
    """What somebody gets who is not in: entry questions until it is decided, then nothing.

    Ordinary tasks that they hold, from before the project asked any, go back.
    """
    name, annotator = desk.own.project, desk.own.annotator
    slots.reopen_leased(tx, name, annotator)
    if is_in is not None:
        return Nothing(reason="not_qualified", retry_seconds=None)
    views = [one for one in _held(tx, name, annotator, until) if one.kind == "gold"]
    new = entry.draw(tx, desk.project, annotator, held=len(views), count=count, rng=rng)
    if new is None:
        return Nothing(reason="no_entry_questions", retry_seconds=None)
    views += [give(tx, desk, task_id, until, rng, kind="gold") for task_id in new]
    return views[:count]


def _held(tx: Transaction, project: str, annotator: str, until: datetime) -> list[Assignment]:
    """What the annotator was given and still may answer, in the order in which it was given."""
    rows = tx.connection.execute(_HELD, {"at": project, "who": annotator})
    return [from_row(row, until) for row in rows]


def _store(
    tx: Transaction,
    desk: Desk,
    view: Assignment,
    answer: Annotation,
    added: Mapping[str, int],
    *,
    key: str,
    is_surplus: bool,
) -> None:
    """The answer, the key that it came with, and what it changes for its annotator."""
    values = desk.own.add(tx, **added) | key_of(view, answer.annotator)
    number = desk.own.num_answered if added else None
    values |= {f"row_{name}": value for name, value in annotations.to_row(answer).items()}
    values |= {"row_created_at": tx.now, "row_is_surplus": is_surplus, "sent": key}
    values |= {"to_state": "submitted", "to_answered": number, "to_reason": None, "now": tx.now}
    tx.write_all(_STORE, values, table=tables.annotations, hint=annotations.ONCE)


def _said_so_far(rows: Sequence[Any]) -> list[Annotation]:
    """What everybody said to a task, from the rows of ``_ANSWERING``."""
    return [
        annotations.from_row(
            SimpleNamespace(**{name: getattr(row, f"said_{name}") for name in _SAID})
        )
        for row in rows
        if row.said_task_id is not None
    ]


def _receipt(
    row: Any, key: str, annotator: str, task_id: str, payload: Mapping[str, JSON]
) -> Receipt | None:
    """What became of the answer that came with this key before, if one did."""
    if row.annotation_id is None:
        return None
    if (row.stored_annotator, row.stored_task_id) != (annotator, task_id):
        raise DataError(f"the key {key!r} belongs to another answer; make a new one per answer")
    if content_id("", row.stored_payload) != content_id("", dict(payload)):
        raise DataError(
            f"the key {key!r} was sent with another judgement, which is stored; to change it, go "
            "back to the answer and send it with a new key"
        )
    return Receipt(
        annotation_id=row.annotation_id, revision=row.stored_revision, is_surplus=row.is_surplus
    )


def _why_nothing(tx: Transaction, project: str) -> Nothing:
    counts = tallies.read(tx, project)
    if not counts.num_slots:
        return Nothing(reason="no_tasks", retry_seconds=None)
    if counts.num_open:
        return Nothing(reason="answered_all_open", retry_seconds=RETRY_SECONDS)
    if counts.num_leased:
        return Nothing(reason="all_leased", retry_seconds=RETRY_SECONDS)
    return Nothing(reason="all_done", retry_seconds=None)
