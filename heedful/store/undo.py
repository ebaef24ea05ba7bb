"""What a person answered last: undo goes back through it, and none of it is asked again yet."""

from collections.abc import Sequence

from sqlalchemy import and_, bindparam, select

from heedful.store import tables
from heedful.store.database import Transaction
from heedful.store.tallies import AT, WHO

NUM_UNDO = 20
Given = tuple[str, int]  # a task and the round in which it was given: rounds are answered apart

ASSIGNMENTS = tables.assignments.c
_RECENT = (
    select(ASSIGNMENTS.task_id, ASSIGNMENTS.round)
    .where(and_(ASSIGNMENTS.project == AT, ASSIGNMENTS.annotator == WHO))
    .where(ASSIGNMENTS.state == "submitted")
    .order_by(ASSIGNMENTS.changed_at.desc(), ASSIGNMENTS.given.desc())
    .limit(bindparam("most"))
)


def recent(tx: Transaction, project: str, annotator: str, limit: int = NUM_UNDO) -> Sequence[Given]:
    """What an annotator answered or changed last, newest first."""
    parameters = {"at": project, "who": annotator, "most": limit}
    return [(row.task_id, row.round) for row in tx.connection.execute(_RECENT, parameters)]
