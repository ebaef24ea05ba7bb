"""Assignments: tasks as one annotator was given them, each in an order that stays."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Table, and_, bindparam, exists, func, select, update

from heedful.errors import MissingError
from heedful.store import projects, slots, tables, tallies, tasks
from heedful.store.database import Transaction, Writes
from heedful.store.desks import Desk
from heedful.store.tallies import AT, WHO
from heedful.store.tasks import AnsweredTask
from heedful.types import JSON, AnnotationKind

ROUNDS: Mapping[AnnotationKind, int] = {"repeat": 1, "adjudication": 2}

SLOTS, ASSIGNMENTS = tables.slots.c, tables.assignments.c
# of an annotator in a project; of a task; of one round of it
MINE = and_(ASSIGNMENTS.project == AT, ASSIGNMENTS.annotator == WHO)
OF_TASK = and_(MINE, ASSIGNMENTS.task_id == slots.TASK)
THIS = and_(OF_TASK, ASSIGNMENTS.round == bindparam("of_round"))
WITH_LEASE = tables.assignments.outerjoin(
    tables.slots, slots.HELD & (SLOTS.task_id == ASSIGNMENTS.task_id)
)
_LEASED = select(tables.assignments, SLOTS.until).select_from(WITH_LEASE)
_NEWEST = _LEASED.where(OF_TASK).order_by(ASSIGNMENTS.round.desc()).limit(1)
OF_ROUND = _LEASED.where(THIS).limit(1)
FINISH = (
    update(tables.assignments)
    .where(THIS)
    .values(
        draft=None,
        state=bindparam("to_state"),
        answered=func.coalesce(ASSIGNMENTS.answered, bindparam("to_answered")),
        skip_reason=bindparam("to_reason"),
        changed_at=bindparam("now"),
    )
)


def row_of(table: Table, *names: str) -> dict[str, Any]:
    """Values for a new row of a table: a parameter for each column, ``row_NAME``."""
    return {name: bindparam(f"row_{name}", type_=table.c[name].type) for name in names}


_NEW = row_of(
    tables.assignments,
    *("project", "task_id", "annotator", "round", "kind", "shown_order", "guideline", "state"),
    *("given", "changed_at", "created_at"),
)
_IS_GIVEN = exists().where(
    *(ASSIGNMENTS[column.name] == _NEW[column.name] for column in tables.assignments.primary_key)
)
_GIVE = Writes(
    tallies.ADD,
    slots.RENEW,
    tables.assignments.insert()
    .from_select([*_NEW], select(*_NEW.values()).where(~_IS_GIVEN))
    .returning(ASSIGNMENTS.task_id),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task as one annotator has it: the order of answers, the guidelines, the draft.

    Made by ``lease``; ``until`` is when the lease runs out, None when none is held. ``kind`` says
    what the answer will be for; the annotator does not learn it. ``round`` tells apart what one
    person was given of one task: each round has its order, its draft and its answer. ``asked`` is
    the task itself where it was given just now.
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
    asked: AnsweredTask | None = field(default=None, compare=False, repr=False)


def get(
    tx: Transaction, project: str, annotator: str, task_id: str, *, round: int | None = None
) -> Assignment:
    """An annotator's own view of a task: of one round, or as they were given it last.

    Raises ``MissingError`` when they were never given it.
    """
    parameters: dict[str, Any] = {"at": project, "who": annotator, "task": task_id}
    parameters |= {} if round is None else {"of_round": round}
    statement = _NEWEST if round is None else OF_ROUND
    row: Any = tx.connection.execute(statement, parameters).one_or_none()
    if row is None:
        raise not_given(project, task_id)
    until = row.until if row.kind == "answer" else None
    if row.kind != "answer" and row.state == "open":  # looks like any other
        until = row.changed_at + timedelta(seconds=projects.get(tx, project).lease_seconds)
    return from_row(row, until)


def give(
    tx: Transaction,
    desk: Desk,
    task_id: str,
    until: datetime,
    rng: random.Random | None = None,
    *,
    order: Sequence[str] = (),
    kind: AnnotationKind = "answer",
    slot: bool = False,
) -> Assignment:
    """Keep in which order the annotator sees the answers, once and for all; renew their leases.

    Without an ``order`` it is drawn by ``rng``; ``slot`` tells that they hold a slot now, which is
    counted here. A task whose lease they let run out is theirs again as it was.
    """
    asked = tasks.get(tx, [task_id])[task_id]
    shown = list(order) or list(asked.task.completion_ids)
    if not order and rng is not None:
        rng.shuffle(shown)
    project, annotator = desk.own.project, desk.own.annotator
    added = {"num_open": -1, "num_leased": 1} if slot else {}
    values = desk.own.add(tx, num_given=1, **added) | {"ends": until}
    row: dict[str, Any] = {
        "project": project,
        "task_id": task_id,
        "annotator": annotator,
        "round": ROUNDS.get(kind, 0),
        "kind": kind,
        "shown_order": shown,
        "guideline": desk.version,
        "state": "open",
        "given": desk.own.num_given,
        "changed_at": tx.now,
    }
    new = {f"row_{name}": value for name, value in row.items()} | {"row_created_at": tx.now}
    if tx.write_all(_GIVE, values | new, table=tables.assignments):
        view = from_row(SimpleNamespace(**row, draft=None), until)
    else:
        found = get(tx, project, annotator, task_id, round=row["round"])
        view = replace(found, until=until)
    return replace(view, asked=asked)


def from_row(row: Any, until: datetime | None) -> Assignment:
    """The assignment of a row, with a lease until then."""
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


def not_given(project: str, task_id: str) -> MissingError:
    """What somebody is told about a task that they were never given."""
    return MissingError(f"task {task_id!r} was not given to you in {project!r}; take the next")


def key_of(view: Assignment, annotator: str) -> dict[str, Any]:
    """The parameters of ``THIS``."""
    of_task = {"at": view.project, "who": annotator, "task": view.task_id}
    return of_task | {"of_round": view.round}
