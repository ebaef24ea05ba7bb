"""A person at work in a project: what every step of storing answers and leasing tasks needs.

It is read once a transaction, when nobody else can act for the person any more.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, false, select, true

from heedful.errors import MissingError
from heedful.store import people, projects, slots, tables, tallies
from heedful.store.database import Transaction
from heedful.store.tallies import AT, WHO, Own
from heedful.types import Project, UserRole

USERS, QUEUES, ITEMS, PEOPLE = (
    tables.users.c, tables.queues.c, tables.queue_items.c, tables.participants.c
)  # fmt: skip
_WHERE: ColumnElement[bool] = (USERS.id == WHO) & (tables.projects.c.dataset == AT)


def _in(source: Any, *more: Any) -> Select[Any]:
    return select(tables.projects, USERS.role, *more).select_from(source).where(_WHERE)


_IN_PROJECT = tables.users.join(tables.projects, true())
_LOCK = _in(_IN_PROJECT, false().label("is_disputed")).with_for_update(of=[tables.users])
# Users before tasks, as everywhere. Of two who answer a task at once, the second sees the first.
_LOCK_TASK = (
    _in(
        _IN_PROJECT.join(
            tables.queue_items, (ITEMS.project == AT) & (ITEMS.task_id == bindparam("task"))
        ),
        ITEMS.is_disputed,
    )
    .with_for_update(of=[tables.users, tables.queue_items])
)  # fmt: skip
# A statement of its own, because one that waits for a lock reads the rest as it was before.
_OWN = (
    select(PEOPLE.annotator, PEOPLE.num_given, PEOPLE.num_answered)
    .add_columns(*(PEOPLE[name] for name in tallies.CURSOR))
    .add_columns(projects.NEWEST_VERSION.scalar_subquery().label("version"))
    .add_columns(slots.HAS_EXPIRED.label("has_expired"))
    .select_from(
        tables.queues.outerjoin(
            tables.participants, (PEOPLE.project == QUEUES.project) & (PEOPLE.annotator == WHO)
        )
    )
    .where(QUEUES.project == AT)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A person who works in a project, alone there until the transaction ends.

    Made by ``enter``, used by the queue. ``version`` is that of the newest guidelines,
    ``has_expired`` whether some lease has run out, ``is_disputed`` whether people disagree on the
    task that is locked.
    """

    project: Project
    own: Own
    role: UserRole
    version: int
    has_expired: bool
    is_disputed: bool


def enter(tx: Transaction, project: str, annotator: str, *, task: str | None = None) -> Desk:
    """Let one transaction at a time act for a person; with a ``task``, for that task as well.

    Raises ``MissingError`` for a person or project that is not there, and for a task of another
    project.
    """
    named = {"at": project, "who": annotator}
    statement = _LOCK if task is None else _LOCK_TASK
    row: Any = tx.connection.execute(statement, named | {"task": task}).one_or_none()
    if row is None:
        people.serialise(tx, annotator)
        projects.get(tx, project)
        raise MissingError(f"task {task!r} was not given to you in {project!r}; take the next")
    mine: Any = tx.connection.execute(_OWN, named | {"of": project, "now": tx.now}).one()
    is_new = mine.cursor_urgency is None
    own = Own(
        project=project,
        annotator=annotator,
        is_there=mine.annotator is not None,
        num_given=mine.num_given or 0,
        num_answered=mine.num_answered or 0,
        place=tallies.START if is_new else (mine.cursor_urgency, mine.cursor_turn),
        turns=mine.cursor_turns or 0,
    )
    return Desk(
        project=projects.from_row(row),
        own=own,
        role=row.role,
        version=mine.version or 0,
        has_expired=bool(mine.has_expired),
        is_disputed=bool(row.is_disputed),
    )
