"""Prompts and the completions that answer them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, select, union

from heedful.errors import MissingError
from heedful.store import models, tables
from heedful.store.database import Transaction
from heedful.store.page import chunks
from heedful.types import Completion, Prompt, messages_from_json, messages_json

IMPORTED = "import:"  # how Completion.model starts when no registered model wrote it


def add_prompts(tx: Transaction, prompts: Iterable[Prompt]) -> int:
    """Add prompts; how many were new."""
    rows = [
        {
            "id": prompt.id,
            "messages": messages_json(prompt.messages),
            "tools": list(prompt.tools),
        }
        for prompt in dict.fromkeys(prompts)
    ]
    return tx.insert_new(tables.prompts, rows)


def add(tx: Transaction, completions: Sequence[Completion]) -> int:
    """Add completions and their prompts; how many completions were new.

    Raises ``MissingError`` when ``Completion.model`` is neither a registered model's id nor an
    ``import:NAME``.
    """
    models.require(tx, {one.model for one in completions if not _is_imported(one)})
    add_prompts(tx, (one.prompt for one in completions))
    return tx.insert_new(tables.completions, [_to_row(one) for one in completions])


def get(tx: Transaction, ids: Iterable[str]) -> dict[str, Completion]:
    """The completions by id, in the order of ``ids``; ``MissingError`` for an unknown one."""
    wanted = list(dict.fromkeys(ids))
    found: dict[str, Completion] = {}
    for chunk in chunks(wanted):
        found |= {one.id: one for one in _list(tx, tables.completions.c.id.in_(chunk))}
    missing = [one for one in wanted if one not in found]
    if missing:
        raise MissingError(f"completion {missing[0]} is not in the store; add it first")
    return {one: found[one] for one in wanted}


def known(tx: Transaction, ids: Iterable[str]) -> set[str]:
    """Those of the ids that are in the store."""
    column = tables.completions.c.id
    return {
        found
        for chunk in chunks(sorted(set(ids)))
        for found in tx.connection.scalars(select(column).where(column.in_(chunk)))
    }


def by_models(tx: Transaction, *model_ids: str) -> list[Completion]:
    """What these models wrote (``mdl_…`` or ``import:NAME``), ordered by id."""
    author = tables.completions.c
    return _list(tx, author.model_id.in_(model_ids) | author.origin.in_(model_ids))


def by_dataset(tx: Transaction, dataset: str) -> list[Completion]:
    """The completions that the tasks of a dataset show, ordered by id."""
    items, shown = tables.dataset_items, tables.task_completions
    shown_ids = (
        select(shown.c.completion_id)
        .join(items, items.c.task_id == shown.c.task_id)
        .where(items.c.dataset == dataset)
    )
    return _list(tx, tables.completions.c.id.in_(shown_ids))


def prompts(tx: Transaction, ids: Iterable[str]) -> list[Prompt]:
    """Those of the prompts that are in the store, in no order."""
    column = tables.prompts.c.id
    return [
        to_prompt(row.messages, row.tools)
        for chunk in chunks(sorted(set(ids)))
        for row in tx.connection.execute(select(tables.prompts).where(column.in_(chunk)))
    ]


def prompts_by_dataset(tx: Transaction, dataset: str) -> list[Prompt]:
    """The prompts of a dataset's items, bare ones and those of its tasks, ordered by id."""
    items, tasks = tables.dataset_items, tables.tasks
    bare = select(items.c.prompt_id).where(
        items.c.dataset == dataset, items.c.prompt_id.is_not(None)
    )
    asked = (
        select(tasks.c.prompt_id)
        .join(items, items.c.task_id == tasks.c.id)
        .where(items.c.dataset == dataset)
    )
    query = (
        select(tables.prompts)
        .where(tables.prompts.c.id.in_(union(bare, asked)))
        .order_by(tables.prompts.c.id)
    )
    return [to_prompt(row.messages, row.tools) for row in tx.connection.execute(query)]


def by_both(
    tx: Transaction, first: str, second: str, *, limit: int
) -> list[tuple[Completion, Completion]]:
    """The first answers of two models to prompts that both answered, ordered by prompt.

    What was said in conversations is left out: nobody else is to read it.
    """
    one, two = tables.completions.alias(), tables.completions.alias()
    said = select(tables.chat_drafts.c.completion).where(
        tables.chat_drafts.c.completion.is_not(None)
    )
    both = (
        select(one.c.prompt_id)
        .join(two, two.c.prompt_id == one.c.prompt_id)
        .where(one.c.model_id == first, two.c.model_id == second)
        .where(one.c.id.not_in(said), two.c.id.not_in(said))
        .group_by(one.c.prompt_id)
        .order_by(one.c.prompt_id)
        .limit(limit)
    )
    wanted = tx.connection.scalars(both).all()
    columns = tables.completions.c
    theirs = and_(columns.prompt_id.in_(wanted), columns.model_id.in_((first, second)))
    found = _list(tx, and_(theirs, columns.id.not_in(said)))
    drawn = sorted(found, key=lambda row: (row.draw, row.id), reverse=True)
    chosen = {(row.prompt.id, row.model): row for row in drawn}
    return [(chosen[prompt, first], chosen[prompt, second]) for prompt in wanted]


def to_prompt(messages: list[dict[str, Any]], tools: list[str]) -> Prompt:
    """The prompt of a row's columns."""
    return Prompt(messages=messages_from_json(messages), tools=tuple(tools))


def query_with_prompts() -> Select[Any]:
    """Completions joined with their prompts; what ``from_row`` reads."""
    prompts = tables.prompts
    columns = (prompts.c.messages.label("prompt_messages"), prompts.c.tools.label("prompt_tools"))
    joined = tables.completions.join(prompts)
    return select(tables.completions, *columns).select_from(joined)


def from_row(row: Row[Any], prompts: dict[str, Prompt]) -> Completion:
    """A completion; ``prompts`` collects prompts by id, so that answers share them."""
    if row.prompt_id not in prompts:
        prompts[row.prompt_id] = to_prompt(row.prompt_messages, row.prompt_tools)
    params: Mapping[str, Any] = row.params
    return Completion(
        prompt=prompts[row.prompt_id],
        messages=messages_from_json(row.messages),
        model=row.model_id or row.origin,
        draw=row.draw,
        finish_reason=row.finish_reason,
        params=params,
    )


def _list(tx: Transaction, condition: ColumnElement[bool]) -> list[Completion]:
    query = query_with_prompts().where(condition).order_by(tables.completions.c.id)
    prompts: dict[str, Prompt] = {}
    return [from_row(row, prompts) for row in tx.connection.execute(query)]


def _is_imported(completion: Completion) -> bool:
    return completion.model.startswith(IMPORTED)


def _to_row(completion: Completion) -> dict[str, Any]:
    is_imported = _is_imported(completion)
    return {
        "id": completion.id,
        "prompt_id": completion.prompt.id,
        "messages": messages_json(completion.messages),
        "model_id": None if is_imported else completion.model,
        "origin": completion.model if is_imported else None,
        "draw": completion.draw,
        "finish_reason": completion.finish_reason,
        "params": dict(completion.params),
    }
