"""Reading a whole project row by row, without records: for statistics of a million answers."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, func, select

from heedful.store import tables
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.types import JSON, last_text, messages_from_json

ROWS_AT_ONCE = 5000
ITEMS, TASKS, PROJECTS = tables.dataset_items.c, tables.tasks.c, tables.projects.c
# The tasks of a project that ask what it asks; those of another form have no place in its pages.
ASKED = tables.dataset_items.join(tables.tasks, TASKS.id == ITEMS.task_id).join(
    tables.projects, and_(PROJECTS.dataset == ITEMS.dataset, PROJECTS.form == TASKS.form)
)


class AnswerRow(NamedTuple):
    """One stored answer of any revision."""

    task: str
    annotator: str
    payload: Mapping[str, JSON]
    shown_order: Sequence[str]
    revision: int
    seconds: float | None
    created_at: datetime


class ShownRow(NamedTuple):
    """One completion of a task, and who wrote it."""

    task: str
    position: int
    completion: str
    prompt: str
    author: str


def answers(tx: Transaction, project: str) -> Iterator[AnswerRow]:
    """Every vote on the tasks of a project's form, in no order."""
    columns = tables.annotations.c
    query = (
        select(
            columns.task_id,
            columns.annotator,
            columns.payload,
            columns.shown_order,
            columns.revision,
            columns.seconds,
            columns.created_at,
        )
        .select_from(ASKED.join(tables.annotations, columns.task_id == ITEMS.task_id))
        .where(ITEMS.dataset == project, columns.kind == "answer")
    )
    return (AnswerRow(*row) for row in _stream(tx, query))


def shown(tx: Transaction, project: str) -> Iterator[ShownRow]:
    """What the tasks of a project's form show, in no order."""
    links, completions = tables.task_completions.c, tables.completions.c
    author = func.coalesce(completions.model_id, completions.origin)
    query = (
        select(links.task_id, links.position, links.completion_id, completions.prompt_id, author)
        .select_from(ASKED.join(tables.task_completions, links.task_id == ITEMS.task_id))
        .join(tables.completions, completions.id == links.completion_id)
        .where(ITEMS.dataset == project)
    )
    return (ShownRow(*row) for row in _stream(tx, query))


def completion_texts(tx: Transaction, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Id and last message of completions, in no order."""
    columns = tables.completions.c
    for chunk in chunks(ids):
        query = select(columns.id, columns.messages).where(columns.id.in_(chunk))
        for row in tx.connection.execute(query):
            yield row.id, last_text(messages_from_json(row.messages))


def prompt_texts(tx: Transaction, ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Id and the user's last words of prompts, in no order."""
    columns = tables.prompts.c
    for chunk in chunks(ids):
        query = select(columns.id, columns.messages).where(columns.id.in_(chunk))
        for row in tx.connection.execute(query):
            messages = messages_from_json(row.messages)
            said = [one.content for one in messages if one.role == "user"]
            yield row.id, said[-1] if said else last_text(messages)


def names(tx: Transaction, authors: Sequence[str]) -> dict[str, str]:
    """What people call these authors: a model's newest name, an import's name."""
    columns = tables.model_names.c
    found = {one: one.removeprefix("import:") for one in authors}
    for chunk in chunks([one for one in authors if one.startswith("mdl_")]):
        query = select(columns.model_id, columns.name).where(columns.model_id.in_(chunk))
        found |= {
            row.model_id: row.name for row in tx.connection.execute(query.order_by(columns.number))
        }
    return found


def _stream(tx: Transaction, query: Select[Any]) -> Iterator[Any]:
    return iter(tx.connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}))
