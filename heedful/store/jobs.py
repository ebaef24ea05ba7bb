"""Jobs: work that a page asks for and a worker does.

A job is leased, like a slot of the queue: a worker that dies loses it, and the next one takes it
up. That is safe because every kind of job is idempotent: a fit goes on from its checkpoint.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, case, or_, select, update

from heedful.errors import DataError, MissingError
from heedful.store import tables
from heedful.store.database import Transaction
from heedful.types import JSON, content_id

State = Literal["waiting", "running", "finished", "failed", "cancelled"]
LEASE = timedelta(seconds=60)
PATIENCE = timedelta(seconds=15)  # what waits so long while nothing runs waits for a worker
MAX_ATTEMPTS = 3
JOBS = tables.jobs.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of work. Made by pages, done by workers.

    ``spec`` is what to do, ``progress`` what the worker last said, ``attempts`` how many workers
    began it. ``is_unwanted``: somebody wants the running job to stop.
    """

    id: str
    kind: str
    spec: Mapping[str, JSON]
    state: State
    attempts: int
    worker: str | None
    until: datetime | None
    progress: Mapping[str, JSON]
    result: Mapping[str, JSON]
    error: str
    is_unwanted: bool
    who: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


def add(tx: Transaction, kind: str, spec: Mapping[str, JSON], *, who: str, key: str) -> str:
    """Queue a job and return its id; the same key and spec again queue nothing new."""
    job_id = id_of(kind, spec, key)
    row = {
        "id": job_id,
        "kind": kind,
        "spec": dict(spec),
        "state": "waiting",
        "attempts": 0,
        "progress": {},
        "result": {},
        "error": "",
        "is_unwanted": False,
        "who": who,
    }
    tx.insert_new(tables.jobs, [row])
    return job_id


def id_of(kind: str, spec: Mapping[str, JSON], key: str) -> str:
    """What a job is called."""
    return content_id("job", [kind, dict(spec), key])


def is_due(tx: Transaction, kinds: Collection[str]) -> bool:
    """Whether there is something to claim; a worker looks before it takes the write lock."""
    waits = and_(JOBS.state == "waiting", JOBS.kind.in_(kinds))
    expired = and_(JOBS.state == "running", JOBS.until < tx.now)
    return tx.connection.scalar(select(JOBS.id).where(or_(waits, expired)).limit(1)) is not None


def lacks_worker(tx: Transaction) -> bool:
    """Whether jobs wait, none is being done, and so nobody seems to take them."""
    waits = and_(JOBS.state == "waiting", JOBS.created_at < tx.now - PATIENCE)
    runs = and_(JOBS.state == "running", JOBS.until >= tx.now)
    some = select(JOBS.id).limit(1)
    return (
        tx.connection.scalar(some.where(waits)) is not None
        and tx.connection.scalar(some.where(runs)) is None
    )


def claim(tx: Transaction, worker: str, kinds: Collection[str]) -> Job | None:
    """Take the oldest job that waits, or whose worker died; None when there is nothing to do.

    Atomic: a job has one worker, also between processes. A job that ``MAX_ATTEMPTS`` workers died
    of has failed.
    """
    _release_expired(tx)
    first = (
        select(JOBS.id)
        .where(JOBS.state == "waiting", JOBS.kind.in_(kinds))
        .order_by(JOBS.created_at, JOBS.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = {
        "state": "running",
        "worker": worker,
        "until": tx.now + LEASE,
        "started_at": tx.now,
        "attempts": JOBS.attempts + 1,
    }
    statement = update(tables.jobs).where(JOBS.id == first).values(**taken).returning(JOBS.id)
    found: str | None = tx.connection.scalar(statement)
    return get(tx, found) if found else None


def beat(
    tx: Transaction, job_id: str, worker: str, progress: Mapping[str, JSON] | None = None
) -> bool:
    """Renew the lease, and say how far it is; False when the worker is to stop.

    It is to stop when somebody cancelled the job, or when the lease ran out and another has it.
    """
    values: dict[str, Any] = {"until": tx.now + LEASE}
    if progress is not None:
        values["progress"] = dict(progress)
    statement = update(tables.jobs).where(_mine(job_id, worker)).values(**values)
    unwanted: bool | None = tx.connection.scalar(statement.returning(JOBS.is_unwanted))
    return unwanted is False


def finish(tx: Transaction, job_id: str, worker: str, result: Mapping[str, JSON]) -> bool:
    """Record the result; False, and nothing is written, when another worker has the job."""
    return _end(tx, job_id, worker, state="finished", result=dict(result))


def fail(tx: Transaction, job_id: str, worker: str, error: str) -> bool:
    """Record why it cannot be done; False when another worker has the job."""
    return _end(tx, job_id, worker, state="failed", error=error[:4000])


def stop(tx: Transaction, job_id: str, worker: str) -> bool:
    """A running job ends without a result, because nobody wants it any more."""
    return _end(tx, job_id, worker, state="cancelled")


def give_back(tx: Transaction, job_id: str, worker: str) -> bool:
    """A worker that leaves in order gives its job to the next; no attempt is counted."""
    values = {"state": "waiting", "worker": None, "until": None, "attempts": JOBS.attempts - 1}
    statement = update(tables.jobs).where(_mine(job_id, worker)).values(**values)
    return tx.connection.execute(statement).rowcount > 0


def cancel(tx: Transaction, job_id: str) -> State:
    """Take a waiting job back, or ask for a running one to stop; returns its state.

    Raises ``DataError`` when it is over.
    """
    waiting = and_(JOBS.id == job_id, JOBS.state == "waiting")
    over = update(tables.jobs).where(waiting).values(state="cancelled", finished_at=tx.now)
    running = and_(JOBS.id == job_id, JOBS.state == "running")
    asked = update(tables.jobs).where(running).values(is_unwanted=True)
    if not tx.connection.execute(over).rowcount and not tx.connection.execute(asked).rowcount:
        state = get(tx, job_id).state
        raise DataError(f"job {job_id} is {state}; only waiting and running jobs can be cancelled")
    return get(tx, job_id).state


def get(tx: Transaction, job_id: str) -> Job:
    """A job by id; raises ``MissingError``."""
    found = find(tx, job_id)
    if found is None:
        raise MissingError(f"job {job_id!r:.60} is not in the store")
    return found


def find(tx: Transaction, job_id: str) -> Job | None:
    """A job by id, if there is one."""
    row = tx.connection.execute(select(tables.jobs).where(JOBS.id == job_id)).one_or_none()
    return _from_row(row) if row is not None else None


def is_dead(tx: Transaction, job: Job) -> bool:
    """Did the last worker that a running job may have stop answering?"""
    is_late = job.until is not None and job.until < tx.now
    return is_late and (job.is_unwanted or job.attempts >= MAX_ATTEMPTS)


def newest(
    tx: Transaction, *, limit: int, kinds: Collection[str], before: str | None = None
) -> list[Job]:
    """Jobs of some kinds, newest first; ``before`` is the id that the page ends at."""
    query = select(tables.jobs).where(JOBS.kind.in_(kinds)).limit(limit)
    query = query.order_by(JOBS.created_at.desc(), JOBS.id.desc())
    if before is not None:
        edge = get(tx, before)
        same = and_(JOBS.created_at == edge.created_at, JOBS.id < edge.id)
        query = query.where(or_(JOBS.created_at < edge.created_at, same))
    return [_from_row(row) for row in tx.connection.execute(query)]


def _release_expired(tx: Transaction) -> None:
    expired = and_(JOBS.state == "running", JOBS.until < tx.now)
    locked = select(JOBS.id).where(expired).with_for_update(skip_locked=True)
    is_over = or_(JOBS.is_unwanted, JOBS.attempts >= MAX_ATTEMPTS)
    state = case(
        (JOBS.is_unwanted, "cancelled"), (JOBS.attempts >= MAX_ATTEMPTS, "failed"), else_="waiting"
    )
    values = {
        "state": state,
        "error": case(
            (JOBS.is_unwanted, ""),
            (JOBS.attempts >= MAX_ATTEMPTS, f"{MAX_ATTEMPTS} workers died while they did it"),
            else_="",
        ),
        "finished_at": case((is_over, tx.now), else_=None),
        "worker": None,
        "until": None,
    }
    tx.connection.execute(update(tables.jobs).where(JOBS.id.in_(locked)).values(**values))


def _end(tx: Transaction, job_id: str, worker: str, **values: Any) -> bool:
    ended = {"until": None, "worker": None, "finished_at": tx.now} | values
    statement = update(tables.jobs).where(_mine(job_id, worker)).values(**ended)
    return tx.connection.execute(statement).rowcount > 0


def _mine(job_id: str, worker: str) -> ColumnElement[bool]:
    return and_(JOBS.id == job_id, JOBS.worker == worker, JOBS.state == "running")


def _from_row(row: Any) -> Job:
    return Job(**{name: getattr(row, name) for name in Job.__slots__})
