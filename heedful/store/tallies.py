"""Counts of a project's slots by state, kept with every change and never counted.

What an annotator does is added to their own row, which only their requests write: two people
never wait for each other. What is nobody's doing is added to the row of the queue. A sum reads as
many rows as people worked in the project, however many tasks it has.

Statements of this module and of the queue are made once, on import: making one takes longer than
running it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BindParameter, bindparam, func, select, update

from heedful.store import tables
from heedful.store.database import Transaction

QUEUES, PEOPLE = tables.queues.c, tables.participants.c
COUNTS = ("num_open", "num_leased", "num_done")
ADDED = (*COUNTS, "num_given", "num_answered")
CURSOR = ("cursor_urgency", "cursor_turn", "cursor_turns")
Place = tuple[float, int]  # urgency and turn: where a started slot stands
START: Place = (-math.inf, 0)  # before every other
AT: BindParameter[str] = bindparam("at")  # a project
WHO: BindParameter[str] = bindparam("who")  # an annotator

_MINE = (PEOPLE.project == AT) & (PEOPLE.annotator == WHO)
_PARTICIPANT = select(tables.participants).where(_MINE)
_SUMS = select(*(func.coalesce(func.sum(PEOPLE[name]), 0) for name in COUNTS)).where(
    PEOPLE.project == AT
)
_QUEUE = select(*(QUEUES[name] for name in COUNTS)).where(QUEUES.project == AT)
_MORE = (
    update(tables.participants)
    .where(_MINE)
    .values({name: PEOPLE[name] + bindparam(f"more_{name}") for name in ADDED})
)
_CHANGE = _MORE.returning(*tables.participants.c)
_TO_CURSOR = {name: bindparam(f"to_{name}", type_=PEOPLE[name].type) for name in CURSOR}
_SET_CURSOR = update(tables.participants).where(_MINE).values(_TO_CURSOR)
# of ``database.Writes``: what an action adds to its annotator's row, and where their cursor is then
ADD = _MORE.values(_TO_CURSOR)
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


@dataclass(slots=True, kw_only=True)
class Own:
    """An annotator's row, as the one transaction that acts for them knows it.

    Made by ``queue.enter``; who changes the row changes this as well. ``place`` is the cursor's,
    behind everything that starts before all others when there is none yet.
    """

    project: str
    annotator: str
    is_there: bool
    num_given: int
    num_answered: int
    place: Place
    turns: int
    kept: tuple[Place, int] = field(init=False)  # the cursor as it is stored

    def __post_init__(self) -> None:
        """The cursor is as it was read."""
        self.kept = (self.place, self.turns)

    def add(self, tx: Transaction, **added: int) -> dict[str, Any]:
        """The parameters of ``ADD``; the row is made if there is none."""
        if not self.is_there:
            _make(tx, self.project, self.annotator)
            self.is_there = True
        self.num_given += added.get("num_given", 0)
        self.num_answered += added.get("num_answered", 0)
        return _more(self.project, self.annotator, added) | self._cursor()

    def save_cursor(self, tx: Transaction) -> None:
        """Remember up to where the started slots are none of this annotator's, and as of when."""
        if not self.is_there or self.kept == (self.place, self.turns):
            return
        parameters = {"at": self.project, "who": self.annotator}
        tx.connection.execute(_SET_CURSOR, parameters | self._cursor())

    def _cursor(self) -> dict[str, Any]:
        self.kept = (self.place, self.turns)
        urgency, turn = (None, None) if self.place == START else self.place
        return {
            "to_cursor_urgency": urgency,
            "to_cursor_turn": turn,
            "to_cursor_turns": self.turns,
        }


def read(tx: Transaction, project: str) -> Counts:
    """The slots of a project by state."""
    people = tx.connection.execute(_SUMS, {"at": project}).one()
    queue = tx.connection.execute(_QUEUE, {"at": project}).one_or_none() or (0, 0, 0)
    sums = [int(a) + int(b) for a, b in zip(people, queue, strict=True)]
    return Counts(num_open=sums[0], num_leased=sums[1], num_done=sums[2])


def change(tx: Transaction, project: str, annotator: str, **added: int) -> Any:
    """Add to an annotator's row (``num_leased=-1, num_done=1``); the row as it is then."""
    values = _more(project, annotator, added)
    row = tx.connection.execute(_CHANGE, values).one_or_none()
    if row is None:
        _make(tx, project, annotator)
        row = tx.connection.execute(_CHANGE, values).one()
    return row


def _more(project: str, annotator: str, added: Mapping[str, int]) -> dict[str, Any]:
    values: dict[str, Any] = {f"more_{name}": added.get(name, 0) for name in ADDED}
    return values | {"at": project, "who": annotator}


def _make(tx: Transaction, project: str, annotator: str) -> None:
    """The row of somebody who is given something for the first time."""
    numbers = dict.fromkeys((*ADDED, "cursor_turns"), 0)
    tx.insert_new(tables.participants, [{"project": project, "annotator": annotator} | numbers])


def participant(tx: Transaction, project: str, annotator: str) -> Any:
    """An annotator's row; None before they were given something."""
    parameters = {"at": project, "who": annotator}
    return tx.connection.execute(_PARTICIPANT, parameters).one_or_none()


def add_queue(tx: Transaction, project: str) -> None:
    """The row of a new project's queue."""
    row = {"project": project, "num_turns": 0} | dict.fromkeys(COUNTS, 0)
    tx.insert_new(tables.queues, [row])


def next_turn(tx: Transaction, project: str) -> int:
    """The number of a new turn; until the end nobody else changes the order of the queue."""
    return int(tx.connection.execute(_NEXT_TURN, {"at": project}).scalar_one())


def change_queue(tx: Transaction, project: str, **added: int) -> None:
    """Add to the row of a queue whose order nobody else changes."""
    values = {f"more_{name}": added.get(name, 0) for name in COUNTS}
    tx.connection.execute(_CHANGE_QUEUE, values | {"at": project})
