"""Which record came from which: the foreign keys, as edges that can be followed both ways."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Row, Table, func, select

from heedful.store import models, tables
from heedful.store.database import Transaction
from heedful.store.page import chunks

TABLES: dict[str, Table] = {
    "prm": tables.prompts,
    "cmp": tables.completions,
    "tsk": tables.tasks,
    "ann": tables.annotations,
    "snp": tables.snapshots,
    "run": tables.runs,
    "mdl": tables.model_versions,
    "evd": tables.evidence,
}


@dataclass(frozen=True, slots=True)
class Edge:
    """``child`` was made from ``parent``: a table that holds the ids of both."""

    child: str
    parent: str
    child_id: Column[Any]
    parent_id: Column[Any]


EDGES = (
    Edge("cmp", "mdl", tables.completions.c.id, tables.completions.c.model_id),
    Edge("cmp", "prm", tables.completions.c.id, tables.completions.c.prompt_id),
    Edge("tsk", "cmp", tables.task_completions.c.task_id, tables.task_completions.c.completion_id),
    Edge("ann", "tsk", tables.annotations.c.id, tables.annotations.c.task_id),
    Edge(
        "snp",
        "ann",
        tables.snapshot_annotations.c.snapshot_id,
        tables.snapshot_annotations.c.annotation_id,
    ),
    Edge("snp", "prm", tables.snapshot_prompts.c.snapshot_id, tables.snapshot_prompts.c.prompt_id),
    Edge("snp", "snp", tables.snapshot_parents.c.snapshot_id, tables.snapshot_parents.c.parent_id),
    Edge("run", "snp", tables.runs.c.id, tables.runs.c.snapshot_id),
    Edge("mdl", "run", tables.model_versions.c.id, tables.model_versions.c.run_id),
    Edge("mdl", "snp", tables.model_versions.c.id, tables.model_versions.c.snapshot_id),
    Edge("mdl", "mdl", tables.model_parents.c.model_id, tables.model_parents.c.parent_id),
    Edge("evd", "mdl", tables.evidence.c.id, tables.evidence.c.model_id),
)


def find_ids(tx: Transaction, prefix: str, *, limit: int) -> list[str]:
    """The ids, at most ``limit``, that start with ``prefix`` (``mdl_3f``), sorted."""
    table = TABLES.get(prefix.partition("_")[0])
    if table is None:
        return []
    query = select(table.c.id).where(table.c.id.startswith(prefix, autoescape=True))
    return list(tx.connection.scalars(query.order_by(table.c.id).limit(limit)))


def parents(tx: Transaction, kind: str, ids: Sequence[str]) -> dict[str, list[str]]:
    """The records that these were made from: sorted ids by kind."""
    return _follow(tx, [(e.parent, e.child_id, e.parent_id) for e in EDGES if e.child == kind], ids)


def children(tx: Transaction, kind: str, ids: Sequence[str]) -> dict[str, list[str]]:
    """The records that were made from these: sorted ids by kind."""
    return _follow(tx, [(e.child, e.parent_id, e.child_id) for e in EDGES if e.parent == kind], ids)


def rows(tx: Transaction, kind: str, ids: Sequence[str]) -> list[Row[Any]]:
    """The rows of these records, ordered by id."""
    table = TABLES[kind]
    found = [
        row
        for chunk in chunks(ids)
        for row in tx.connection.execute(select(table).where(table.c.id.in_(chunk)))
    ]
    return sorted(found, key=lambda row: str(row.id))


def datasets_of(tx: Transaction, item_id: str) -> list[str]:
    """The datasets that hold a task or a bare prompt."""
    items = tables.dataset_items.c
    here = (items.task_id == item_id) | (items.prompt_id == item_id)  # which have indexes
    return sorted(tx.connection.scalars(select(items.dataset).where(here)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How many answers of one source are behind a snapshot, and of how many annotators."""

    source: str
    num_answers: int
    num_annotators: int


def answers_behind(tx: Transaction, snapshot_id: str) -> list[Answers]:
    """Who answered what a snapshot was made of, the largest group first."""
    links, given = tables.snapshot_annotations.c, tables.annotations.c
    num = func.count()
    query = (
        select(given.source, num, func.count(given.annotator.distinct()))
        .join(tables.snapshot_annotations, links.annotation_id == given.id)
        .where(links.snapshot_id == snapshot_id)
        .group_by(given.source)
        .order_by(num.desc(), given.source)
    )
    return [
        Answers(source=row[0], num_answers=row[1], num_annotators=row[2])
        for row in tx.connection.execute(query)
    ]


def names_of(tx: Transaction, model_id: str) -> tuple[list[str], list[str]]:
    """The names of a model, and the aliases that point at it now."""
    columns = tables.model_names.c
    query = select(columns.name).where(columns.model_id == model_id).order_by(columns.number)
    aliases = [alias for alias, target in models.aliases(tx).items() if target == model_id]
    return list(tx.connection.scalars(query)), sorted(aliases)


def _follow(
    tx: Transaction, edges: Iterable[tuple[str, Column[Any], Column[Any]]], ids: Sequence[str]
) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for kind, near, far in edges:
        for chunk in chunks(ids):
            query = select(far).where(near.in_(chunk), far.is_not(None)).distinct()
            found.setdefault(kind, set()).update(tx.connection.scalars(query))
    return {kind: sorted(reached) for kind, reached in found.items() if reached}
