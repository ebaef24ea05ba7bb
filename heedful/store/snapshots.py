"""Snapshots: which rows were frozen for training, and the annotations and prompts behind them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, func, or_, select, update

from heedful.errors import MissingError
from heedful.store import datasets, tables
from heedful.store.database import Transaction
from heedful.types import Snapshot


def save(
    tx: Transaction,
    snapshot: Snapshot,
    *,
    annotations: Mapping[str, str] | None = None,
    prompts: Mapping[str, str] | None = None,
) -> int:
    """Record a snapshot with the split of each annotation or prompt; 1 when it was new.

    ``annotations`` and ``prompts`` map ids to ``train`` or ``held_out``. Saving the same content
    at another path moves it there.
    """
    datasets.require(tx, snapshot.dataset)
    num_new = tx.insert_new(tables.snapshots, [_to_row(snapshot)])
    column = tables.snapshots.c
    tx.connection.execute(
        update(tables.snapshots).where(column.id == snapshot.id).values(path=snapshot.path)
    )
    parents = [
        {"snapshot_id": snapshot.id, "position": position, "parent_id": parent}
        for position, parent in enumerate(snapshot.parents)
    ]
    tx.insert_new(tables.snapshot_parents, parents, hint="save the parent snapshots first")
    _link(tx, snapshot.id, "annotation_id", annotations or {})
    _link(tx, snapshot.id, "prompt_id", prompts or {})
    return num_new


def get(tx: Transaction, snapshot_id: str) -> Snapshot:
    """A snapshot by id; raises ``MissingError`` for an unknown one."""
    query = select(tables.snapshots).where(tables.snapshots.c.id == snapshot_id)
    row: Any = tx.connection.execute(query).one_or_none()
    if row is None:
        raise MissingError(f"snapshot {snapshot_id!r} is not in the store; make it first")
    links = tables.snapshot_parents.c
    parents = select(links.parent_id).where(links.snapshot_id == snapshot_id)
    return Snapshot(
        kind=row.kind,
        dataset=row.dataset,
        num_rows=row.num_rows,
        rows_hash=row.rows_hash,
        path=row.path,
        parents=tuple(tx.connection.scalars(parents.order_by(links.position))),
        drops=row.drops,
    )


def holding(dataset: str) -> Select[tuple[str]]:
    """The ids of the snapshots that hold a dataset's rows: its own, and those made of them."""
    own, links = tables.snapshots.c, tables.snapshot_parents.c
    of_set = select(own.id).where(own.dataset == dataset)
    joined = select(links.snapshot_id).where(links.parent_id.in_(of_set))
    return select(own.id).where(or_(own.dataset == dataset, own.id.in_(joined)))


def at_path(tx: Transaction, path: str) -> Snapshot | None:
    """The snapshot that was saved as this file; None when the store knows of none."""
    column = tables.snapshots.c
    found = tx.connection.scalars(select(column.id).where(column.path == path)).first()
    return get(tx, found) if found else None


def writers(tx: Transaction, snapshot_id: str) -> list[str]:
    """The models, by id or origin, that wrote the answers behind a snapshot's rows."""
    rows, said = tables.snapshot_annotations.c, tables.annotations.c
    shown, made = tables.task_completions.c, tables.completions.c
    query = (
        select(func.coalesce(made.model_id, made.origin))
        .distinct()
        .join_from(tables.snapshot_annotations, tables.annotations, said.id == rows.annotation_id)
        .join(tables.task_completions, shown.task_id == said.task_id)
        .join(tables.completions, made.id == shown.completion_id)
        .where(rows.snapshot_id == snapshot_id)
    )
    return sorted(tx.connection.scalars(query))


def _link(tx: Transaction, snapshot_id: str, key: str, splits: Mapping[str, str]) -> None:
    table = tables.snapshot_annotations if key == "annotation_id" else tables.snapshot_prompts
    rows = [{"snapshot_id": snapshot_id, key: one, "split": splits[one]} for one in splits]
    tx.insert_new(table, rows)


def _to_row(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "id": snapshot.id,
        "kind": snapshot.kind,
        "dataset": snapshot.dataset,
        "num_rows": snapshot.num_rows,
        "rows_hash": snapshot.rows_hash,
        "path": snapshot.path,
        "drops": dict(snapshot.drops),
    }
