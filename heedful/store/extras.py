"""Items mixed in to measure a person: questions with a known answer, and questions once more.

They take no slot and block nobody, so they have no lease: they are the annotator's until answered
or skipped. What comes back is kept under its own kind and is never a vote.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, bindparam, exists, select

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import annotations, people, picking, slots, tables, tallies, tasks, undo
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.store.tallies import AT, WHO
from heedful.types import JSON, Annotation, AnnotationKind, Completion, Project, Task

REPEAT_AFTER = undo.NUM_UNDO  # answers
NUM_TRIES = 8
ASSIGNMENTS, GOLDS, ITEMS = tables.assignments.c, tables.golds.c, tables.queue_items.c

_SEEN = exists().where(
    ASSIGNMENTS.project == AT,
    ASSIGNMENTS.task_id == GOLDS.task_id,
    ASSIGNMENTS.annotator == WHO,
)
_UNSEEN_GOLDS = select(GOLDS.task_id).where(GOLDS.project == AT, ~_SEEN).order_by(GOLDS.task_id)
_again = tables.assignments.alias()
_ANSWERED = select(ASSIGNMENTS.task_id, ASSIGNMENTS.shown_order).where(
    ASSIGNMENTS.annotator == WHO,
    ASSIGNMENTS.project == AT,
    ASSIGNMENTS.answered == bindparam("number"),
    ASSIGNMENTS.kind == "answer",
    ~exists().where(
        _again.c.project == AT,
        _again.c.task_id == ASSIGNMENTS.task_id,
        _again.c.annotator == WHO,
        _again.c.round > 0,
    ),
    ~exists().where(GOLDS.project == AT, GOLDS.task_id == ASSIGNMENTS.task_id),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """An item to mix in; an empty order is drawn anew. Made by ``draw``, used by the queue."""

    kind: AnnotationKind
    task_id: str
    shown_order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often an annotator hit, out of how many tries. Used by the page on quality."""

    hits: int
    trials: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """What an annotator said to a task first, and when it was asked again with sides reversed."""

    first: Annotation
    again: Annotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of known answers: ``contradicted`` tasks have another one, which stays."""

    num_new: int
    contradicted: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A task's known answer, and who says so."""

    task_id: str
    payload: Mapping[str, JSON]
    author: str


def draw(tx: Transaction, project: Project, annotator: str, rng: random.Random) -> Extra | None:
    """What follows a task that was just given, if anything.

    The shares are of all items: one follows a task with the odds of its share against what is
    neither, so that it is met on average as long as there is something to show.
    """
    plain = 1 - project.gold_share - project.repeat_share
    chance = rng.random() * plain
    if chance < project.gold_share:
        return _unseen_gold(tx, project.dataset, annotator, rng)
    if chance < project.gold_share + project.repeat_share:
        return _old_answer(tx, project.dataset, annotator, rng)
    return None


def set_gold(
    tx: Transaction, project: Project, task_id: str, payload: Mapping[str, JSON], *, who: str
) -> None:
    """Say what the right answer to a task is, and take it out of the ordinary queue.

    Answers that people gave to it before stay votes. Raises ``MissingError`` for a task of another
    project, ``DataError`` for a payload that the form refuses or a form without right and wrong.
    """
    name = project.dataset
    item = _item(tx, name, task_id)
    asked = tasks.get(tx, [task_id])[task_id]
    check_gold(asked.task, asked.completions, payload)
    tallies.next_turn(tx, name)  # of two who say so at once, the second replaces the first
    there = and_(GOLDS.project == name, GOLDS.task_id == task_id)
    tx.connection.execute(tables.golds.delete().where(there))
    row = {"project": name, "task_id": task_id, "payload": dict(payload), "author": who}
    tx.insert_new(tables.golds, [row])
    picking.withdraw(tx, name, task_id, item.urgency)
    slots.withdraw(tx, name, task_id)
    people.log(tx, who, "set known answer", task_id, {"project": name})


def check_gold(
    task: Task, completions: Mapping[str, Completion], payload: Mapping[str, JSON]
) -> None:
    """Refuse what cannot be a task's known answer; raises ``DataError``."""
    form = FORMS[task.form]
    known = Annotation(
        task_id=task.id,
        annotator="",
        source="human",
        payload=payload,
        shown_order=task.completion_ids,
        kind="gold",
    )
    form.check(task, completions, known)
    if form.agrees(payload, payload) is None:
        raise DataError(f"{form.name} answers cannot be compared, so none can be known to be right")


def add_golds(
    tx: Transaction, project: Project, known: Mapping[str, Mapping[str, JSON]], *, who: str
) -> Added:
    """Add known answers, checked before, to queued tasks; what is known already stays."""
    name, agrees = project.dataset, FORMS[project.form].agrees
    if known:
        tallies.next_turn(tx, name)  # before it is read what is known
    before = {
        row.task_id: row.payload
        for chunk in chunks(sorted(known))
        for row in tx.connection.execute(
            select(tables.golds).where(GOLDS.project == name, GOLDS.task_id.in_(chunk))
        )
    }
    new = [one for one in sorted(known) if one not in before]
    rows = [
        {"project": name, "task_id": one, "payload": dict(known[one]), "author": who} for one in new
    ]
    if rows:
        for one in slots.open_tasks(tx, name, new):
            picking.withdraw(tx, name, one, _item(tx, name, one).urgency)
            slots.withdraw(tx, name, one)
        tx.insert_new(tables.golds, rows)
        people.log(tx, who, "added known answers", name, {"number": len(rows)})
    others = [one for one in before if not agrees(before[one], known[one])]
    return Added(num_new=len(rows), contradicted=tuple(others))


def unset_gold(tx: Transaction, project: Project, task_id: str, *, who: str) -> None:
    """Make a task an ordinary one again; its missing slots are opened."""
    drop_gold(tx, project, task_id)
    people.log(tx, who, "removed known answer", task_id, {"project": project.dataset})


def drop_gold(tx: Transaction, project: Project, task_id: str) -> None:
    """Do so without a line in the log; raises ``MissingError`` where no answer is known."""
    name = project.dataset
    item = _item(tx, name, task_id)
    there = and_(GOLDS.project == name, GOLDS.task_id == task_id)
    if not tx.connection.execute(tables.golds.delete().where(there)).rowcount:
        raise MissingError(f"task {task_id!r} has no known answer in {name!r}")
    turn = tallies.next_turn(tx, name)
    slots.add(tx, name, task_id, urgency=item.urgency, up_to=project.overlap, turn=turn)


def golds(tx: Transaction, project: str) -> list[Gold]:
    """The known answers of a project; for owners, never for annotators."""
    query = select(tables.golds).where(GOLDS.project == project).order_by(GOLDS.task_id)
    return [
        Gold(task_id=row.task_id, payload=row.payload, author=row.author)
        for row in tx.connection.execute(query)
    ]


def gold_tallies(tx: Transaction, project: str) -> dict[str, Tally]:
    """By annotator: how many known answers they hit with their newest answer, by the form."""
    known = {one.task_id: one.payload for one in golds(tx, project)}
    form = _form(tx, project)
    given = annotations.latest(tx, known, ("gold",))
    return tallied((one.annotator, form.agrees(one.payload, known[one.task_id])) for one in given)


def repeats(tx: Transaction, project: str) -> list[Repeat]:
    """Every task that somebody answered twice, with sides reversed; newest revisions."""
    again = select(ASSIGNMENTS.task_id).where(
        ASSIGNMENTS.project == project,
        ASSIGNMENTS.kind == "repeat",
        ASSIGNMENTS.state == "submitted",
    )
    asked = set(tx.connection.scalars(again))
    first = {(a.task_id, a.annotator): a for a in annotations.latest(tx, asked)}
    second = annotations.latest(tx, asked, ("repeat",))
    return [
        Repeat(first=first[one.task_id, one.annotator], again=one)
        for one in second
        if (one.task_id, one.annotator) in first
    ]


def repeat_tallies(tx: Transaction, project: str) -> dict[str, Tally]:
    """By annotator: how often the second answer says what the first one said, by the form."""
    form = _form(tx, project)
    return tallied(
        (one.again.annotator, form.agrees(one.first.payload, one.again.payload))
        for one in repeats(tx, project)
    )


def unseen_golds(tx: Transaction, project: str, annotator: str) -> Sequence[str]:
    """The tasks with a known answer that a person was never given, by id."""
    return tx.connection.scalars(_UNSEEN_GOLDS, {"at": project, "who": annotator}).all()


def _unseen_gold(tx: Transaction, project: str, annotator: str, rng: random.Random) -> Extra | None:
    unseen = unseen_golds(tx, project, annotator)
    return Extra(kind="gold", task_id=rng.choice(unseen)) if unseen else None


def _old_answer(tx: Transaction, project: str, annotator: str, rng: random.Random) -> Extra | None:
    """An answer of long enough ago, uniformly among those that a few draws can repeat.

    None that undo leads to, though: nobody sees the first one beside the second.
    """
    mine = tallies.participant(tx, project, annotator)
    num_old = mine.num_answered - REPEAT_AFTER if mine is not None else 0
    fresh = {task for task, _ in undo.recent(tx, project, annotator)} if num_old > 0 else set()
    for _ in range(NUM_TRIES if num_old > 0 else 0):
        parameters = {"at": project, "who": annotator, "number": rng.randint(1, num_old)}
        row = tx.connection.execute(_ANSWERED, parameters).one_or_none()
        if row is not None and row.task_id not in fresh:
            reversed_order = tuple(reversed(row.shown_order))
            return Extra(kind="repeat", task_id=row.task_id, shown_order=reversed_order)
    return None


def _item(tx: Transaction, project: str, task_id: str) -> Any:
    query = select(tables.queue_items).where(ITEMS.project == project, ITEMS.task_id == task_id)
    row = tx.connection.execute(query).one_or_none()
    if row is None:
        raise MissingError(f"task {task_id!r} is not in project {project!r}; add it first")
    return row


def _form(tx: Transaction, project: str) -> Any:
    columns = tables.projects.c
    name = tx.connection.scalar(select(columns.form).where(columns.dataset == project))
    if name is None:
        raise MissingError(f"project {project!r} is not in the store")
    return FORMS[name]


def tallied(outcomes: Iterable[tuple[str, bool | None]]) -> dict[str, Tally]:
    """Hits and tries by person."""
    counted: dict[str, list[bool]] = {}
    for annotator, is_hit in outcomes:
        counted.setdefault(annotator, []).append(bool(is_hit))
    return {
        annotator: Tally(hits=sum(hits), trials=len(hits)) for annotator, hits in counted.items()
    }
