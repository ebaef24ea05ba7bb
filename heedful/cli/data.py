"""``heedful import`` and ``heedful snapshot``."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import DEFAULT_STORE, JsonOption, StoreOption, opened, show


class Format(StrEnum):
    """Formats that import reads."""

    hh = "hh"
    trl = "trl"


class Kind(StrEnum):
    """Kinds of rows that a snapshot holds."""

    preference = "preference"
    demonstration = "demonstration"
    prompt = "prompt"


def import_file(
    format: Annotated[Format, typer.Argument(help="hh: whole transcripts; trl: prompt columns.")],
    files: Annotated[list[Path], typer.Argument(help="JSON lines, plain or gzipped.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name in the store; from the file otherwise.")
    ] = None,
    show_dropped: Annotated[
        bool, typer.Option("--show-dropped", help="List every row that was left out, and why.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Read preferences or demonstrations into the store. Importing twice adds nothing.

    Example: heedful import hh hh-harmless/train.jsonl.gz
    """
    from heedful.jobs.importing import import_preferences
    from heedful.jobs.progress import progress

    with opened(store) as opened_store, progress("import", 0) as advance:
        result = import_preferences(
            opened_store, format.value, files, dataset=dataset, progress=lambda rows: advance(rows)
        )
    rules = Counter(drop.rule for drop in result.drops)
    lines = [
        f"data set    {result.dataset}",
        f"rows read   {result.num_rows}",
        f"new         {result.num_new}",
        f"known       {result.num_duplicates}",
        f"dropped     {len(result.drops)}",
        *(f"  {rule}  {count}" for rule, count in sorted(rules.items())),
    ]
    if show_dropped:
        lines += [f"{d.file}:{d.line}  {d.rule}  {d.detail}" for d in result.drops]
    lines.append(f"next        heedful fit reward --data {result.dataset} --out runs/reward")
    summary = {
        "dataset": result.dataset,
        "rows": result.num_rows,
        "new": result.num_new,
        "known": result.num_duplicates,
        "dropped": dict(rules),
    }
    show(summary, as_json, *lines)


def snapshot(
    dataset: Annotated[str, typer.Argument(help="Data set in the store.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the Parquet file.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What the rows are.")] = Kind.preference,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Freeze a data set to training rows in one Parquet file.

    Example: heedful snapshot hh-harmless-train --out snapshots
    """
    from heedful.jobs.snapshot import make_snapshot

    with opened(store) as opened_store:
        made = make_snapshot(opened_store, dataset, kind.value, out)
    show(
        {"id": made.id, "path": made.path, "rows": made.num_rows, "dropped": dict(made.drops)},
        as_json,
        f"snapshot  {made.id}",
        f"rows      {made.num_rows}",
        f"path      {made.path}",
        f"next      heedful fit reward --data {made.path} --out runs/reward",
    )
