"""Every test of the store runs on SQLite and on PostgreSQL.

Each test gets a database without rows: its own copy of a file that was migrated once, or the
schema of this process, emptied after every test.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fresh import fresh_file
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.pool import NullPool

from heedful.store import Store, open_store, tables

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
def migrated_schema() -> Iterator[Engine]:
    with postgres_schema() as url:
        open_store(url).close()
        engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
        yield engine
        engine.dispose()


def take_out_all_rows(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"truncate {', '.join(tables.metadata.tables)} restart identity"))


@pytest.fixture(params=BACKENDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The path or URL of a database without rows.

    A test that changes the tables themselves takes ``empty_database``, which is its own.
    """
    if request.param == "sqlite":
        yield str(fresh_file(tmp_path / "heedful.db"))
        return
    engine = request.getfixturevalue("migrated_schema")
    yield engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    take_out_all_rows(engine)


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
