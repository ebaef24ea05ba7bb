"""Bringing a database to the newest schema, inside the caller's transaction."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from heedful.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x6865656466756C  # "heedful": held on PostgreSQL while one process migrates


def is_current(connection: Connection) -> bool:
    """Whether nothing has to be migrated; needs no lock, so opening waits for no writer."""
    from alembic.migration import MigrationContext  # slow to import, and only needed here

    return MigrationContext.configure(connection).get_current_heads() == _newest()


def migrate(connection: Connection) -> str | None:
    """Run the migrations that are missing; two processes may call it at once.

    The revision that the database had before; None for a new one. Raises ``ConfigError`` when it
    was written by a newer version.
    """
    from alembic import command
    from alembic.migration import MigrationContext
    from alembic.util import CommandError

    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    before = MigrationContext.configure(connection).get_current_revision()
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"the database has a schema that this version does not know ({error}); "
            "upgrade heedful or open another database"
        ) from error
    return before


@cache
def _newest() -> tuple[str, ...]:
    """The heads of this version, read once: reading runs every migration's file."""
    from alembic.script import ScriptDirectory

    return tuple(ScriptDirectory.from_config(_config()).get_heads())


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    scripts = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", scripts.replace("%", "%%"))  # % interpolates
    return config
