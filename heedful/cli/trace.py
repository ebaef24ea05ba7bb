"""``heedful trace`` and ``heedful models``."""

from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, JsonOption, StoreOption, opened, show


def trace(
    record: Annotated[str, typer.Argument(metavar="ID", help="Any record's id, or its start.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Print where a record came from and what it led to.

    Example: heedful trace mdl_1f2e3d4c5b6a7988
    """
    from heedful.store.tracing import trace as follow

    with opened(store) as opened_store:
        typer.echo(follow(opened_store, record).render())


def models(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the registered models.

    Example: heedful models --store heedful-demo/heedful.db
    """
    from heedful.store import models as model_table

    with opened(store) as opened_store, opened_store.read() as tx:
        rows = model_table.list_all(tx)
    listed = [{"id": row.id, "role": row.role, "name": row.name, "path": row.path} for row in rows]
    lines = [f"{row['id']}  {row['role']:<7} {row['name']:<16} {row['path']}" for row in listed]
    show({"models": listed}, as_json, *(lines or ["no models yet; run heedful demo"]))
