"""``heedful import``, ``heedful export`` and ``heedful snapshot``."""

import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    MixOption,
    ShowDroppedOption,
    StoreOption,
    dropped,
    in_store,
    opened,
    show,
)
from heedful.errors import ConfigError


class Format(StrEnum):
    """The names of ``data.formats.FORMATS``, which is not imported to parse a command line."""

    json = "json"
    parquet = "parquet"
    csv = "csv"
    hh = "hh"
    kto = "kto"
    openai = "openai"
    ranking = "ranking"
    prm800k = "prm800k"
    argilla = "argilla"
    trl = "trl"
    trl_standard = "trl-standard"
    trl_implicit = "trl-implicit"
    trl_sft = "trl-sft"


class Kind(StrEnum):
    """Kinds of rows that a snapshot holds."""

    feedback = "feedback"
    preference = "preference"
    demonstration = "demonstration"
    prompt = "prompt"


def import_file(
    format: Annotated[Format, typer.Argument(help="How the file is written: docs/data.md.")],
    files: Annotated[list[Path], typer.Argument(help="Plain or gzipped.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Name in the store; from the file otherwise.")
    ] = None,
    show_dropped: ShowDroppedOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Read answers, preferences or demonstrations into the store. Importing twice adds nothing.

    Tasks without an answer are queued when the data set is a project's; 'known' in a row of json,
    parquet or csv is the answer that is right beyond doubt.

    Example: heedful import hh hh-harmless/train.jsonl.gz
    """
    from heedful.exchange.importing import import_preferences
    from heedful.jobs.progress import progress, steps

    with opened(store) as opened_store, progress("import", 0) as advance:
        result = import_preferences(
            opened_store, format.value, files, dataset=dataset, progress=steps(advance)
        )
    tasks = "task" if result.num_queued == 1 else "tasks"
    lines = [
        f"data set    {result.dataset}",
        f"rows read   {result.num_rows}",
        f"new items   {result.num_new}",
        f"answers     {result.num_answers} new",
        *(
            [f"old items   {result.num_duplicates} rows are about items that were there"]
            if result.num_duplicates
            else []
        ),
        *([f"known answers  {result.num_known} new"] if result.num_known else []),
        *([f"queued      {result.num_queued} new {tasks} for people"] if result.num_queued else []),
        f"dropped     {result.num_dropped}",
        *dropped(result.drops_by_rule, result.drops, listed=show_dropped),
        *(_ignored(key, num, result.near_keys) for key, num in result.ignored_keys.items()),
    ]
    if not result.num_brought:
        why = (
            "had all of it already" if result.num_duplicates else "is as it was: no row can be used"
        )
        lines.append(f"nothing new  {result.dataset} {why}")
    if result.num_more_ignored:
        lines.append(f"ignored     and {result.num_more_ignored} times other keys")
    step = f"fit reward --data {result.dataset} --out runs/reward"
    if result.num_queued or result.num_known:
        step = "studio"
    lines.append(f"next        heedful {step}{in_store(store)}")
    show(result.summary(), as_json, *lines)


def _ignored(key: str, num: int, near: Mapping[str, str]) -> str:
    hint = f"; did you mean {near[key]!r}?" if key in near else ""
    return f"ignored     {num} rows  {key}{hint}"


def export_file(
    dataset: Annotated[
        str, typer.Argument(help="Data set in the store; or 'reward', with a MODEL after it.")
    ],
    model: Annotated[
        str | None,
        typer.Argument(help="Reward model, run directory or registered; --out is a directory."),
    ] = None,
    format: Annotated[
        Format, typer.Option("--format", help="How the file is written: docs/data.md.")
    ] = Format.json,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File, gzipped when it ends in .gz; DATASET.json otherwise."),
    ] = None,
    mix: MixOption = None,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write a data set to a file; without --format, everything as plain JSON.

    'heedful export reward MODEL --out DIR' writes a reward model as a sequence classifier of
    transformers: adapter merged, float32, safetensors. It fits when the model reads the last token.

    Example: heedful export hh-harmless-train --format trl --out pairs.jsonl.gz
    """
    if model is not None:
        export_model(dataset, model, out, mix, store, as_json)
        return
    if mix is not None:
        raise ConfigError(f"--mix is {mix!r}, and a data set has no parts to mix; leave it out")
    from heedful.data.formats import FORMATS
    from heedful.exchange.exporting import export_dataset
    from heedful.jobs.progress import progress, steps

    with opened(store) as opened_store, progress("export", 0) as advance:
        result = export_dataset(
            opened_store, dataset, out, format=format.value, progress=steps(advance)
        )
    tally, loses = result.tally, FORMATS[format.value].loses
    lines = [
        f"items     {result.num_items}",
        f"rows      {tally.num_rows}",
        *(f"left out  {num}  {rule}" for rule, num in sorted(tally.left_out.items())),
        *(f"changed   {num}  {rule}" for rule, num in sorted(tally.changed.items())),
        *([f"no place  {', '.join(loses)}"] if loses else []),
        f"path      {result.path}",
        f"next      heedful import {result.format} {shlex.quote(str(result.path))}",
    ]
    summary = {
        "path": result.path,
        "items": result.num_items,
        "rows": tally.num_rows,
        "left_out": dict(sorted(tally.left_out.items())),
        "changed": dict(sorted(tally.changed.items())),
        "loses": list(loses),
    }
    show(summary, as_json, *lines)


def export_model(
    kind: str, model: str, out: Path | None, mix: str | None, store: str, as_json: bool
) -> None:
    """``heedful export reward MODEL --out DIR``."""
    if kind != "reward":
        raise ConfigError(
            f"heedful export takes one data set, and {kind!r} has {model!r} behind it; a model is "
            "exported by: heedful export reward MODEL --out DIR"
        )
    if out is None:
        raise ConfigError("a model needs a new directory; give --out DIR")
    from heedful.jobs.rewards import export_classifier

    typer.echo(f"export {model} -> {out}", err=True)
    with opened(store) as opened_store:
        made = export_classifier(model, opened_store, out, mix=mix)
    lines = [
        f"classifier  {made.path}",
        f"layers      {made.num_layers}",
        f"padding     {made.pad_token}",
        f"offset      {made.offset:.7g}: reward = logit + offset",
        f"difference  {made.error:.1e} at most on the texts it was checked with",
        f"next        AutoModelForSequenceClassification.from_pretrained({made.path!r})",
    ]
    summary = {
        "path": made.path,
        "layers": made.num_layers,
        "offset": made.offset,
        "pad_token": made.pad_token,
        "difference": made.error,
    }
    show(summary, as_json, *lines)


def snapshot(
    dataset: Annotated[str, typer.Argument(help="Data set in the store.")],
    out: Annotated[Path, typer.Option("--out", help="Directory of the Parquet file.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What the rows are.")] = Kind.preference,
    include_gold: Annotated[
        bool, typer.Option("--include-gold", help="Also what people said to known answers.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Freeze a data set to training rows in one Parquet file.

    Example: heedful snapshot hh-harmless-train --out snapshots
    """
    from heedful.jobs.snapshot import make_snapshot

    with opened(store) as opened_store:
        made = make_snapshot(opened_store, dataset, kind.value, out, include_gold=include_gold)
    show(
        {"id": made.id, "path": made.path, "rows": made.num_rows, "dropped": dict(made.drops)},
        as_json,
        f"snapshot  {made.id}",
        f"rows      {made.num_rows}",
        f"path      {made.path}",
        f"next      heedful fit reward --data {shlex.quote(made.path)} --out runs/reward"
        f"{in_store(store)}",
    )
