"""A run's row in the store while it is worked on, and what became of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from heedful.config import Section
from heedful.jobs.rundir import RunDirectory
from heedful.store import runs
from heedful.store.database import Store
from heedful.types import Run


def run_record(run: RunDirectory, config: Section, snapshot: str | None) -> Run:
    """The row of a run; its path holds from every working directory."""
    path = str(run.path.resolve())
    return Run(
        kind=run.kind,
        path=path,
        config=config.model_dump(mode="json") | {"out": path},
        snapshot=snapshot,
    )


@contextmanager
def recorded(store: Store | None, record: Run) -> Iterator[None]:
    """Start the run's row, and finish it; an error leaves it failed, an interruption unfinished."""
    if store is None:
        yield
        return
    with store.write() as tx:
        runs.start(tx, record)
    try:
        yield
    except Exception:
        with store.write() as tx:
            runs.finish(tx, record.id, failed=True)
        raise
    with store.write() as tx:
        runs.finish(tx, record.id)
