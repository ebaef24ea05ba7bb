"""Statistics of a project as they were computed, with what they rest on. The newest one is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from sqlalchemy import func, select, update

from heedful.store import tables
from heedful.store.columns import ASKED, ITEMS
from heedful.store.database import Transaction
from heedful.types import JSON

Kind = Literal["quality", "patterns", "leaderboard"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SUMMARIES = tables.summaries.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Statistics of one kind. Made by ``jobs.quality``, shown by pages and the JSON API.

    ``num_answers`` counts the answers that were stored then, of every kind and revision,
    ``num_done`` the slots that were filled; ``seconds`` is what computing it took.
    """

    project: str
    kind: Kind
    data: Mapping[str, JSON]
    num_answers: int
    num_done: int
    seconds: float
    computed_at: datetime | None = None


def put(tx: Transaction, summary: Summary) -> None:
    """Keep a summary in place of the one before."""
    row = {
        "project": summary.project,
        "kind": summary.kind,
        "data": dict(summary.data),
        "num_answers": summary.num_answers,
        "num_done": summary.num_done,
        "seconds": summary.seconds,
    }
    same = (SUMMARIES.project == summary.project, SUMMARIES.kind == summary.kind)
    statement = update(tables.summaries).where(*same).values(**row, created_at=tx.now)
    if not tx.connection.execute(statement).rowcount:
        tx.insert_new(tables.summaries, [row])


def get(tx: Transaction, project: str, kind: Kind) -> Summary | None:
    """The newest summary; None when there is none yet."""
    query = select(tables.summaries).where(SUMMARIES.project == project, SUMMARIES.kind == kind)
    row = tx.connection.execute(query).one_or_none()
    if row is None:
        return None
    return Summary(
        project=row.project,
        kind=row.kind,
        data=row.data,
        num_answers=row.num_answers,
        num_done=row.num_done,
        seconds=row.seconds,
        computed_at=row.created_at,
    )


def lock(tx: Transaction, project: str | None = None) -> None:
    """Until the end nobody else keeps or deletes summaries of a project, or of any."""
    name = tables.projects.c.dataset
    query = select(name).order_by(name).with_for_update(key_share=True)
    tx.connection.execute(query if project is None else query.where(name == project)).all()


def delete_all(tx: Transaction) -> None:
    """Delete the summaries of every project; they are computed again when they are looked at."""
    lock(tx)
    tx.connection.execute(tables.summaries.delete())


def count_answers(tx: Transaction, project: str, *, up_to: int | None = None) -> int:
    """Stored answers of a project in its form, of every kind and revision.

    At most ``up_to``, which bounds the work.
    """
    annotations = tables.annotations.c
    found = (
        select(annotations.id)
        .select_from(ASKED.join(tables.annotations, annotations.task_id == ITEMS.task_id))
        .where(ITEMS.dataset == project)
        .limit(up_to)
        .subquery()
    )
    return tx.connection.scalar(select(func.count()).select_from(found)) or 0


def count_done(tx: Transaction, project: str) -> int:
    """Filled slots of a project."""
    slots = tables.slots.c
    query = select(func.count()).where(slots.project == project, slots.state == "done")
    return tx.connection.scalar(query) or 0
