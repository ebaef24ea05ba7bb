"""Alembic's entry point: runs the migrations on the connection that ``migrate`` hands over."""

from alembic import context

from heedful.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
