"""Entry questions: known answers that a person gives before they get the ordinary tasks.

A project asks ``qualify_with`` of them. When that many are answered it is decided, once: who hit
the share ``qualify_at`` is in. The decision stands on the person's row in the project; changed
answers and changed settings do not move it, an owner does. Owners are never asked, since they make
the known answers.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import and_, bindparam, func, select, update

from heedful.errors import DataError
from heedful.forms import FORMS
from heedful.store import extras, people, projects, slots, tables, tallies
from heedful.store.database import Transaction
from heedful.store.extras import Tally
from heedful.store.tallies import AT, WHO
from heedful.types import Project, UserRole

State = Literal["not_asked", "undecided", "in", "out"]
ASSIGNMENTS, GOLDS, PEOPLE = tables.assignments.c, tables.golds.c, tables.participants.c
_SAID_BY = tables.annotations.c

# Every revision of what people said to known answers, as votes before these were known or since.
_SAID = (
    select(ASSIGNMENTS.annotator, GOLDS.task_id, GOLDS.payload.label("known"))
    .add_columns(_SAID_BY.payload.label("said"))
    .join_from(
        tables.assignments,
        tables.golds,
        and_(GOLDS.project == ASSIGNMENTS.project, GOLDS.task_id == ASSIGNMENTS.task_id),
    )
    .join(
        tables.annotations,
        and_(
            _SAID_BY.annotator == ASSIGNMENTS.annotator,
            _SAID_BY.task_id == ASSIGNMENTS.task_id,
            _SAID_BY.kind == ASSIGNMENTS.kind,
        ),
    )
    .where(ASSIGNMENTS.project == AT, ASSIGNMENTS.state == "submitted", ASSIGNMENTS.round == 0)
    .order_by(_SAID_BY.revision)
)
_SAID_BY_ONE = _SAID.where(ASSIGNMENTS.annotator == WHO)
_MINE = and_(PEOPLE.project == AT, PEOPLE.annotator == WHO)
_SET = (
    update(tables.participants)
    .where(_MINE)
    .values(
        is_qualified=bindparam("to_in"), decided_by=bindparam("by"), decided_at=bindparam("now")
    )
)
_DECIDE = _SET.where(PEOPLE.is_qualified.is_(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where somebody stands before a project. Made by ``standings``, shown to owners.

    ``by`` is the owner who decided by hand, None where the answers did.
    """

    annotator: str
    name: str
    role: UserRole
    state: State
    tally: Tally
    by: str | None
    at: datetime | None


def is_asked(project: Project, role: UserRole) -> bool:
    """Does the project ask somebody of this role entry questions?"""
    return project.qualify_with > 0 and role != "owner"


def decide(tx: Transaction, project: Project, annotator: str, mine: Any) -> bool | None:
    """Is a person in? Decides when it is due; None while they have not answered enough.

    ``mine`` is their row in the project, None without one.
    """
    if mine is not None and mine.is_qualified is not None:
        return bool(mine.is_qualified)
    tally = answered(tx, project, annotator)
    if mine is None or tally.trials < project.qualify_with:
        return None
    is_qualified = is_passed(project, tally)
    parameters = {"at": project.dataset, "who": annotator, "now": tx.now}
    tx.connection.execute(_DECIDE, parameters | {"to_in": is_qualified, "by": None})
    return is_qualified


def is_passed(project: Project, tally: Tally) -> bool:
    """Were enough of the entry questions hit?"""
    return tally.hits / tally.trials >= project.qualify_at


def answered(tx: Transaction, project: Project, annotator: str) -> Tally:
    """How many of the project's known answers a person gave, and how many they hit."""
    rows = tx.connection.execute(_SAID_BY_ONE, {"at": project.dataset, "who": annotator})
    return _tallies(project, rows).get(annotator, Tally(hits=0, trials=0))


def draw(
    tx: Transaction, project: Project, annotator: str, *, held: int, count: int, rng: random.Random
) -> list[str] | None:
    """Unseen known answers to give to somebody who holds ``held``; None when there are too few.

    Never more than are needed until it is decided.
    """
    lacking = project.qualify_with - answered(tx, project, annotator).trials - held
    unseen = extras.unseen_golds(tx, project.dataset, annotator)
    if len(unseen) < lacking:
        return None
    return rng.sample(unseen, max(0, min(lacking, count - held)))


def num_missing(tx: Transaction, project: Project) -> int:
    """How many known answers a project lacks to ask somebody who has seen none of them."""
    return max(0, project.qualify_with - num_known(tx, project.dataset))


def num_known(tx: Transaction, project: str) -> int:
    """How many known answers a project has."""
    query = select(func.count()).select_from(tables.golds).where(GOLDS.project == project)
    return tx.connection.scalar(query) or 0


def set_by_hand(
    tx: Transaction, project: str, annotator: str, is_qualified: bool, *, who: str
) -> None:
    """Let a person in or out, whatever they answered; what they hold goes back when they are out.

    Raises ``DataError`` in a project without entry questions and for somebody who is not asked
    any, ``MissingError`` for an unknown person.
    """
    settings = projects.get(tx, project)
    role = people.serialise(tx, annotator)
    if not settings.qualify_with:
        raise DataError(
            f"project {project!r} asks no entry questions, so everybody is in; set qualify_with"
        )
    if role in ("owner", "reader"):
        why = "owners are always in" if role == "owner" else "readers do not answer"
        raise DataError(f"user {annotator!r} is {role}: {why}; change their role first")
    tallies.change(tx, project, annotator)
    parameters = {"at": project, "who": annotator, "now": tx.now, "by": who}
    tx.connection.execute(_SET, parameters | {"to_in": is_qualified})
    if not is_qualified:
        slots.reopen_leased(tx, project, annotator)
    what = "let into project" if is_qualified else "kept out of project"
    people.log(tx, who, what, annotator, {"project": project})


def standings(tx: Transaction, project: Project) -> list[Standing]:
    """Everybody who may answer, oldest first, with what they said to known answers."""
    name = project.dataset
    found = _tallies(project, tx.connection.execute(_SAID, {"at": name}))
    rows: dict[str, Any] = {
        row.annotator: row
        for row in tx.connection.execute(select(tables.participants).where(PEOPLE.project == name))
    }
    return [
        Standing(
            annotator=user.id,
            name=user.name,
            role=user.role,
            state=_state(project, user.role, rows.get(user.id)),
            tally=found.get(user.id, Tally(hits=0, trials=0)),
            by=rows[user.id].decided_by if user.id in rows else None,
            at=rows[user.id].decided_at if user.id in rows else None,
        )
        for user in people.list_all(tx)
        if user.is_active and user.role != "reader"
    ]


def _state(project: Project, role: UserRole, row: Any) -> State:
    if not is_asked(project, role):
        return "not_asked"
    if row is None or row.is_qualified is None:
        return "undecided"
    return "in" if row.is_qualified else "out"


def _tallies(project: Project, rows: Iterable[Any]) -> dict[str, Tally]:
    """Hits and tries by person, by the newest revision of each answer."""
    newest = {(row.annotator, row.task_id): row for row in rows}
    agrees = FORMS[project.form].agrees
    return extras.tallied((row.annotator, agrees(row.said, row.known)) for row in newest.values())
