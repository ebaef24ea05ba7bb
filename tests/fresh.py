"""A database without rows and without the wait for its migrations: they run once in a process."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heedful.store import Store, open_store


def fresh_file(path: Path) -> Path:
    """A SQLite file of the newest schema at a path where there is none."""
    path.write_bytes(_migrated())
    return path


def fresh_store(path: Path, **options: Any) -> Store:
    """What ``open_store`` gives for a new file, at a tenth of the time."""
    return open_store(fresh_file(path), **options)


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "heedful.db"
        open_store(path).close()
        return path.read_bytes()
