"""``heedful forget``."""

import getpass
from enum import StrEnum
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, JsonOption, StoreOption, opened, show


class How(StrEnum):
    """What becomes of a person's answers."""

    anonymise = "anonymise"
    delete = "delete"


def forget(
    name: Annotated[str, typer.Argument(help="A person's name or id, or an annotator's.")],
    how: Annotated[
        How,
        typer.Option("--how", help="anonymise keeps judgements without a name; delete keeps none."),
    ] = How.anonymise,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", help="The name again; asked for when it is not given."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Delete a person's data for good.

    Example: heedful forget ada --how delete
    """
    from heedful.store.forget import forget as forget_person

    if confirm is None:
        confirm = typer.prompt(f"This cannot be undone. Type the name of {name!r} to go on")
    who = f"os:{getpass.getuser()}"
    with opened(store) as opened_store:
        done = forget_person(opened_store, name, how.value, confirm=confirm, who=who)
    lines = [
        f"anonymised  {done.num_anonymised} answers, now by {done.gone}",
        f"deleted     {done.num_deleted} answers",
        f"secrets     {done.num_secrets} deleted",
        f"drafts      {done.num_assignments} assignments deleted",
        *(f"still in    {path}  ({snapshot})" for snapshot, path in done.snapshots),
    ]
    if not done.is_compacted:
        lines.append("note        others hold the database: compact it later (VACUUM)")
    if done.snapshots:
        lines.append("next        delete these files, and heedful snapshot makes them again")
    summary = {
        "gone": done.gone,
        "how": done.how,
        "anonymised": done.num_anonymised,
        "deleted": done.num_deleted,
        "secrets": done.num_secrets,
        "assignments": done.num_assignments,
        "compacted": done.is_compacted,
        "snapshots": [{"id": one, "path": path} for one, path in done.snapshots],
    }
    show(summary, as_json, *lines)
