"""Counts of a project's slots by state, kept with every change and never counted.

What an annotator does is added to their own row, which only their requests write: two people
never wait for each other. What is nobody's doing is added to the row of the queue. A sum reads as
many rows as people worked in the project, however many tasks it has.

Statements of this module and of the queue are made once, on import: making one takes longer than
running it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, bindparam, func, select, update

from heedful.store import tables
from heedful.store.database import Transaction

QUEUES, PEOPLE = tables.queues.c, tables.participants.c
COUNTS = ("num_open", "num_leased", "num_done")
ADDED = (*COUNTS, "num_given", "num_answered")
CURSOR = ("cursor_urgency", "cursor_turn", "cursor_turns")
AT: BindParameter[str] = bindparam("at")  # a project
WHO: BindParameter[str] = bindparam("who")  # an annotator

_MINE = (PEOPLE.project == AT) & (PEOPLE.annotator == WHO)
_PARTICIPANT = select(tables.participants).where(_MINE)
_PLACE = (
    select(tables.queues.c.num_turns, *(PEOPLE[name] for name in CURSOR))
    .outerjoin(tables.participants, (PEOPLE.project == QUEUES.project) & (PEOPLE.annotator == WHO))
    .where(QUEUES.project == AT)
)
_SUMS = select(*(func.coalesce(func.sum(PEOPLE[name]), 0) for name in COUNTS)).where(
    PEOPLE.project == AT
)
_QUEUE = select(*(QUEUES[name] for name in COUNTS)).where(QUEUES.project == AT)
_CHANGE = (
    update(tables.participants)
    .where(_MINE)
    .values({name: PEOPLE[name] + bindparam(f"more_{name}") for name in ADDED})
    .returning(*tables.participants.c)
)
_SET_CURSOR = (
    update(tables.participants)
    .where(_MINE)
    .values(
        cursor_urgency=bindparam("to_urgency"),
        cursor_turn=bindparam("to_turn"),
        cursor_turns=bindparam("to_turns"),
    )
)
_CHANGE_QUEUE = (
    update(tables.queues)
    .where(QUEUES.project == AT)
    .values({name: QUEUES[name] + bindparam(f"more_{name}") for name in COUNTS})
)
_NEXT_TURN = (
    update(tables.queues)
    .where(QUEUES.project == AT)
    .values(num_turns=QUEUES.num_turns + 1)
    .returning(QUEUES.num_turns)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Slots of a project by state."""

    num_open: int
    num_leased: int
    num_done: int

    @property
    def num_slots(self) -> int:
        """All of them."""
        return self.num_open + self.num_leased + self.num_done


def read(tx: Transaction, project: str) -> Counts:
    """The slots of a project by state."""
    people = tx.connection.execute(_SUMS, {"at": project}).one()
    queue = tx.connection.execute(_QUEUE, {"at": project}).one_or_none() or (0, 0, 0)
    sums = [int(a) + int(b) for a, b in zip(people, queue, strict=True)]
    return Counts(num_open=sums[0], num_leased=sums[1], num_done=sums[2])


def change(tx: Transaction, project: str, annotator: str, **added: int) -> Any:
    """Add to an annotator's row (``num_leased=-1, num_done=1``); the row as it is then."""
    values: dict[str, Any] = {f"more_{name}": added.get(name, 0) for name in ADDED}
    values |= {"at": project, "who": annotator}
    row = tx.connection.execute(_CHANGE, values).one_or_none()
    if row is None:
        numbers = dict.fromkeys((*ADDED, "cursor_turns"), 0)
        tx.insert_new(tables.participants, [{"project": project, "annotator": annotator} | numbers])
        row = tx.connection.execute(_CHANGE, values).one()
    return row


def participant(tx: Transaction, project: str, annotator: str) -> Any:
    """An annotator's row; None before they were given something."""
    parameters = {"at": project, "who": annotator}
    return tx.connection.execute(_PARTICIPANT, parameters).one_or_none()


def set_cursor(
    tx: Transaction, project: str, annotator: str, place: tuple[float, int], turns: int
) -> None:
    """Remember up to where the started slots are none of this annotator's, and as of when."""
    parameters = {"at": project, "who": annotator, "to_turns": turns}
    tx.connection.execute(_SET_CURSOR, parameters | {"to_urgency": place[0], "to_turn": place[1]})


def add_queue(tx: Transaction, project: str) -> None:
    """The row of a new project's queue."""
    row = {"project": project, "num_turns": 0} | dict.fromkeys(COUNTS, 0)
    tx.insert_new(tables.queues, [row])


def cursor(tx: Transaction, project: str, annotator: str) -> Any:
    """The queue's last turn, and where the annotator's cursor stands: None at first."""
    return tx.connection.execute(_PLACE, {"at": project, "who": annotator}).one()


def next_turn(tx: Transaction, project: str) -> int:
    """The number of a new turn; until the end nobody else changes the order of the queue."""
    return int(tx.connection.execute(_NEXT_TURN, {"at": project}).scalar_one())


def change_queue(tx: Transaction, project: str, **added: int) -> None:
    """Add to the row of a queue whose order nobody else changes."""
    values = {f"more_{name}": added.get(name, 0) for name in COUNTS}
    tx.connection.execute(_CHANGE_QUEUE, values | {"at": project})
