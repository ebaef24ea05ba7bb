"""Opening the database and its transactions. Imports no table: see the modules named by noun.

SQLite runs in WAL mode, so readers never wait for the one writer; PostgreSQL runs the same
statements. A transaction that raises leaves nothing behind.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    StatementError,
)
from sqlalchemy.exc import DataError as ValueOutOfRange
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from heedful.errors import ConfigError, DataError, MissingError, StoreError
from heedful.store.migrate import is_current, migrate

Clock = Callable[[], datetime]
Row = dict[str, Any]

BUSY_SECONDS = 60  # how long a writer waits for another before it gives up
TURN_SECONDS = 0.1  # how long a writer of PostgreSQL waits for one of its own process
# After how many pages of 4 kB SQLite moves the log into the database, which the writer waits for:
# at SQLite's own 1,000 that is one answer of an annotator in 33.
CHECKPOINT_PAGES = 8_000
_INSERT: Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
# A reader sees one state of the database for the whole transaction, as SQLite gives by itself.
_READ: Mapping[str, Row] = {
    "sqlite": {},
    "postgresql": {"isolation_level": "REPEATABLE READ"},
}
# One query by itself sees one state of the database without being told where it begins and ends.
_LOOK: Mapping[str, Row] = {
    "sqlite": {},
    "postgresql": {"isolation_level": "AUTOCOMMIT"},
}
# SQLite's driver begins nothing by itself (see _prepare_sqlite). IMMEDIATE takes the write lock at
# once: a lock taken later could fail without waiting.
_BEGIN_READ: Mapping[str, str] = {"sqlite": "BEGIN"}
_BEGIN_WRITE: Mapping[str, str] = {"sqlite": "BEGIN IMMEDIATE"}


def utc_now() -> datetime:
    """The default clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction. Made by ``Store``, passed to every function of this package.

    ``now`` is the time at which it began; a row that states no other time carries it.
    """

    connection: Connection
    now: datetime

    def insert_new(self, table: Table, rows: Sequence[Mapping[str, Any]], *, hint: str = "") -> int:
        """Insert the rows whose primary key is not there yet; how many were new.

        Raises ``MissingError`` for a foreign key without its row (``hint`` says what to do),
        ``DataError`` for any other constraint.
        """
        if not rows:
            return 0
        keys = [column.name for column in table.primary_key]
        stamp = {"created_at": self.now} if "created_at" in table.c else {}
        unique = {tuple(row[key] for key in keys): {**stamp, **row} for row in rows}
        # Sorted, so that two writers of the same rows take PostgreSQL's locks in one order.
        ordered = [unique[key] for key in sorted(unique)]
        statement = _insert_new(self.connection.dialect.name, table)
        return self._execute_many(statement, ordered, table=table, hint=hint)

    def _execute_many(self, statement: Any, rows: list[Row], *, table: Table, hint: str) -> int:
        options = {"preserve_rowcount": True}
        given = rows if len(rows) > 1 else rows[0]  # drivers take longer to begin with many
        with _plain_refusals(table, hint):
            return self.connection.execute(statement, given, execution_options=options).rowcount

    def write_all(
        self, writes: "Writes", values: Mapping[str, Any], *, table: Table, hint: str = ""
    ) -> list[Any]:
        """Execute ``writes``, of which ``table`` may refuse a row; what the last one returns."""
        with _plain_refusals(table, hint):
            if self.connection.dialect.name == "postgresql":
                return list(self.connection.execute(writes.at_once, values))
            for statement, names in writes.others:
                self.connection.execute(statement, {name: values[name] for name in names})
            statement, names = writes.last
            found = self.connection.execute(statement, {name: values[name] for name in names})
            return list(found) if writes.returns else []


@contextmanager
def _plain_refusals(table: Table, hint: str) -> Iterator[None]:
    """Turn the constraint that a row breaks into an error of our tree."""
    try:
        yield
    except IntegrityError as error:
        seen = str(error.orig).splitlines()[0]
        if "foreign key" in seen.lower():
            what = hint or "add the records that it refers to first"
            raise MissingError(
                f"a row of {table.name} refers to a record that is not there ({seen}); {what}"
            ) from error
        if hint and "unique" in seen.lower():  # the hint names what is there already
            raise DataError(hint) from error
        raise DataError(f"{table.name} refused a row ({seen}); {hint or 'mend it'}") from error
    except (StatementError, ValueError) as error:  # psycopg lets its encoder's error through
        cause = error.orig if isinstance(error, StatementError) else error
        if not isinstance(cause, ValueError):
            raise
        raise DataError(f"{table.name} refused a row ({cause}); mend it") from error


class Writes:
    """Statements of which none needs what another does. Made once, run by ``write_all``.

    PostgreSQL, which is another process, gets them as one statement, and so sees one state of the
    database in all of them; SQLite gets them one after the other. Only the last may return rows.
    """

    def __init__(self, *statements: Any) -> None:
        *others, last = [(one, _names(one)) for one in statements]
        self.others, self.last = others, last
        self.returns = bool(statements[-1].exported_columns)
        parts = [one.cte(f"write_{number}") for number, one in enumerate(statements)]
        found = select(*parts[-1].c) if self.returns else select(literal(1).label("done"))
        self.at_once = found.add_cte(*parts)


def _names(statement: Any) -> tuple[str, ...]:
    """The parameters that a statement leaves to its caller."""
    binds = statement.compile(dialect=sqlite.dialect()).binds
    return tuple(name for name, bind in binds.items() if bind.required)


@cache
def _insert_new(dialect: str, table: Table) -> Any:
    """The statement of ``insert_new``, made once: making one takes longer than running it."""
    keys = [column.name for column in table.primary_key]
    return _INSERT[dialect](table).on_conflict_do_nothing(index_elements=keys)


class Store:
    """The database of a project. Made by ``open_store``; used by jobs, pages and serving.

    A context manager: leaving it closes every connection.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        dialect = engine.dialect.name
        self.engine = engine
        self.url = engine.url.render_as_string(hide_password=True)
        self._clock = clock
        self._reader = engine.execution_options(**_READ[dialect])
        self._looker = engine.execution_options(**_LOOK[dialect])
        self._writing = Lock()
        self._is_sqlite = dialect == "sqlite"
        self._is_open = False  # until then what fails is the opening

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A transaction that sees one state of the database; for queries only."""
        with (
            _plain_errors(self.url, self._is_open),
            _begun(self._reader, _BEGIN_READ) as connection,
        ):
            yield Transaction(connection, self._clock())

    @contextmanager
    def look(self) -> Iterator[Transaction]:
        """For one query by itself, in one round trip; two might see two states."""
        with _plain_errors(self.url, self._is_open), self._looker.connect() as connection:
            yield Transaction(connection, self._clock())

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that is committed whole, or not at all when the block raises."""
        with (
            _plain_errors(self.url, self._is_open),
            self._in_turn() as end_turn,
            _begun(self.engine, _BEGIN_WRITE) as connection,
        ):
            yield Transaction(connection, self._clock())
            if not self._is_sqlite:  # the next one need not wait for the disk
                end_turn()

    @contextmanager
    def _in_turn(self) -> Iterator[Callable[[], None]]:
        """Let this process's writers follow each other at once; what is given ends a turn early.

        SQLite has one writer; whom it makes wait, it lets sleep for up to a tenth of a second.
        PostgreSQL has many, and those of one process would wait in the middle for each other's
        rows; there a writer goes ahead when its turn is long in coming.
        """
        patience = BUSY_SECONDS if self._is_sqlite else TURN_SECONDS
        is_in_turn = self._writing.acquire(timeout=patience)
        if self._is_sqlite and not is_in_turn:
            raise StoreError(
                f"could not write {self.url}: another writer of this process has held it for "
                f"{BUSY_SECONDS} seconds; try again when it has ended"
            )
        with ExitStack() as turn:
            if is_in_turn:
                turn.callback(self._writing.release)
            yield turn.close

    def compact(self) -> None:
        """Rewrite the database without what was deleted; on SQLite no page keeps any of it."""
        plain = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with _plain_errors(self.url, self._is_open), plain.connect() as connection:
            if self._is_sqlite:
                connection.rollback()
                driver: Any = connection.connection.driver_connection
                driver.execute("VACUUM")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                connection.exec_driver_sql("VACUUM")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def __enter__(self) -> "Store":
        """The store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection."""
        self.close()


def open_store(path_or_url: str | Path, *, clock: Clock = utc_now) -> Store:
    """Open a SQLite file (made when absent) or a ``postgresql://`` URL, migrated to this version.

    Raises ``MissingError`` when the directory or server is not there, ``DataError`` when the file
    is no database or another program's, ``ConfigError`` when the URL or the schema is of an
    unknown kind.
    """
    url = _parse(path_or_url)
    if url.get_backend_name() == "sqlite":
        _refuse_foreign(Path(str(url.database)))
    store = Store(_engine(url), clock)
    try:
        with store.read() as tx:
            is_new = not is_current(tx.connection)
        if is_new:
            with store.write() as tx:
                _fill(tx, migrate(tx.connection))
    except BaseException:
        store.close()
        raise
    store._is_open = True
    return store


def _fill(tx: Transaction, before: str | None) -> None:
    """What a migration cannot say in SQL: whether answers agree is for their forms to tell."""
    from heedful.store import disputes  # it imports this module

    if before is not None and before < "0003":
        disputes.find_disputes(tx)


def _parse(path_or_url: str | Path) -> URL:
    text = str(path_or_url)
    if "://" not in text:
        return _parse_path(Path(text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"the database URL is malformed ({error}); write {_URL_HINT}") from error
    if url.get_backend_name() == "sqlite":
        return _parse_path(Path(url.database or ""))
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ConfigError(f"unknown database {url.drivername!r}; use {_URL_HINT}")
    return url.set(drivername="postgresql+psycopg")


_URL_HINT = "a path for SQLite or postgresql://USER@HOST/NAME"


def _parse_path(path: Path) -> URL:
    if path.is_dir() or not path.name:
        raise DataError(f"{path} is a directory; give the path of a database file, e.g. heedful.db")
    if not path.parent.is_dir():
        raise MissingError(f"directory {path.parent} does not exist; create it, then open {path}")
    return URL.create("sqlite", database=str(path))


def _refuse_foreign(path: Path) -> None:
    """Raise ``DataError`` for a SQLite file with the tables of another program; changes nothing."""
    with suppress(sqlite3.Error):  # absent, locked or no database: opening it says so
        address = f"file:{quote(str(path.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = sorted(str(name) for (name,) in found)
        if names and "alembic_version" not in names:
            raise DataError(
                f"{path} is the database of another program (tables {', '.join(names):.100}); "
                "give another path"
            )


def _engine(url: URL) -> Engine:
    try:
        engine = create_engine(url, json_serializer=json.JSONEncoder(allow_nan=False).encode)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"PostgreSQL needs psycopg ({error}); pip install 'heedful[postgres]'"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin late; _begun begins instead
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Two processes that do so at once get "locked" without any wait."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def _begun(engine: Engine, begin: Mapping[str, str]) -> Iterator[Connection]:
    """A connection in a transaction, committed at the end of the block, rolled back on an error.

    The statement is sent from here: a listener to the engine's "begin" slows every statement.
    """
    with engine.connect() as connection, connection.begin():
        if engine.dialect.name in begin:
            connection.exec_driver_sql(begin[engine.dialect.name])
        yield connection


@contextmanager
def _plain_errors(url: str, is_open: bool) -> Iterator[None]:
    """Turn what the database says about files, locks and servers into errors of our tree.

    One that was open and is lost may come back, so it is worth to try again.
    """
    try:
        yield
    except (OverflowError, UnicodeEncodeError, ValueOutOfRange) as error:
        seen = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise DataError(f"the database cannot hold a value ({seen}); mend it") from error
    except PoolTimeoutError as error:
        raise StoreError(f"every connection to {url} is in use; try again in a moment") from error
    except OperationalError as error:
        seen = str(error.orig).strip().splitlines()[0]
        if any(word in seen for word in ("full", "No space", "locked", "deadlock", "readonly")):
            raise StoreError(
                f"could not write {url}: {seen}; make room, make it writable or end the other "
                "writer, then try again"
            ) from error
        if is_open and not any(word in seen for word in ("no such", "syntax")):
            raise StoreError(
                f"lost the database ({seen}); try again, and check that its disk or server works"
            ) from error
        raise MissingError(
            f"could not open {url}: {seen}; check the path, or that the server runs"
        ) from error
    except DatabaseError as error:
        seen = str(error.orig).strip().splitlines()[0]
        if "not a database" not in seen and "malformed" not in seen:
            raise
        raise DataError(f"{url} cannot be read: {seen}; give another path") from error
