"""The items of a dataset, whole and in order, however many there are."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import func, select

from heedful.store import annotations, completions, datasets, tables, tasks
from heedful.store.database import Transaction
from heedful.types import Item

PAGE = 200  # items in memory at once
ITEMS = tables.dataset_items.c


def stream(tx: Transaction, dataset: str) -> Iterator[Item]:
    """Every item of a dataset with all it shows and every answer, ordered by id.

    Raises ``MissingError`` for an unknown dataset. Memory does not grow with the dataset.
    """
    datasets.require(tx, dataset)
    last = ""
    while True:
        query = (
            select(ITEMS.item_id)
            .where(ITEMS.dataset == dataset, ITEMS.item_id > last)
            .order_by(ITEMS.item_id)
            .limit(PAGE)
        )
        ids = list(tx.connection.scalars(query))
        if not ids:
            return
        yield from get(tx, ids)
        last = ids[-1]


def get(tx: Transaction, ids: Sequence[str]) -> list[Item]:
    """These items, in this order: tasks by id, and bare prompts by theirs."""
    found: dict[str, Item] = {}
    task_ids = [one for one in ids if one.startswith("tsk_")]
    answers = annotations.with_times(tx, task_ids)
    for one, asked in tasks.get(tx, task_ids).items():
        given = answers.get(one, [])
        found[one] = Item(
            prompt=asked.task.prompt,
            task=asked.task,
            completions=asked.completions,
            annotations=tuple(annotation for annotation, _ in given),
            times={annotation.id: time for annotation, time in given},
        )
    bare = completions.prompts(tx, [one for one in ids if one not in found])
    found |= {prompt.id: Item(prompt=prompt) for prompt in bare}
    return [found[one] for one in ids if one in found]


def most_shown(tx: Transaction, dataset: str) -> int:
    """The largest number of completions that a task of the dataset shows; 0 without tasks."""
    shown: Any = tables.task_completions.c
    query = (
        select(func.max(shown.position))
        .join(tables.dataset_items, ITEMS.task_id == shown.task_id)
        .where(ITEMS.dataset == dataset)
    )
    highest: int | None = tx.connection.scalar(query)
    return 0 if highest is None else highest + 1
