"""Runs and the evidence that they leave about models."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select, update

from heedful.errors import DataError, MissingError
from heedful.store import models, tables
from heedful.store.database import Transaction
from heedful.types import Evidence, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRun:
    """A run with its times, as pages show it. Made by ``newest`` and ``find``."""

    id: str
    run: Run
    started_at: datetime
    finished_at: datetime | None


def start(tx: Transaction, run: Run) -> int:
    """Record that a run is under way; 1 when it was new, 0 when it goes on or again."""
    row = {
        "id": run.id,
        "kind": run.kind,
        "path": run.path,
        "config": dict(run.config),
        "snapshot_id": run.snapshot,
        "status": run.status,
    }
    num_new = tx.insert_new(tables.runs, [row], hint="save the run's snapshot first")
    if not num_new:
        _set(tx, run.id, status=run.status, path=run.path, finished_at=None)
    return num_new


def finish(tx: Transaction, run_id: str, *, failed: bool = False) -> None:
    """Record the outcome; raises ``MissingError`` for a run that was never started."""
    status = "failed" if failed else "finished"
    if not _set(tx, run_id, status=status, finished_at=tx.now):
        raise MissingError(f"run {run_id!r} is not in the store; start it first")


def get(tx: Transaction, run_id: str) -> Run:
    """A run by id; raises ``MissingError`` for an unknown one."""
    return find(tx, run_id).run


def list_all(tx: Transaction) -> list[Run]:
    """Every run, oldest first."""
    columns = tables.runs.c
    query = select(tables.runs).order_by(columns.created_at, columns.id)
    return [run_from_row(row) for row in tx.connection.execute(query)]


def newest(tx: Transaction, *, limit: int, before: str | None = None) -> list[TimedRun]:
    """Runs, newest first; ``before`` is the id that the page ends at."""
    columns = tables.runs.c
    query = select(tables.runs).order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
    if before is not None:
        edge = find(tx, before)
        query = query.where(
            or_(
                columns.created_at < edge.started_at,
                and_(columns.created_at == edge.started_at, columns.id < edge.id),
            )
        )
    return [_timed(row) for row in tx.connection.execute(query)]


def find(tx: Transaction, run_id: str) -> TimedRun:
    """A run by id with its times; raises ``MissingError`` for an unknown one."""
    query = select(tables.runs).where(tables.runs.c.id == run_id)
    row: Any = tx.connection.execute(query).one_or_none()
    if row is None:
        raise MissingError(f"run {run_id!r:.60} is not in the store; start it first")
    return _timed(row)


def at_path(tx: Transaction, path: str) -> str | None:
    """The id of the run in a directory."""
    return tx.connection.scalar(select(tables.runs.c.id).where(tables.runs.c.path == path))


def models_of(tx: Transaction, run_id: str) -> list[str]:
    """The ids of the models that a run made."""
    columns = tables.model_versions.c
    query = select(columns.id).where(columns.run_id == run_id).order_by(columns.created_at)
    return list(tx.connection.scalars(query))


def add_evidence(tx: Transaction, evidence: Evidence) -> int:
    """Add a measured claim about a model; 1 when it was new.

    Raises ``DataError`` for NaN or infinity, ``MissingError`` for an unknown model.
    """
    numbers = (evidence.value, evidence.low, evidence.high)
    if not all(math.isfinite(one) for one in numbers):
        raise DataError(
            f"evidence {evidence.test!r} has value {evidence.value}, interval "
            f"{evidence.low} to {evidence.high}; record finite numbers only"
        )
    models.require(tx, [evidence.model])
    row = {
        "id": evidence.id,
        "model_id": evidence.model,
        "test": evidence.test,
        "value": evidence.value,
        "low": evidence.low,
        "high": evidence.high,
        "num": evidence.num,
        "detail": dict(evidence.detail),
    }
    return tx.insert_new(tables.evidence, [row])


def evidence_of(tx: Transaction, model_id: str) -> list[Evidence]:
    """What was measured about a model, oldest first."""
    columns = tables.evidence.c
    query = select(tables.evidence).where(columns.model_id == model_id)
    rows = tx.connection.execute(query.order_by(columns.created_at, columns.id))
    return [evidence_from_row(row) for row in rows]


def evidence_from_row(row: Any) -> Evidence:
    """The evidence of a row."""
    return Evidence(
        model=row.model_id,
        test=row.test,
        value=row.value,
        low=row.low,
        high=row.high,
        num=row.num,
        detail=row.detail,
    )


def _timed(row: Any) -> TimedRun:
    return TimedRun(
        id=row.id,
        run=run_from_row(row),
        started_at=row.created_at,
        finished_at=row.finished_at,
    )


def run_from_row(row: Any) -> Run:
    """The run of a row."""
    return Run(
        kind=row.kind,
        path=row.path,
        config=row.config,
        snapshot=row.snapshot_id,
        status=row.status,
    )


def _set(tx: Transaction, run_id: str, **values: Any) -> bool:
    statement = update(tables.runs).where(tables.runs.c.id == run_id).values(**values)
    return tx.connection.execute(statement).rowcount > 0
