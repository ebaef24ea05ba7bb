"""``heedful score``: the reward of every completion in a file."""

import shlex
import sys
from contextlib import nullcontext
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

STANDARD = "-"  # input or output


def score(
    model: Annotated[
        str,
        typer.Argument(help="Reward run, registered model, classifier directory, or gold:NAME."),
    ],
    file: Annotated[
        str, typer.Argument(help="Prompts with completions, plain or gzipped; - reads stdin.")
    ],
    out: Annotated[
        str, typer.Option("--out", help="JSON Lines, gone or whole; - writes to stdout.")
    ] = STANDARD,
    format: Annotated[
        str | None,
        typer.Option("--format", help="How the file is written, if it is not plain: docs/data.md."),
    ] = None,
    mix: MixOption = None,
    show_dropped: ShowDroppedOption = False,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Write the reward of every completion in a file, in order: {"line", "completion", "reward"}.

    A model of several parts gives them beside it, and the flags that veto an answer; --mix weighs
    them otherwise than it was saved.
    The file has rows of prompt and completion, or completions, or is one that heedful import reads.
    It is checked as a whole before the model is loaded.

    Example: heedful score runs/reward pairs.jsonl --out rewards.jsonl
    """
    if as_json and out == STANDARD:
        raise ConfigError("--json ends stdout with a summary, which has the rewards; give --out")
    if Path(out).is_dir():
        raise ConfigError(f"--out {out} is a directory; give the name of a file in it")

    from heedful.jobs.rewards import check_reward, open_reward
    from heedful.jobs.scoring import score_file, spooled

    given = spooled(sys.stdin.buffer) if file == STANDARD else nullcontext(Path(file))
    with opened(store) as opened_store, given as path:
        check_reward(model, opened_store, mix)
        typer.echo(f"score {file} with {model} -> {out}", err=True)
        result = score_file(
            lambda: open_reward(model, opened_store, mix=mix),
            path,
            format=format,
            out=None if out == STANDARD else Path(out),
            write=typer.echo,
        )
    lines = [
        f"format   {result.format}",
        *([f"mix      {result.mix}"] if result.mix else []),
        f"rows     {result.num_rows}",
        f"scored   {result.num_scored} completions, mean {result.mean:.4g}",
        *([f"vetoed   {result.num_vetoed}"] if result.num_vetoed is not None else []),
        f"dropped  {result.rules.total()}",
        *dropped(result.rules, result.drops, listed=show_dropped),
    ]
    summary = {
        "format": result.format,
        "rows": result.num_rows,
        "scored": result.num_scored,
        "mean": result.mean,
        "dropped": dict(sorted(result.rules.items())),
        "path": out,
    }
    summary |= {"mix": result.mix} if result.mix else {}
    summary |= {"vetoed": result.num_vetoed} if result.num_vetoed is not None else {}
    if out == STANDARD:
        for line in lines:
            typer.echo(line, err=True)
    else:
        served = f"heedful serve reward {shlex.quote(model)}{in_store(store)}"
        show(summary, as_json, *lines, f"path     {out}", f"next     {served}")
