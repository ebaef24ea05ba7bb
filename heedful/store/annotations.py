"""Annotations: raw answers, append only. A higher revision replaces a lower one on reading.

Revisions number all that one annotator said about a task, of whatever kind; what is read as the
answers of a task are its votes (``kind="answer"``) unless a function says otherwise.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, select

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import tables
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.types import Annotation, AnnotationKind, standing_adjudication

VOTES: tuple[AnnotationKind, ...] = ("answer",)
ONCE = "an annotator answers a task once per revision; raise the revision to change an answer"
Question = tuple[str, Sequence[str]]  # a task's form, and the ids of the completions that it shows
_TASKS, _LINKS = tables.tasks, tables.task_completions
_ASKED = (
    select(_TASKS.c.id, _TASKS.c.form, _LINKS.c.completion_id)
    .join(_LINKS, _LINKS.c.task_id == _TASKS.c.id)
    .where(_TASKS.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(_TASKS.c.id, _LINKS.c.position)
)
_OF_KINDS = tables.annotations.c.kind.in_(bindparam("kinds", expanding=True))
_OF_TASKS = select(tables.annotations).where(
    tables.annotations.c.task_id.in_(bindparam("ids", expanding=True)), _OF_KINDS
)


def add(
    tx: Transaction,
    annotations: Sequence[Annotation],
    *,
    times: Mapping[str, datetime] | None = None,
) -> int:
    """Add answers; how many were new. Each is checked by the form of its task.

    ``times`` says by id when answers were given, where that was before now.

    Raises ``MissingError`` for an unknown task; ``DataError`` for an answer that the form
    refuses, a shown order that is not the task's completions, or a second answer of one annotator
    at the same revision.
    """
    questions = _questions(tx, {one.task_id for one in annotations})
    for one in annotations:
        if one.task_id not in questions:
            raise MissingError(f"task {one.task_id} is not in the store; add it first")
        check(one, questions[one.task_id])
    known = times or {}
    rows = [to_row(one) | {"created_at": known.get(one.id, tx.now)} for one in annotations]
    return tx.insert_new(tables.annotations, rows, hint=ONCE)


def latest_by_dataset(
    tx: Transaction, dataset: str, kinds: Sequence[AnnotationKind] = VOTES
) -> dict[str, list[Annotation]]:
    """The newest answer of each annotator of each kind, by task id and ordered by annotator."""
    items = tables.dataset_items
    asked = select(items.c.task_id).where(items.c.dataset == dataset)
    found: dict[str, list[Annotation]] = {}
    query = select(tables.annotations).where(tables.annotations.c.task_id.in_(asked), _OF_KINDS)
    for one in _latest(tx, query, kinds):
        found.setdefault(one.task_id, []).append(one)
    return found


def latest(
    tx: Transaction, task_ids: Iterable[str], kinds: Sequence[AnnotationKind] = VOTES
) -> list[Annotation]:
    """The newest answers to these tasks by annotator and kind, ordered by task id and annotator."""
    wanted = sorted(set(task_ids))
    return [one for chunk in chunks(wanted) for one in _latest(tx, _OF_TASKS, kinds, ids=chunk)]


def by_ids(tx: Transaction, ids: Iterable[str]) -> dict[str, Annotation]:
    """The answers with these ids, as far as the store has them."""
    table = tables.annotations
    return {
        row.id: from_row(row)
        for chunk in chunks(sorted(set(ids)))
        for row in tx.connection.execute(select(table).where(table.c.id.in_(chunk)))
    }


def rulings_by_dataset(tx: Transaction, dataset: str) -> dict[str, Annotation]:
    """The adjudication that stands, by task id, of every task that has one."""
    items, columns = tables.dataset_items.c, tables.annotations.c
    asked = select(items.task_id).where(items.dataset == dataset)
    query = select(tables.annotations).where(columns.task_id.in_(asked))
    said: dict[str, list[Annotation]] = {}
    times: dict[str, datetime] = {}
    for row in tx.connection.execute(query.where(columns.kind == "adjudication")):
        one = from_row(row)
        said.setdefault(one.task_id, []).append(one)
        times[one.id] = row.created_at
    standing = {task: standing_adjudication(given, times) for task, given in said.items()}
    return {task: ruling for task, ruling in standing.items() if ruling is not None}


def with_times(
    tx: Transaction, task_ids: Iterable[str]
) -> dict[str, list[tuple[Annotation, datetime]]]:
    """Every revision of every answer to these tasks and when it was stored, by task.

    Ordered by annotator and revision.
    """
    found: dict[str, list[tuple[Annotation, datetime]]] = {}
    for chunk in chunks(sorted(set(task_ids))):
        query = select(tables.annotations).where(tables.annotations.c.task_id.in_(chunk))
        for row in tx.connection.execute(query):
            found.setdefault(row.task_id, []).append((from_row(row), row.created_at))
    for answers in found.values():
        answers.sort(key=lambda one: (one[0].annotator, one[0].revision))
    return found


def ids_by_revision(tx: Transaction, task_ids: Iterable[str]) -> dict[tuple[str, str, int], str]:
    """The ids of the answers to these tasks, by task, annotator and revision."""
    columns = tables.annotations.c
    found: dict[tuple[str, str, int], str] = {}
    for chunk in chunks(sorted(set(task_ids))):
        query = select(columns.id, columns.task_id, columns.annotator, columns.revision)
        for row in tx.connection.execute(query.where(columns.task_id.in_(chunk))):
            found[row.task_id, row.annotator, row.revision] = row.id
    return found


def _latest(
    tx: Transaction, query: Select[Any], kinds: Sequence[AnnotationKind], **found_by: Any
) -> list[Annotation]:
    parameters = {"kinds": list(kinds)} | found_by
    return newest(from_row(row) for row in tx.connection.execute(query, parameters))


def newest(found: Iterable[Annotation]) -> list[Annotation]:
    """The newest of these by task, annotator and kind, ordered by task id and annotator."""
    # Sorted here: how a database orders names depends on its collation.
    rows = sorted(found, key=lambda one: (one.task_id, one.annotator, one.revision))
    return list({(one.task_id, one.annotator, one.kind): one for one in rows}.values())


def _questions(tx: Transaction, task_ids: set[str]) -> Mapping[str, Question]:
    """Form and completion ids of every task."""
    found: dict[str, tuple[str, list[str]]] = {}
    for chunk in chunks(sorted(task_ids)):
        for task_id, form, completion_id in tx.connection.execute(_ASKED, {"ids": list(chunk)}):
            found.setdefault(task_id, (form, []))[1].append(completion_id)
    return found


def check(annotation: Annotation, asked: Question) -> None:
    """Refuse what is no answer to what its task asks; raises ``DataError``."""
    form, completion_ids = asked
    FORMS[form].validate(annotation.payload, completion_ids)
    check_shown(annotation, completion_ids)


def check_shown(annotation: Annotation, completion_ids: Sequence[str]) -> None:
    """Refuse another order than one of the task's completions, and a source that fits no name."""
    if sorted(annotation.shown_order) != sorted(completion_ids):
        raise DataError(
            f"annotation of {annotation.task_id} has shown_order {list(annotation.shown_order)}; "
            f"list each of {list(completion_ids)} once"
        )
    is_simulated = annotation.annotator.startswith("simulated:")
    if is_simulated != (annotation.source == "simulated"):
        raise DataError(
            f"annotator {annotation.annotator!r} has source {annotation.source!r}; "
            "names that start with 'simulated:' go with source 'simulated', and no others"
        )


def to_row(annotation: Annotation) -> dict[str, Any]:
    """The row of an annotation, but for its time."""
    return {
        "id": annotation.id,
        "task_id": annotation.task_id,
        "annotator": annotation.annotator,
        "source": annotation.source,
        "payload": dict(annotation.payload),
        "shown_order": list(annotation.shown_order),
        "revision": annotation.revision,
        "seconds": annotation.seconds,
        "kind": annotation.kind,
    }


def from_row(row: Any) -> Annotation:
    """The annotation of a row."""
    return Annotation(
        task_id=row.task_id,
        annotator=row.annotator,
        source=row.source,
        payload=row.payload,
        shown_order=tuple(row.shown_order),
        revision=row.revision,
        seconds=row.seconds,
        kind=row.kind,
    )
