"""What the answers of a project hold, without making a snapshot of them: how many, on what."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select

from heedful.forms import FORMS
from heedful.store import items, tables
from heedful.store.database import Transaction

MOST = 500  # answers that are read; beyond them a count is a lower bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many there are; not ``is_exact``: at least as many."""

    num: int
    is_exact: bool


def _answers(dataset: str) -> Select[Any]:
    """The task of every answer to a task of the dataset, and of every ruling on one."""
    listed, said = tables.dataset_items.c, tables.annotations.c
    return (
        select(said.task_id)
        .join(tables.dataset_items, listed.task_id == said.task_id)
        .where(listed.dataset == dataset, said.kind.in_(("answer", "adjudication")))
    )


def answered_tasks(tx: Transaction, dataset: str, *, most: int) -> list[str]:
    """Up to ``most`` tasks of a dataset that have an answer; ids are hashes: a fair sample."""
    query = _answers(dataset).distinct().order_by(tables.annotations.c.task_id).limit(most)
    return list(tx.connection.scalars(query))


def count(tx: Transaction, dataset: str, *, most: int = MOST) -> Count:
    """The judgements that a reward model would see in a dataset's first ``most`` stored answers.

    Newest answers count, and an adjudication in place of the votes, as in a snapshot. Flags are
    learned from on request only and do not count.
    """
    found = list(tx.connection.scalars(_answers(dataset).limit(most + 1)))
    num = 0
    for item in items.get(tx, sorted(set(found[:most]))):
        assert item.task is not None
        convert = FORMS[item.task.form].to_feedback
        num += sum(
            one.scale != "flag"
            for answer in item.newest
            for one in convert(item.task, item.completions, answer)
        )
    return Count(num=num, is_exact=len(found) <= most)
