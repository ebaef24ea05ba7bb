"""Deleting a person's data: the one place where rows that are never rewritten are.

*Anonymise* keeps the judgements under a name that says nothing and removes what the person wrote;
*delete* removes the answers, and their tasks are asked again. Either way the account, the secrets,
drafts and skips go, and the log keeps what was done under the same empty name. Answers are
append-only, so a row is replaced: written anew under its new id, and the old one deleted.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args
from uuid import uuid4

from sqlalchemy import (
    Column,
    ColumnElement,
    String,
    Table,
    cast,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from heedful.errors import DataError, MissingError, ResourceError
from heedful.forms import FORMS
from heedful.store import annotations, disputes, extras, people, projects, slots, summaries, tables
from heedful.store.database import Store, Transaction
from heedful.store.page import chunks
from heedful.types import JSON, Annotation

How = Literal["anonymise", "delete"]
HOWS: tuple[How, ...] = get_args(How)
ANSWERS, USERS, SLOTS = tables.annotations.c, tables.users.c, tables.slots.c
ASSIGNMENTS = tables.assignments.c
_NO_PERSON = ("import:", "simulated:", people.GONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who is to be forgotten: the names under which answers, lines and leases stand."""

    name: str
    user_id: str | None
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was removed. ``gone`` is the empty name; ``snapshots`` are ids and paths of files.

    The files were written before and still hold what the answers said: make them again, or delete
    them. ``is_compacted`` is False when others held the database, so that freed pages could not
    be rewritten.
    """

    gone: str
    how: How
    num_anonymised: int
    num_deleted: int
    num_secrets: int
    num_assignments: int
    snapshots: tuple[tuple[str, str], ...]
    is_compacted: bool = True


def find(tx: Transaction, name: str) -> Person:
    """A person by name or id, also one who is only the annotator of imported answers.

    Raises ``MissingError`` for somebody of whom there is nothing.
    """
    wanted = name.strip()
    if not wanted or wanted.startswith(_NO_PERSON):
        raise DataError(f"{name!r:.60} is no person; give a person's name")
    row: Any = tx.connection.execute(
        select(USERS.id, USERS.name).where(or_(USERS.name == wanted, USERS.id == wanted))
    ).first()
    if row is not None:
        return Person(name=row.name, user_id=row.id, labels=(row.id, row.name))
    if tx.connection.scalar(select(ANSWERS.id).where(ANSWERS.annotator == wanted).limit(1)):
        return Person(name=wanted, user_id=None, labels=(wanted,))
    raise MissingError(f"{name!r:.60} is neither a person nor an annotator; see the page People")


def snapshots_of(tx: Transaction, person: Person) -> tuple[tuple[str, str], ...]:
    """Ids and paths of the snapshots that hold answers of a person."""
    links, made = tables.snapshot_annotations.c, tables.snapshots.c
    theirs = exists().where(
        links.snapshot_id == made.id,
        links.annotation_id == ANSWERS.id,
        ANSWERS.annotator.in_(person.labels),
    )
    query = select(made.id, made.path).where(theirs).order_by(made.id)
    return tuple((row.id, row.path) for row in tx.connection.execute(query))


def count(tx: Transaction, person: Person) -> int:
    """How many answers a person gave, every revision counted."""
    query = select(func.count()).where(ANSWERS.annotator.in_(person.labels))
    return tx.connection.scalar(query) or 0


def forget(store: Store, name: str, how: How, *, confirm: str, who: str) -> Forgotten:
    """Delete a person's data; ``confirm`` repeats the person's name, ``who`` does it.

    Raises ``DataError`` when ``confirm`` is another name, for oneself and for the last owner. The
    database is then rewritten, so that freed pages of a SQLite file hold nothing either.
    """
    if how not in HOWS:
        raise DataError(f"how is {how!r:.40}; choose from {', '.join(HOWS)}")
    with store.write() as tx:
        if tx.connection.dialect.name == "sqlite":
            tx.connection.exec_driver_sql("PRAGMA secure_delete = ON")
        person = find(tx, name)
        if confirm.strip() != person.name:
            raise DataError(
                f"{confirm!r:.60} is not the name {person.name!r}; type it to confirm that their "
                "data is to be deleted"
            )
        if who in person.labels:
            raise DataError("nobody can forget themselves; another owner has to")
        # first what requests of theirs lock first: none goes on beside this, or after it
        tx.connection.execute(select(USERS.id).where(USERS.id == person.user_id).with_for_update())
        _lock_answered(tx, person)
        done = _forget(tx, person, how)
        detail = {"how": how, "answers": done.num_anonymised + done.num_deleted}
        people.log(tx, who, people.FORGOT, done.gone, detail)
    try:
        store.compact()
    except ResourceError:  # others hold the database; what was to be deleted is deleted
        return replace(done, is_compacted=False)
    return done


def _lock_answered(tx: Transaction, person: Person) -> None:
    """Lock what they answered before the queues, in the order of those who answer now."""
    asked = tables.queue_items.c
    theirs = select(ANSWERS.task_id).where(ANSWERS.annotator.in_(person.labels))
    query = select(asked.task_id).where(asked.task_id.in_(theirs))
    tx.connection.execute(query.order_by(asked.task_id, asked.project).with_for_update()).all()


def _forget(tx: Transaction, person: Person, how: How) -> Forgotten:
    gone = _empty_name()
    files = snapshots_of(tx, person)
    if person.user_id is not None:
        row = {"id": gone, "name": gone, "role": "annotator", "attributes": {}, "is_active": False}
        tx.insert_new(tables.users, [row])
    num_anonymised, num_deleted, emptied, thinned = _answers(tx, person, how, gone)
    _known_answers(tx, person, gone)
    if person.user_id is not None:
        _chats(tx, person.user_id)
    summaries.delete_all(tx)  # they name people
    num_secrets, num_assignments = 0, 0
    if person.user_id is not None:
        num_secrets = _delete(tx, tables.credentials, tables.credentials.c.user_id, person)
        num_assignments = _assignments(tx, person.user_id, how, gone, emptied)
        _decisions(tx, person.user_id, gone)
        _repoint(tx, USERS.id, {person.user_id: gone})
        people.change(tx, person.user_id, is_active=False)  # refuses the last owner
        _delete(tx, tables.users, USERS.id, person)
    disputes.update_disputes(tx, thinned)
    _rewrite_logs(tx, person, gone)
    return Forgotten(
        gone=gone,
        how=how,
        num_anonymised=num_anonymised,
        num_deleted=num_deleted,
        num_secrets=num_secrets,
        num_assignments=num_assignments,
        snapshots=files,
    )


def _empty_name() -> str:
    return f"{people.GONE}{uuid4().hex[:12]}"


def _answers(
    tx: Transaction, person: Person, how: How, gone: str
) -> tuple[int, int, list[str], set[str]]:
    """Replace or delete every revision; how many of each.

    Then the tasks that have none of them left, and those that have fewer.
    """
    query = select(ANSWERS.id).where(ANSWERS.annotator.in_(person.labels)).order_by(ANSWERS.id)
    # both may have answered a task, each with revisions from 0
    names = {one: _empty_name() for one in person.labels} | {person.labels[0]: gone}
    ids = list(tx.connection.scalars(query))
    num_kept, asked, kept, thinned = 0, set[str](), set[str](), set[str]()
    for chunk in chunks(ids):
        rows = list(
            tx.connection.execute(
                select(tables.annotations, tables.tasks.c.form)
                .join(tables.tasks, tables.tasks.c.id == ANSWERS.task_id)
                .where(ANSWERS.id.in_(chunk))
            )
        )
        asked.update(row.task_id for row in rows)
        anew = _anonymous(tx, rows, names) if how == "anonymise" else {}
        kept.update(row.task_id for row in rows if row.id in anew)
        thinned.update(row.task_id for row in rows if row.id not in anew)
        _repoint(tx, ANSWERS.id, anew)
        _rekey(tx, list(anew.values()))
        _unlink(tx, ANSWERS.id, [one for one in chunk if one not in anew])
        tx.connection.execute(delete(tables.annotations).where(ANSWERS.id.in_(chunk)))
        num_kept += len(anew)
    return num_kept, len(ids) - num_kept, sorted(asked - kept), thinned


def _anonymous(tx: Transaction, rows: Iterable[Any], names: Mapping[str, str]) -> dict[str, str]:
    """Write the answers anew under empty names and without texts; new ids by old ones."""
    anew: dict[str, str] = {}
    made: list[Annotation] = []
    times = {}
    for row in rows:
        payload = FORMS[row.form].without_texts(row.payload)
        if payload is None:
            continue
        old = annotations.from_row(row)
        one = Annotation(
            task_id=old.task_id,
            annotator=names[old.annotator],
            source=old.source,
            payload=payload,
            shown_order=old.shown_order,
            revision=old.revision,
            seconds=old.seconds,
            kind=old.kind,
        )
        anew[row.id] = one.id
        made.append(one)
        times[one.id] = row.created_at
    annotations.add(tx, made, times=times)
    return anew


def _assignments(tx: Transaction, user_id: str, how: How, gone: str, emptied: list[str]) -> int:
    """Free the places that are not filled any more, and drop drafts, skips and what was open."""
    slots.reopen(tx, user_id, SLOTS.state == "leased")
    for chunk in chunks(emptied):
        slots.reopen(tx, user_id, SLOTS.task_id.in_(chunk))
    given = ASSIGNMENTS.annotator == user_id
    dropped = [given] if how == "delete" else [given, ASSIGNMENTS.state != "submitted"]
    num = tx.connection.execute(delete(tables.assignments).where(*dropped)).rowcount
    for chunk in chunks(emptied):
        again = delete(tables.assignments).where(given, ASSIGNMENTS.task_id.in_(chunk))
        num += tx.connection.execute(again).rowcount
    cleared = {"annotator": gone, "draft": None, "skip_reason": None}
    tx.connection.execute(update(tables.assignments).where(given).values(**cleared))
    return num


def _known_answers(tx: Transaction, person: Person, gone: str) -> None:
    """Known answers stay, without what the person wrote; where that was all, people are asked."""
    known = tables.golds.c
    query = select(tables.golds, tables.tasks.c.form).join(
        tables.tasks, tables.tasks.c.id == known.task_id
    )
    for row in tx.connection.execute(query.where(known.author.in_(person.labels))).all():
        payload = FORMS[row.form].without_texts(row.payload)
        same = (known.project == row.project, known.task_id == row.task_id)
        if payload is None:
            extras.drop_gold(tx, projects.get(tx, row.project), row.task_id)
            continue
        statement = update(tables.golds).where(*same)
        tx.connection.execute(statement.values(payload=payload, author=gone))


def _decisions(tx: Transaction, user_id: str, gone: str) -> None:
    """Drop whether a person was in; what they decided of others stays under the empty name."""
    theirs = tables.participants.c
    nothing = {"is_qualified": None, "decided_by": None, "decided_at": None}
    statement = update(tables.participants)
    tx.connection.execute(statement.where(theirs.annotator == user_id).values(**nothing))
    tx.connection.execute(statement.where(theirs.decided_by == user_id).values(decided_by=gone))


def _chats(tx: Transaction, user_id: str) -> None:
    """Delete a person's conversations; what models answered in them stays as completions."""
    theirs = select(tables.chats.c.id).where(tables.chats.c.who == user_id)
    for table in (tables.chat_drafts, tables.chat_turns):
        tx.connection.execute(delete(table).where(table.c.chat.in_(theirs)))
    tx.connection.execute(delete(tables.chats).where(tables.chats.c.who == user_id))


def _rewrite_logs(tx: Transaction, person: Person, gone: str) -> None:
    """Put the empty name into the tables that only grow; their triggers refuse UPDATE alone."""
    log, labels = tables.audit.c, person.labels
    mentions = [cast(log.detail, String).contains(_spelt(one), autoescape=True) for one in labels]
    _rewrite(
        tx,
        tables.audit,
        or_(log.who.in_(labels), log.subject.in_(labels), *mentions),
        lambda row: {
            **row,
            "who": _without(row["who"], labels, gone),
            # what somebody called their own key is their text
            "subject": ""
            if row["what"] == "made key" and row["who"] in labels
            else _without(row["subject"], labels, gone),
            "detail": _without(row["detail"], labels, gone),
        },
    )
    for table in (tables.jobs, tables.chat_endpoints):
        statement = update(table).where(table.c.who.in_(labels))
        tx.connection.execute(statement.values(who=gone))
    for table, cleared in (
        (tables.guidelines, {"author": gone}),
        (tables.alias_moves, {"who": gone, "why": ""}),
    ):
        theirs = table.c[next(iter(cleared))].in_(labels)
        _rewrite(tx, table, theirs, lambda row, cleared=cleared: row | cleared)


def _spelt(label: str) -> str:
    """A name as JSON spells it within a text."""
    return json.dumps(label)[1:-1]


def _without(value: JSON, labels: tuple[str, ...], gone: str) -> JSON:
    """A value of the log in which the empty name stands for every name of the person."""
    if isinstance(value, Mapping):
        return {key: _without(one, labels, gone) for key, one in value.items()}
    if isinstance(value, list):
        return [_without(one, labels, gone) for one in value]
    if isinstance(value, str):
        for label in labels:
            value = re.sub(rf"(?<!\w){re.escape(label)}(?!\w)", gone, value)
    return value


def _rewrite(tx: Transaction, table: Table, which: ColumnElement[bool], change: Any) -> None:
    """Delete rows and insert them changed, with their keys and times."""
    rows = [dict(row._mapping) for row in tx.connection.execute(select(table).where(which))]
    if rows:
        tx.connection.execute(delete(table).where(which))
        tx.connection.execute(insert(table), [change(row) for row in rows])


def _references(column: Column[Any]) -> Iterator[Column[Any]]:
    """The columns of every table that refer to a column."""
    for table in tables.metadata.sorted_tables:
        for one in table.c:
            if any(key.column is column for key in one.foreign_keys):
                yield one


def _repoint(tx: Transaction, column: Column[Any], anew: Mapping[str, str]) -> None:
    """Let every row that refers to an old id refer to its new one."""
    for one in _references(column):
        held = set[str]()
        for chunk in chunks(list(anew)):
            held.update(tx.connection.scalars(select(one).where(one.in_(chunk)).distinct()))
        for old in sorted(held):
            tx.connection.execute(update(one.table).where(one == old).values({one: anew[old]}))


def _rekey(tx: Transaction, ids: list[str]) -> None:
    """Forget the keys that browsers and programs made: what is in them is theirs."""
    sent = tables.submissions.c
    statement = update(tables.submissions).where(sent.annotation_id.in_(ids))
    tx.connection.execute(statement.values(key=sent.annotation_id))


def _unlink(tx: Transaction, column: Column[Any], ids: list[str]) -> None:
    """Delete the rows that refer to ids which are about to go."""
    for one in _references(column):
        tx.connection.execute(delete(one.table).where(one.in_(ids)))


def _delete(tx: Transaction, table: Table, column: Column[Any], person: Person) -> int:
    return tx.connection.execute(delete(table).where(column == person.user_id)).rowcount
