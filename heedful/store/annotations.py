"""Annotations: raw answers, append only. A higher revision replaces a lower one on reading."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select

from heedful.errors import DataError, MissingError
from heedful.forms import FORMS
from heedful.store import tables
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.types import JSON, Annotation


def add(tx: Transaction, annotations: Sequence[Annotation]) -> int:
    """Add answers; how many were new. Each is checked by the form of its task.

    Raises ``MissingError`` for an unknown task; ``DataError`` for an answer that the form
    refuses, a shown order that is not the task's completions, or a second answer of one annotator
    at the same revision.
    """
    questions = _questions(tx, {one.task_id for one in annotations})
    for one in annotations:
        _check(one, questions)
    hint = "an annotator answers a task once per revision; raise the revision to change an answer"
    return tx.insert_new(tables.annotations, [_to_row(one) for one in annotations], hint=hint)


def latest_by_dataset(tx: Transaction, dataset: str) -> dict[str, list[Annotation]]:
    """The newest answer of each annotator, by task id and ordered by annotator."""
    items = tables.dataset_items
    asked = select(items.c.task_id).where(items.c.dataset == dataset)
    found: dict[str, list[Annotation]] = {}
    for one in _latest(tx, tables.annotations.c.task_id.in_(asked)):
        found.setdefault(one.task_id, []).append(one)
    return found


def latest(tx: Transaction, task_ids: Iterable[str]) -> list[Annotation]:
    """The newest answer of each annotator to these tasks, ordered by task id and annotator."""
    wanted = sorted(set(task_ids))
    return [
        one
        for chunk in chunks(wanted)
        for one in _latest(tx, tables.annotations.c.task_id.in_(chunk))
    ]


def first_payloads(
    tx: Transaction, annotator: str, task_ids: Iterable[str]
) -> dict[str, Mapping[str, JSON]]:
    """What an annotator answered to these tasks at revision 0, by task id."""
    columns = tables.annotations.c
    found: dict[str, Mapping[str, JSON]] = {}
    for chunk in chunks(sorted(set(task_ids))):
        query = select(columns.task_id, columns.payload).where(
            columns.task_id.in_(chunk), columns.annotator == annotator, columns.revision == 0
        )
        found |= {row.task_id: row.payload for row in tx.connection.execute(query)}
    return found


def _latest(tx: Transaction, condition: ColumnElement[bool]) -> list[Annotation]:
    query = select(tables.annotations).where(condition)
    rows = [from_row(row) for row in tx.connection.execute(query)]
    # Sorted here: how a database orders names depends on its collation.
    rows.sort(key=lambda one: (one.task_id, one.annotator, one.revision))
    return list({(one.task_id, one.annotator): one for one in rows}.values())


def _questions(tx: Transaction, task_ids: set[str]) -> dict[str, tuple[str, list[str]]]:
    """Form and completion ids of every task."""
    tasks, shown = tables.tasks, tables.task_completions
    found: dict[str, tuple[str, list[str]]] = {}
    for chunk in chunks(sorted(task_ids)):
        query = (
            select(tasks.c.id, tasks.c.form, shown.c.completion_id)
            .join(shown, shown.c.task_id == tasks.c.id)
            .where(tasks.c.id.in_(chunk))
            .order_by(tasks.c.id, shown.c.position)
        )
        for task_id, form, completion_id in tx.connection.execute(query):
            found.setdefault(task_id, (form, []))[1].append(completion_id)
    return found


def _check(annotation: Annotation, questions: dict[str, tuple[str, list[str]]]) -> None:
    if annotation.task_id not in questions:
        raise MissingError(f"task {annotation.task_id} is not in the store; add it first")
    form, completion_ids = questions[annotation.task_id]
    FORMS[form].validate(annotation.payload, completion_ids)
    if sorted(annotation.shown_order) != sorted(completion_ids):
        raise DataError(
            f"annotation of {annotation.task_id} has shown_order {list(annotation.shown_order)}; "
            f"list each of {completion_ids} once"
        )
    is_simulated = annotation.annotator.startswith("simulated:")
    if is_simulated != (annotation.source == "simulated"):
        raise DataError(
            f"annotator {annotation.annotator!r} has source {annotation.source!r}; "
            "names that start with 'simulated:' go with source 'simulated', and no others"
        )


def _to_row(annotation: Annotation) -> dict[str, Any]:
    return {
        "id": annotation.id,
        "task_id": annotation.task_id,
        "annotator": annotation.annotator,
        "source": annotation.source,
        "payload": dict(annotation.payload),
        "shown_order": list(annotation.shown_order),
        "revision": annotation.revision,
        "seconds": annotation.seconds,
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
    )
