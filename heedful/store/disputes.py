"""Tasks on which people's answers disagree, and the reviewers' answers that settle them.

A task is in dispute when two of its votes do not agree by its form. An adjudication is one more
answer to the same form, of its own kind: it outranks the votes when preferences are made, and the
votes stay. Reviewers see what people said only after they have answered themselves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from sqlalchemy import and_, bindparam, func, select, update

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import annotations, projects, tables
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.store.tallies import AT
from heedful.types import Annotation, AnnotationKind

KINDS: tuple[AnnotationKind, ...] = ("answer", "adjudication")  # that make or settle a dispute
ITEMS, STORED = tables.queue_items.c, tables.annotations.c
_MINE = and_(ITEMS.project == AT, ITEMS.task_id == bindparam("task"))
_LOCK = select(ITEMS.is_disputed).where(_MINE).with_for_update()
_NOTE = update(tables.queue_items).where(_MINE).values(is_disputed=bindparam("to_disputed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A task with the adjudication that stands and the votes that it outranks."""

    adjudication: Annotation
    votes: tuple[Annotation, ...]


def update_dispute(tx: Transaction, project: str, task_id: str, form_name: str) -> None:
    """Note whether the votes on a task disagree; nothing is in dispute once it was settled."""
    was_disputed = lock(tx, project, task_id)
    said = annotations.latest(tx, [task_id], KINDS)
    if was_disputed is not None:
        note(tx, project, task_id, form_name, said, was_disputed=was_disputed)


def note(
    tx: Transaction,
    project: str,
    task_id: str,
    form_name: str,
    said: Sequence[Annotation],
    *,
    was_disputed: bool,
) -> None:
    """Do so for a task that is locked, of which ``said`` are the newest answers."""
    votes = [one.payload for one in said if one.kind == "answer"]
    form = FORMS[form_name]
    is_settled = any(one.kind == "adjudication" for one in said)
    is_disputed = not is_settled and any(
        form.agrees(one, other) is False for one, other in combinations(votes, 2)
    )
    if is_disputed != was_disputed:
        parameters = {"at": project, "task": task_id, "to_disputed": is_disputed}
        tx.connection.execute(_NOTE, parameters)


def lock(tx: Transaction, project: str, task_id: str) -> bool | None:
    """One after the other: of two who answer a task at once, the second has to see the first.

    Is it in dispute so far? None for a task of another project.
    """
    return tx.connection.scalar(_LOCK, {"at": project, "task": task_id})


def update_disputes(tx: Transaction, task_ids: Iterable[str]) -> None:
    """Note it for these tasks, in whatever projects they are."""
    forms: dict[str, str] = {}
    for chunk in chunks(sorted(set(task_ids))):
        query = select(ITEMS.project, ITEMS.task_id).where(ITEMS.task_id.in_(chunk))
        for row in tx.connection.execute(query.order_by(ITEMS.task_id, ITEMS.project)).all():
            if row.project not in forms:
                forms[row.project] = projects.get(tx, row.project).form
            update_dispute(tx, row.project, row.task_id, forms[row.project])


def find_disputes(tx: Transaction) -> None:
    """Note it for every task that several people answered: a new column says that of none."""
    votes = select(STORED.task_id).where(STORED.kind == "answer").group_by(STORED.task_id)
    several = votes.having(func.count(STORED.annotator.distinct()) > 1)
    update_disputes(tx, tx.connection.scalars(several).all())


def disputed(tx: Transaction, project: str, *, limit: int, after: str = "") -> list[str]:
    """Tasks in dispute by id, a page at a time; ``after`` is the last one of the page before."""
    query = select(ITEMS.task_id).where(
        ITEMS.project == project, ITEMS.is_disputed, ITEMS.task_id > after
    )
    return list(tx.connection.scalars(query.order_by(ITEMS.task_id).limit(limit)))


def count(tx: Transaction, project: str) -> int:
    """How many tasks are in dispute."""
    query = select(func.count()).where(ITEMS.project == project, ITEMS.is_disputed)
    return tx.connection.scalar(query) or 0


def require(tx: Transaction, project: str, task_id: str, *, hint: str = "take another") -> None:
    """Raise ``MissingError`` for another project's task, ``DataError`` for one not in dispute."""
    query = select(ITEMS.is_disputed).where(ITEMS.project == project, ITEMS.task_id == task_id)
    found = tx.connection.scalar(query)
    if found is None:
        raise MissingError(f"task {task_id!r} is not in project {project!r}")
    if not found:
        raise DataError(
            f"nobody disagrees about task {task_id!r} any more, or somebody has settled it; {hint}"
        )


def settled(tx: Transaction, project: str, who: str, *, limit: int) -> list[Settled]:
    """What a reviewer settled last in a project, newest first, with what people had said."""
    assigned = tables.assignments.c
    query = (
        select(assigned.task_id)
        .where(
            assigned.annotator == who,
            assigned.project == project,
            assigned.state == "submitted",
            assigned.kind == "adjudication",
        )
        .order_by(assigned.changed_at.desc())
        .limit(limit)
    )
    tasks = list(tx.connection.scalars(query))
    standing = {a.task_id: a for a in annotations.latest(tx, tasks, ("adjudication",))
                if a.annotator == who}  # fmt: skip
    votes = annotations.latest(tx, tasks)
    return [
        Settled(
            adjudication=standing[task],
            votes=tuple(vote for vote in votes if vote.task_id == task),
        )
        for task in tasks
    ]
