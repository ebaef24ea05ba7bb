import multiprocessing
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from store_samples import pair

from heedful.errors import ConfigError, DataError, MissingError, ResourceError
from heedful.store import Store, completions, datasets, integrity, open_store, tables
from heedful.store import database as database_module
from heedful.types import Prompt

# Fresh interpreters: a forked connection would be shared with the parent.
SPAWN = multiprocessing.get_context("spawn")


def add_rows(database: str, numbers: list[int], barrier, results) -> None:
    barrier.wait(timeout=30)
    with open_store(database) as store:
        for number in numbers:
            with store.write() as tx:
                results.put(completions.add(tx, pair(number)[1]))


def die_inside_a_transaction(database: str) -> None:
    with open_store(database) as store, store.write() as tx:
        completions.add(tx, [side for number in range(500) for side in pair(number)[1]])
        os.kill(os.getpid(), signal.SIGKILL)


def test_two_processes_open_a_new_database_and_add_each_row_once(empty_database: str) -> None:
    numbers = list(range(20))
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    workers = [
        SPAWN.Process(target=add_rows, args=(empty_database, order, barrier, results))
        for order in (numbers, numbers[::-1])
    ]
    for worker in workers:
        worker.start()
    num_new = sum(results.get(timeout=60) for _ in range(40))
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert num_new == 40
    with open_store(empty_database) as store, store.read() as tx:
        assert len(completions.by_models(tx, "import:test")) == 40


def test_process_killed_inside_a_transaction_leaves_nothing(database: str) -> None:
    worker = SPAWN.Process(target=die_inside_a_transaction, args=(database,))
    worker.start()
    worker.join(timeout=60)
    assert worker.exitcode == -signal.SIGKILL
    with open_store(database) as store, store.read() as tx:
        assert tx.connection.scalar(text("select count(*) from prompts")) == 0
        assert tx.connection.scalar(text("select count(*) from completions")) == 0
        assert integrity.verify(tx) == []


def test_migrations_make_the_tables_of_the_code(store: Store) -> None:
    with store.write() as tx:
        context = MigrationContext.configure(tx.connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_reader_sees_one_state_while_another_writes(store: Store) -> None:
    with store.read() as before:
        completions.by_models(before, "import:test")
        with store.write() as tx:
            completions.add(tx, pair(1)[1])
        assert completions.by_models(before, "import:test") == []
    with store.read() as after:
        assert len(completions.by_models(after, "import:test")) == 2


def test_writers_of_a_process_follow_each_other_and_none_waits_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    at_once: list[int] = []

    def add(number: int) -> None:
        with store.write() as tx:
            held.append(number)
            at_once.append(len(held))
            completions.add(tx, pair(number)[1][:1])
            held.remove(number)

    monkeypatch.setattr(database_module, "TURN_SECONDS", 30.0)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    with store.read() as tx:
        assert tx.connection.scalar(text("select count(*) from completions")) == 40
    assert set(at_once) == {1}
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(database_module, "TURN_SECONDS", 0.01)
    with store.write(), ThreadPoolExecutor(1) as pool:
        if store.engine.dialect.name != "sqlite":
            pool.submit(add, 41).result()  # it goes ahead, beside the one that takes long
            return
        late = pool.submit(add, 41)
        with pytest.raises(ResourceError, match="another writer of this process"):
            late.result()
    add(42)


def test_opening_waits_for_no_writer(store: Store, open_again) -> None:
    with store.write() as tx:
        completions.add(tx, pair(1)[1])
        with open_again() as second, second.read() as other:
            assert completions.by_models(other, "import:test") == []


def test_database_of_a_newer_version_is_refused(empty_database: str) -> None:
    with open_store(empty_database) as store, store.write() as tx:
        tx.connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(ConfigError, match="upgrade heedful"):
        open_store(empty_database)


def test_sqlite_runs_in_wal_mode_with_foreign_keys(tmp_path: Path) -> None:
    with open_store(tmp_path / "a.db") as store, store.read() as tx:
        pragmas = {
            name: tx.connection.scalar(text(f"pragma {name}"))
            for name in ("journal_mode", "foreign_keys", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2}


def test_path_and_sqlite_url_open_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "100% mine.db"
    with open_store(path) as store, store.write() as tx:
        completions.add(tx, pair(1)[1])
    with open_store(f"sqlite:///{path}") as store, store.read() as tx:
        assert len(completions.by_models(tx, "import:test")) == 2


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="nowhere does not exist"):
        open_store(tmp_path / "nowhere" / "a.db")


def test_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory"):
        open_store(tmp_path)


def test_text_file_is_no_database_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(DataError, match="not a database"):
        open_store(path)
    assert path.read_text() == "not a database " * 100


def test_a_database_of_another_program_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a b#1?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"of another program \(tables bookmarks\); give another"):
        open_store(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("url", ["mysql://a@b/c", "postgresql://a:b:c", "://"])
def test_unknown_or_malformed_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="postgresql://USER@HOST/NAME"):
        open_store(url)


def test_unreachable_server_is_named_without_its_password() -> None:
    with pytest.raises(MissingError, match="check the path, or that the server runs") as caught:
        open_store("postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(caught.value)


def test_full_disk_is_a_resource_error_and_leaves_nothing(tmp_path: Path) -> None:
    sides = [side for number in range(2000) for side in pair(number)[1]]

    def fill_the_disk(store: Store) -> None:
        with store.write() as tx:
            tx.connection.execute(text("pragma max_page_count = 90"))
            completions.add(tx, sides)

    with open_store(tmp_path / "a.db") as store:
        with pytest.raises(ResourceError, match="full"):
            fill_the_disk(store)
        with store.read() as tx:
            assert completions.by_models(tx, "import:test") == []


def test_a_database_that_is_lost_is_worth_another_try_and_comes_back(database: str) -> None:
    with open_store(database) as store:
        if store.engine.dialect.name != "postgresql":
            pytest.skip("a file has no server to lose")

        def lose_the_server() -> None:
            with store.write() as tx, store.engine.connect() as other:
                own = tx.connection.scalar(text("select pg_backend_pid()"))
                other.execute(text(f"select pg_terminate_backend({own})"))
                datasets.names(tx)

        with pytest.raises(ResourceError, match="lost the database"):
            lose_the_server()
        with store.read() as tx:
            assert datasets.names(tx) == []


def test_a_disk_that_fails_is_no_missing_record(store: Store) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("select", None, sqlite3.OperationalError("disk I/O error"))

    event.listen(store.engine, "before_cursor_execute", fail)
    for begin in (store.read, store.look, store.write):
        with pytest.raises(ResourceError, match=r"lost the database \(disk I/O"), begin() as tx:
            datasets.names(tx)
    event.remove(store.engine, "before_cursor_execute", fail)


def test_store_survives_a_reader_of_plain_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with open_store(path) as store, store.write() as tx:
        completions.add(tx, pair(1)[1])
    connection = sqlite3.connect(path)
    assert connection.execute("select count(*) from completions").fetchone() == (2,)
    connection.close()


def test_a_turn_lasts_through_the_commit_only_where_there_is_one_writer(store: Store) -> None:
    during: list[bool] = []
    event.listen(store.engine, "commit", lambda _: during.append(store._writing.locked()))
    with store.write() as tx:
        datasets.add_prompts(tx, "d", [Prompt.of("Why?")])
        assert store._writing.locked()
    assert during == [store.engine.dialect.name == "sqlite"]
    assert not store._writing.locked()
