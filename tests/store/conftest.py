"""Every test of the store runs on SQLite and on PostgreSQL.

Each test gets its own file or schema; files are copies of one that was migrated once.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from heedful.store import Store, open_store

BACKENDS = ["sqlite", "postgres"]


@contextmanager
def postgres_schema() -> Iterator[str]:
    """The URL of a new schema on the test server, dropped afterwards."""
    server = os.environ.get("HEEDFUL_TEST_POSTGRES")
    if not server:
        pytest.skip("HEEDFUL_TEST_POSTGRES is not set; scripts/postgres-for-tests prints it")
    name = f"test_{uuid.uuid4().hex}"
    url = make_url(server)
    engine = create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"create schema {name}"))
    inside = url.update_query_dict({"options": f"-csearch_path={name}"})
    yield inside.render_as_string(hide_password=False)
    with engine.begin() as connection:
        connection.execute(text(f"drop schema {name} cascade"))


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "heedful.db"
    open_store(path).close()
    return path


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The path or URL of a database without rows, thrown away afterwards."""
    if request.param == "sqlite":
        path = tmp_path / "heedful.db"
        shutil.copy(request.getfixturevalue("migrated_file"), path)
        yield str(path)
        return
    with postgres_schema() as url:
        yield url


@pytest.fixture(params=BACKENDS)
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The path or URL of a database without tables."""
    if request.param == "sqlite":
        yield str(tmp_path / "heedful.db")
        return
    with postgres_schema() as url:
        yield url


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with open_store(database) as opened:
        yield opened


@pytest.fixture
def open_again(database: str) -> Callable[[], Store]:
    """Opens the database of the test a second time."""
    return lambda: open_store(database)
