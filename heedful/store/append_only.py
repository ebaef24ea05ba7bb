"""Tables whose rows are never rewritten: a trigger refuses UPDATE."""

from alembic import op


def refuse_updates(table: str) -> None:
    """Make the database refuse UPDATE on a table; for migrations."""
    message = f"{table} are append only; write a new row"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {table}_are_append_only BEFORE UPDATE ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {table}_are_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{message}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_are_append_only BEFORE UPDATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_are_append_only()"
    )


def allow_updates(table: str) -> None:
    """Undo ``refuse_updates``."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"DROP TRIGGER {table}_are_append_only")
        return
    op.execute(f"DROP TRIGGER {table}_are_append_only ON {table}")
    op.execute(f"DROP FUNCTION {table}_are_append_only()")
