"""Datasets: named sets of tasks and prompts. Order is by id, never by time of arrival."""

import re
from collections.abc import Iterable

from sqlalchemy import func, select

from heedful.errors import DataError, MissingError
from heedful.registry import nearest
from heedful.store import completions, tables
from heedful.store.database import Transaction
from heedful.types import Prompt

MAX_NAME = 200
_UNNAMEABLE = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def add_tasks(tx: Transaction, dataset: str, task_ids: Iterable[str]) -> int:
    """Put tasks into a dataset, made when absent; how many were new to it."""
    rows = [{"item_id": one, "task_id": one, "prompt_id": None} for one in task_ids]
    return _add(tx, dataset, rows)


def add_prompts(tx: Transaction, dataset: str, prompts: Iterable[Prompt]) -> int:
    """Put bare prompts into a dataset, made when absent; how many were new to it."""
    unique = list(dict.fromkeys(prompts))
    completions.add_prompts(tx, unique)
    ids = [one.id for one in unique]
    return _add(tx, dataset, [{"item_id": one, "task_id": None, "prompt_id": one} for one in ids])


def names(tx: Transaction) -> list[str]:
    """The names of all datasets, sorted."""
    return sorted(tx.connection.scalars(select(tables.datasets.c.name)))


def with_tasks(tx: Transaction) -> list[str]:
    """The names of the datasets that ask something, sorted; the others have prompts alone."""
    name, items = tables.datasets.c.name, tables.dataset_items.c
    asks = select(items.task_id).where(items.dataset == name, items.task_id.is_not(None)).exists()
    return sorted(tx.connection.scalars(select(name).where(asks)))


def exists(tx: Transaction, dataset: str) -> bool:
    """Is there a dataset of this name?"""
    columns = tables.datasets.c
    return tx.connection.scalar(select(columns.name).where(columns.name == dataset)) is not None


def require(tx: Transaction, dataset: str) -> None:
    """Raise ``MissingError`` with the nearest name unless the dataset exists."""
    known = names(tx)
    if dataset not in known:
        hint = nearest(dataset, known) if known else "the store has none yet; import one"
        raise MissingError(f"dataset {dataset!r} is not in the store; {hint}")


def count_items(tx: Transaction) -> dict[str, int]:
    """Number of items by dataset."""
    items = tables.dataset_items
    query = select(items.c.dataset, func.count()).group_by(items.c.dataset)
    counted = {row[0]: row[1] for row in tx.connection.execute(query)}
    return {name: counted.get(name, 0) for name in names(tx)}


def check_name(name: str) -> None:
    """Refuse a name that no address or file could bear; raises ``DataError``."""
    if not name.strip():
        raise DataError("a dataset's name is empty; name it, e.g. with --dataset")
    if len(name) > MAX_NAME or name in (".", "..") or _UNNAMEABLE.search(name):
        raise DataError(
            f"dataset name {name!r:.80} does not do in an address; use 1 to {MAX_NAME} characters "
            "without slashes, backslashes and control characters, and neither '.' nor '..'"
        )


def _add(tx: Transaction, dataset: str, rows: list[dict[str, str | None]]) -> int:
    check_name(dataset)
    tx.insert_new(tables.datasets, [{"name": dataset}])
    hint = "add the tasks before putting them into a dataset"
    return tx.insert_new(
        tables.dataset_items, [{"dataset": dataset, **row} for row in rows], hint=hint
    )
