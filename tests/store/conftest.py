"""Every test of the store runs on SQLite and on PostgreSQL."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from heedful.store import Store, open_store


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The path or URL of an empty database, thrown away afterwards."""
    if request.param == "sqlite":
        yield str(tmp_path / "heedful.db")
        return
    server = os.environ.get("HEEDFUL_TEST_POSTGRES")
    if not server:
        pytest.skip("HEEDFUL_TEST_POSTGRES is not set; scripts/postgres-for-tests prints it")
    schema = f"test_{uuid.uuid4().hex}"
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(f"create schema {schema}"))
    yield f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"drop schema {schema} cascade"))
    engine.dispose()


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with open_store(database) as opened:
        yield opened


@pytest.fixture
def open_again(database: str) -> Callable[[], Store]:
    """Opens the database of the test a second time."""
    return lambda: open_store(database)
