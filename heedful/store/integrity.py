"""Checking the store against itself: every id is derived again from the row's content."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from heedful.store import annotations, completions, models, runs, snapshots, tables
from heedful.store.database import Transaction
from heedful.types import Prompt, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A row whose content no longer hashes to its id. Made by ``verify``; used by doctor."""

    table: str
    id: str
    derived: str


def verify(tx: Transaction) -> list[Mismatch]:
    """The rows whose content was changed behind the store's back; empty for a sound store."""
    return [
        Mismatch(table=table, id=seen, derived=derived)
        for table, seen, derived in _derived(tx)
        if seen != derived
    ]


def _derived(tx: Transaction) -> Iterator[tuple[str, str, str]]:
    """Table, stored id and derived id of every row."""
    execute, shared = tx.connection.execute, dict[str, Prompt]()
    for row in execute(select(tables.prompts)):
        yield "prompts", row.id, completions.to_prompt(row.messages, row.tools).id
    for row in execute(completions.query_with_prompts()):
        yield "completions", row.id, completions.from_row(row, shared).id
    for row, shown in _tasks(tx):
        prompt = Prompt.of("")  # not part of a task's id
        task = Task(
            form=row.form, prompt=prompt, completion_ids=tuple(shown), guideline=row.guideline
        )
        yield "tasks", row.id, task.id
    for row in execute(select(tables.annotations)):
        yield "annotations", row.id, annotations.from_row(row).id
    for seen in tx.connection.scalars(select(tables.snapshots.c.id)).all():
        yield "snapshots", seen, snapshots.get(tx, seen).id
    for row in execute(select(tables.runs)):
        yield "runs", row.id, runs.run_from_row(row).id
    for seen in tx.connection.scalars(select(tables.model_versions.c.id)).all():
        yield "model_versions", seen, models.load(tx, seen).id
    for row in execute(select(tables.evidence)):
        yield "evidence", row.id, runs.evidence_from_row(row).id


def _tasks(tx: Transaction) -> Iterator[tuple[Any, list[str]]]:
    """Every task's row with its completion ids in order."""
    links = tables.task_completions.c
    shown: dict[str, list[str]] = {}
    query = select(links.task_id, links.completion_id).order_by(links.task_id, links.position)
    for task_id, completion_id in tx.connection.execute(query):
        shown.setdefault(task_id, []).append(completion_id)
    for row in tx.connection.execute(select(tables.tasks)):
        yield row, shown.get(row.id, [])
